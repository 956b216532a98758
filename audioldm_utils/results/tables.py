"""One long table of results: a row is one number about one clip.

``class``, ``stage`` (operating point), ``band`` (``4-8 kHz``) and ``collection`` may be empty;
``recording`` names what the clip belongs to, itself unless more is known; ``checkpoint`` holds
the first twelve hexadecimal digits of a fingerprint. A metric without a value has no row: NaN is
refused, infinity (the SNR of a perfect copy) is not. Rows are sorted and values rounded to nine
significant digits when written, so that the same results give the same bytes.

Older tables have no ``recording`` and ``collection``. In them every clip is its own recording.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from audioldm_utils import __version__
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_path, sha256_file

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "clip", "class", "method", "stage", "metric", "band",
    "value", "unit", "seed", "checkpoint", "version", "recording", "collection",
)  # fmt: skip

#: What makes a row one of its kind.
KEY = ("clip", "method", "stage", "metric", "band", "seed", "checkpoint")

#: Units that a table may hold; "1" is a pure number.
UNITS = frozenset(
    {"1", "%", "dB", "nat", "MOS", "Hz", "kHz", "cent", "s", "ms", "samples", "frames"}
    | {"bit", "bit/value", "kbit/s", "bytes", "MB", "calls", "dB/octave"}
)


class ResultsBuilder:
    """Collects rows that share the checkpoint's fingerprint (or none), seed and version."""

    def __init__(self, checkpoint: str = "", seed: int = 0, method: str = "") -> None:
        if checkpoint and not re.fullmatch(r"[0-9a-f]{12}(?:[0-9a-f]{52})?", checkpoint):
            raise ValueError(f"checkpoint must be a fingerprint in hexadecimal, got {checkpoint!r}")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a non-negative integer, got {seed!r}")
        self.checkpoint, self.seed, self.method = checkpoint[:12], seed, method
        self.rows: list[dict[str, object]] = []

    def add(
        self, clip: str, metric: str, value: float, unit: str, *, category: str | None = None,
        method: str | None = None, stage: str = "", band: str = "", recording: str = "",
        collection: str = "",
    ) -> None:  # fmt: skip
        """One number about one clip; ``recording`` is the clip itself unless it is named.

        NaN, an unknown unit, or an empty clip, metric or method is a ValueError.
        """
        method = self.method if method is None else method
        value = float(value)
        if math.isnan(value):
            raise ValueError(f"{metric} of clip {clip!r} is NaN; leave the row out instead")
        if unit not in UNITS:
            raise ValueError(f"unknown unit {unit!r} of {metric}; one of {sorted(UNITS)}")
        named = clip, metric, method
        if not all(named):
            raise ValueError(f"clip, metric and method must be named, got {named!r}")
        row = (clip, category or "", method, stage, metric, band, value, unit)
        row += (self.seed, self.checkpoint, __version__, recording or clip, collection)
        self.rows.append(dict(zip(COLUMNS, row, strict=True)))

    def table(self) -> pd.DataFrame:
        """The checked table of all rows so far."""
        import pandas as pd

        return validate(pd.DataFrame(self.rows, columns=list(COLUMNS)))


def validate(table: pd.DataFrame, source: str = "the table") -> pd.DataFrame:
    """The table with its columns in order, its types set, its rows sorted.

    An error calls it ``source``: a UserError for columns missing or foreign, NaN, text that is not
    a number, an unknown unit, two units of one metric, two classes, recordings or collections of
    one clip, or a row given twice.
    """
    import pandas as pd

    if "clip" in table.columns:
        known = {"recording": table["clip"], "collection": ""}
        table = table.assign(**{k: v for k, v in known.items() if k not in table.columns})
    missing = [column for column in COLUMNS if column not in table.columns]
    foreign = [str(column) for column in table.columns if column not in COLUMNS]
    if missing or foreign:
        raise UserError(
            f"{source} is no results table: columns missing {missing}, not known {foreign}; "
            f"a results table has {', '.join(COLUMNS)}"
        )
    table = table[list(COLUMNS)].copy()
    try:
        table["value"] = pd.to_numeric(table["value"]).astype("float64")
        table["seed"] = pd.to_numeric(table["seed"]).astype("int64")
    except (ValueError, TypeError) as error:
        raise UserError(f"{source} has a value or seed that is no number: {error}") from None
    for column in COLUMNS:
        if column not in ("value", "seed"):
            table[column] = table[column].fillna("").astype("str")
    for row in table[table["value"].isna()].itertuples():
        said = f"{source} has no value for {row.metric} of clip {row.clip!r}"
        raise UserError(f"{said}; leave such rows out")
    unknown = sorted(set(table["unit"]) - UNITS)
    if unknown:
        raise UserError(f"{source} has unknown units {unknown}; known are {sorted(UNITS)}")
    table["recording"] = table["recording"].where(table["recording"] != "", table["clip"])
    owners = {"unit": "metric", "class": "clip", "recording": "clip", "collection": "clip"}
    for column, owner in owners.items():
        for name, found in table.groupby(owner)[column].unique().items():
            if len(found) > 1:
                said = f"{source} gives {owner} {name!r} more than one {column}"
                raise UserError(f"{said}: {sorted(found)}")
    repeated = table.duplicated(list(KEY))
    if repeated.any():
        row = table[repeated].iloc[0]
        raise UserError(
            f"{source} has {int(repeated.sum())} row(s) twice, the first: "
            + ", ".join(f"{column} {row[column]!r}" for column in KEY)
        )
    table["value"] = table["value"].map(lambda value: float(f"{value:.9g}")).astype("float64")
    return table.sort_values(list(KEY), kind="stable", ignore_index=True)


def concat(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """All rows of several tables; a row that two of them hold is refused, as by ``validate``."""
    import pandas as pd

    if not (tables := list(tables)):
        return pd.DataFrame(columns=list(COLUMNS))
    return validate(pd.concat(tables, ignore_index=True), "the joined table")


def select(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Rows whose columns have the given values (or any of a list); ``category`` is ``class``.

    Where no row is left, a UserError names what is there.
    """
    for column, value in values.items():
        column = "class" if column == "category" else column
        members = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
        there, table = table[column].unique(), table[table[column].isin(members)]
        if table.empty:
            listed = ", ".join(sorted(map(str, there)))
            raise UserError(f"no results with {column} {value!r}; there are {listed}")
    return table


def from_csv(source: Path | IO[str], name: str) -> pd.DataFrame:
    """The checked table in a CSV file or stream; ``name`` is what errors call it."""
    import pandas as pd

    text = {column: "str" for column in COLUMNS if column not in ("value", "seed")}
    return validate(pd.read_csv(source, dtype=text, keep_default_na=False), name)


def to_csv(table: pd.DataFrame) -> str:
    """The checked table as CSV text, the same for the same results."""
    return validate(table).to_csv(index=False, float_format="%.9g", lineterminator="\n")


def read(path: str | Path) -> pd.DataFrame:
    """A results table from CSV or Parquet, or from a folder of Parquet files, checked.

    A UserError if it is missing, unreadable, or no results table.
    """
    import pandas as pd
    import pyarrow

    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such results table; give a .csv, .parquet or a folder")
    unreadable = (pyarrow.ArrowException, pd.errors.ParserError, pd.errors.EmptyDataError)
    try:
        if path.suffix == ".csv":
            return from_csv(path, str(path))
        table = pd.read_parquet(path)
    except (*unreadable, UnicodeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as a results table: {reason}") from None
    return validate(table, str(path))


def write(
    table: pd.DataFrame, path: str | Path, provenance: Mapping[str, object] | None = None
) -> dict[str, Path]:
    """Write the table as CSV and as Parquet, and its provenance as JSON, side by side.

    They are renamed when all are complete, so that a full disk leaves what stood there before.
    The sidecar also gets the SHA-256 of the CSV, the number of rows and of clips.

    Args:
        path: where, with or without one of the suffixes.
        provenance: from ``evidence.provenance``; without it there is no sidecar.

    Returns:
        The paths by suffix: ``csv``, ``parquet`` and, if given, ``json``.

    Raises:
        UserError: the table is not valid, or the files cannot be written.
    """
    table = validate(table)
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".csv", ".parquet", ".json") else path
    suffixes = ("csv", "parquet", "json")[: 2 if provenance is None else 3]
    paths = {suffix: stem.with_name(f"{stem.name}.{suffix}") for suffix in suffixes}
    try:
        with ExitStack() as stack:
            new = {suffix: stack.enter_context(atomic_path(p)) for suffix, p in paths.items()}
            new["csv"].write_bytes(to_csv(table).encode())
            _write_parquet(table, new["parquet"])
            if provenance is not None:
                extra = {"rows": len(table), "n": int(table["clip"].nunique())}
                record = {**extra, **provenance, "csv_sha256": sha256_file(new["csv"])}
                text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False)
                new["json"].write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{stem}: the results could not be written: {reason}") from error
    return paths


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    types = {"value": pa.float64(), "seed": pa.int64()}
    schema = pa.schema([(column, types.get(column, pa.string())) for column in COLUMNS])
    # Without pandas' metadata, which names the versions of the libraries that wrote it.
    plain = pa.Table.from_pandas(table, schema=schema, preserve_index=False)
    pyarrow.parquet.write_table(plain.replace_schema_metadata(None), path)
