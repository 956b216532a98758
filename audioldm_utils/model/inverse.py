"""The fitted inverse of the mel filterbank: log-mel to linear magnitudes.

A mel band sums several STFT bins, and which of them held the energy is lost. But neighbouring
bands, harmonics and the frames before tell about it: a small network learns that from real
recordings. It belongs to the front end alone, so one set of weights serves every checkpoint.

Definition: ConvNeXt blocks over time (Siuzdak, Vocos, arXiv 2306.00814, in the manner of Liu et
al., arXiv 2201.03545) from 64 log-mel bands to 513 log magnitudes; the result is then scaled so
that its mel is the one given (:func:`mel_consistent`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from audioldm_utils.errors import UserError
from audioldm_utils.model.mel import MelConfig, check_mel_shape, mel_filterbank

#: The weights that the recipe fitted, half precision, with the network's sizes.
WEIGHTS = Path(__file__).with_name("inverse.safetensors")

#: Added to magnitudes before the logarithm: 2 dB above the rounding of 16-bit samples.
FLOOR = 3e-4
#: Largest log magnitude put out: a full-scale tone has 5.5. Keeps early training from spikes.
CEILING = 6.5
#: Times the bands' ratios are spread over their bins.
ROUNDS = 8


class _Block(nn.Module):
    """Depthwise convolution over time, then a two-layer perceptron over channels."""

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        return x + self.scale * self.contract(nn.functional.gelu(self.expand(y)))


class MelInverse(nn.Module):
    """Log magnitudes of a log-mel, before they are made consistent with it."""

    def __init__(
        self, width: int = 288, hidden: int = 576, blocks: int = 6, kernel: int = 7
    ) -> None:
        super().__init__()
        config = MelConfig()
        self.settings = {"width": width, "hidden": hidden, "blocks": blocks, "kernel": kernel}
        self.enter = nn.Conv1d(config.n_mels, width, kernel, padding=kernel // 2)
        self.blocks = nn.ModuleList(_Block(width, hidden, kernel) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, config.n_fft // 2 + 1)

    def forward(self, mel: Tensor) -> Tensor:
        """``(batch, frames, 64)`` log-mel to ``(batch, frames, 513)``: ln(magnitude + FLOOR)."""
        x = self.enter((mel.transpose(1, 2) + 5) / 3).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.leave(self.norm(x)).clamp(max=CEILING)


def mel_consistent(
    magnitude: Tensor, mel: Tensor, config: MelConfig = MelConfig(), rounds: int = ROUNDS
) -> Tensor:
    """Scale magnitudes ``(batch, frames, n_fft / 2 + 1)`` until their mel is ``mel``.

    Their shape within each band is kept: each bin is multiplied by the mean ratio of the bands
    it lies in, as in :func:`~audioldm_utils.model.mel.linear_magnitude`.
    """
    weights = mel_filterbank(config, magnitude.dtype, str(magnitude.device))
    share = weights.sum(0)
    # No band holds 0 Hz or half the sample rate: there the estimate stays as it is.
    held, share = share > 0, share.clamp(min=1e-12)
    target = mel.exp()
    for _ in range(rounds):
        ratio = target / (magnitude @ weights.T).clamp(min=1e-12)
        magnitude = magnitude * torch.where(held, (ratio @ weights) / share, 1.0)
    return magnitude


def save_inverse(inverse: MelInverse, path: str | Path) -> None:
    """Write weights in half precision, the network's sizes in the file's metadata."""
    weights = {key: value.half().contiguous() for key, value in inverse.state_dict().items()}
    save_file(weights, path, metadata={key: str(value) for key, value in inverse.settings.items()})


@lru_cache(maxsize=2)
def load_inverse(path: str | Path = WEIGHTS) -> MelInverse:
    """The network in single precision, without gradients, read once; UserError for other files."""
    try:
        with safe_open(path, framework="pt") as handle:
            settings = {key: int(value) for key, value in handle.metadata().items()}
            weights = {key: handle.get_tensor(key).float() for key in handle.keys()}  # noqa: SIM118
        inverse = MelInverse(**settings)
        inverse.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no inverse of the mel; install the package anew") from error
    return inverse.eval().requires_grad_(False)


@torch.no_grad()
def inverse_magnitude(mel: Tensor) -> Tensor:
    """STFT magnitudes ``(batch, 513, frames)`` of a log-mel ``(batch, frames, 64)``, of its mel."""
    check_mel_shape(mel)
    network = load_inverse()
    mel = mel.to(next(network.parameters()))
    magnitude = (network(mel).exp() - FLOOR).clamp(min=1e-7)
    return mel_consistent(magnitude, mel).transpose(1, 2)
