"""The AudioLDM2 front end: waveform to log-mel spectrogram.

Definition (haoheliu/AudioLDM2 and AudioLDM-training-finetuning): 16 kHz mono,
STFT magnitude (not power) with a periodic Hann window of 1024 samples every 160,
librosa's Slaney mel filterbank (64 bands, 0 to 8000 Hz), natural logarithm of
``max(., 1e-5)``. No decibels, no mean or standard deviation.

Conventions: a log-mel is ``(batch, frames, n_mels)``, time first; 100 frames a
second; silence is ``ln 1e-5 = -11.51``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Framing = Literal["training", "inference"]


@dataclass(frozen=True)
class MelConfig:
    """Parameters of the front end; the defaults are the published ones.

    Attributes:
        sample_rate: Hz.
        n_fft: FFT and window length, samples.
        hop_length: samples between frames.
        n_mels: mel bands.
        fmin, fmax: edges of the filterbank, Hz.
        floor: smallest magnitude before the logarithm.
    """

    sample_rate: int = 16000
    n_fft: int = 1024
    hop_length: int = 160
    n_mels: int = 64
    fmin: float = 0.0
    fmax: float = 8000.0
    floor: float = 1e-5

    @property
    def silence(self) -> float:
        """Log-mel value of digital silence (natural logarithm)."""
        return math.log(self.floor)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length


@lru_cache(maxsize=8)
def _filterbank(config: MelConfig, dtype: torch.dtype, device: str) -> torch.Tensor:
    import librosa
    import numpy as np
    import torch

    weights = librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.fmin,
        fmax=config.fmax,
        htk=False,
        norm="slaney",
        dtype=np.float64,
    )
    return torch.as_tensor(weights, dtype=dtype, device=device)


def log_mel(
    waveform: torch.Tensor, config: MelConfig = MelConfig(), framing: Framing = "training"
) -> torch.Tensor:
    """Log-mel spectrogram of a 16 kHz waveform, differentiable.

    Args:
        waveform: ``(batch, samples)``, float32 or float64, at ``config.sample_rate``.
        framing: ``"training"`` reflect-pads 432 samples each side and gives exactly
            ``samples // 160`` frames; ``"inference"`` pads 512 and gives one frame more.
            The two lie 80 samples (5 ms) apart.

    Returns:
        ``(batch, frames, n_mels)``, natural logarithm of the mel magnitude.

    Raises:
        ValueError: the shape is not ``(batch, samples)``, or the clip is too short to pad.
    """
    import torch

    if waveform.ndim != 2:
        raise ValueError(f"waveform must be (batch, samples), got shape {tuple(waveform.shape)}")
    if framing == "training":
        pad = (config.n_fft - config.hop_length) // 2
    elif framing == "inference":
        pad = config.n_fft // 2
    else:
        raise ValueError(f"framing must be 'training' or 'inference', got {framing!r}")
    if waveform.shape[1] <= pad:
        raise ValueError(
            f"the waveform has {waveform.shape[1]} samples; the front end needs more than {pad}"
        )
    padded = torch.nn.functional.pad(waveform[:, None], (pad, pad), mode="reflect")[:, 0]
    window = torch.hann_window(
        config.n_fft, periodic=True, dtype=waveform.dtype, device=waveform.device
    )
    spectrum = torch.stft(
        padded,
        config.n_fft,
        hop_length=config.hop_length,
        window=window,
        center=False,
        return_complex=True,
    )
    # The square root has no gradient at zero; the floor of the logarithm is far above 1e-9.
    magnitude = (
        spectrum.abs()
        if not waveform.requires_grad
        else (spectrum.real.square() + spectrum.imag.square() + 1e-18).sqrt()
    )
    weights = _filterbank(config, waveform.dtype, str(waveform.device))
    return torch.log(torch.clamp(weights @ magnitude, min=config.floor)).transpose(1, 2)
