"""Metrics of waveform and spectrum; conventions as in :mod:`audioldm_utils.metrics`."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike as Samples

from audioldm_utils.audio.signals import normalise, resample
from audioldm_utils.errors import UserError

if TYPE_CHECKING:
    import torch

#: Bands in which energy and spectra are compared, Hz.
BANDS: dict[str, tuple[float, float]] = {
    f"{low / 1000:g}-{high / 1000:g} kHz": (low, high)
    for low, high in pairwise((0, 250, 500, 1000, 2000, 4000, 8000, 16000))
}
#: dB per unit of natural logarithm of a magnitude.
DB_PER_NAT = 20 / np.log(10)


class NotApplicable(ValueError):
    """The metric is not defined for this pair (too short, no speech in it, silent)."""


def validate(reference: Samples, estimate: Samples, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """A pair as float64 ``(samples,)``.

    Raises:
        ValueError: not one-dimensional, unequal lengths, no samples, NaN or infinite values, or a
            sample rate that is not positive.
        NotApplicable: the reference is silent.
    """
    pair = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    shapes = f"reference {pair[0].shape}, estimate {pair[1].shape}"
    if any(x.ndim != 1 for x in pair):
        raise ValueError(f"metrics want one-dimensional signals (samples,): {shapes}")
    if pair[0].shape != pair[1].shape:
        raise ValueError(f"reference and estimate must be equally long: {shapes}")
    if not pair[0].size:
        raise ValueError(f"the signals hold no samples: {shapes}")
    for name, x in zip(("reference", "estimate"), pair, strict=True):
        if not np.isfinite(x).all():
            raise ValueError(f"the {name} has {int((~np.isfinite(x)).sum())} NaN or inf samples")
    if rate <= 0:
        raise ValueError(f"sample_rate must be positive, got {rate}")
    if not pair[0].any():
        raise NotApplicable("the reference is silent")
    return pair


def _tensors(*signals: np.ndarray) -> list[torch.Tensor]:
    import torch

    return [torch.from_numpy(np.array(x)) for x in signals]


# Waveform


def snr(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """Signal-to-noise ratio, dB: energy of the reference over that of the difference.

    Perfection is infinite (an exact copy reads above 140); higher is better; 0 is silence, -6.02
    inverted polarity. No measure of what is heard: a delay or another phase ruins it.
    """
    from torchmetrics.functional.audio import signal_noise_ratio

    target, preds = _tensors(*validate(reference, estimate, sample_rate))
    return float(signal_noise_ratio(preds, target))


def si_sdr(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """Scale-invariant signal-to-distortion ratio, dB, means removed.

    Perfection is infinite; higher is better. Blind to gain and polarity, and like SNR
    no measure of what is heard once the phase differs. Le Roux et al., ICASSP 2019.
    """
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    target, preds = _tensors(*validate(reference, estimate, sample_rate))
    return float(scale_invariant_signal_distortion_ratio(preds, target, zero_mean=True))


def correlation(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """Pearson correlation of the samples, -1 to 1; NotApplicable where either is constant.

    Perfection is 1; higher is better; -1 is inverted polarity, which sounds the same. Blind
    to gain and offset; governed by the strongest, lowest frequencies.
    """
    x, y = validate(reference, estimate, sample_rate)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise NotApplicable("the correlation of a constant signal is not defined")
    return float(np.corrcoef(x, y)[0, 1])


def mae(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """Mean absolute difference of the samples, full scale 1.

    Perfection is 0; lower is better. It depends on the recording's level, so it cannot
    compare clips, and like SNR it compares phase.
    """
    x, y = validate(reference, estimate, sample_rate)
    return float(np.mean(np.abs(x - y)))


# Spectrum


# A pair is asked for its spectra once a band and metric: 26 times. By content, not identity.
@lru_cache(maxsize=2)
def _power(samples: bytes, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies ``(bins,)`` and power ``(frames, bins)``; Hann, 42 to 64 ms, hop a quarter.

    The edges are extended by odd reflection, as for zero-phase filters (Gustafsson, IEEE Trans.
    Signal Processing 44, 1996): a step to silence where an excerpt was cut would put more into a
    band that is nearly empty than all of the sound does. ``samples`` are float64.
    """
    import torch

    n_fft = 2 ** max(round(np.log2(sample_rate / 22)), 5)
    window = torch.hann_window(n_fft, dtype=torch.float64)
    # NumPy reflects a sound that is shorter than the window more than once; torch refuses it.
    padded = np.pad(np.frombuffer(samples), n_fft // 2, mode="reflect", reflect_type="odd")
    options = {"window": window, "center": False, "return_complex": True}
    spectrum = torch.stft(_tensors(padded)[0], n_fft, n_fft // 4, **options)
    return np.fft.rfftfreq(n_fft, 1 / sample_rate), spectrum.abs().square().T.numpy()


def _powers(
    reference: Samples, estimate: Samples, sample_rate: int, band: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Power of reference and estimate in a band, and the reference's over all frequencies."""
    x, y = validate(reference, estimate, sample_rate)
    if band and band not in BANDS:
        raise UserError(f"unknown band {band!r}; the bands are {', '.join(BANDS)}.")
    low, high = BANDS[band] if band else (0.0, np.inf)
    if low >= sample_rate / 2:
        raise NotApplicable(f"the band {band} lies above half the sample rate {sample_rate} Hz")
    frequencies, whole = _power(x.tobytes(), sample_rate)
    inside = (frequencies >= low) & (frequencies < high)
    return whole[:, inside], _power(y.tobytes(), sample_rate)[1][:, inside], whole


def hf_retention(
    reference: Samples, estimate: Samples, sample_rate: int, cutoff: float = 4000.0
) -> float:
    """High-frequency retention: energy above ``cutoff`` Hz, estimate over reference, a ratio.

    Perfection is 1; 0 means all was lost, more than 1 that energy was added. It says nothing
    about where in time or frequency the energy lies: noise of the right level has 1.

    Raises:
        NotApplicable: the reference has nothing there (below -80 dB of its energy).
    """
    x, y = validate(reference, estimate, sample_rate)
    frequencies, whole = _power(x.tobytes(), sample_rate)
    above = frequencies >= cutoff
    energy = whole[:, above].sum()
    if energy < 1e-8 * whole.sum():
        raise NotApplicable(f"the reference has no energy above {cutoff:g} Hz")
    return float(_power(y.tobytes(), sample_rate)[1][:, above].sum() / energy)


def band_energy_bias(
    reference: Samples, estimate: Samples, sample_rate: int, band: str = ""
) -> float:
    """Level of the estimate over the reference in a band, whole clip, dB, signed.

    Perfection is 0; negative is energy lost. Floor: -80 dB of the reference's energy over all
    frequencies. Errors that cancel over the clip do not show: see :func:`band_energy_error`.
    """
    x, y, whole = _powers(reference, estimate, sample_rate, band)
    floor = 1e-8 * whole.sum()
    return float(10 * np.log10(max(y.sum(), floor) / max(x.sum(), floor)))


def band_energy_error(
    reference: Samples, estimate: Samples, sample_rate: int, band: str = ""
) -> float:
    """Mean over frames of the absolute level difference in a band, dB.

    Perfection is 0; lower is better. Floor: -80 dB of the reference's loudest frame. It does
    not see where within the band or the frame (42 to 64 ms) the energy lies.
    """
    x, y, whole = _powers(reference, estimate, sample_rate, band)
    floor = 1e-8 * whole.sum(1).max()
    levels = [10 * np.log10(np.maximum(power.sum(1), floor)) for power in (x, y)]
    return float(np.mean(np.abs(levels[1] - levels[0])))


def log_spectral_distance(
    reference: Samples, estimate: Samples, sample_rate: int, band: str = ""
) -> float:
    """Log-spectral distance, dB: root mean square over frequency, mean over frames.

    Perfection is 0; lower is better. Both spectra stop 80 dB below the reference's largest bin.
    Linear in frequency: half of it is about the top octave, and noise that differs only in its
    random fine structure already costs 7 to 8 dB. Gray and Markel, IEEE Trans. ASSP 24 (1976).
    """
    x, y, whole = _powers(reference, estimate, sample_rate, band)
    floor = whole.max() * 1e-8
    x, y = (10 * np.log10(np.maximum(power, floor)) for power in (x, y))
    return float(np.mean(np.sqrt(np.mean((x - y) ** 2, axis=1))))


# The same signals are asked for in dB, in nat and at many lags. By content, not identity.
@lru_cache(maxsize=2)
def _log_mel(samples: bytes) -> torch.Tensor:
    """Log-mel ``(1, frames, 64)`` of float64 samples at 16 kHz."""
    from audioldm_utils.model.mel import log_mel  # torch with it

    return log_mel(_tensors(np.frombuffer(samples))[0][None])


def log_mel_distance(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """Mean absolute difference of log-mels in AudioLDM2's own front end (16 kHz, 64 bands), dB.

    Perfection is 0; lower is better; 1 nat is 8.69 dB. Both signals get the offset and gain that
    bring the reference's peak to 0.5, so level errors count. Floor: 1e-5, as the model has it.
    Blind to phase, to everything above 8 kHz and to detail finer than a mel band.
    """
    return log_mel_nat(reference, estimate, sample_rate) * DB_PER_NAT


def log_mel_nat(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """:func:`log_mel_distance` in nat, the unit in which models are trained."""
    x, y = validate(reference, estimate, sample_rate)
    from audioldm_utils.model.mel import MelConfig  # torch with it

    x, y = (resample(signal, sample_rate, MelConfig().sample_rate) for signal in (x, y))
    if len(x) < MelConfig().n_fft:
        raise NotApplicable("a log-mel needs at least 0.064 s")
    x, gain = normalise(x.astype(np.float64))
    mels = [_log_mel(signal.tobytes()) for signal in (x, gain.apply(y.astype(np.float64)))]
    return float((mels[1] - mels[0]).abs().mean())


def multi_resolution_stft(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """Multi-resolution STFT distance with auraloss's defaults, over the whole clip.

    Spectral convergence plus mean absolute log magnitude, averaged over three resolutions
    (Yamamoto et al., 2020). Perfection is 0; lower is better. Windows are in samples, so
    values at different rates do not compare. Both signals get the gain that brings the
    reference's peak to 0.5. Blind to phase, though not to smeared attacks.
    """
    import auraloss

    x, y = validate(reference, estimate, sample_rate)
    if len(x) < 2048:
        raise NotApplicable("the multi-resolution STFT needs at least 2048 samples")
    x, gain = normalise(x)
    target, preds = (signal.float()[None, None] for signal in _tensors(x, gain.apply(y)))
    return float(auraloss.freq.MultiResolutionSTFTLoss()(preds, target))
