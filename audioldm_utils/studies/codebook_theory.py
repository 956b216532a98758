"""What a choice of noise can gain, without any model: expected cosines, efficiency, bounds.

N is the number of latent values throughout, a cosine is that between the chosen noise and the
residual, and bits are those of one step's choice.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtri


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
