"""How far an estimate is from its reference: one value a pair.

Conventions: ``f(reference, estimate, sample_rate) -> float``, reference first; both are
``(samples,)``, finite, of equal length and rate, full scale ±1, and are not modified. Remove
a fixed lag and undo the gain first. Metrics with a floor place it relative to the reference,
so a gain common to both changes nothing. :data:`REGISTRY` has unit, direction and a line
about each; :func:`evaluate_pair` computes many at once.

The waveform metrics (SNR, SI-SDR, correlation, MAE) compare phase as well. A magnitude
vocoder makes the phase up, so they are near zero or negative through it whatever it sounds
like: they are reported, and they judge nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, NamedTuple

from audioldm_utils.errors import UserError
from audioldm_utils.metrics.aligned import log_mel_distance_aligned, multi_resolution_stft_aligned
from audioldm_utils.metrics.perception import pesq, stoi, visqol, visqol_speech
from audioldm_utils.metrics.pitch import chroma_correlation, comb_excess, f0_error
from audioldm_utils.metrics.pitch import comb_share as comb_share
from audioldm_utils.metrics.signal import (
    BANDS,
    NotApplicable,
    Samples,
    band_energy_bias,
    band_energy_error,
    correlation,
    hf_retention,
    log_mel_distance,
    log_mel_nat,
    log_spectral_distance,
    mae,
    multi_resolution_stft,
    si_sdr,
    snr,
    validate,
)
from audioldm_utils.metrics.signal import DB_PER_NAT as DB_PER_NAT


@dataclass(frozen=True)
class Metric:
    """One entry of :data:`REGISTRY`.

    Attributes:
        function: ``f(reference, estimate, sample_rate)``; banded ones also take ``band``.
        unit: of the value; ``"1"`` for a pure number.
        better: ``higher``, ``lower``, ``zero`` or ``one`` (nearest to it).
        description: one line.
        speech: meaningful for speech only.
        bands: the bands it is computed in by default; ``""`` is all frequencies.
        default: computed when no metric is named.
    """

    function: Callable[..., float]
    unit: str
    better: Literal["higher", "lower", "zero", "one"]
    description: str
    speech: bool = False
    bands: tuple[str, ...] = ("",)
    default: bool = True


#: Every metric by name.
REGISTRY: dict[str, Metric] = {
    metric.function.__name__: metric
    for metric in (
        Metric(snr, "dB", "higher", "signal-to-noise ratio of the waveform"),
        Metric(si_sdr, "dB", "higher", "the same, blind to gain and polarity"),
        Metric(correlation, "1", "higher", "Pearson correlation of the waveforms"),
        Metric(mae, "1", "lower", "mean absolute waveform difference, full scale 1"),
        Metric(hf_retention, "1", "one", "energy above 4 kHz, estimate over reference"),
        Metric(log_mel_distance, "dB", "lower",
               "mean absolute log-mel difference, AudioLDM2's front end"),
        Metric(log_mel_nat, "nat", "lower", "the same in natural logarithms"),
        Metric(multi_resolution_stft, "1", "lower",
               "multi-resolution STFT distance, auraloss's defaults"),
        Metric(log_mel_distance_aligned, "dB", "lower",
               "log-mel distance at the best lag within 10 ms", default=False),
        Metric(multi_resolution_stft_aligned, "1", "lower",
               "multi-resolution STFT distance at the best lag within 10 ms", default=False),
        Metric(chroma_correlation, "1", "higher", "correlation of the chromas: pitch kept",
               default=False),
        Metric(comb_excess, "1", "zero",
               "buzz: share of energy in a comb of 100 Hz, less the reference's", default=False),
        Metric(log_spectral_distance, "dB", "lower",
               "RMS over frequency of the dB spectra's difference"),
        Metric(band_energy_bias, "dB", "zero", "level in a band, signed", bands=tuple(BANDS)),
        Metric(band_energy_error, "dB", "lower", "mean level difference in a band",
               bands=tuple(BANDS)),
        Metric(visqol, "MOS", "higher", "ViSQOL, audio mode, 48 kHz; ceiling 4.73"),
        Metric(visqol_speech, "MOS", "higher", "ViSQOL, speech mode, 16 kHz", speech=True),
        Metric(stoi, "1", "higher", "short-time objective intelligibility", speech=True),
        Metric(f0_error, "cent", "lower", "median error of the fundamental, frames voiced in both",
               speech=True, default=False),
        Metric(pesq, "MOS", "higher", "wideband PESQ (optional package)", speech=True),
    )
}  # fmt: skip
_BANDED = ("band_energy_bias", "band_energy_error", "log_spectral_distance")


class Score(NamedTuple):
    """One value: a metric, its band (``""`` is all frequencies), the value and its unit."""

    metric: str
    band: str
    value: float
    unit: str


def parse_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Metric and band of names, or of ``metric@band`` such as ``"log_spectral_distance@8-16 kHz"``.

    Raises:
        UserError: an unknown metric, an unknown band, or a metric that has no bands.
    """
    wanted = []
    for name in names:
        metric, _, band = name.partition("@")
        if metric not in REGISTRY:
            raise UserError(f"unknown metric {metric!r}; the metrics are {', '.join(REGISTRY)}.")
        if band and (band not in BANDS or metric not in _BANDED):
            raise UserError(f"{name!r}: bands are {', '.join(BANDS)}, for {' and '.join(_BANDED)}.")
        wanted += [(metric, one) for one in ((band,) if band else REGISTRY[metric].bands)]
    return wanted


def default_names(category: str | None = None) -> list[str]:
    """What is computed when nothing is named; of a class that begins with ``speech``, more."""
    speech = (category or "").startswith("speech")
    names = [n for n, m in REGISTRY.items() if m.default and (speech or not m.speech)]
    return [name for name in names if name != "pesq" or find_spec("pesq")]


def evaluate_pair(
    reference: Samples,
    estimate: Samples,
    sample_rate: int,
    names: Iterable[str] | None = None,
    category: str | None = None,
) -> list[Score]:
    """Compute many metrics of one pair ``(samples,)``, lag removed, gain undone.

    ``names`` are metrics, or ``metric@band``; None takes :func:`default_names` of the clip's
    class. A metric that does not apply to the pair (too short, a band above half the sample rate)
    is left out rather than NaN.

    Raises:
        ValueError: as :func:`validate`; NotApplicable for a silent reference.
        UserError: an unknown name, or an optional package that is missing.
    """
    reference, estimate = validate(reference, estimate, sample_rate)
    scores = []
    for name, band in parse_names(default_names(category) if names is None else names):
        metric, options = REGISTRY[name], {"band": band} if band else {}
        with suppress(NotApplicable):
            value = metric.function(reference, estimate, sample_rate, **options)
            scores.append(Score(name, band, value, metric.unit))
    return scores
