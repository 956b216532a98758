"""Reading tables of rate and quality: curves, Bjøntegaard deltas, families of clips.

Input are long results tables (``tables.COLUMNS``) in which a method's ``stage`` is an operating
point, and which hold the metric ``rate`` (kbit/s) for each clip and stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from audioldm_utils.errors import UserError
from audioldm_utils.results import summaries as results
from audioldm_utils.studies.bjontegaard import Delta, bd_rate

if TYPE_CHECKING:
    import pandas as pd


def through(stage: str, synthesis: str) -> str:
    """The stage of rows that were heard by another synthesis than the networks' own."""
    return f"{stage}, {synthesis}" if stage else synthesis


def over_rate(
    table: pd.DataFrame, metric: str, methods: Sequence[str], rate: str = "rate"
) -> pd.DataFrame:
    """Mean of a metric over clips with its interval, and the mean rate, at each stage.

    Args:
        methods: those without the metric or the rate are passed over.
        rate: ``rate`` (whole files) or ``payload_rate``.

    Returns:
        Columns of ``results.summarise`` and ``kbps``, by rising rate within a method.
    """
    chosen = table[table["method"].isin(list(methods)) & (table["band"] == "")]
    summary = results.summarise(
        chosen[chosen["metric"].isin([metric, rate])], by=("method", "stage", "metric")
    )
    rates = summary[summary["metric"] == rate][["method", "stage", "mean"]]
    found = summary[summary["metric"] == metric].merge(
        rates.rename(columns={"mean": "kbps"}), on=["method", "stage"]
    )
    order = {name: place for place, name in enumerate(methods)}
    found = found.assign(order=found["method"].map(order))
    return found.sort_values(["order", "kbps"], ignore_index=True).drop(columns="order")


def heard_through(table: pd.DataFrame, synthesis: str) -> pd.DataFrame:
    """The table, and the rows of another synthesis as methods of their own.

    ``ddcm`` at ``1 kbit/s, vocoder`` becomes ``ddcm-vocoder`` at ``1 kbit/s``, with the rate of
    its file; ``vae`` at ``vocoder`` becomes ``vae-vocoder``.
    """
    import pandas as pd

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
    import pandas as pd

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
    from scipy.interpolate import PchipInterpolator

    curve = curve.sort_values(rate).drop_duplicates(rate)
    if len(curve) < 2:
        return np.full(len(rates), math.nan)
    joined = PchipInterpolator(np.log(curve[rate]), curve[metric], extrapolate=False)
    return joined(np.log(rates))


def delta(
    table: pd.DataFrame,
    a: str,
    b: str,
    metric: str,
    stages: Sequence[str] | Mapping[str, Sequence[str]],
    lower_is_better: bool = True,
    seed: int = 0,
) -> Delta:
    """BD-rate of method ``a`` against ``b``, percent, over the clips that both have in full.

    Args:
        stages: of both methods, or of each by its name.

    Raises:
        UserError: no clip has all stages of both, or the curves do not overlap.
    """
    of = stages if isinstance(stages, Mapping) else {a: stages, b: stages}
    wide = {}
    for name in (a, b):
        for measured in ("rate", metric):
            part = table[
                (table["method"] == name)
                & (table["metric"] == measured)
                & (table["stage"].isin(list(of[name])))
            ]
            pivot = part.pivot_table(index="clip", columns="stage", values="value")
            wide[name, measured] = pivot.reindex(columns=list(of[name])).dropna()
    shared = sorted(set.intersection(*(set(frame.index) for frame in wide.values())))
    if not shared:
        raise UserError(f"no clip has all stages of both {a} and {b}")
    arrays = [wide[name, m].loc[shared].to_numpy() for name in (a, b) for m in ("rate", metric)]
    recordings = results.units(table, shared)
    return bd_rate(*arrays, lower_is_better, seed=seed, recordings=recordings)


def by_group(
    table: pd.DataFrame, method: str, metric: str, groups: Mapping[str, str]
) -> pd.DataFrame:
    """``results.summarise`` of a metric by stage and by a group of each clip, clip to group."""
    chosen = results.select(table, method=method, metric=metric, band="")
    chosen = chosen.assign(group=[groups[clip] for clip in chosen["clip"]])
    return results.summarise(chosen, by=("group", "stage"))


def delta_text(found: Delta | None) -> str:
    """A delta as a sentence takes it: mean with its interval, or that there is none."""
    if found is None:
        return "not measured on these clips"
    text = f"{found.mean:+.0f} %"
    if not math.isnan(found.low):
        text += f" [{found.low:+.0f}, {found.high:+.0f}]"
    return results.proper_minus(text)


def delta_or_none(*arguments: object, **options: object) -> Delta | None:
    """As :func:`delta`; None where the clips at hand do not allow one."""
    try:
        return delta(*arguments, **options)
    except UserError:
        return None


def difference_text(differences: pd.DataFrame, name: str) -> str:
    """One row of ``results.differences`` as a sentence takes it, or that there is none."""
    if name not in differences.index:
        return "not measured on these clips"
    row = differences.loc[name]
    text = f"{row['difference']:+.3f} nat"
    if not math.isnan(row["low"]):
        text += f" [{row['low']:+.3f}, {row['high']:+.3f}], p = {row['p, Holm']:.2g}"
    return results.proper_minus(text)
