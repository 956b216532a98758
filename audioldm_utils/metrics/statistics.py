"""Intervals, tests and effect sizes over clips, with the recording as the unit that is drawn.

A mean is over clips, on the last axis of every array. Clips of one recording are no independent
observations, so ``recordings``, a name or number a clip, keeps them together: a bootstrap draws
whole recordings, a permutation flips them whole. Without it every clip is a recording of its own.
A difference is ``a - b``; p-values of Monte Carlo permutation tests count the observed
arrangement itself, ``(1 + hits) / (1 + draws)``, so that they are never too small.

Sources: bootstrap of clusters, Davison and Hinkley, «Bootstrap Methods and their Application»
(1997), section 3.8; expanded percentile interval, Hesterberg, «What teachers should know about the
bootstrap», The American Statistician 69 (2015), section 5.3; p-values, Phipson and Smyth,
«Permutation p-values should never be zero» (2010); Holm (1979); Cohen (1988), d_z; Cliff (1993).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Alternative = Literal["two-sided", "greater", "less"]

#: Fewest recordings on which a bound can be called kept: a two-sided sign-flip test of five cannot
#: get below p = 0.06, and a bootstrap of two knows nothing between the two.
FEWEST = 6

#: Up to this many recordings every sign pattern is tried (2^13 = 8192 of them).
EXACT_CLIPS = 13


@dataclass(frozen=True)
class Interval:
    """A mean over clips with its interval.

    Attributes:
        mean: arithmetic mean, in the unit of the values.
        low, high: interval limits; NaN where fewer than two recordings, or an infinite value,
            allow none.
        n: number of clips.
        recordings: that these are cut from, and that were drawn; ``n`` unless they are told.
    """

    mean: float
    low: float
    high: float
    n: int
    recordings: int = field(default=-1, kw_only=True)

    def __post_init__(self) -> None:
        if self.recordings < 0:
            object.__setattr__(self, "recordings", self.n)

    def excludes(self, value: float) -> bool:
        """Whether ``value`` lies outside the interval; never so for an interval of NaN."""
        return bool(value < self.low or value > self.high)

    def as_dict(self) -> dict[str, float]:
        """Mean, limits and counts by their names, as a table or a file holds them."""
        names = ("mean", "low", "high", "n", "recordings")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class PairedDifference(Interval):
    """The mean difference ``a - b`` over clips that have both.

    Attributes:
        p: two-sided sign-flip permutation p-value of «no difference».
        d_z: mean difference over its standard deviation over clips (Cohen's d_z).
        cliff: Cliff's delta, P(a > b) - P(a < b) over all pairs of clips, -1 to 1.
        mean_a, mean_b: the two means.
    """

    p: float
    d_z: float
    cliff: float
    mean_a: float
    mean_b: float


def clip_values(values: npt.ArrayLike, least: int = 1) -> np.ndarray:
    """Values as float64, clips on the last axis; ValueError for too few or NaN."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] < least:
        raise ValueError(f"need at least {least} value(s) on the last axis, got {array.shape}")
    if np.isnan(array).any():
        raise ValueError("values hold NaN; leave out clips for which a metric has no value")
    return array


def _pairs(a: npt.ArrayLike, b: npt.ArrayLike, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    a, b = clip_values(a, least), clip_values(b, least)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired values must be of one shape (clips,), got {a.shape}, {b.shape}")
    return a, b


def percentile_limits(means: np.ndarray, n: int, level: float = 0.95) -> tuple[float, float]:
    """Expanded percentile limits of bootstrap means, shape ``(draws,)``, of ``n`` recordings.

    Plain percentiles are too narrow for few of them, by sqrt((n-1)/n) and by taking the normal in
    place of Student's t.
    """
    from scipy.stats import norm, t

    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    tail = norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.5 + level / 2, n - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def recording_numbers(recordings: npt.ArrayLike | None, n: int) -> np.ndarray:
    """Number of each clip's recording ``(n,)``, from 0 on in the order of their first clips.

    ValueError unless there is one a clip.
    """
    if recordings is None:
        return np.arange(n)
    names = np.asarray(recordings)
    if names.shape != (n,):
        raise ValueError(f"recordings must be one a clip, shape ({n},), got {names.shape}")
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _sums(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Sums of the clips of each recording, over the first axis ``(clips, ...)``."""
    sums = np.zeros((int(numbers.max()) + 1, *values.shape[1:]))
    np.add.at(sums, numbers, values)
    return sums


def bootstrap_means(values: np.ndarray, numbers: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Means over the clips of recordings drawn with replacement.

    Args:
        values: ``(clips, ...)``.
        numbers: of :func:`recording_numbers`; the same arguments draw the same recordings.

    Returns:
        Shape ``(draws, ...)``; a draw's mean is over all clips of its recordings.
    """
    sums, sizes = _sums(values, numbers), np.bincount(numbers)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (draws, len(sums)))
    counts = sizes[drawn].sum(axis=1)
    return sums[drawn].sum(axis=1) / counts.reshape(-1, *[1] * (values.ndim - 1))


def bootstrap_interval(
    values: npt.ArrayLike,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
    recordings: npt.ArrayLike | None = None,
) -> Interval:
    """Mean of one value a clip, ``(clips,)``, with its bootstrap interval over recordings.

    Infinite values are allowed and give no interval; ``level`` lies between 0 and 1.

    Raises:
        ValueError: no values, NaN among them, more than one axis, or not a recording a clip.
    """
    array = clip_values(values)
    if array.ndim != 1:
        raise ValueError(f"values must be one a clip, shape (clips,), got {array.shape}")
    n, numbers = len(array), recording_numbers(recordings, len(array))
    units, mean = int(numbers.max()) + 1, float(array.mean())
    if units < 2 or not np.isfinite(array).all():
        return Interval(mean, float("nan"), float("nan"), n, recordings=units)
    means = bootstrap_means(array, numbers, draws, seed)
    return Interval(mean, *percentile_limits(means, units, level), n, recordings=units)


def bootstrap_reduction(
    after: npt.ArrayLike,
    before: npt.ArrayLike,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
    signed: bool = False,
    recordings: npt.ArrayLike | None = None,
) -> Interval:
    """How much smaller the mean is after than before: ``1 - mean(after) / mean(before)``.

    1 where nothing is left, below 0 where it grew. One value a clip, in the same order; recordings
    are drawn for both. ``signed``: values may cancel; the magnitudes of the two means are compared.

    Raises:
        ValueError: different lengths, no values, NaN, or a mean of 0 before.
    """
    after, before = _pairs(after, before)
    if before.mean() == 0:
        raise ValueError("the mean before is 0: nothing to reduce")

    def share(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return 1 - (np.abs(a / b) if signed else a / b)

    n, numbers = len(after), recording_numbers(recordings, len(after))
    units, mean = int(numbers.max()) + 1, float(share(after.mean(), before.mean()))
    if units < 2:
        return Interval(mean, float("nan"), float("nan"), n, recordings=units)
    shares = share(*(bootstrap_means(side, numbers, draws, seed) for side in (after, before)))
    return Interval(mean, *percentile_limits(shares, units, level), n, recordings=units)


def _signs(n: int, draws: int, seed: int) -> tuple[np.ndarray, bool]:
    """Sign patterns ``(n, patterns)`` and whether they are all there are."""
    if n <= EXACT_CLIPS:
        bits = np.arange(2**n)[None] >> np.arange(n)[:, None] & 1
        return 1.0 - 2.0 * bits, True
    return np.random.default_rng(seed).choice([-1.0, 1.0], (n, draws)), False


def tail_counts(null: np.ndarray, observed: np.ndarray, alternative: Alternative) -> np.ndarray:
    """How many of ``null (..., draws)`` are at least as extreme as ``observed (...)``."""
    # Equal arrangements must count as equal although their sums are rounded differently.
    slack = 1e-12 * (1 + np.abs(observed))[..., None]
    observed = observed[..., None]
    if alternative == "two-sided":
        hits = np.abs(null) >= np.abs(observed) - slack
    elif alternative == "greater":
        hits = null >= observed - slack
    elif alternative == "less":
        hits = null <= observed + slack
    else:
        raise ValueError(f"alternative must be two-sided, greater or less, got {alternative!r}")
    return hits.sum(axis=-1)


def sign_flip_p(
    differences: npt.ArrayLike,
    alternative: Alternative = "two-sided",
    draws: int = 9999,
    seed: int = 0,
    recordings: npt.ArrayLike | None = None,
) -> np.ndarray:
    """P-values ``(...)`` that differences ``(..., clips)`` are symmetric about zero, by their mean.

    Leading axes are separate experiments. All clips of a recording change their sign together.
    ``draws`` sign patterns are drawn where there are more than 13 recordings; below, all are used
    and the p-value is exact.
    """
    array = clip_values(differences)
    shape, n = array.shape[:-1], array.shape[-1]
    sums = _sums(array.reshape(-1, n).T, recording_numbers(recordings, n))
    rows = np.ascontiguousarray(sums.T)
    signs, exact = _signs(rows.shape[1], draws, seed)
    hits = np.empty(len(rows), dtype=np.int64)
    # Blocks keep the null distributions of many experiments out of memory at once.
    for start in range(0, len(rows), 256):
        block = rows[start : start + 256]
        observed = block.sum(axis=1) / n
        hits[start : start + 256] = tail_counts(block @ signs / n, observed, alternative)
    p = hits / signs.shape[1] if exact else (1 + hits) / (1 + signs.shape[1])
    return p.reshape(shape)


def label_permutation_p(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    alternative: Alternative = "two-sided",
    draws: int = 9999,
    seed: int = 0,
) -> float:
    """P-value that two unpaired groups come from one distribution; statistic: mean(a) - mean(b).

    Exact where there are at most ``draws`` ways to split the groups.
    """
    from scipy.stats import permutation_test

    found = permutation_test(
        (clip_values(a), clip_values(b)),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        vectorized=True,
        n_resamples=draws,
        alternative=alternative,
        rng=seed,
    )
    return float(found.pvalue)


def holm(p_values: npt.ArrayLike) -> np.ndarray:
    """Holm's step-down correction: adjusted p-values, in the order given.

    It keeps the chance of any false rejection below alpha, however the tests depend on each other.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or np.isnan(p).any() or (p < 0).any() or (p > 1).any():
        raise ValueError("p-values must be one axis of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def cohens_dz(differences: npt.ArrayLike) -> float:
    """Mean of paired differences over their standard deviation (n - 1); 0.8 counts as large.

    Zero differences give 0; equal non-zero ones an infinity of their sign.
    """
    array = clip_values(differences, least=2)
    mean, std = float(array.mean()), float(array.std(ddof=1))
    # Equal values leave a standard deviation of rounding size, not zero.
    if std <= 1e-12 * abs(mean):
        return 0.0 if mean == 0 else float(np.copysign(np.inf, mean))
    return mean / std


def cliffs_delta(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """P(a > b) - P(a < b) over all pairs: 1 if every a exceeds every b, 0 for no tendency."""
    a, b = clip_values(a), np.sort(clip_values(b))
    below = np.searchsorted(b, a, side="left").sum()
    above = (len(b) - np.searchsorted(b, a, side="right")).sum()
    return float((below - above) / (len(a) * len(b)))


def compare_pairs(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
    recordings: npt.ArrayLike | None = None,
) -> PairedDifference:
    """Everything about paired values of two methods, one value a clip, in the same order.

    ValueError for different lengths, fewer than two clips, NaN or infinite values.
    """
    a, b = _pairs(a, b, least=2)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("paired values must be finite")
    difference = a - b
    interval = bootstrap_interval(difference, seed, draws, level, recordings)
    return PairedDifference(
        **vars(interval),
        p=float(sign_flip_p(difference, seed=seed, recordings=recordings)),
        d_z=cohens_dz(difference),
        cliff=cliffs_delta(a, b),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
    )
