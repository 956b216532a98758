"""AudioLDM2's vocoder in plain torch: transformers' ``SpeechT5HifiGan``, equal to the last bit.

Definition: Kong et al., HiFi-GAN, arXiv 2010.05646. Why it is here: see
:mod:`audioldm_utils.model.vae`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from audioldm_utils.model.vae import Network


class _Residual(nn.Module):
    def __init__(self, width: int, kernel: int, dilations: Sequence[int], slope: float) -> None:
        super().__init__()
        self.slope = slope

        def convolutions(steps: Sequence[int]) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv1d(width, width, kernel, dilation=step, padding=(kernel - 1) * step // 2)
                for step in steps
            )

        self.convs1, self.convs2 = convolutions(dilations), convolutions([1] * len(dilations))

    def forward(self, x: Tensor) -> Tensor:
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = second(leaky_relu(first(leaky_relu(x, self.slope)), self.slope)) + x
        return x


class Vocoder(Network):
    """Log-mel ``(batch, frames, 64)`` to waveform ``(batch, 160 * frames + 32)``.

    ``config``: of a ``SpeechT5HifiGan``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = own = SimpleNamespace(**config)
        width, slope = own.upsample_initial_channel, own.leaky_relu_slope
        self.conv_pre = nn.Conv1d(own.model_in_dim, width, 7, padding=3)
        self.upsampler, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(own.upsample_rates, own.upsample_kernel_sizes, strict=True):
            padding = (kernel - rate) // 2
            self.upsampler.append(
                nn.ConvTranspose1d(width, width // 2, kernel, stride=rate, padding=padding)
            )
            width //= 2
            for size, steps in zip(
                own.resblock_kernel_sizes, own.resblock_dilation_sizes, strict=True
            ):
                self.resblocks.append(_Residual(width, size, steps, slope))
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3)
        self.register_buffer("mean", torch.zeros(own.model_in_dim))
        self.register_buffer("scale", torch.ones(own.model_in_dim))

    def forward(self, mel: Tensor) -> Tensor:
        """Samples within ±1."""
        if self.config.normalize_before:
            mel = (mel - self.mean) / self.scale
        x = self.conv_pre(mel.transpose(2, 1))
        branches = len(self.config.resblock_kernel_sizes)
        for i, upsample in enumerate(self.upsampler):
            x = upsample(leaky_relu(x, self.config.leaky_relu_slope))
            first, *others = self.resblocks[i * branches : (i + 1) * branches]
            total = first(x)
            for block in others:
                total = total + block(x)
            x = total / branches
        return torch.tanh(self.conv_post(leaky_relu(x))).squeeze(1)
