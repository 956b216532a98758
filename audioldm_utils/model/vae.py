"""AudioLDM2's mel VAE in plain torch: diffusers' ``AutoencoderKL``, equal to the last bit.

So what needs no diffusion begins without diffusers, whose import costs more than a clip.
Definition: Rombach et al., arXiv 2112.10752; diffusers' ``models/autoencoders``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional


class Network(nn.Module):
    """A network that tells where its weights lie and in which precision."""

    device = property(lambda self: next(self.parameters()).device)
    dtype = property(lambda self: next(self.parameters()).dtype)


class _Residual(nn.Module):
    def __init__(self, inside: int, outside: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inside, eps=1e-6)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outside, eps=1e-6)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(functional.silu(self.norm1(x)))
        y = self.conv2(functional.silu(self.norm2(y)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + y


class _Attention(nn.Module):
    """One head over all places."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        y = self.group_norm(x.flatten(2)).transpose(1, 2)
        parts = [part(y)[:, None] for part in (self.to_q, self.to_k, self.to_v)]
        y = self.to_out[0](functional.scaled_dot_product_attention(*parts)[:, 0])
        return y.transpose(1, 2).reshape(x.shape) + x


class _Middle(nn.Module):
    def __init__(self, width: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([_Attention(width, groups)] if attention else [])
        self.resnets = nn.ModuleList(_Residual(width, width, groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class _Resample(nn.Module):
    """Half or twice the frames and bands."""

    def __init__(self, width: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(width, width, 3, padding=1 if up else 0, stride=1 if up else 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.up:
            return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class _Level(nn.Module):
    """Residual blocks of one resolution, then the step to the next one."""

    def __init__(
        self, inside: int, outside: int, depth: int, groups: int, up: bool, last: bool
    ) -> None:
        super().__init__()
        widths = [inside, *[outside] * depth]
        self.resnets = nn.ModuleList(_Residual(*pair, groups) for pair in pairwise(widths))
        step = nn.ModuleList([] if last else [_Resample(outside, up)])
        self.upsamplers, self.downsamplers = (step, None) if up else (None, step)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *(self.upsamplers or self.downsamplers or ())):
            x = layer(x)
        return x


class _Half(nn.Module):
    """The encoder, or the decoder with ``up``: from the first of ``widths`` to the last."""

    def __init__(
        self, inside: int, outside: int, widths: list[int], depth: int, groups: int,
        attention: bool, up: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv_in = nn.Conv2d(inside, widths[0], 3, padding=1)
        pairs = zip([widths[0], *widths], widths, strict=False)
        levels = nn.ModuleList(
            _Level(*pair, depth, groups, up, last=i == len(widths) - 1)
            for i, pair in enumerate(pairs)
        )
        self.mid_block = _Middle(widths[0 if up else -1], groups, attention)
        self.up_blocks, self.down_blocks = (levels, None) if up else (None, levels)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], outside, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.mid_block
        layers = [*self.down_blocks, middle] if self.down_blocks else [middle, *self.up_blocks]
        x = self.conv_in(x)
        for layer in layers:
            x = layer(x)
        return self.conv_out(functional.silu(self.conv_norm_out(x)))


class Vae(Network):
    """Log-mel ``(batch, 1, frames, 64)`` to latents ``(batch, 8, frames / 4, 16)`` and back.

    ``config``: of an ``AutoencoderKL``; ValueError if it asks for blocks that no AudioLDM2 has.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths = list(config["block_out_channels"])
        depth, groups = config.get("layers_per_block", 1), config.get("norm_num_groups", 32)
        attention, act = config.get("mid_block_add_attention", True), config.get("act_fn", "silu")
        for way, kind in (("down", "DownEncoderBlock2D"), ("up", "UpDecoderBlock2D")):
            if list(config[f"{way}_block_types"]) != [kind] * len(widths):
                raise ValueError(f"{way}_block_types must be {kind}s, one a width")
        if act not in ("silu", "swish"):
            raise ValueError(f"act_fn must be silu, not {act}")
        size, shape = config["latent_channels"], (groups, attention)
        self.encoder = _Half(config["in_channels"], 2 * size, widths, depth, *shape, up=False)
        self.decoder = _Half(size, config["out_channels"], widths[::-1], depth + 1, *shape, up=True)
        self.quant_conv = self.post_quant_conv = nn.Identity()
        if config.get("use_quant_conv", True):
            self.quant_conv = nn.Conv2d(2 * size, 2 * size, 1)
        if config.get("use_post_quant_conv", True):
            self.post_quant_conv = nn.Conv2d(size, size, 1)

    def encode(self, mel: Tensor) -> Tensor:
        """Mode of the posterior, not scaled."""
        return self.quant_conv(self.encoder(mel)).chunk(2, dim=1)[0]

    def decode(self, latents: Tensor) -> Tensor:
        """Log-mel of latents that are not scaled."""
        return self.decoder(self.post_quant_conv(latents))
