"""The tables of ``benchmarks/``, read for figures: efficiency, cost, and the oracle's results.

They depend on no weights: residuals are drawn, and the denoiser is the exact one of a normal
prior.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from audioldm_utils.errors import UserError
from audioldm_utils.studies.codebook_theory import efficiency, expected_cosine, expected_cosine_top

#: Latent values of the tables' clips: 10.24 s.
VALUES = 32768
_METHODS = {
    "cyclic shift": "ddcm",
    "independent": "ddcm-gaussian",
    "Turbo-style": "ddcm-turbo",
    "k-means": "ddcm-kmeans",
    "matching pursuit, C=3": "ddcm-pursuit",
}


def _read(folder: str | Path, name: str) -> pd.DataFrame:
    path = Path(folder) / f"{name}.csv"
    if not path.is_file():
        raise UserError(f"{path} is missing: run benchmarks/codebook_{name.split('_')[1]}.py.")
    return pd.read_csv(path)


def read_efficiency(folder: str | Path) -> pd.DataFrame:
    """``codebook_efficiency.csv`` with columns that figures take.

    Added are ``method`` (a look's name, else the codebook's; cyclic shifts of any number of
    bases are one method) and ``mean`` (the efficiency).
    """
    table = _read(folder, "codebook_efficiency")
    named = table["codebook"].str.replace(r", \d+ bases$", "", regex=True)
    return table.assign(method=named.map(lambda name: _METHODS.get(name, name)),
                        mean=table["efficiency"])  # fmt: skip


def over_bits(table: pd.DataFrame, residual: str = "white") -> pd.DataFrame:
    """Rows of the methods with a look, for ``curves`` over bits."""
    chosen = table[(table["residual"] == residual) & table["method"].isin(_METHODS.values())]
    chosen = chosen.sort_values(["method", "bits"]).drop_duplicates(["method", "bits"])
    return pd.concat([chosen[chosen["method"] == method] for method in _METHODS.values()])


def _theory(column: str, places: list[float], values: list[float]) -> pd.DataFrame:
    rows = {column: places, "mean": values, "low": values, "high": values}
    return pd.DataFrame(rows).assign(method="theory")


def cosine_theory(sizes: list[int]) -> pd.DataFrame:
    """Expected cosine of the best of K independent normal atoms, N = 32,768, for a curve."""
    return _theory("size", sizes, [expected_cosine(size, VALUES) for size in sizes])


def turbo_theory(size: int, atoms: list[int]) -> pd.DataFrame:
    """Efficiency of the thresholded sum of M of K atoms by theory, for a curve over bits."""
    bits = [math.log2(math.comb(size, count)) + count for count in atoms]
    cosines = [expected_cosine_top(size, count, VALUES) for count in atoms]
    shares = [float(efficiency(c, VALUES, b)) for c, b in zip(cosines, bits, strict=True)]
    return _theory("bits", bits, shares)


def read_cost(folder: str | Path) -> pd.DataFrame:
    """``codebook_speed.csv``: one row a way of choosing; ms of one core and MB over plain."""
    table = _read(folder, "codebook_speed")
    wide = table.pivot_table(index="what", columns="quantity", values="value", sort=False)
    kept = ["choose, processor", "make noise, processor", "draw, processor", "memory over plain"]
    return wide[[name for name in kept if name in wide]].dropna(how="all")


def read_shares(folder: str | Path) -> pd.DataFrame:
    """What a choice costs beside one network call: ``what`` and percent; may be empty."""
    table = _read(folder, "codebook_speed")
    return table[table["quantity"] == "share"][["what", "value"]]


def read_oracle(folder: str | Path) -> pd.DataFrame:
    """``codebook_oracle.csv``: whole reverse processes with the exact denoiser."""
    return _read(folder, "codebook_oracle")
