"""From a log-mel back to audio without a network: magnitudes, then a phase for them.

The mel bands are spread over the STFT's bins by non-negative least squares, and
Griffin-Lim (Griffin and Lim 1984, in the fast form of Perraudin et al. 2013 that librosa has)
or a known phase completes the spectrum. Frames lie where the front end's training framing
has them, so that the result is aligned with the analysed waveform.
"""

from __future__ import annotations

import librosa
import numpy as np
import torch

from audioldm_utils.mel import MelConfig


def magnitudes(mel: torch.Tensor, config: MelConfig = MelConfig()) -> np.ndarray:
    """STFT magnitudes ``(batch, bins, frames)`` of a log-mel ``(batch, frames, 64)``.

    Their mel is the given one as nearly as non-negative magnitudes allow.
    """
    values = torch.exp(mel.detach().cpu().float()).transpose(1, 2).numpy()
    return librosa.feature.inverse.mel_to_stft(
        values,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        power=1.0,
        fmin=config.fmin,
        fmax=config.fmax,
        htk=False,
        norm="slaney",
    ).astype(np.float32)


def _padded(magnitude: np.ndarray) -> np.ndarray:
    # One more frame on each side: librosa centres frame i on sample 160 i, the front end on
    # 160 i + 80, so half a hop is cut from the longer result at both ends.
    return np.pad(magnitude, ((0, 0), (0, 0), (1, 1)), mode="edge")


def griffin_lim(
    mel: torch.Tensor,
    iterations: int = 32,
    seed: int = 0,
    config: MelConfig = MelConfig(),
) -> torch.Tensor:
    """Waveform ``(batch, frames * 160)`` of a log-mel ``(batch, frames, 64)``, phase made up.

    Args:
        iterations: of fast Griffin-Lim (momentum 0.99).
        seed: of the first phase.
    """
    frames, hop = mel.shape[1], config.hop_length
    audio = librosa.griffinlim(
        _padded(magnitudes(mel, config)),
        n_iter=iterations,
        hop_length=hop,
        n_fft=config.n_fft,
        random_state=seed,
        pad_mode="constant",
    )
    return torch.from_numpy(np.ascontiguousarray(audio[:, hop // 2 :][:, : frames * hop])).float()


def with_phase(
    mel: torch.Tensor, waveform: torch.Tensor, config: MelConfig = MelConfig()
) -> torch.Tensor:
    """An oracle: the mel's magnitudes with the phase of ``waveform`` ``(batch, samples)``.

    Returns:
        ``(batch, frames * 160)``; what is still wrong with it is the mel's, not the phase's.
    """
    frames, hop = mel.shape[1], config.hop_length
    shifted = np.pad(waveform.cpu().float().numpy(), ((0, 0), (hop // 2, 0)))
    spectrum = librosa.stft(shifted, n_fft=config.n_fft, hop_length=hop)
    wanted = frames + 2
    spectrum = spectrum[..., :wanted]
    spectrum = np.pad(spectrum, ((0, 0), (0, 0), (0, wanted - spectrum.shape[-1])))
    audio = librosa.istft(
        _padded(magnitudes(mel, config)) * np.exp(1j * np.angle(spectrum)),
        hop_length=hop,
        n_fft=config.n_fft,
    )
    return torch.from_numpy(np.ascontiguousarray(audio[:, hop // 2 :][:, : frames * hop])).float()
