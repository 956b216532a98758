"""Results: the long table (see ``tables``), and what is read from it over clips.

The clip is the unit: whatever else differs within a group (seeds, bands) is averaged within
the clip first, and intervals are over clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING

from audioldm_utils.errors import UserError
from audioldm_utils.metrics.statistics import PairedDifference, bootstrap_interval, compare_pairs
from audioldm_utils.results.tables import (
    COLUMNS,
    KEY,
    UNITS,
    ResultsBuilder,
    concat,
    read,
    select,
    validate,
    write,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "KEY",
    "UNITS",
    "ResultsBuilder",
    "bootstrap_interval",
    "concat",
    "directions",
    "neighbours",
    "paired_difference",
    "per_clip",
    "read",
    "select",
    "summarise",
    "tabulate",
    "validate",
    "write",
]

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0", "one": "→ 1", "": ""}


def per_clip(table: pd.DataFrame) -> pd.Series:
    """One value a clip, by clip name: the mean over whatever else differs (seeds, bands)."""
    return table.groupby("clip", sort=True)["value"].mean()


def directions() -> dict[str, str]:
    """Metric name to ``higher``, ``lower``, ``zero`` or ``one``, whichever is better."""
    from audioldm_utils.metrics import REGISTRY

    return {name: entry.better for name, entry in REGISTRY.items()}


def summarise(
    table: pd.DataFrame,
    by: Sequence[str] = ("method", "stage", "metric", "band"),
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    better: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Mean over clips with its bootstrap interval, for every group of rows.

    Args:
        by: the columns that make a group; what is not named is averaged within the clip
            first. ``metric`` is always among them, since units do not mix.
        better: metric name to ``higher``, ``lower`` or ``zero``; the registry of
            ``metrics`` by default.

    Returns:
        One row a group: the ``by`` columns, ``mean``, ``low``, ``high``, ``n`` (clips),
        ``unit``, ``better`` (an arrow). ``attrs["aggregator"]`` says what they are.
    """
    import pandas as pd

    by = list(by) if "metric" in by else [*by, "metric"]
    better = directions() if better is None else better
    rows = []
    for key, group in table.groupby(by, sort=True):
        found = bootstrap_interval(per_clip(group).to_numpy(), seed, draws, level)
        row = dict(zip(by, key, strict=True))
        arrow = ARROWS[better.get(row["metric"], "")]
        rows.append({**row, **asdict(found), "unit": group["unit"].iloc[0], "better": arrow})
    columns = [*by, "mean", "low", "high", "n", "unit", "better"]
    summary = pd.DataFrame(rows, columns=columns)
    summary.attrs["aggregator"] = f"mean over clips [{100 * level:g} % interval]"
    return summary


def neighbours(
    table: pd.DataFrame, method: str, stages: Sequence[str], metric: str, seed: int = 0
) -> pd.DataFrame:
    """Paired differences over clips between neighbouring stages of a method, such as rates.

    Args:
        stages: in order; each is compared with the one before it.
        metric: of the table; rows of the whole spectrum only.

    Returns:
        One row a pair: ``from``, ``to``, ``difference, UNIT`` (second minus first) with
        ``low`` and ``high`` of its interval, ``p, Holm`` (two-sided sign-flip test, corrected
        for the number of pairs) and ``n``. p is NaN where there are fewer than two clips.
    """
    import numpy as np
    import pandas as pd

    from audioldm_utils.metrics.statistics import holm

    chosen = select(table, method=method, metric=metric, band="")
    wide = chosen.pivot_table(index="clip", columns="stage", values="value")
    name = f"difference, {chosen['unit'].iloc[0]}"
    rows = []
    for before, after in pairwise(stages):
        both = wide[[before, after]].dropna().to_numpy()
        difference = both[:, 1] - both[:, 0]
        row = {"from": before, "to": after, name: float(difference.mean())}
        row |= {"low": math.nan, "high": math.nan, "p, Holm": math.nan, "n": len(both)}
        if len(both) > 1:
            found = compare_pairs(both[:, 1], both[:, 0], seed)
            row |= {"low": found.low, "high": found.high, "p, Holm": found.p}
        rows.append(row)
    out = pd.DataFrame(rows)
    if out["p, Holm"].notna().all():
        out["p, Holm"] = holm(np.asarray(out["p, Holm"]))
    return out


def proper_minus(text: str) -> str:
    """A number as text with the sign that typesetters use, for tables and sentences."""
    return text.replace("-", "\N{MINUS SIGN}")


def tabulate(summary: pd.DataFrame, rows: str = "method", digits: int = 3) -> pd.DataFrame:
    """A summary as a table to be read: one line a ``rows`` value, one column a metric.

    Each column's header names metric, unit and direction, the corner the aggregator; each
    cell is ``mean [low, high]``; the last column is n.
    """
    import pandas as pd

    lines: dict[object, dict[str, str]] = {}
    for _, row in summary.iterrows():
        unit = "" if row["unit"] == "1" else f", {row['unit']}"
        name = f"{row['metric']}{unit} {row['better']}".strip()
        band = f", {row['band']}" if row.get("band") else ""
        header = f"{name}{band}".replace("_", " ")
        cell = f"{row['mean']:.{digits}g}"
        if not math.isnan(row["low"]):
            cell += f" [{row['low']:.{digits}g}, {row['high']:.{digits}g}]"
        line = lines.setdefault(row[rows], {})
        if header in line:
            raise ValueError(f"several cells for {rows} {row[rows]!r} and {name}; select first")
        line[header] = proper_minus(cell)
        counts = [count for count in line.get("n", "").split("/") if count]
        line["n"] = "/".join(dict.fromkeys([*counts, str(row["n"])]))
    wide = pd.DataFrame.from_dict(lines, orient="index")
    wide = wide[[column for column in wide.columns if column != "n"] + ["n"]]
    corner = f"{rows}; {summary.attrs.get('aggregator', 'mean over clips')}"
    return wide.fillna("–").rename_axis(columns=corner)


def paired_difference(
    table: pd.DataFrame,
    a: str | Mapping[str, object],
    b: str | Mapping[str, object],
    metric: str,
    band: str = "",
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Difference ``a - b`` in one metric over the clips that both have.

    Args:
        a, b: a method, or columns and values such as ``{"method": "ddcm", "stage": "0.5"}``.
        seed: of bootstrap and permutation.

    Raises:
        UserError: either side has no rows, or fewer than two clips are shared.
    """
    sides = [
        per_clip(
            select(table, metric=metric, band=band, **({"method": s} if isinstance(s, str) else s))
        )
        for s in (a, b)
    ]
    shared = sides[0].index.intersection(sides[1].index).sort_values()
    if len(shared) < 2:
        raise UserError(f"{a!r} and {b!r} share {len(shared)} clip(s) in {metric}; two are needed")
    return compare_pairs(
        sides[0][shared].to_numpy(), sides[1][shared].to_numpy(), seed, draws, level
    )
