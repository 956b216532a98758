"""The AudioLDM2 front end: waveform to log-mel spectrogram.

Definition (haoheliu/AudioLDM2 and AudioLDM-training-finetuning): 16 kHz mono, STFT magnitude (not
power) with a periodic Hann window of 1024 samples every 160, librosa's Slaney mel filterbank (64
bands, 0 to 8000 Hz), natural logarithm of ``max(., 1e-5)``. No decibels, no mean or deviation.

Conventions: a log-mel is ``(batch, frames, n_mels)``, time first; 100 frames a second; silence is
``ln 1e-5 = -11.51``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.model import HOP

Framing = Literal["training", "inference"]

#: Of fast Griffin-Lim (Perraudin et al., WASPAA 2013).
MOMENTUM = 0.99


@dataclass(frozen=True)
class MelConfig:
    """Parameters of the front end, in Hz and samples; the defaults are the published ones."""

    sample_rate: int = MODEL_RATE
    n_fft: int = 1024
    hop_length: int = HOP
    n_mels: int = 64
    fmin: float = 0.0
    fmax: float = 8000.0
    floor: float = 1e-5  # smallest magnitude before the logarithm

    @property
    def silence(self) -> float:
        """Log-mel value of digital silence (natural logarithm)."""
        return math.log(self.floor)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length


@lru_cache(maxsize=8)
def mel_filterbank(config: MelConfig, dtype: torch.dtype, device: str) -> torch.Tensor:
    """Slaney's filterbank, ``(n_mels, n_fft / 2 + 1)``; made once, not to be changed.

    ``librosa.filters.mel`` to the last bit, without its import, which costs more than a clip.
    """
    # Slaney's scale (Auditory Toolbox): linear to 1000 Hz, mel 15, then 27 steps to 6400 Hz.
    hertz, knee, step = 200.0 / 3, 1000.0 / (200.0 / 3), np.log(6.4) / 27.0
    low, high = (
        knee + np.log(end / 1000.0) / step if end >= 1000 else end / hertz
        for end in (config.fmin, config.fmax)
    )
    mel = np.linspace(low, high, config.n_mels + 2)
    edges = np.where(mel >= knee, 1000.0 * np.exp(step * (mel - knee)), hertz * mel)
    frequencies = np.fft.rfftfreq(n=config.n_fft, d=1.0 / config.sample_rate)
    widths, ramps = np.diff(edges), np.subtract.outer(edges, frequencies)
    rising = -ramps[:-2] / widths[:-1, None]
    falling = ramps[2:] / widths[1:, None]
    weights = np.maximum(0, np.minimum(rising, falling))
    weights *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return torch.as_tensor(weights, dtype=dtype, device=device)


def log_mel(
    waveform: torch.Tensor, config: MelConfig = MelConfig(), framing: Framing = "training"
) -> torch.Tensor:
    """Natural logarithm of the mel magnitude, ``(batch, frames, n_mels)``, differentiable.

    Args:
        waveform: ``(batch, samples)``, float32 or float64, at ``config.sample_rate``.
        framing: ``"training"`` reflect-pads 432 samples each side and gives exactly
            ``samples // 160`` frames; ``"inference"`` pads 512 and gives one frame more.
            The two lie 80 samples (5 ms) apart.

    Raises:
        ValueError: the shape is not ``(batch, samples)``, or the clip is too short to pad.
    """
    magnitude = stft_magnitude(waveform, config, framing)
    weights = mel_filterbank(config, waveform.dtype, str(waveform.device))
    return torch.log(torch.clamp(weights @ magnitude, min=config.floor)).transpose(1, 2)


def stft_magnitude(
    waveform: torch.Tensor, config: MelConfig = MelConfig(), framing: Framing = "training"
) -> torch.Tensor:
    """The magnitudes that :func:`log_mel`, which says the rest, sums in bands.

    Returns:
        ``(batch, n_fft / 2 + 1, frames)``.
    """
    if waveform.ndim != 2:
        raise ValueError(f"waveform must be (batch, samples), got shape {tuple(waveform.shape)}")
    pads = {"training": (config.n_fft - config.hop_length) // 2, "inference": config.n_fft // 2}
    if framing not in pads:
        raise ValueError(f"framing must be 'training' or 'inference', got {framing!r}")
    pad = pads[framing]
    if waveform.shape[1] <= pad:
        raise ValueError(
            f"the waveform has {waveform.shape[1]} samples; the front end needs more than {pad}"
        )
    padded = torch.nn.functional.pad(waveform[:, None], (pad, pad), mode="reflect")[:, 0]
    window = torch.hann_window(config.n_fft, dtype=waveform.dtype, device=waveform.device)
    options = {"hop_length": config.hop_length, "window": window, "center": False}
    spectrum = torch.stft(padded, config.n_fft, **options, return_complex=True)
    # The square root has no gradient at zero; the floor of the logarithm is far above 1e-9.
    if not waveform.requires_grad:
        return spectrum.abs()
    return (spectrum.real.square() + spectrum.imag.square() + 1e-18).sqrt()


def check_mel_shape(mel: torch.Tensor, config: MelConfig = MelConfig()) -> None:
    """Raise a ValueError unless it is ``(batch, frames, n_mels)`` and finite."""
    if mel.ndim != 3 or mel.shape[2] != config.n_mels:
        raise ValueError(f"mel must be (batch, frames, {config.n_mels}), got {tuple(mel.shape)}")
    if not torch.isfinite(mel).all():
        raise ValueError("the log-mel has NaN or infinite values")


def linear_magnitude(
    mel: torch.Tensor, config: MelConfig = MelConfig(), updates: int = 30
) -> torch.Tensor:
    """STFT magnitudes ``(batch, n_fft / 2 + 1, frames)``, float32, whose mel is the one given.

    Multiplicative updates for the Kullback-Leibler divergence with the filterbank fixed (Lee
    and Seung, NeurIPS 2000). librosa's ``mel_to_stft`` stops at the clamped pseudo-inverse:
    over 12 evaluation clips its mel is 0.069 nat off, after 30 updates 0.001 nat. ValueError for
    another shape, NaN or infinity, as all that take a mel.
    """
    check_mel_shape(mel, config)
    target = torch.exp(mel.detach().float().transpose(1, 2))
    weights = mel_filterbank(config, target.dtype, str(target.device))
    linear = (weights.T / weights.sum(1)) @ target
    for _ in range(updates):
        ratio = target / torch.clamp(weights @ linear, min=1e-12)
        linear = linear * (weights.T @ ratio) / torch.clamp(weights.sum(0), min=1e-12)[:, None]
    return linear


def griffin_lim(
    mel: torch.Tensor, iterations: int = 32, seed: int = 0, config: MelConfig = MelConfig()
) -> torch.Tensor:
    """Waveform ``(batch, frames * 160)`` of a log-mel, phase by fast Griffin-Lim, as in librosa.

    In the training framing, without lag. Each item starts from the same seeded phase, so its
    result does not depend on its batch. Perraudin et al., WASPAA 2013.
    """
    return griffin_lim_from(linear_magnitude(mel, config), iterations, seed, config)


def overlap_add(frames: torch.Tensor, hop: int) -> torch.Tensor:
    """Sum of frames ``(batch, size, frames)`` that begin ``hop`` samples apart, ``(batch, n)``."""
    size, count = frames.shape[1:]
    length = size + hop * (count - 1)
    return torch.nn.functional.fold(frames, (1, length), (1, size), stride=(1, hop)).reshape(
        len(frames), length
    )


def griffin_lim_from(
    magnitude: torch.Tensor, iterations: int = 32, seed: int = 0, config: MelConfig = MelConfig()
) -> torch.Tensor:
    """As :func:`griffin_lim`, from magnitudes ``(batch, n_fft / 2 + 1, frames)``."""
    size, hop = config.n_fft, config.hop_length
    pad = (size - hop) // 2
    window = torch.hann_window(size)[:, None]
    drawn = np.random.RandomState(seed).random(tuple(magnitude.shape[1:]))
    phase = torch.from_numpy(np.exp(2j * np.pi * drawn).astype(np.complex64))
    tiny = torch.finfo(torch.float32).tiny

    def wave(spectrum: torch.Tensor) -> torch.Tensor:
        frames = torch.fft.irfft(spectrum, size, dim=0) * window
        return overlap_add(frames[None], hop)[0] / weight

    # Item by item, so that none depends on its batch.
    squares = (window**2).repeat(1, magnitude.shape[2])
    weight = overlap_add(squares[None], hop)[0].clamp(min=tiny)
    waves = []
    for one in magnitude.detach().cpu():
        spectrum, before = one * phase, None
        for _ in range(iterations):
            rebuilt = torch.fft.rfft(wave(spectrum).unfold(0, size, hop).T * window, dim=0)
            ahead = rebuilt if before is None else rebuilt - MOMENTUM / (1 + MOMENTUM) * before
            spectrum, before = one * ahead / (ahead.abs() + tiny), rebuilt
        waves.append(wave(spectrum)[pad:-pad])
    return torch.stack(waves).to(magnitude.device)
