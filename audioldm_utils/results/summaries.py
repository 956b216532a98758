"""Results: the long table (see ``tables``), and what is read from it over clips.

Means are over clips: whatever else differs within a group (seeds, bands) is averaged within the
clip first. Intervals and tests are over recordings, with all clips of one together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from audioldm_utils.errors import UserError
from audioldm_utils.metrics.statistics import bootstrap_interval, compare_pairs, holm
from audioldm_utils.results.tables import (
    COLUMNS,
    ResultsBuilder,
    concat,
    read,
    select,
    validate,
    write,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "ResultsBuilder", "concat", "read", "select", "validate", "write"]

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0", "one": "→ 1", "": ""}


def per_clip(table: pd.DataFrame) -> pd.Series:
    """One value a clip, by clip name: the mean over whatever else differs (seeds, bands)."""
    return table.groupby("clip", sort=True)["value"].mean()


def units(table: pd.DataFrame, clips: Iterable[str], over: str = "recording") -> np.ndarray:
    """What each of the clips belongs to, as a table says: what intervals and tests are over.

    That is ``recording``, or ``collection`` (a recording of none counts for itself).
    """
    if over not in ("recording", "collection"):
        raise ValueError(f"over must be recording or collection, got {over!r}")
    names = [name for name in (over, "recording") if name in table]
    rows = table[["clip", *dict.fromkeys(names)]].drop_duplicates("clip").itertuples(index=False)
    known = {clip: next(filter(None, belongs), clip) for clip, *belongs in rows}
    return np.array([known.get(clip, clip) for clip in clips], dtype=str)


def count_text(n: int, recordings: int, over: str = "recording") -> str:
    """``53``, or ``53 clips of 41 recordings`` where they differ."""
    return str(n) if n == recordings else f"{n} clips of {recordings} {over}s"


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
    over: str = "recording",
) -> pd.DataFrame:
    """Mean over clips with its bootstrap interval over recordings, for every group of rows.

    Args:
        by: the columns that make a group, and ``metric``; what is not named is averaged within
            the clip first.
        better: metric name to ``higher``, ``lower`` or ``zero``; :func:`directions` by default.
        over: ``recording``, or ``collection`` for intervals over whole collections.

    Returns:
        One row a group: the ``by`` columns, ``mean``, ``low``, ``high``, ``n`` (clips),
        ``recordings`` (or ``collections``, if over those), ``unit``, ``better`` (an arrow).
        ``attrs["aggregator"]`` says what they are, ``attrs["over"]`` what intervals are over.
    """
    import pandas as pd

    by = list(by) if "metric" in by else [*by, "metric"]
    better = directions() if better is None else better
    names = table["clip"].unique()
    unit_of = pd.Series(units(table, names, over), names)
    rows = []
    for key, group in table.groupby(by, sort=True):
        values = per_clip(group)
        belongs = unit_of[values.index].to_numpy()
        found = bootstrap_interval(values.to_numpy(), seed, draws, level, belongs)
        row = dict(zip(by, key, strict=True)) | asdict(found) | {f"{over}s": found.recordings}
        arrow = ARROWS[better.get(row["metric"], "")]
        rows.append({**row, "unit": group["unit"].iloc[0], "better": arrow})
    columns = [*by, "mean", "low", "high", "n", f"{over}s", "unit", "better"]
    summary = pd.DataFrame(rows, columns=columns)
    told = "" if (summary["n"] == summary[f"{over}s"]).all() else f" over {over}s"
    summary.attrs["aggregator"] = f"mean over clips [{100 * level:g} % interval{told}]"
    summary.attrs["over"] = over
    return summary


#: Columns and the values that choose one method at one stage.
Choice = Mapping[str, object]


def pairs(
    table: pd.DataFrame, a: Choice, b: Choice, metric: str, band: str = ""
) -> tuple[pd.Series, pd.Series]:
    """Values of two choices on the clips that both have, by clip name; maybe none."""
    import pandas as pd

    sides = []
    for choice in (a, b):
        try:
            sides.append(per_clip(select(table, metric=metric, band=band, **choice)))
        except UserError:
            sides.append(pd.Series(dtype="float64"))
    shared = sides[0].index.intersection(sides[1].index).sort_values()
    return sides[0][shared], sides[1][shared]


def paired(
    x: np.ndarray, y: np.ndarray, recordings: np.ndarray, seed: int = 0, level: float = 0.95
) -> dict[str, float]:
    """Means of paired values, their difference and its test; one clip has no interval or p.

    ``recordings`` are those of each clip (:func:`units`).
    """
    if len(x) == 1:
        found = {"mean_a": x[0], "mean_b": y[0], "difference": x[0] - y[0]}
        return found | dict.fromkeys(("low", "high", "p", "d_z"), math.nan) | {"recordings": 1}
    pair = compare_pairs(x, y, seed, 2000, level, recordings)
    found = {"mean_a": pair.mean_a, "mean_b": pair.mean_b, "difference": pair.mean}
    names = ("low", "high", "p", "d_z", "recordings")
    return found | {name: getattr(pair, name) for name in names}


def differences(
    table: pd.DataFrame,
    asked: Mapping[Hashable, tuple[Choice, Choice]],
    metric: str,
    band: str = "",
    seed: int = 0,
    over: str = "recording",
) -> pd.DataFrame:
    """Paired differences over clips between named pairs of choices, corrected for their number.

    Args:
        asked: name of each pair and the two: ``{"VAE": ({"method": "vae"}, {"method": "mel"})}``.
        over: as in :func:`summarise`.

    Returns:
        One row a pair that has a clip, by its name: ``first`` and ``second`` (means),
        ``difference`` (first minus second) with ``low`` and ``high`` of its interval, ``p, Holm``
        (two-sided sign-flip test), ``n`` clips and ``recordings`` (or ``collections``) of them.
        One clip has a difference and no more.
    """
    import pandas as pd

    found = {}
    for name, (a, b) in asked.items():
        x, y = pairs(table, a, b, metric, band)
        if len(x):
            sides, belongs = (x.to_numpy(float), y.to_numpy(float)), units(table, x.index, over)
            found[name] = {**paired(*sides, belongs, seed), "n": len(x)}
    names = {"mean_a": "first", "mean_b": "second", "p": "p, Holm", "recordings": f"{over}s"}
    columns = ["mean_a", "mean_b", "difference", "low", "high", "p", "n", "recordings"]
    index = pd.Index(list(found), tupleize_cols=False)
    out = pd.DataFrame(list(found.values()), index, columns).rename(columns=names)
    told = out["p, Holm"].notna()
    if told.any():
        out.loc[told, "p, Holm"] = holm(out.loc[told, "p, Holm"])
    return out


def proper_minus(text: str) -> str:
    """Numbers as text with the sign that typesetters use; a zero has none."""
    return re.sub(r"-(?=0(\.0*)?(?![\d.]))", "", text).replace("-", "\N{MINUS SIGN}")


def interval_text(mean: float, low: float, high: float, spec: str) -> str:
    """``0.31 [0.28, 0.34]``: with more digits than ``spec`` has, where these hide the interval.

    At most three more, until the mean is told from both limits. NaN limits are left out.
    """
    values = (mean, low, high)[: 1 if math.isnan(low) else 3]
    for more in range(4):
        finer = re.sub(r"\.(\d+)", lambda found, more=more: f".{int(found[1]) + more}", spec)
        texts = [format(value, finer) for value in values]
        if len({float(text.rstrip("%")) for text in texts}) == len({*values}):
            break
    else:
        texts = [format(value, spec) for value in values]
    return proper_minus(texts[0] + (f" [{', '.join(texts[1:])}]" if texts[1:] else ""))


def tabulate(summary: pd.DataFrame, rows: str = "method", digits: int = 3) -> pd.DataFrame:
    """A summary as a table to be read: one line a ``rows`` value, one column a metric.

    Each column's header names metric, unit and direction, the corner the aggregator; each
    cell is ``mean [low, high]``; the last column is n (clips, of so many recordings).
    """
    import pandas as pd

    lines: dict[object, dict[str, str]] = {}
    over = summary.attrs.get("over", "recording")
    for _, row in summary.iterrows():
        unit = "" if row["unit"] == "1" else f", {row['unit']}"
        name = f"{row['metric']}{unit} {row['better']}".strip()
        band = f", {row['band']}" if row.get("band") else ""
        header = f"{name}{band}".replace("_", " ")
        cell = interval_text(row["mean"], row["low"], row["high"], f".{digits}g")
        line = lines.setdefault(row[rows], {})
        if header in line:
            raise ValueError(f"several cells for {rows} {row[rows]!r} and {name}; select first")
        line[header] = cell
        count = count_text(row["n"], row.get(f"{over}s", row["n"]), over)
        line["n"] = "/".join(dict.fromkeys([*filter(None, line.get("n", "").split("/")), count]))
    wide = pd.DataFrame.from_dict(lines, orient="index")
    wide = wide[[column for column in wide.columns if column != "n"] + ["n"]]
    corner = f"{rows}; {summary.attrs.get('aggregator', 'mean over clips')}"
    return wide.fillna("–").rename_axis(columns=corner)
