"""What a choice of noise can gain, without any model, and the tables of ``benchmarks/``.

N is the number of latent values throughout, a cosine is that between the chosen noise and the
residual, and bits are those of one step's choice. The tables depend on no weights: residuals are
drawn, and the denoiser is the exact one of a normal prior.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtri

from audioldm_utils.errors import UserError

#: Latent values of the tables' clips: 10.24 s.
VALUES = 32768
_METHODS = {
    "cyclic shift": "ddcm",
    "cyclic shift, bases": "ddcm, bases",
    "independent": "ddcm-gaussian",
    "Turbo-style": "ddcm-turbo",
    "k-means": "ddcm-kmeans",
    "matching pursuit, C=3": "ddcm-pursuit",
}


def _density_of_maximum(size: float) -> tuple[np.ndarray, np.ndarray]:
    """Grid and probability weights of the largest of ``size`` independent normal values."""
    x = np.linspace(-9.0, 14.0, 46001)
    log_density = (size - 1) * log_ndtr(x) - x * x / 2 - 0.5 * math.log(2 * math.pi)
    weight = np.exp(log_density + math.log(size))
    return x, weight / weight.sum()


def expected_maximum(size: float) -> float:
    """Mean of the largest of ``size`` (1 to about 10^25) independent standard normal values."""
    x, weight = _density_of_maximum(size)
    return float((x * weight).sum())


def expected_cosine(size: float, values: int) -> float:
    """Mean cosine of the best of ``size`` independent normal atoms: E[max] / sqrt(N).

    For cosines well below 1; a cosine above that is capped at 1.
    """
    return min(expected_maximum(size) / math.sqrt(values), 1.0)


def expected_efficiency(size: float, values: int) -> float:
    """Mean `efficiency` of the best of ``size`` independent normal atoms at log2 size bits.

    Greedy choices from fresh codebooks have the same, however many there are.
    """
    x, weight = _density_of_maximum(size)
    cosine = np.clip(x / math.sqrt(values), -0.999, 0.999)
    return float((weight * efficiency(cosine, values, math.log2(size))).sum())


def expected_cosine_top(size: int, atoms: int, values: int) -> float:
    """Cosine of the signed sum of the ``atoms`` largest of ``size`` scores (thresholding).

    With s the mean of the largest |scores|, the sum has M s along the residual and M N + (M s)^2
    as its squared norm.
    """
    cut = -ndtri(atoms / size / 2) if atoms < size else 0.0
    density = math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi)
    mean = 2 * density * size / atoms if atoms > 1 else expected_maximum(2 * size)
    along = atoms * mean
    return along / math.sqrt(atoms * values + along * along)


def expected_cosine_greedy(size: float, atoms: int, values: int) -> float:
    """Cosine after ``atoms`` greedy choices from fresh codebooks, summed with equal weights.

    Each leaves 1 - c^2 of the residual; the sum of M orthogonal atoms of cosines
    c (1 - c^2)^(m/2) has their sum over sqrt(M).
    """
    cosine = expected_cosine(size, values)
    left = math.sqrt(max(1 - cosine * cosine, 0.0))
    return min(sum(cosine * left**m for m in range(atoms)) / math.sqrt(atoms), 1.0)


def efficiency(cosine: ArrayLike, values: int, bits: float) -> np.ndarray:
    """-N log2(1 - cos^2) / (2 bits): the share of its bits that a choice turns into direction.

    1 is the ideal Gaussian code; 0 a random choice. A choice that points away (negative
    cosine) counts as negative.
    """
    cosine = np.asarray(cosine, dtype=np.float64)
    return -np.sign(cosine) * values * np.log2(1 - cosine**2) / (2 * bits)


def rate_distortion_correlation(bits_per_value: ArrayLike) -> np.ndarray:
    """Highest correlation with a white normal source at R bits a value: sqrt(1 - 2^(-2R))."""
    return np.sqrt(1 - 2.0 ** (-2 * np.asarray(bits_per_value, dtype=np.float64)))


def rate_distortion_gaussian(variances: ArrayLike, bits_per_value: float) -> float:
    """The same for independent normal values of these variances, by reverse water-filling.

    Returns:
        sqrt(1 - D / mean variance), D the least mean squared error at this mean rate.
    """
    variances = np.asarray(variances, dtype=np.float64).ravel()
    low, high = 0.0, float(variances.max())
    for _ in range(200):
        water = (low + high) / 2
        active = np.maximum(variances / max(water, 1e-300), 1.0)
        low, high = (water, high) if np.log2(active).mean() / 2 > bits_per_value else (low, water)
    distortion = np.minimum(variances, high).mean()
    return math.sqrt(max(1 - distortion / variances.mean(), 0.0))


def _read(folder: str | Path, name: str) -> pd.DataFrame:
    path = Path(folder) / f"{name}.csv"
    if not path.is_file():
        raise UserError(f"{path} is missing: run benchmarks/codebook_{name.split('_')[1]}.py.")
    return pd.read_csv(path)


def read_efficiency(folder: str | Path) -> pd.DataFrame:
    """``codebook_efficiency.csv`` with columns that figures take.

    Added are ``method`` (a look's name, else the codebook's; cyclic shifts of several bases are
    one method) and ``mean`` (the efficiency).
    """
    table = _read(folder, "codebook_efficiency")
    named = table["codebook"].str.replace(r", \d+ bases$", ", bases", regex=True)
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


def placed(oracle: pd.DataFrame) -> str:
    """What placing the steps changes with the exact denoiser, one atom of shifts, in a sentence."""
    shifts = oracle[(oracle["codebook"] == "cyclic shift") & (oracle["atoms"] == 1)]
    even = shifts[shifts["placement"] == "uniform"].iloc[0]
    best = shifts.loc[shifts["correlation"].idxmax()]
    return (
        f"With {even['steps']} steps of one shift each, uniform steps reach a correlation of "
        f"{even['correlation']:.2f}, and steps placed by {best['placement']} "
        f"{best['correlation']:.2f}; the rate-distortion bound is {even['bound']:.2f}."
    )
