"""Reading tables of rate and quality: curves, Bjøntegaard deltas, families of clips.

Input are long results tables (``tables.COLUMNS``) in which a method's ``stage`` is an operating
point, and which hold the metric ``rate`` (kbit/s) for each clip and stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from audioldm_utils.errors import UserError
from audioldm_utils.metrics.statistics import bootstrap_interval, compare_pairs, holm
from audioldm_utils.results import summaries as results
from audioldm_utils.studies.bjontegaard import Delta, bd_rate

if TYPE_CHECKING:
    import pandas as pd


def over_rate(
    table: pd.DataFrame, metric: str, methods: Sequence[str], rate: str = "rate"
) -> pd.DataFrame:
    """Mean of a metric over clips with its interval, and the mean rate, at each stage.

    Args:
        metric: of the table.
        methods: those without the metric or the rate are passed over.
        rate: ``rate`` (whole files) or ``payload_rate``.

    Returns:
        Columns of ``results.summarise`` and ``kbps``, by rising rate within a method.
    """
    import pandas as pd

    chosen = table[table["method"].isin(list(methods)) & (table["band"] == "")]
    summary = results.summarise(
        chosen[chosen["metric"].isin([metric, rate])], by=("method", "stage", "metric")
    )
    rates = summary[summary["metric"] == rate].set_index(["method", "stage"])["mean"]
    found = summary[summary["metric"] == metric].copy()
    keys = list(zip(found["method"], found["stage"], strict=True))
    found = found[[key in rates.index for key in keys]]
    found["kbps"] = [rates[key] for key in keys if key in rates.index]
    order = {name: place for place, name in enumerate(methods)}
    found["order"] = found["method"].map(order)
    found = found.sort_values(["order", "kbps"], ignore_index=True).drop(columns="order")
    return pd.DataFrame(found)


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
    return bd_rate(*arrays, lower_is_better=lower_is_better, seed=seed)


def at_points(
    table: pd.DataFrame,
    pairs: Mapping[str, tuple[tuple[str, str], tuple[str, str]]],
    metric: str,
    seed: int = 0,
) -> pd.DataFrame:
    """Paired differences between named (method, stage) points, corrected for their number.

    Args:
        pairs: what is asked, and the two points: ``{"text": (("ddcm", "a"), ("linear", "a"))}``.
        metric: of the table.

    Returns:
        One row a pair that has a clip: ``question``, ``first``, ``second`` (means),
        ``difference`` with ``low`` and ``high``, ``p, Holm`` (NaN for one clip), ``n``.
    """
    import pandas as pd

    chosen = table[(table["metric"] == metric) & (table["band"] == "")]
    rows = []
    for question, points in pairs.items():
        sides = []
        for method, stage in points:
            part = chosen[(chosen["method"] == method) & (chosen["stage"] == stage)]
            sides.append(results.per_clip(part) if len(part) else part["value"])
        shared = sides[0].index.intersection(sides[1].index)
        if not len(shared):
            continue
        x, y = (side[shared].to_numpy(float) for side in sides)
        row = {"question": question, "first": x.mean(), "second": y.mean()}
        row |= {"difference": float((x - y).mean()), "low": math.nan, "high": math.nan}
        row |= {"p, Holm": math.nan, "n": len(shared)}
        if len(shared) > 1:
            found = compare_pairs(x, y, seed)
            row |= {"low": found.low, "high": found.high, "p, Holm": found.p}
        rows.append(row)
    out = pd.DataFrame(rows)
    if len(out) and out["p, Holm"].notna().all():
        out["p, Holm"] = holm(out["p, Holm"].to_numpy())
    return out


def by_group(
    table: pd.DataFrame, method: str, metric: str, groups: Mapping[str, str]
) -> pd.DataFrame:
    """Mean and interval of a metric by a group of each clip, at every stage.

    Args:
        groups: clip name to its group.

    Returns:
        Columns ``group``, ``stage``, ``mean``, ``low``, ``high``, ``n``.
    """
    import pandas as pd

    chosen = results.select(table, method=method, metric=metric, band="")
    chosen = chosen.assign(group=[groups[clip] for clip in chosen["clip"]])
    rows = []
    for (group, stage), part in chosen.groupby(["group", "stage"], sort=True):
        found = bootstrap_interval(results.per_clip(part).to_numpy())
        row = {"group": group, "stage": stage, "mean": found.mean}
        rows.append(row | {"low": found.low, "high": found.high, "n": part["clip"].nunique()})
    return pd.DataFrame(rows)


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


def point_text(points: pd.DataFrame, question: str) -> str:
    """One answer of :func:`at_points` as a sentence takes it, or that there is none."""
    row = points[points["question"] == question] if len(points) else points
    if not len(row):
        return "not measured on these clips"
    row = row.iloc[0]
    text = f"{row['difference']:+.3f} nat"
    if not math.isnan(row["low"]):
        text += f" [{row['low']:+.3f}, {row['high']:+.3f}], p = {row['p, Holm']:.2g}"
    return results.proper_minus(text)
