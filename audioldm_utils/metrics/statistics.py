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

from collections.abc import Callable, Sequence
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
    """A mean over ``n`` clips, in the unit of the values, with its interval.

    Attributes:
        low, high: NaN where fewer than two recordings, or an infinite value, allow none.
        recordings: that the clips are cut from, and that were drawn; ``n`` unless they are told.
    """

    mean: float
    low: float
    high: float
    n: int
    recordings: int = field(default=-1, kw_only=True)

    def __post_init__(self) -> None:
        if self.recordings < 0:
            object.__setattr__(self, "recordings", self.n)

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

    Plain percentiles are too narrow by sqrt((n-1)/n), and take the normal for Student's t.
    """
    from scipy.stats import norm, t

    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    tail = norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.5 + level / 2, n - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def recording_numbers(recordings: npt.ArrayLike | None, n: int) -> np.ndarray:
    """Number of each clip's recording ``(n,)``, from 0 on in the order of their first clips."""
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
    """Means ``(draws, ...)`` over all clips of recordings drawn with replacement.

    ``values`` are ``(clips, ...)``, ``numbers`` of :func:`recording_numbers`; with the same numbers
    and seed the same recordings are drawn.
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
    return _bootstrap(lambda mean: mean, [array], seed, draws, level, recordings)


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
    pair = _pairs(after, before)
    if pair[1].mean() == 0:
        raise ValueError("the mean before is 0: nothing to reduce")

    def share(after: np.ndarray, before: np.ndarray) -> np.ndarray:
        return 1 - (np.abs(after / before) if signed else after / before)

    return _bootstrap(share, pair, seed, draws, level, recordings)


def _bootstrap(
    statistic: Callable[..., np.ndarray],
    samples: Sequence[np.ndarray],
    seed: int,
    draws: int,
    level: float,
    recordings: npt.ArrayLike | None,
) -> Interval:
    """A statistic of the means of samples ``(clips,)``, recordings drawn for all of them alike."""
    n, numbers = len(samples[0]), recording_numbers(recordings, len(samples[0]))
    units, mean = int(numbers.max()) + 1, float(statistic(*(x.mean() for x in samples)))
    if units < 2 or not np.isfinite(samples).all():
        return Interval(mean, np.nan, np.nan, n, recordings=units)
    drawn = statistic(*(bootstrap_means(x, numbers, draws, seed) for x in samples))
    return Interval(mean, *percentile_limits(drawn, units, level), n, recordings=units)


def tail_counts(null: np.ndarray, observed: np.ndarray, alternative: Alternative) -> np.ndarray:
    """How many of ``null (..., draws)`` are at least as extreme as ``observed (...)``."""
    # Equal arrangements must count as equal although their sums are rounded differently.
    slack = 1e-12 * (1 + np.abs(observed))[..., None]
    sides = {"two-sided": np.abs, "greater": np.positive, "less": np.negative}
    if alternative not in sides:
        raise ValueError(f"alternative must be two-sided, greater or less, got {alternative!r}")
    side = sides[alternative]
    return (side(null) >= side(observed)[..., None] - slack).sum(axis=-1)


def sign_flip_p(
    differences: npt.ArrayLike,
    alternative: Alternative = "two-sided",
    draws: int = 9999,
    seed: int = 0,
    recordings: npt.ArrayLike | None = None,
) -> np.ndarray:
    """P-values ``(...)`` that differences ``(..., clips)`` are symmetric about zero, by their mean.

    Leading axes are separate experiments. All clips of a recording change their sign together.
    Beyond 13 recordings ``draws`` sign patterns are drawn; otherwise all are used: it is exact.
    """
    array = clip_values(differences)
    shape, n = array.shape[:-1], array.shape[-1]
    sums = _sums(array.reshape(-1, n).T, recording_numbers(recordings, n))
    rows = np.ascontiguousarray(sums.T)
    units = rows.shape[1]
    if exact := units <= EXACT_CLIPS:
        signs = 1.0 - 2.0 * (np.arange(2**units)[None] >> np.arange(units)[:, None] & 1)
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], (units, draws))
    hits = tail_counts(rows @ signs / n, rows.sum(axis=1) / n, alternative)
    p = hits / signs.shape[1] if exact else (1 + hits) / (1 + draws)
    return p.reshape(shape)


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
    return float(np.sign(np.subtract.outer(clip_values(a), clip_values(b))).mean())


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
