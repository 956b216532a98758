"""Bjøntegaard deltas: how much rate one codec saves at equal quality, and the reverse.

Definition (VCEG-M33, with piecewise cubic Hermite curves as in JCTVC-L1100): through each
codec's points (logarithm of the rate, quality) goes a monotone piecewise cubic; the mean
distance between the two curves over the range that both cover is the delta. BD-rate
integrates the log-rate over quality and is a percentage: -20 means that the first codec
needs a fifth less. BD-quality integrates quality over log-rate and has quality's unit.
Both hold for measures where lower is better as they stand.

Points that another point of the same curve beats at no more rate are left out: a codec's
user would not choose them, and no function of quality goes through them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audioldm_utils.errors import UserError
from audioldm_utils.metrics.statistics import (
    Interval,
    bootstrap_means,
    percentile_limits,
    recording_numbers,
)


@dataclass(frozen=True)
class Delta(Interval):
    """A Bjøntegaard delta of codec ``a`` against codec ``b``.

    Attributes:
        mean: from the mean curves of all clips: percent of rate, or quality's unit.
        low, high: bootstrap limits over recordings.
        overlap: the range integrated over: of quality for BD-rate, of rate for BD-quality.
        points: points used of each curve.
        failed: share of bootstrap samples whose curves did not overlap; they are left out.
    """

    overlap: tuple[float, float]
    points: tuple[int, int]
    failed: float


def pareto_front(
    rates: npt.ArrayLike, quality: npt.ArrayLike, lower_is_better: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Points that no point of at most their rate beats, by rising rate.

    Returns:
        rates and quality, shape ``(kept,)`` each; quality strictly improves along them.
    """
    rates, quality = np.asarray(rates, float), np.asarray(quality, float)
    cost = quality if lower_is_better else -quality
    order = np.lexsort((cost, rates))
    best = np.minimum.accumulate(cost[order])
    kept = order[np.r_[True, best[1:] < best[:-1]]]
    return rates[kept], quality[kept]


def _mean_gap(x_a: np.ndarray, y_a: np.ndarray, x_b: np.ndarray, y_b: np.ndarray) -> tuple:
    """Mean of ``y_a(x) - y_b(x)`` over the shared range of x, and that range."""
    from scipy.interpolate import PchipInterpolator

    low, high = max(x_a.min(), x_b.min()), min(x_a.max(), x_b.max())
    if not low < high:
        return float("nan"), (low, high)
    areas = []
    for x, y in ((x_a, y_a), (x_b, y_b)):
        order = np.argsort(x)
        areas.append(float(PchipInterpolator(x[order], y[order]).integrate(low, high)))
    return (areas[0] - areas[1]) / (high - low), (low, high)


def _delta(
    rates_a: npt.ArrayLike,
    quality_a: npt.ArrayLike,
    rates_b: npt.ArrayLike,
    quality_b: npt.ArrayLike,
    lower_is_better: bool,
    over: str,
) -> tuple[float, tuple[float, float], tuple[int, int]]:
    """One delta from two curves; NaN where they do not overlap."""
    fronts = [
        pareto_front(rates, quality, lower_is_better)
        for rates, quality in ((rates_a, quality_a), (rates_b, quality_b))
    ]
    points = (len(fronts[0][0]), len(fronts[1][0]))
    if min(points) < 2:
        return float("nan"), (float("nan"), float("nan")), points
    (log_a, q_a), (log_b, q_b) = ((np.log10(rates), quality) for rates, quality in fronts)
    if over == "quality":
        gap, overlap = _mean_gap(q_a, log_a, q_b, log_b)
        return float(100 * (10**gap - 1)), overlap, points
    gap, (low, high) = _mean_gap(log_a, q_a, log_b, q_b)
    return gap, (float(10**low), float(10**high)), points


def _with_interval(
    a: tuple[npt.ArrayLike, npt.ArrayLike],
    b: tuple[npt.ArrayLike, npt.ArrayLike],
    lower_is_better: bool,
    over: str,
    draws: int,
    seed: int,
    level: float,
    recordings: npt.ArrayLike | None,
) -> Delta:
    # Rates are averaged in the logarithm, the scale on which the curves are drawn.
    arrays = [np.asarray(array, float) for array in (*a, *b)]
    for array in arrays:
        if array.ndim != 2 or not np.isfinite(array).all():
            raise ValueError("rates and quality must be finite, shape (clips, points)")
    if len({len(array) for array in arrays}) != 1 or not len(arrays[0]):
        raise ValueError("both codecs need the same clips, one at least")
    if (arrays[0] <= 0).any() or (arrays[2] <= 0).any():
        raise ValueError("rates must be positive")
    arrays[0], arrays[2] = np.log(arrays[0]), np.log(arrays[2])

    def delta(means: list[np.ndarray]) -> tuple:
        return _delta(np.exp(means[0]), means[1], np.exp(means[2]), means[3], lower_is_better, over)

    value, overlap, points = delta([array.mean(axis=0) for array in arrays])
    if np.isnan(value):
        raise UserError(
            f"the two curves cannot be compared: they share no range of {over} "
            f"(points that improve with rate: {points[0]} and {points[1]})"
        )
    n, numbers = len(arrays[0]), recording_numbers(recordings, len(arrays[0]))
    units = int(numbers.max()) + 1
    if units == 1:
        none = float("nan")
        return Delta(value, none, none, n, overlap, points, 0.0, recordings=units)
    resampled = [bootstrap_means(array, numbers, draws, seed) for array in arrays]
    values = np.array([delta([r[i] for r in resampled])[0] for i in range(draws)])
    kept = values[~np.isnan(values)]
    limits = percentile_limits(kept, units, level) if len(kept) else (float("nan"),) * 2
    failed = float(np.isnan(values).mean())
    return Delta(value, *limits, n, overlap, points, failed, recordings=units)


def bd_rate(
    rates_a: npt.ArrayLike,
    quality_a: npt.ArrayLike,
    rates_b: npt.ArrayLike,
    quality_b: npt.ArrayLike,
    lower_is_better: bool,
    draws: int = 500,
    seed: int = 0,
    level: float = 0.95,
    recordings: npt.ArrayLike | None = None,
) -> Delta:
    """Rate that codec ``a`` needs beyond ``b`` at equal quality, in percent; negative saves.

    Args:
        rates_a, quality_a: shape ``(clips, points)``, rate positive (kbit/s or any unit).
        rates_b, quality_b: the same clips in the same order; points may be others.
        lower_is_better: whether ``quality`` is a distance.
        draws: bootstrap samples of recordings, both codecs together.
        recordings: of each clip; every clip is its own by default.

    Raises:
        UserError: the curves share no range of quality, or have fewer than two points
            that improve with the rate.
        ValueError: shapes that do not fit, values that are not finite, rates of zero.
    """
    a, b = (rates_a, quality_a), (rates_b, quality_b)
    return _with_interval(a, b, lower_is_better, "quality", draws, seed, level, recordings)


def bd_quality(
    rates_a: npt.ArrayLike,
    quality_a: npt.ArrayLike,
    rates_b: npt.ArrayLike,
    quality_b: npt.ArrayLike,
    lower_is_better: bool,
    draws: int = 500,
    seed: int = 0,
    level: float = 0.95,
    recordings: npt.ArrayLike | None = None,
) -> Delta:
    """Mean quality of ``a`` minus that of ``b`` at equal rate, in quality's unit.

    Arguments and errors as ``bd_rate``; the range integrated over is of the rate.
    """
    a, b = (rates_a, quality_a), (rates_b, quality_b)
    return _with_interval(a, b, lower_is_better, "rate", draws, seed, level, recordings)
