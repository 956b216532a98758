"""Noise and artefacts that VAE and vocoder add, measured.

Every measure is ``f(reference, estimate, sample_rate) -> float`` on mono waveforms ``(samples,)``
of equal length and alignment; 0 is perfect and positive means that the estimate has more of the
artefact. They diagnose and are no measures of quality: silence has none of these artefacts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import scipy.signal

from audioldm_utils.methods.enhance.noise import (
    check_pair,
    decibels,
    hum_lines,
    onsets,
    window_powers,
)
from audioldm_utils.studies.verdicts import UPHELD, claim, difference, mean_of, of, told


def noise_floor(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Level of the estimate above the reference in the reference's quietest tenth, dB.

    Frames of 20 ms; levels are floored 80 dB below the reference's loudest frame.
    """
    check_pair(reference, estimate, 0.1, sample_rate)
    size = sample_rate // 50
    quiet, other = window_powers(reference, size, size), window_powers(estimate, size, size)
    peak = quiet.max()
    chosen = np.argsort(quiet, kind="stable")[: max(1, len(quiet) // 10)]
    return float((decibels(other, peak) - decibels(quiet, peak))[chosen].mean())


def hum(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Number of steady lines that only the estimate has (see :func:`hum_lines`)."""
    return float(len(hum_lines(reference, estimate, sample_rate)))


def pre_echo(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Energy of the estimate above the reference from 30 to 5 ms before onsets, dB.

    Levels are floored 50 dB below the onset's own. NaN where the reference has no onset.
    """
    check_pair(reference, estimate, 0.1, sample_rate)
    values = []
    for onset in onsets(reference, sample_rate):
        window = slice(onset - sample_rate * 30 // 1000, onset - sample_rate * 5 // 1000)
        attack = slice(onset, onset + sample_rate // 50)
        floor = 1e-5 * float(np.mean(np.square(reference[attack], dtype=np.float64))) + 1e-20
        before = max(float(np.mean(np.square(reference[window], dtype=np.float64))), floor)
        after = max(float(np.mean(np.square(estimate[window], dtype=np.float64))), floor)
        values.append(10 * np.log10(after / before))
    return float(np.mean(values)) if values else float("nan")


def warble(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Fluctuation of the band levels, 3 to 20 Hz, that the estimate adds, dB (RMS).

    Octave bands from 125 Hz; of the level difference estimate minus reference, where the
    reference is within 40 dB of the band's loudest.
    """
    check_pair(reference, estimate, 0.5, sample_rate)
    hop = sample_rate // 100
    fluctuation = scipy.signal.butter(2, (3.0, 20.0), "bandpass", fs=100.0, output="sos")
    values, low = [], 125.0
    while low * 2 <= sample_rate / 2 * 1.001:
        edge = min(low * 2, sample_rate / 2 * 0.99)
        band = scipy.signal.butter(3, (low, edge), "bandpass", fs=sample_rate, output="sos")
        levels, peak = [], 0.0
        for waveform in (reference, estimate):
            power = window_powers(scipy.signal.sosfiltfilt(band, waveform), 3 * hop, hop)
            peak = peak or float(power.max())
            levels.append(decibels(power, peak))
        active = levels[0] > -40
        change = scipy.signal.sosfiltfilt(fluctuation, levels[1] - levels[0])
        if active.sum() > 10:
            values.append(np.sqrt(np.mean(change[active] ** 2)))
        low *= 2
    return float(np.mean(values)) if values else float("nan")


#: Name to function, unit and what perfection is; every one is better when lower.
MEASURES: dict[str, tuple[Callable[[np.ndarray, np.ndarray, int], float], str]] = {
    "noise_floor": (noise_floor, "dB"),
    "hum": (hum, "lines"),
    "pre_echo": (pre_echo, "dB"),
    "warble": (warble, "dB"),
}


def measure(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Every artefact measure of a pair; NaN where one does not apply to the clip."""
    return {
        name: function(reference, estimate, sample_rate) for name, (function, _) in MEASURES.items()
    }


#: Repairs that `cures` looks at.
CURES = ("vae-denoise", "vae-refined", "vae-restored")


def artefact_table(table: pd.DataFrame) -> pd.DataFrame:
    """To be read: each artefact through the vocoder, the fitted inverse and the repairs.

    A cell is a mean over clips with its interval.
    """
    names = {
        "noise_floor": "noise floor, dB",
        "pre_echo": "pre-echo, dB",
        "warble": "warble, dB",
        "hum": "steady lines, number",
    }
    methods = ("vae-vocoder", "vae-inverse", *CURES)
    lines = []
    for metric, name in names.items():
        found = {method: mean_of(table, of(method), metric) for method in methods}
        count = next((one.n for one in found.values() if one), 0)
        cells = {method: told(one, ".2f") for method, one in found.items()}
        lines.append({"artefact": name, **cells, "n": count})
    return pd.DataFrame(lines)


def cures(table: pd.DataFrame, metric: str) -> str:
    """What lessens an artefact here, of the fitted inverse and the repairs after it, in words.

    Only where the artefact is there, its whole interval above zero, and the whole interval of
    the paired difference below.
    """
    unit = MEASURES[metric][1]
    inverse, vocoder = (
        mean_of(table, of(f"vae-{name}"), metric) for name in ("inverse", "vocoder")
    )
    asked = {"vae-inverse": ("vae-vocoder", vocoder, "the fitted inverse in the vocoder's place")}
    asked |= {name: ("vae-inverse", inverse, name) for name in CURES}
    found, said = [], ""
    for method, (other, before, name) in asked.items():
        change = difference(table, of(method), of(other), metric)
        if claim(before) == UPHELD and claim(change, above=False) == UPHELD:
            found.append(f"{name} ({told(change, '+.2f', unit)})")
        elif method == "vae-inverse" and claim(inverse) == claim(change) == UPHELD:
            more = told(change, "+.2f", unit)
            said = f"; the fitted inverse has more of it than the vocoder ({more})"
    if not found and claim(inverse) != UPHELD:
        return f"nothing to cure here: {told(inverse, '.2f', unit)} with the fitted inverse"
    return (", ".join(found) or "none of the repairs measured here") + said
