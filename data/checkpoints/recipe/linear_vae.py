"""A linear autoencoder in the VAE's own layers, and how it becomes the whole network.

From random weights the VAE spends its first hour on learning to pass its input on. The layers
that change the resolution and the number of channels are a chain of convolutions by themselves:
without the residual branches, normalisations and SiLUs between them they make a linear
autoencoder, which trains several times as fast. Its weights are then put where they were, the
branches begin at zero, and the SiLU before each last layer is passed by pairs, since
SiLU(x) - SiLU(-x) = x. Constant channels beside them hold the normalisation's scale still.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Energy of the constant channels over that of the pairs.
STILLNESS = 20.0


class NormalisedIn(nn.Conv2d):
    """A first layer that is trained on (mel + 5) / 3 and takes the mel itself.

    Log-mels lie at -5 with a spread of 3, which conditions a layer badly. Padding stays the raw
    0, so that :func:`fold` is exact at the edges too.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The convolution, ``(batch, channels, frames, bands)``."""
        return nn.functional.conv2d(x, *self.folded(), padding=1)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the plain layer."""
        return self.weight / 3, self.bias + self.weight.sum((1, 2, 3)) * (5 / 3)


class NormalisedOut(nn.Conv2d):
    """A last layer whose output o is given as the mel 3 o - 5."""

    def forward(self, x: Tensor) -> Tensor:
        """The convolution, ``(batch, channels, frames, bands)``."""
        return nn.functional.conv2d(x, *self.folded(), padding=1)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the plain layer."""
        return 3 * self.weight, 3 * self.bias - 5


def normalise_ends(vae: nn.Module) -> None:
    """Put the two layers above in place of ``conv_in`` and ``conv_out``; weights stay random."""
    first, last = vae.encoder.conv_in, vae.decoder.conv_out
    vae.encoder.conv_in = NormalisedIn(1, first.out_channels, 3, padding=1)
    vae.decoder.conv_out = NormalisedOut(last.in_channels, 1, 3, padding=1)


@torch.no_grad()
def fold(vae: nn.Module) -> None:
    """Plain layers in their place again, which compute the same."""
    for owner, name in ((vae.encoder, "conv_in"), (vae.decoder, "conv_out")):
        layer = getattr(owner, name)
        plain = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
        weight, bias = layer.folded()
        plain.weight.copy_(weight)
        plain.bias.copy_(bias)
        setattr(owner, name, plain)


@torch.no_grad()
def unfold(vae: nn.Module) -> None:
    """The two layers in place of plain ones, computing the same: to train on from a checkpoint."""
    first, last = vae.encoder.conv_in, vae.decoder.conv_out
    normalise_ends(vae)
    weight = 3 * first.weight
    vae.encoder.conv_in.weight.copy_(weight)
    vae.encoder.conv_in.bias.copy_(first.bias - weight.sum((1, 2, 3)) * (5 / 3))
    vae.decoder.conv_out.weight.copy_(last.weight / 3)
    vae.decoder.conv_out.bias.copy_((last.bias + 5) / 3)


@torch.no_grad()
def preserve_variance(vae: nn.Module) -> None:
    """Weights of spread 1 / sqrt(fan in), no bias, and a posterior of almost no spread."""
    for layer in vae.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.normal_(0, layer.weight[0].numel() ** -0.5)
            layer.bias.zero_()
    half = vae.config.latent_channels
    vae.quant_conv.weight[half:] = 0.0
    vae.quant_conv.bias[half:] = -8.0


def carried(channels: int) -> int:
    """Linear channels that fit in pairs beside an eighth of constants."""
    return (channels - max(2, channels // 8)) // 2


def _through(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    for block in blocks:
        shortcut = block.resnets[0].conv_shortcut
        x = x if shortcut is None else shortcut(x)
        for resize in (
            getattr(block, "downsamplers", None) or getattr(block, "upsamplers", None) or []
        ):
            x = resize(x)
    return x


def encoder_features(vae: nn.Module, mel: Tensor) -> Tensor:
    """What the encoder's last layer reads, linear in ``mel``."""
    x = _through(vae.encoder.down_blocks, vae.encoder.conv_in(mel))
    return x[:, : carried(x.shape[1])]


def decoder_features(vae: nn.Module, z: Tensor) -> Tensor:
    """What the decoder's last layer reads, linear in the latents."""
    x = _through(vae.decoder.up_blocks, vae.decoder.conv_in(vae.post_quant_conv(z)))
    return x[:, : carried(x.shape[1])]


def encode_linear(vae: nn.Module, mel: Tensor) -> Tensor:
    """Latents of the linear chain, ``(batch, channels, frames / 4, 16)``."""
    x, last = encoder_features(vae, mel), vae.encoder.conv_out
    x = nn.functional.conv2d(x, last.weight[:, : x.shape[1]], last.bias, padding=1)
    return vae.quant_conv(x)[:, : vae.config.latent_channels]


def decode_linear(vae: nn.Module, z: Tensor) -> Tensor:
    """Log-mel of the linear chain, ``(batch, 1, frames, 64)``."""
    x, last = decoder_features(vae, z), vae.decoder.conv_out
    weight, bias = last.folded()
    return nn.functional.conv2d(x, weight[:, : x.shape[1]], bias, padding=1)


@torch.no_grad()
def graft(vae: nn.Module, mel: Tensor) -> None:
    """Make the whole network compute what its linear chain does.

    Args:
        mel: some train mels ``(batch, 1, frames, 64)``, to level the features by.
    """
    encoder, decoder = vae.encoder, vae.decoder
    z = encode_linear(vae, mel)
    levels = [
        f.square().mean().sqrt() for f in (encoder_features(vae, mel), decoder_features(vae, z))
    ]
    _graft_end(encoder.down_blocks[-1], encoder, levels[0])
    _graft_end(decoder.up_blocks[-1], decoder, levels[1])
    for name, layer in vae.named_modules():
        if name.endswith("conv2"):
            layer.weight.zero_()
            layer.bias.zero_()


def _graft_end(block: nn.Module, part: nn.Module, level: Tensor) -> None:
    """Pairs and constants through one end's normalisation and SiLU."""
    shortcut, norm, last = block.resnets[0].conv_shortcut, part.conv_norm_out, part.conv_out
    channels = norm.num_channels
    n = carried(channels)
    spare = channels - 2 * n
    for tensor in (shortcut.weight, shortcut.bias):
        tensor[:n] /= level
        tensor[n : 2 * n] = -tensor[:n]
        tensor[2 * n :] = 0.0
    constant = (STILLNESS * 2 * n / spare) ** 0.5
    shortcut.bias[2 * n :] = constant * torch.tensor([(-1.0) ** k for k in range(spare)])
    norm.weight.fill_(((2 * n + spare * constant**2) / channels) ** 0.5)
    # The constants go no further: as inputs of the last layer they would make it stiff.
    norm.weight[2 * n :] = 0.0
    norm.bias.zero_()
    last.weight[:, :n] *= level
    last.weight[:, n : 2 * n] = -last.weight[:, :n]
    last.weight[:, 2 * n :] = 0.0
