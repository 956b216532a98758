"""Reading tables of rate and quality: curves, Bjøntegaard deltas, families of clips.

Input are long results tables (``tables.COLUMNS``) in which a method's ``stage`` is an operating
point, and which hold the metric ``rate`` (kbit/s) for each clip and stage.

Bjøntegaard delta of the rate (VCEG-M33, with piecewise cubic Hermite curves as in JCTVC-L1100):
through each codec's points (error, logarithm of the rate) goes a monotone piecewise cubic; the
mean distance between the two curves over the errors that both cover is the delta, in percent: -20
means that the first codec needs a fifth less. Points that another point of the same curve beats
at no more rate are left out: a codec's user would not choose them, and no function of the error
goes through them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.interpolate import PchipInterpolator

from audioldm_utils.metrics.statistics import (
    Interval,
    bootstrap_means,
    percentile_limits,
    recording_numbers,
)
from audioldm_utils.results import summaries as results


def through(stage: str, synthesis: str) -> str:
    """The stage of rows that were heard by another synthesis than the networks' own."""
    return f"{stage}, {synthesis}" if stage else synthesis


def over_rate(
    table: pd.DataFrame, metric: str, methods: Sequence[str], rate: str = "rate"
) -> pd.DataFrame:
    """Mean of a metric over clips with its interval, and their mean rate, at each stage.

    Args:
        methods: those without the metric or the rate are passed over.
        rate: ``rate`` (whole files) or ``payload_rate``.

    Returns:
        Columns of ``results.summarise`` and ``kbps``, by rising rate within a method.
    """
    chosen = table[table["method"].isin(list(methods)) & (table["band"] == "")]
    at = pd.MultiIndex.from_frame(chosen[["method", "stage", "clip"]])
    chosen = chosen[at.isin(at[chosen["metric"] == metric])]  # the rate is of the same clips
    summary = results.summarise(
        chosen[chosen["metric"].isin([metric, rate])], by=("method", "stage", "metric")
    )
    rates = summary[summary["metric"] == rate][["method", "stage", "mean"]]
    found = summary[summary["metric"] == metric].merge(
        rates.rename(columns={"mean": "kbps"}), on=["method", "stage"]
    )
    found = found.sort_values("kbps")
    place = list(methods).index
    return found.sort_values("method", key=lambda m: m.map(place), kind="stable", ignore_index=True)


def heard_through(table: pd.DataFrame, synthesis: str) -> pd.DataFrame:
    """The table, and the rows of another synthesis as methods of their own.

    ``ddcm`` at ``1 kbit/s, vocoder`` becomes ``ddcm-vocoder`` at ``1 kbit/s``, with the rate of
    its file; ``vae`` at ``vocoder`` becomes ``vae-vocoder``.
    """
    ends = table["stage"].eq(synthesis) | table["stage"].str.endswith(f", {synthesis}")
    other = table[ends]
    stage = other["stage"].str.removesuffix(synthesis).str.removesuffix(", ")
    other = other.assign(stage=stage, method=other["method"] + f"-{synthesis}")
    rates = table[table["metric"].isin(["rate", "payload_rate"]) & ~ends]
    paid = rates[rates["method"].eq("ddcm") & rates["stage"].isin(set(stage))]
    renamed = paid.assign(method=f"ddcm-{synthesis}")
    return pd.concat([table[~ends], other, renamed], ignore_index=True)


def at_rates_of(
    table: pd.DataFrame, other: str, method: str, metric: str, rate: str = "rate"
) -> pd.DataFrame:
    """The table, and ``other`` at each stage of ``method``: as it would be at that rate.

    Each clip's curve is joined by monotone cubics over the logarithm of its rate, as for
    Bjøntegaard deltas; there is no row where a stage lies beyond its ends.
    """
    part = table[(table["band"] == "") & table["metric"].isin([metric, rate])]
    wide = part.pivot_table(index=["clip", "method", "stage"], columns="metric", values="value")
    found: dict[tuple[str, str], float] = {}
    for clip, sides in wide.reindex(columns=[metric, rate]).dropna().groupby(level="clip"):
        by_method = {name: side for name, side in sides.groupby(level="method")}
        if {other, method} <= set(by_method):
            values = _read_at(by_method[other], by_method[method][rate], metric, rate)
            stages = by_method[method].index.get_level_values("stage")
            found |= {(clip, stage): v for stage, v in zip(stages, values, strict=True)}
    asked = part[(part["method"] == method) & (part["metric"] == metric)]
    read = [found.get(key, math.nan) for key in zip(asked["clip"], asked["stage"], strict=True)]
    rows = asked.assign(method=other, value=read).dropna(subset=["value"])
    return pd.concat([table, rows], ignore_index=True)


def _read_at(curve: pd.DataFrame, rates: pd.Series, metric: str, rate: str) -> np.ndarray:
    curve = curve.sort_values(rate).drop_duplicates(rate)
    if len(curve) < 2:
        return np.full(len(rates), math.nan)
    joined = PchipInterpolator(np.log(curve[rate]), curve[metric], extrapolate=False)
    return joined(np.log(rates))


def pareto_front(rates: npt.ArrayLike, errors: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Rates and errors ``(kept,)`` that no point of at most their rate beats, by rising rate."""
    rates, errors = np.asarray(rates, float), np.asarray(errors, float)
    order = np.lexsort((errors, rates))
    best = np.minimum.accumulate(errors[order])
    kept = order[np.r_[True, best[1:] < best[:-1]]]
    return rates[kept], errors[kept]


def _saving(*curves: np.ndarray) -> float:
    """Delta of two curves, given as rates and errors of each; NaN where they do not overlap."""
    fronts = [pareto_front(*curves[:2]), pareto_front(*curves[2:])]
    low = max(errors.min() for _, errors in fronts)
    high = min(errors.max() for _, errors in fronts)
    if not low < high:
        return math.nan
    areas = [
        float(PchipInterpolator(errors[::-1], np.log10(rates)[::-1]).integrate(low, high))
        for rates, errors in fronts
    ]
    return float(100 * (10 ** ((areas[0] - areas[1]) / (high - low)) - 1))


def bd_rate(
    *curves: npt.ArrayLike, recordings: npt.ArrayLike | None = None, draws: int = 500
) -> Interval | None:
    """Rate that a codec needs beyond another at equal error, in percent; negative saves.

    Args:
        curves: rates and errors of the one, then of the other, ``(clips, points)`` each, of the
            same clips; rates positive. Their means over clips make the curves.
        recordings: of each clip; every clip is its own by default.
        draws: bootstrap samples of recordings, both codecs together. Those whose curves do not
            overlap are left out.

    Returns:
        None where the curves share no range of errors.
    """
    # Rates are averaged in the logarithm, the scale on which the curves are drawn.
    arrays = [np.asarray(one, float) for one in curves]
    arrays = [array if i % 2 else np.log(array) for i, array in enumerate(arrays)]

    def saving(means: list[np.ndarray]) -> float:
        return _saving(*(mean if i % 2 else np.exp(mean) for i, mean in enumerate(means)))

    value = saving([array.mean(axis=0) for array in arrays])
    if math.isnan(value):
        return None
    n, numbers = len(arrays[0]), recording_numbers(recordings, len(arrays[0]))
    units, limits = int(numbers.max()) + 1, (math.nan, math.nan)
    if units > 1:
        drawn = [bootstrap_means(array, numbers, draws, 0) for array in arrays]
        resampled = zip(*drawn, strict=True)
        values = np.array([saving(means) for means in resampled])
        kept = values[~np.isnan(values)]
        limits = percentile_limits(kept, units) if len(kept) else limits
    return Interval(value, *limits, n, recordings=units)


def delta(
    table: pd.DataFrame,
    a: str,
    b: str,
    metric: str,
    stages: Sequence[str] | Mapping[str, Sequence[str]],
) -> Interval | None:
    """BD-rate of method ``a`` against ``b`` over the clips that both have in full.

    Args:
        stages: of both methods, or of each by its name.

    Returns:
        None where no clip has all stages of both, or the curves do not overlap.
    """
    of = stages if isinstance(stages, Mapping) else {a: stages, b: stages}
    wide = []
    for name in (a, b):
        for measured in ("rate", metric):
            part = table[(table["method"] == name) & (table["metric"] == measured)]
            pivot = part.pivot_table(index="clip", columns="stage", values="value")
            wide.append(pivot.reindex(columns=list(of[name])).dropna())
    shared = sorted(set.intersection(*(set(frame.index) for frame in wide)))
    if not shared:
        return None
    arrays = [frame.loc[shared].to_numpy() for frame in wide]
    return bd_rate(*arrays, recordings=results.units(table, shared))


def by_group(
    table: pd.DataFrame, method: str, metric: str, groups: Mapping[str, str]
) -> pd.DataFrame:
    """``results.summarise`` of a metric by stage and by a group of each clip, clip to group."""
    chosen = results.select(table, method=method, metric=metric, band="")
    chosen = chosen.assign(group=[groups[clip] for clip in chosen["clip"]])
    return results.summarise(chosen, by=("group", "stage"))


def delta_text(found: Interval | None) -> str:
    """A delta as a sentence takes it: mean with its interval, or that there is none."""
    if found is None:
        return "not measured on these clips"
    text = f"{found.mean:+.0f} %"
    if not math.isnan(found.low):
        text += f" [{found.low:+.0f}, {found.high:+.0f}]"
    return results.proper_minus(text)


def difference_text(differences: pd.DataFrame, name: str) -> str:
    """One row of ``results.differences`` as a sentence takes it, or that there is none."""
    if name not in differences.index:
        return "not measured on these clips"
    row = differences.loc[name]
    text = f"{row['difference']:+.3f} nat"
    if not math.isnan(row["low"]):
        text += f" [{row['low']:+.3f}, {row['high']:+.3f}], p = {row['p, Holm']:.2g}"
    return results.proper_minus(text)
