"""Does an output follow its input? Matched correlations against their nulls.

A correlation convinces only beside what the same codec gives with random indices, another
clip's codes, another clip of the same class, another prompt, the wrong checkpoint's codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from audioldm_utils.metrics.statistics import (
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
    or a column depend on each other.

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
    rng = np.random.default_rng(seed)
    order = np.tile(np.arange(n), (draws, 1))
    groups = np.zeros(n) if classes is None else np.unique(classes, return_inverse=True)[1]
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        order[:, members] = rng.permuted(order[:, members], axis=1)
    rows = matrix.reshape(-1, n, n)
    # Less each output's mean over its possible partners and itself: about zero for all.
    allowed = partners(n, classes) | np.eye(n, dtype=bool)
    rows = rows - ((rows * allowed).sum(axis=2) / allowed.sum(axis=1))[..., None]
    hits = [
        tail_counts(row[np.arange(n), order].mean(axis=1), np.trace(row) / n, alternative)
        for row in rows
    ]
    return ((1 + np.array(hits)) / (1 + draws)).reshape(matrix.shape[:-2])


@dataclass(frozen=True)
class Comparison:
    """The matched correlation against one null, in one representation.

    Attributes:
        representation, null: names.
        matched, null_mean: means over clips.
        difference, low, high: mean of matched minus the clip's mean null, with its
            bootstrap interval over clips.
        p, p_corrected: one-sided permutation p-value; after Holm over all comparisons.
        d_z: effect size, the difference over its standard deviation over clips; NaN for one clip.
        cliff: Cliff's delta of matched against all null values.
        above: share of clips above every one of their own null values.
        n: clips.
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
        # One clip has no spread to measure an effect by.
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
            clip of the class`` (over clips that have one), tested by re-pairing.
        classes: one a clip.
        draws: permutations; the smallest p-value is 1 / (1 + draws), or 2^-clips for one
            null value and few clips.

    Returns:
        Comparisons, null by null; p-values corrected over all of them together.
    """
    found: list[Comparison] = []
    for null, representations in nulls.items():
        for name, values in representations.items():
            own = np.asarray(matched[name], dtype=np.float64)
            other = np.asarray(values, dtype=np.float64)
            other = other[:, None] if other.ndim == 1 else other
            p = float(exchange_p(own, other, draws=draws, seed=seed))
            found.append(_compare(name, null, own, np.ma.array(other), p, level, seed))
    names = {"another clip": None} | ({"another clip of the class": classes} if classes else {})
    for null, groups in names.items() if matrices else ():
        for name, values in matrices.items():
            matrix = np.asarray(values, dtype=np.float64)
            if not np.allclose(np.diag(matrix), matched[name], atol=1e-6):
                raise ValueError(f"the {name} matrix has another diagonal than matched[{name!r}]")
            allowed = partners(len(matrix), groups)
            has = np.flatnonzero(allowed.any(axis=1))
            if len(has) < 2:
                continue
            matrix, allowed = matrix[np.ix_(has, has)], allowed[np.ix_(has, has)]
            kept = None if groups is None else [groups[i] for i in has]
            p = float(pairing_p(matrix, kept, draws=draws, seed=seed))
            masked = np.ma.array(matrix, mask=~allowed)
            found.append(_compare(name, null, np.diag(matrix), masked, p, level, seed))
    corrected = holm([comparison.p for comparison in found])
    return [
        replace(comparison, p_corrected=float(p))
        for comparison, p in zip(found, corrected, strict=True)
    ]
