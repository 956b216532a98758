"""Does an output follow its input? Matched correlations against their nulls.

A correlation convinces only beside what the same codec gives with random indices, another
clip's codes, another clip of the same class, another prompt, the wrong checkpoint's codes, and
beside noise of the clip's own loudness. Clips of one recording are one observation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from audioldm_utils.metrics.statistics import (
    EXACT_CLIPS,
    Alternative,
    bootstrap_interval,
    cliffs_delta,
    clip_values,
    cohens_dz,
    holm,
    sign_flip_p,
    tail_counts,
)


def exchange_p(
    matched: npt.ArrayLike,
    nulls: npt.ArrayLike,
    alternative: Alternative = "greater",
    draws: int = 9999,
    seed: int = 0,
) -> np.ndarray:
    """P-value that each clip's matched value is exchangeable with its own null values.

    Statistic: the mean over clips of the value in the matched place. Its null puts one of
    the clip's ``1 + k`` values there at random, so that any null distribution, skewed or
    different for every clip, is allowed for. With one null value this is ``sign_flip_p``.

    Args:
        matched: shape ``(..., clips)``.
        nulls: shape ``(..., clips, k)``.

    Returns:
        p-values, shape ``(...)``.
    """
    matched, nulls = clip_values(matched), clip_values(nulls)
    if nulls.shape[:-1] != matched.shape:
        raise ValueError(f"nulls {nulls.shape} must be matched {matched.shape} and one axis more")
    if nulls.shape[-1] == 1:
        return sign_flip_p(matched - nulls[..., 0], alternative, draws, seed)
    *shape, n, k = nulls.shape
    values = np.concatenate([matched[..., None], nulls], axis=-1).reshape(-1, n, k + 1)
    # Centred on each clip's own mean, so that «two-sided» is about zero.
    values = values - values.mean(axis=-1, keepdims=True)
    picked = np.random.default_rng(seed).integers(0, k + 1, (draws, n))
    clips = np.arange(n)
    hits = [
        tail_counts(value[clips, picked].mean(axis=1), value[:, 0].mean(), alternative)
        for value in values
    ]
    return ((1 + np.array(hits)) / (1 + draws)).reshape(shape)


def partners(clips: int, classes: Sequence[str] | None = None) -> np.ndarray:
    """Which inputs are another clip's: ``(clips, clips)`` of bool.

    With ``classes`` only another clip of the same class counts.
    """
    others = ~np.eye(clips, dtype=bool)
    if classes is None:
        return others
    if len(classes) != clips:
        raise ValueError(f"{clips} clips need as many classes, got {len(classes)}")
    names = np.asarray(classes)
    return others & (names[:, None] == names[None])


def _deals(n: int, classes: Sequence[str] | None, draws: int, seed: int) -> tuple[np.ndarray, bool]:
    """Orders ``(deals, n)`` of n inputs, dealt within their class, and whether all there are."""
    groups = np.zeros(n) if classes is None else np.unique(classes, return_inverse=True)[1]
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    order = np.arange(n)[None]
    if math.prod(math.factorial(len(one)) for one in members) <= draws:
        for one in members:
            ways = np.array(list(itertools.permutations(one)))
            order = np.repeat(order, len(ways), axis=0)
            order[:, one] = np.tile(ways, (len(order) // len(ways), 1))
        return order, True
    rng, order = np.random.default_rng(seed), np.tile(order, (draws, 1))
    for one in members:
        order[:, one] = rng.permuted(order[:, one], axis=1)
    return order, False


def pairing_p(
    matrix: npt.ArrayLike,
    classes: Sequence[str] | None = None,
    alternative: Alternative = "greater",
    draws: int = 9999,
    seed: int = 0,
) -> np.ndarray:
    """P-value that the outputs belong to their inputs no more than to others.

    The inputs are dealt out to the outputs again, within their class if ``classes`` are
    given. Since the whole pairing is permuted, it does not matter that the entries of a row
    or a column depend on each other. All deals are tried where there are at most ``draws``.

    Args:
        matrix: ``(..., clips, clips)`` of ``correlation_matrix``; leading axes are separate
            experiments.

    Returns:
        p-values, shape ``(...)``.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    n = matrix.shape[-1]
    if matrix.ndim < 2 or matrix.shape[-2] != n:
        raise ValueError(f"the matrix must be square, got shape {matrix.shape}")
    order, exact = _deals(n, classes, draws, seed)
    rows = matrix.reshape(-1, n, n)
    # Less each output's mean over its possible partners and itself: about zero for all.
    allowed = partners(n, classes) | np.eye(n, dtype=bool)
    rows = rows - ((rows * allowed).sum(axis=2) / allowed.sum(axis=1))[..., None]
    hits = np.array([
        tail_counts(row[np.arange(n), order].mean(axis=1), np.trace(row) / n, alternative)
        for row in rows
    ])  # fmt: skip
    p = hits / len(order) if exact else (1 + hits) / (1 + len(order))
    return p.reshape(matrix.shape[:-2])


def smallest_p(
    n: int, draws: int, nulls: int = 1, classes: Sequence[str] | None = None, paired: bool = False
) -> float:
    """The floor of a p-value of :func:`exchange_p`, or with ``paired`` of :func:`pairing_p`."""
    if paired:
        order, exact = _deals(n, classes, draws, 0)
        return 1 / (len(order) + (not exact))
    if nulls == 1 and n <= EXACT_CLIPS:
        return 2.0**-n
    return max(1 / (1 + draws), (1.0 + nulls) ** -n)


def over_recordings(matrix: npt.ArrayLike, recordings: Sequence[str]) -> np.ndarray:
    """Correlations of outputs with inputs, recording by recording.

    Args:
        matrix: ``(clips, clips)``; its diagonal is matched.
        recordings: that each clip belongs to.

    Returns:
        ``(recordings, recordings)``, in the order of their first clips. Clips of two recordings
        are paired one by one, those of the smaller one over again; on the diagonal each with
        itself. So an entry is a mean over as many pairs as a matched one.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    clips = [np.flatnonzero(np.asarray(recordings) == name) for name in dict.fromkeys(recordings)]
    found = np.empty((len(clips), len(clips)))
    for i, outputs in enumerate(clips):
        for j, inputs in enumerate(clips):
            size = max(len(outputs), len(inputs))
            found[i, j] = matrix[np.resize(outputs, size), np.resize(inputs, size)].mean()
    return found


@dataclass(frozen=True)
class Comparison:
    """The matched correlation against one null, in one representation.

    Attributes:
        representation, null: names.
        matched, null_mean: means over recordings.
        difference, low, high: mean of matched minus the recording's mean null, with its
            bootstrap interval over recordings.
        p, p_corrected: one-sided permutation p-value; after Holm over all comparisons.
        floor: the smallest p-value that so many permutations can give.
        d_z: effect size, the difference over its standard deviation; NaN for one recording.
        cliff: Cliff's delta of matched against all null values.
        above: share of recordings above every one of their own null values.
        n: recordings.
    """

    representation: str
    null: str
    matched: float
    null_mean: float
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float
    floor: float
    d_z: float
    cliff: float
    above: float
    n: int

    def follows(self, alpha: float = 0.01, effect: float = 0.8) -> bool:
        """Whether the output follows its input by this comparison."""
        return self.p_corrected < alpha and self.d_z >= effect


def _compare(
    representation: str,
    null: str,
    matched: np.ndarray,
    nulls: np.ma.MaskedArray,
    p: float,
    floor: float,
    level: float,
    seed: int,
) -> Comparison:
    means = nulls.mean(axis=1).filled(np.nan)
    difference = matched - means
    interval = bootstrap_interval(difference, seed, level=level)
    return Comparison(
        representation,
        null,
        float(matched.mean()),
        float(means.mean()),
        *(interval.mean, interval.low, interval.high),
        p=p,
        p_corrected=p,
        floor=floor,
        # One recording has no spread to measure an effect by.
        d_z=cohens_dz(difference) if len(difference) > 1 else np.nan,
        cliff=cliffs_delta(matched, nulls.compressed()),
        above=float((matched > nulls.max(axis=1).filled(np.nan)).mean()),
        n=len(matched),
    )


def verify(
    matched: Mapping[str, npt.ArrayLike],
    nulls: Mapping[str, Mapping[str, npt.ArrayLike]],
    matrices: Mapping[str, npt.ArrayLike] | None = None,
    classes: Sequence[str] | None = None,
    recordings: Sequence[str] | None = None,
    draws: int = 9999,
    level: float = 0.95,
    seed: int = 0,
) -> list[Comparison]:
    """Test matched correlations against every null, in every representation.

    Args:
        matched: representation to one correlation a clip, shape ``(clips,)``.
        nulls: null's name (such as ``random indices``) to representation to the same
            clips' correlations under it, shape ``(clips,)`` or ``(clips, k)`` for k draws.
            A representation may be absent from a null.
        matrices: representation to ``correlation_matrix``, its diagonal equal to
            ``matched``; adds the null ``another clip`` and, with ``classes``, ``another
            clip of the class`` (over those that have one), tested by re-pairing.
        classes: one a clip.
        recordings: that each clip belongs to, itself by default. Clips of one are averaged, so
            that matched and null are exchanged for all of them together, and another clip is
            always one of another recording.
        draws: permutations; fewer where there are fewer ways.

    Returns:
        Comparisons, null by null; p-values corrected over all of them together.
    """
    count = len(next(iter(matched.values())))
    belongs = [str(name) for name in (range(count) if recordings is None else recordings)]
    found: list[Comparison] = []
    for null, representations in nulls.items():
        for name, values in representations.items():
            own = _means(matched[name], belongs)
            other = _means(values, belongs)
            other = other[:, None] if other.ndim == 1 else other
            p = float(exchange_p(own, other, draws=draws, seed=seed))
            floor = smallest_p(len(own), draws, other.shape[1])
            found.append(_compare(name, null, own, np.ma.array(other), p, floor, level, seed))
    first = [belongs.index(name) for name in dict.fromkeys(belongs)]
    kinds = None if classes is None else [classes[i] for i in first]
    names = {"another clip": None} | ({"another clip of the class": kinds} if kinds else {})
    for null, groups in names.items() if matrices else ():
        for name, values in matrices.items():
            if not np.allclose(np.diag(values), matched[name], atol=1e-6):
                raise ValueError(f"the {name} matrix has another diagonal than matched[{name!r}]")
            matrix = over_recordings(values, belongs)
            allowed = partners(len(matrix), groups)
            has = np.flatnonzero(allowed.any(axis=1))
            if len(has) < 2:
                continue
            matrix, allowed = matrix[np.ix_(has, has)], allowed[np.ix_(has, has)]
            kept = None if groups is None else [groups[i] for i in has]
            p = float(pairing_p(matrix, kept, draws=draws, seed=seed))
            floor = smallest_p(len(has), draws, classes=kept, paired=True)
            masked = np.ma.array(matrix, mask=~allowed)
            found.append(_compare(name, null, np.diag(matrix), masked, p, floor, level, seed))
    corrected = holm([comparison.p for comparison in found])
    return [
        replace(comparison, p_corrected=float(p))
        for comparison, p in zip(found, corrected, strict=True)
    ]


def _means(values: npt.ArrayLike, recordings: Sequence[str]) -> np.ndarray:
    """Means over the clips of each recording, in the order of their first clips."""
    values, belongs = np.asarray(values, dtype=np.float64), np.asarray(recordings)
    return np.stack([values[belongs == name].mean(axis=0) for name in dict.fromkeys(recordings)])
