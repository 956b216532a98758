"""Does an output follow its input? Matched correlations against their nulls.

A correlation convinces only beside what the same codec gives with random indices, another
clip's codes, another clip of the same class, another prompt, and beside noise of the clip's own
levels. Clips of one recording are one observation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from audioldm_utils.metrics.statistics import (
    EXACT_CLIPS,
    bootstrap_interval,
    cliffs_delta,
    cohens_dz,
    holm,
    sign_flip_p,
    tail_counts,
)

#: What a comparison has to show: a corrected p-value below, an effect of at least.
ALPHA, EFFECT = 0.01, 0.8
#: Fields of a comparison: the means over recordings of matched and null; the difference with its
#: bootstrap interval over recordings; the one-sided permutation p-value, after Holm over all
#: comparisons, and the smallest that so many permutations can give; the difference over its
#: standard deviation; Cliff's delta of matched against all null values; the share of recordings
#: above every one of their own null values; recordings.
FIELDS = (
    "representation", "null", "matched", "null_mean", "difference", "low", "high", "p",
    "p_corrected", "floor", "d_z", "cliff", "above", "n",
)  # fmt: skip


def partners(clips: int, classes: Sequence[str] | None = None) -> np.ndarray:
    """Which inputs are another clip's, of the same class if given: ``(clips, clips)`` of bool."""
    names = np.zeros(clips) if classes is None else np.asarray(classes)
    return ~np.eye(clips, dtype=bool) & (names[:, None] == names[None])


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
    matrix: npt.ArrayLike, classes: Sequence[str] | None = None, draws: int = 9999, seed: int = 0
) -> np.ndarray:
    """P-value that the outputs belong to their inputs no more than to others.

    The inputs are dealt out to the outputs again, within their class if ``classes`` are
    given. Since the whole pairing is permuted, it does not matter that the entries of a row
    or a column depend on each other. All deals are tried where there are at most ``draws``.

    Args:
        matrix: ``(..., clips, clips)`` of ``correlation_matrix``; leading axes are separate
            experiments, and those of the result.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    n = matrix.shape[-1]
    order, exact = _deals(n, classes, draws, seed)
    rows = matrix.reshape(-1, n, n)
    # Less each output's mean over its possible partners and itself: about zero for all.
    allowed = partners(n, classes) | np.eye(n, dtype=bool)
    rows = rows - ((rows * allowed).sum(axis=2) / allowed.sum(axis=1))[..., None]
    hits = np.array([
        tail_counts(row[np.arange(n), order].mean(axis=1), np.trace(row) / n, "greater")
        for row in rows
    ])  # fmt: skip
    p = hits / len(order) if exact else (1 + hits) / (1 + len(order))
    return p.reshape(matrix.shape[:-2])


def smallest_p(
    n: int, draws: int, classes: Sequence[str] | None = None, paired: bool = False
) -> float:
    """The floor of a p-value of ``sign_flip_p``, or with ``paired`` of :func:`pairing_p`."""
    if paired:
        order, exact = _deals(n, classes, draws, 0)
        return 1 / (len(order) + (not exact))
    return 2.0**-n if n <= EXACT_CLIPS else max(1 / (1 + draws), 2.0**-n)


def over_recordings(matrix: npt.ArrayLike, recordings: Sequence[str]) -> np.ndarray:
    """Correlations of outputs with inputs, ``(recordings, recordings)`` by their first clips.

    Clips of two recordings are paired one by one, those of the smaller one over again; on the
    diagonal each with itself. So an entry is a mean over as many pairs as a matched one.

    Args:
        matrix: ``(clips, clips)``; its diagonal is matched.
        recordings: that each clip belongs to.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    clips = [np.flatnonzero(np.asarray(recordings) == name) for name in dict.fromkeys(recordings)]
    found = np.empty((len(clips), len(clips)))
    for i, outputs in enumerate(clips):
        for j, inputs in enumerate(clips):
            size = max(len(outputs), len(inputs))
            found[i, j] = matrix[np.resize(outputs, size), np.resize(inputs, size)].mean()
    return found


def _compare(matched: np.ndarray, nulls: np.ma.MaskedArray) -> dict[str, float]:
    means = nulls.mean(axis=1).filled(np.nan)
    difference = matched - means
    interval = bootstrap_interval(difference)
    return {
        "matched": float(matched.mean()),
        "null_mean": float(means.mean()),
        **{"difference": interval.mean, "low": interval.low, "high": interval.high},
        # One recording has no spread to measure an effect by.
        "d_z": cohens_dz(difference) if len(difference) > 1 else np.nan,
        "cliff": cliffs_delta(matched, nulls.compressed()),
        "above": float((matched > nulls.max(axis=1).filled(np.nan)).mean()),
        "n": len(matched),
    }


def verify(
    matched: Mapping[str, npt.ArrayLike],
    nulls: Mapping[str, Mapping[str, npt.ArrayLike]],
    matrices: Mapping[str, npt.ArrayLike],
    classes: Sequence[str],
    recordings: Sequence[str],
    draws: int = 9999,
) -> list[dict[str, object]]:
    """Matched correlations beside every null, in every representation, null by null.

    Args:
        matched: representation to one correlation a clip, shape ``(clips,)``.
        nulls: null's name (such as ``random indices``) to representation to the same
            clips' correlations under it, whose difference's sign is flipped.
        matrices: representation to ``correlation_matrix``, its diagonal equal to
            ``matched``; adds the nulls ``another clip`` and ``another clip of the class`` (over
            those that have one), tested by re-pairing.
        classes: one a clip.
        recordings: that each clip belongs to. Clips of one are averaged, so that matched and
            null are exchanged for all of them together, and another clip is always one of
            another recording.
        draws: permutations; fewer where there are fewer ways.

    Returns:
        :data:`FIELDS` of each comparison but ``p_corrected``, for :func:`corrected`.
    """
    found = []

    def add(name: str, null: str, p: np.ndarray, floor: float, *values: np.ndarray) -> None:
        about = {"representation": name, "null": null, "p": float(p), "floor": floor}
        found.append({**about, **_compare(*values)})

    for null, representations in nulls.items():
        for name, values in representations.items():
            own, other = _means(matched[name], recordings), _means(values, recordings)
            p = sign_flip_p(own - other, "greater", draws)
            add(name, null, p, smallest_p(len(own), draws), own, np.ma.array(other[:, None]))
    kinds = [classes[list(recordings).index(name)] for name in dict.fromkeys(recordings)]
    for null, groups in {"another clip": None, "another clip of the class": kinds}.items():
        for name, values in matrices.items():
            matrix = over_recordings(values, recordings)
            allowed = partners(len(matrix), groups)
            has = np.flatnonzero(allowed.any(axis=1))
            if len(has) < 2:
                continue
            matrix, allowed = matrix[np.ix_(has, has)], allowed[np.ix_(has, has)]
            kept = None if groups is None else [groups[i] for i in has]
            p, floor = pairing_p(matrix, kept, draws), smallest_p(len(has), draws, kept, True)
            add(name, null, p, floor, np.diag(matrix), np.ma.array(matrix, mask=~allowed))
    return found


def corrected(found: Sequence[Mapping[str, object]], *more: str) -> pd.DataFrame:
    """Comparisons of :func:`verify` as a table, corrected by Holm over all of them.

    Returns:
        Columns ``more`` and :data:`FIELDS`; ``follows``: whether a comparison shows what is
        asked; ``at_floor``: whether its p-value could not be smaller.
    """
    out = pd.DataFrame(found, columns=[*more, *FIELDS])
    out["p_corrected"] = holm(out["p"])
    out["follows"] = (out["p_corrected"] < ALPHA) & (out["d_z"] >= EFFECT)
    out["at_floor"] = out["p"] <= out["floor"] * (1 + 1e-9)
    return out


def _means(values: npt.ArrayLike, recordings: Sequence[str]) -> np.ndarray:
    """Means over the clips of each recording, in the order of their first clips."""
    values, belongs = np.asarray(values, dtype=np.float64), np.asarray(recordings)
    return np.stack([values[belongs == name].mean(axis=0) for name in dict.fromkeys(recordings)])
