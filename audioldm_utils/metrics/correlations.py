"""Does the output really follow the input? Correlations of four representations.

- latent ``(batch, channels, time, frequency)``: a bin is one channel at one frequency;
- log-mel ``(batch, frames, mels)``: a bin is one mel band;
- envelope: RMS of octave bands every 10 ms, from the waveform; a bin is one band;
- waveform ``(batch, samples)``: one bin. A vocoder makes up the phase, so that this one
  can be near zero for a perfect-sounding output.

Pearson's correlation over all bins and times is high for any two sounds, because all
spectra fall alike. ``remove="bins"`` takes each bin's own mean over time away first, and
what is left follows the input in time or not at all. ``remove="bins and frames"`` then takes
each frame's mean over frequency away too (of latents: each channel's), and what is left of a
log-mel is blind to loudness: only a change of the spectrum's shape counts.

1 is a perfect copy, 0 no relation; constant input (silence) has no correlation and gives 0.
Correlation is blind to gain, and to the level of each bin once its mean is removed.
An envelope is linear, so that its frames' means do not hold all of its loudness.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import torch

#: Which axis of each representation is time.
TIME_AXIS = {"latent": 2, "log-mel": 1, "envelope": 1, "waveform": 1}
#: Means that are taken away before two sounds are compared.
Remove = Literal["", "bins", "bins and frames"]
_AXES = {"latent": 4, "log-mel": 3, "envelope": 3, "waveform": 2}

#: Edges of the envelope's octave bands, Hz; the last one is cut at half the sample rate.
OCTAVES = (62.5, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)


def _bins(values: torch.Tensor | np.ndarray, representation: str) -> torch.Tensor:
    """``(batch, time, channels, frequencies)`` in float64; only latents have channels."""
    if representation not in TIME_AXIS:
        raise ValueError(f"representation must be one of {list(TIME_AXIS)}, got {representation!r}")
    tensor = torch.as_tensor(values).detach().to("cpu", torch.float64)
    if tensor.ndim != _AXES[representation] or 0 in tensor.shape:
        raise ValueError(
            f"{representation} needs {_AXES[representation]} non-empty axes, "
            f"got shape {tuple(tensor.shape)}"
        )
    if tensor.ndim == 2:
        return tensor[:, :, None, None]
    tensor = tensor.movedim(TIME_AXIS[representation], 1)
    return tensor if tensor.ndim == 4 else tensor[:, :, None]


def _unit_vectors(bins: torch.Tensor, remove: Remove) -> torch.Tensor:
    """Flattened, centred and of norm 1; zero where there is no variance."""
    if remove not in ("", "bins", "bins and frames"):
        raise ValueError(f"remove must be '', 'bins' or 'bins and frames', got {remove!r}")
    scale = bins.abs().amax(dim=(1, 2, 3)).clamp(min=torch.finfo(bins.dtype).tiny)
    if remove:
        bins = bins - bins.mean(dim=1, keepdim=True)
    if remove == "bins and frames":
        bins = bins - bins.mean(dim=3, keepdim=True)
    flat = bins.flatten(1)
    flat = flat - flat.mean(dim=1, keepdim=True)
    norm = flat.norm(dim=1, keepdim=True)
    # What centring leaves of a constant is rounding, of the size of its values.
    constant = norm[:, 0] <= 1e-12 * scale * flat.shape[1] ** 0.5
    return torch.where(constant[:, None], 0.0, flat / norm.clamp(min=1e-300))


def band_envelope(waveform: torch.Tensor | np.ndarray, sample_rate: int = 16000) -> torch.Tensor:
    """RMS of octave bands of ``(batch, samples)`` every 10 ms: ``(batch, frames, bands)``, linear.

    The edges are extended by odd reflection: the step to silence where an excerpt was cut would
    be in every band, and in input and output alike. 7 bands from 62.5 Hz at 16 kHz.
    """
    tensor = torch.as_tensor(waveform).detach().to("cpu", torch.float64)
    if tensor.ndim != 2:
        raise ValueError(f"waveform must be (batch, samples), got shape {tuple(tensor.shape)}")
    window = torch.hann_window(max(sample_rate * 32 // 1000, 2), dtype=tensor.dtype)
    size = len(window)
    if tensor.shape[1] < size:
        raise ValueError(f"the waveform has {tensor.shape[1]} samples; 32 ms ({size}) are needed")
    edges = ((0, 0), (size // 2, size // 2))
    padded = np.pad(tensor.numpy(), edges, mode="reflect", reflect_type="odd")
    power = torch.stft(
        torch.from_numpy(padded),
        size,
        hop_length=sample_rate // 100,
        window=window,
        center=False,
        return_complex=True,
    )
    power = power.real.square() + power.imag.square()
    frequency = torch.fft.rfftfreq(size, 1 / sample_rate)
    bands = [
        power[:, (frequency >= low) & (frequency < high)].sum(dim=1)
        for low, high in pairwise(OCTAVES)
        if low < sample_rate / 2
    ]
    return (torch.stack(bands, dim=2) / window.square().sum() / size * 2).sqrt()


def correlate(
    reference: torch.Tensor | np.ndarray,
    estimate: torch.Tensor | np.ndarray,
    representation: str,
    remove: Remove = "",
) -> torch.Tensor:
    """Pearson correlation of each item of a batch with its reference, ``(batch,)``, float64.

    ``representation`` is ``latent``, ``log-mel``, ``envelope`` or ``waveform``; ValueError where
    the shapes differ or are not the representation's.
    """
    a, b = _bins(reference, representation), _bins(estimate, representation)
    if a.shape != b.shape:
        shapes = [tuple(torch.as_tensor(values).shape) for values in (reference, estimate)]
        raise ValueError(
            f"reference and estimate must be of one shape, got {shapes[0]} and {shapes[1]}"
        )
    return (_unit_vectors(a, remove) * _unit_vectors(b, remove)).sum(dim=1)


def correlation_matrix(
    outputs: torch.Tensor | np.ndarray,
    inputs: torch.Tensor | np.ndarray,
    representation: str,
    remove: Remove = "",
) -> np.ndarray:
    """Correlation of every output with every input, ``(outputs, inputs)``: the diagonal is matched.

    Both are batches, compared over the shorter one's time.
    """
    a, b = _bins(outputs, representation), _bins(inputs, representation)
    length = min(a.shape[1], b.shape[1])
    a, b = (_unit_vectors(bins[:, :length], remove) for bins in (a, b))
    return (a @ b.T).numpy()
