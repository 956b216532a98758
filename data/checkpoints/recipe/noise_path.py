"""A straight way for the noise through an epsilon-predicting UNet of the standard layout.

At high noise x_t is almost the noise that is asked for: at alpha_bar = 0.0004 even a linear
denoiser misses only 0.0002 of its energy. A UNet has to carry x_t through normalisations and
SiLUs to get there, and one of this size, trained for an hour, still missed 0.003. Published
models preconditioned for this add a scaled skip around the network (Karras et al., arXiv
2206.00364, section 5); ``AudioLDM2UNet2DConditionModel`` has no place for one. But its last
block has: the skip from ``conv_in`` reaches the last ResNet block's 1x1 shortcut, and from
there only ``conv_norm_out``, SiLU and ``conv_out`` are left. So a few channels can be given to
x and -x, whose SiLUs differ by exactly x, each group with one large constant channel that
keeps the normalisation's scale still. All of these are ordinary weights, trained on afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

#: The constant channel's value: large beside x_t, whose variance is about 1.
CONSTANT = 8.0
#: Share of the median singular value that the carried directions of ``conv_in`` get at least.
LEAST = 0.5
#: Of so many places the least-squares fit takes one: odd, so that all mel places take part.
PLACES = 3


@torch.no_grad()
def open_noise_path(unet: torch.nn.Module, groups: Sequence[int]) -> list[int]:
    """Give groups of ``conv_norm_out`` to x_t; ``conv_out`` does not read them yet.

    Args:
        unet: an ``AudioLDM2UNet2DConditionModel`` whose last up block has no attention.
        groups: normalisation groups to use. Each has one constant channel and room for the
            others' copies; 2 x ``in_channels`` copies are needed.

    Returns:
        The channels that carry x_0, -x_0, x_1, -x_1 ... of the latent channels, in order.

    Raises:
        ValueError: the groups hold too few channels.
    """
    norm, out, block = unet.conv_norm_out, unet.conv_out, unet.up_blocks[-1].resnets[-1]
    size = norm.num_channels // norm.num_groups
    inputs = unet.conv_in.in_channels
    carriers = [size * group + k for group in groups for k in range(size - 1)][: 2 * inputs]
    if len(carriers) < 2 * inputs:
        raise ValueError(f"{len(groups)} groups of {size} hold no {2 * inputs} copies of x_t")
    constants = [size * group + size - 1 for group in groups]
    used = [size * group + k for group in groups for k in range(size)]

    readout, offset = _carry_input(unet.conv_in)
    shortcut = block.conv_shortcut
    for layer in (shortcut, block.conv2):
        layer.weight[used], layer.bias[used] = 0.0, 0.0
    for place, channel in enumerate(carriers):
        sign = -1.0 if place % 2 else 1.0
        row = sign * readout[place // 2]
        shortcut.weight[channel, -len(row) :, 0, 0] = row
        shortcut.bias[channel] = -sign * offset[place // 2]
    shortcut.bias[constants] = CONSTANT
    for group in groups:
        # Mean and variance of the group, its copies of x_t being of mean 0 and variance 1.
        members = slice(size * group, size * (group + 1))
        copies = sum(channel // size == group for channel in carriers)
        variance = (copies + CONSTANT**2) / size - (CONSTANT / size) ** 2
        norm.weight[members], norm.bias[members] = variance**0.5, CONSTANT / size
    norm.weight[constants], norm.bias[constants] = 0.0, 0.0
    out.weight[:, used] = 0.0
    return carriers


def read_noise_path(unet: torch.nn.Module, carriers: Sequence[int]) -> None:
    """Let ``conv_out`` read the straight way too: what that adds to its output is x_t itself.

    Args:
        unet: as :func:`open_noise_path` left it.
        carriers: the channels that it gave.
    """
    with torch.no_grad():
        for place, channel in enumerate(carriers):
            unet.conv_out.weight[place // 2, channel, 1, 1] = -1.0 if place % 2 else 1.0


@torch.no_grad()
def _carry_input(conv_in: torch.nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Change ``conv_in`` as little as needed to make x_t a linear function of its output.

    Its rows span as many directions of the ``inputs x 3 x 3`` neighbourhood as it has
    channels. The weakest ``inputs`` of them make room for the neighbourhoods' centres.

    Returns:
        readout ``(inputs, channels)`` and offset ``(inputs,)``: x = readout @ out - offset.
    """
    channels, inputs = conv_in.weight.shape[:2]
    matrix = conv_in.weight.double().reshape(channels, -1)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    centre = matrix.shape[1] // inputs // 2
    centres = torch.zeros(inputs, matrix.shape[1], dtype=torch.float64)
    for i in range(inputs):
        centres[i, i * (matrix.shape[1] // inputs) + centre] = 1.0
    strong = right[: channels - inputs]
    missing = centres - centres @ strong.T @ strong
    weak = torch.linalg.svd(missing, full_matrices=False).Vh
    values[-inputs:] = values[-inputs:].clamp(min=LEAST * values.median().item())
    conv_in.weight.copy_(
        (left @ torch.diag(values) @ torch.cat([strong, weak])).reshape(conv_in.weight.shape)
    )
    matrix = conv_in.weight.double().reshape(channels, -1)
    readout = torch.linalg.lstsq(matrix.T, centres.T).solution.T
    return readout.float(), (readout @ conv_in.bias.double()).float()


@torch.no_grad()
def fit_output(unet: torch.nn.Module, batches: Iterable[tuple[Any, Tensor, Tensor]]) -> None:
    """Set ``conv_out`` to the weighted least-squares estimate of the noise.

    The last layer is linear, so the best one for all else as it is needs no descent.

    Args:
        unet: its other weights stay.
        batches: of each a call that runs the UNet, the noise ``(count, channels, h, w)`` and
            the weight of each row's squared error ``(count,)``.
    """
    seen: dict[str, Tensor] = {}
    hook = unet.conv_out.register_forward_pre_hook(
        lambda module, inputs: seen.__setitem__("features", inputs[0])
    )
    gram, target = 0.0, 0.0
    try:
        for call, noise, weight in batches:
            call()
            columns = torch.nn.functional.unfold(seen["features"], 3, padding=1)
            columns = torch.cat([columns, torch.ones_like(columns[:, :1])], 1)
            root = weight.sqrt()[:, None, None]
            # Some of the places are plenty for some hundred unknowns.
            rows = (columns * root)[..., ::PLACES].permute(0, 2, 1).flatten(0, 1).double()
            wanted = (
                (noise.flatten(2) * root)[..., ::PLACES].permute(0, 2, 1).flatten(0, 1).double()
            )
            gram, target = gram + rows.T @ rows, target + rows.T @ wanted
    finally:
        hook.remove()
    ridge = torch.diag(1e-5 * gram.diagonal() + 1e-6)
    solution = torch.linalg.solve(gram + ridge, target)
    out = unet.conv_out
    out.weight.copy_(solution[:-1].T.reshape(out.weight.shape))
    out.bias.copy_(solution[-1])
