"""Two runs side by side: paired differences of everything that both measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_path
from audioldm_utils.metrics.statistics import holm
from audioldm_utils.results.summaries import count_text, directions, paired, per_clip, units
from audioldm_utils.results.tables import concat, read, select

if TYPE_CHECKING:
    import pandas as pd


def read_run(path: str | Path) -> pd.DataFrame:
    """All results of a run: a table, a sweep's folder, or every table below a folder.

    A sweep's folder is read from its ``results.parquet``; else a table that lies as CSV and as
    Parquet is read once, and files that are no results tables are passed over. A UserError if
    nothing is there, or no results table in the folder.
    """
    path = Path(path)
    if not path.is_dir():
        return read(path)
    if (path / "results.parquet").is_file():
        return read(path / "results.parquet")
    tables = []
    for file in {file.with_suffix(""): file for file in _tables_below(path)}.values():
        try:
            tables.append(read(file))
        except UserError as error:
            if "is no results table" not in str(error):
                raise
    if not tables:
        raise UserError(f"{path}: no results table in this folder; run a report or sweep first")
    return concat(tables)


def tables_of(path: str | Path) -> list[Path]:
    """The tables of a run, which no comparison may overwrite; those that one wrote are none."""
    path = Path(path)
    if not path.is_dir():
        return [path.with_suffix(suffix) for suffix in (path.suffix, ".csv", ".parquet")]
    found = []
    for file in _tables_below(path):
        with file.open("rb") as handle:
            if b",mean_a,mean_b,difference," not in handle.readline(1000):
                found.append(file)
    return found


def _tables_below(folder: Path) -> list[Path]:
    """Files by name, those in Parquet after those in CSV."""
    return [p for kind in ("csv", "parquet") for p in sorted(folder.rglob(f"[!.]*.{kind}"))]


def compare_runs(
    a: pd.DataFrame,
    b: pd.DataFrame,
    metrics: Sequence[str] | None = None,
    methods: tuple[str, str] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Paired differences ``a - b`` for each method, stage, metric and band of both runs.

    Args:
        a, b: results tables; clips are paired by name, seeds averaged within the clip.
        metrics: only these.
        methods: compare this method of ``a`` with that one of ``b``.
        level, seed: as in ``statistics.compare_pairs``.

    Returns:
        One row a comparison: its names, ``unit``, ``n`` (clips), ``mean_a``, ``mean_b``,
        ``difference``, ``low``, ``high``, ``p`` (permutation, Holm over all rows), ``d_z``,
        ``recordings`` (of the clips in ``a``; the unit of interval and test), ``verdict`` (``A
        better``, ``B better``, ``equal`` where no clip differs, else ``not told apart``).

    Raises:
        UserError: the runs have no clip, metric or method in common.
    """
    import pandas as pd

    if metrics:
        a, b = (select(table, metric=list(metrics)) for table in (a, b))
    if methods:
        a, b = select(a, method=methods[0]), select(b, method=methods[1])
        name = " - ".join(dict.fromkeys(methods))
        a, b = a.assign(method=name), b.assign(method=name)
    better = directions()
    cell = ["method", "stage", "metric", "band", "unit"]
    groups = [dict(list(table.groupby(cell))) for table in (a, b)]
    rows = []
    for key in sorted(groups[0].keys() & groups[1].keys()):
        one, two = (per_clip(group[key]) for group in groups)
        # A perfect copy's infinite SNR has no difference to another value.
        finite = [values[values.map(math.isfinite)] for values in (one, two)]
        shared = finite[0].index.intersection(finite[1].index).sort_values()
        if shared.empty:
            continue
        row = dict(zip(cell, key, strict=True)) | {"n": len(shared)}
        x, y = finite[0][shared].to_numpy(), finite[1][shared].to_numpy()
        row |= paired(x, y, units(a, shared), seed, level)
        rows.append(row | {"verdict": "equal" if (x == y).all() else ""})
    if not rows:
        raise UserError(
            "the two runs have nothing in common: no clip with the same method, stage and metric "
            f"(A: {_contents(a)}; B: {_contents(b)})"
        )
    table = pd.DataFrame(rows)
    table["p"] = holm(table["p"].fillna(1.0))  # one clip has none
    table["verdict"] = [
        row.verdict or _verdict(row, better.get(row.metric, ""), 1 - level)
        for row in table.itertuples()
    ]
    return table


def _verdict(row: Any, direction: str, alpha: float) -> str:
    """A claim needs the interval and the corrected p-value; empty for a neutral measure."""
    if direction not in ("higher", "lower"):
        return ""
    if row.p >= alpha or not (row.low > 0 or row.high < 0):
        return "not told apart"
    return "A better" if (row.low > 0) == (direction == "higher") else "B better"


def _contents(table: pd.DataFrame) -> str:
    clips = sorted(set(table["clip"]))
    methods = ", ".join(sorted(set(table["method"])))
    return f"{len(clips)} clips such as {clips[0]!r}, methods {methods}"


def write_differences(table: pd.DataFrame, path: Path) -> None:
    """The table of ``compare_runs`` as CSV, atomically; UserError where that cannot be."""
    try:
        with atomic_path(path) as temporary:
            table.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror or error}") from error


def format_differences(table: pd.DataFrame, level: float = 0.95) -> str:
    """The table of ``compare_runs`` as aligned text, one line a comparison."""
    header = ["method", "stage", "metric", "band", "n", "A", "B"]
    header += [f"A - B [{100 * level:g} %]", "p (Holm)", "d_z", ""]
    lines = [header]
    for row in table.itertuples():
        interval = f"{row.difference:+.3g}"
        if not math.isnan(row.low):
            interval += f" [{row.low:+.3g}, {row.high:+.3g}]"
        unit = "" if row.unit == "1" else f" {row.unit}"
        values = [f"{row.mean_a:.4g}{unit}", f"{row.mean_b:.4g}{unit}", interval]
        effect = "–" if math.isnan(row.d_z) else f"{row.d_z:+.2f}"
        count = count_text(row.n, row.recordings)
        names = [row.method, row.stage, row.metric, row.band, count]
        lines.append([*names, *values, f"{row.p:.2g}", effect, row.verdict])
    kept = [i for i in range(len(header)) if any(line[i] for line in lines[1:])]
    widths = {i: max(len(line[i]) for line in lines) for i in kept}
    return "\n".join("  ".join(line[i].ljust(widths[i]) for i in kept).rstrip() for line in lines)
