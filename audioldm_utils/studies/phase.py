"""The original's phase on another mel: what a perfect phase would be worth."""

from __future__ import annotations

import librosa
import numpy as np
import torch

from audioldm_utils.audio.signals import fit_length
from audioldm_utils.model.mel import MelConfig, linear_magnitude


def with_phase(
    mel: torch.Tensor, waveform: torch.Tensor, config: MelConfig = MelConfig()
) -> torch.Tensor:
    """Waveform ``(batch, frames * 160)`` of a log-mel with the phase of another waveform.

    Args:
        mel: ``(batch, frames, n_mels)``.
        waveform: ``(batch, samples)``; cut, or padded with silence, to the mel's length.
    """
    pad = (config.n_fft - config.hop_length) // 2
    length = mel.shape[1] * config.hop_length
    magnitudes = linear_magnitude(mel, config).cpu().numpy()
    waves = []
    for magnitude, samples in zip(magnitudes, waveform.detach().cpu().numpy(), strict=True):
        whole = fit_length(samples, length)
        options = {"hop_length": config.hop_length, "n_fft": config.n_fft, "center": False}
        spectrum = librosa.stft(np.pad(whole, pad, mode="reflect"), **options)
        phase = np.exp(1j * np.angle(spectrum))
        waves.append(librosa.istft(magnitude * phase, **options)[pad:-pad])
    return torch.from_numpy(np.stack(waves).astype(np.float32)).to(mel.device)
