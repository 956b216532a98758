"""Random numbers that anyone can make again: Philox bits and a fixed table of normal values.

A decoder must make the encoder's noise bit for bit on another machine, years later. NumPy
promises the bit stream of its Philox generator (4 x 64 bits, 10 rounds) but not its normal
values, and log, cos and erfinv differ between machines in their last bit. So every normal value
here takes 16 bits of the stream as index into one table of 65,536 equally probable normal
values, on a grid of 2^-20 and checked by its hash. It has mean 0, variance 1 to 1e-6, and ends
at 4.33 standard deviations; its distance from the normal distribution function is 7.6e-6.

The generator is counter based (Salmon et al., «Parallel random numbers: as easy as 1, 2, 3»,
2011): the key is (seed, purpose), the counter (block, step, stream, 0), so that any value is
made alone, in any order and any batch, from nothing but its address.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

ATOMS, SIGNS, CHOICES, SAMPLING, START = range(1, 6)
"""Purposes, the second half of the key: no two uses of a seed share bits."""

_VALUES_PER_BLOCK, _WORDS_PER_BLOCK = 16, 4
_TABLE_SHA256 = "7e27fb847e5ea7612eaaa0e2dbfd3118a4da8fa3feadbe2ca7dd619cb93e3d36"


def raw(
    seed: int, purpose: int, step: int, stream: int, first_block: int, words: int
) -> np.ndarray:
    """``words`` uint64 of the Philox stream, from block ``first_block`` on (4 words a block).

    ``purpose`` is one of the constants above; all are 0 to 2^64 - 1. NumPy counts up before it
    draws: block b is the Philox function of counter b + 1.
    """
    generator = np.random.Philox(counter=[first_block, step, stream, 0], key=[seed, purpose])
    return generator.random_raw(words)


@functools.cache
def normal_table() -> np.ndarray:
    """The 65,536 values, ascending, float32, on a grid of 2^-20 (which float32 holds exactly).

    Value i is the normal quantile of (i + 1/2) / 65536 (Wichura's AS 241), scaled to unit
    variance. RuntimeError where this machine computes another table.
    """
    quantile = NormalDist().inv_cdf
    upper = [quantile((i + 0.5) / 65536) for i in range(32768, 65536)]
    scale = 2.0**20 / math.sqrt(math.fsum(x * x for x in upper) / 32768)
    grid = np.array([round(x * scale) for x in upper], dtype=np.int32)
    grid = np.concatenate([-grid[::-1], grid])
    if hashlib.sha256(grid.astype("<i4").tobytes()).hexdigest() != _TABLE_SHA256:
        raise RuntimeError("the table of normal values differs on this machine")
    table = (grid * 2.0**-20).astype(np.float32)
    table.flags.writeable = False
    return table


def normals(
    seed: int, step: int, stream: int, first: int, count: int, values: int, purpose: int = ATOMS
) -> np.ndarray:
    """Atoms ``first`` to ``first + count - 1`` of a stream: float32 (count, values).

    Each atom starts at a block of its own; so atoms made alone, together or in chunks are the
    same, and a codebook of 64 atoms is the beginning of one of 1024.
    """
    blocks = -(-values // _VALUES_PER_BLOCK)
    words = raw(seed, purpose, step, stream, first * blocks, count * blocks * _WORDS_PER_BLOCK)
    indices = words.astype("<u8", copy=False).view("<u2").reshape(count, -1)
    return normal_table()[indices[:, :values]]


def signs(seed: int, values: int) -> np.ndarray:
    """Fixed signs of a seed: float32 (values,) of -1 and 1, one bit each."""
    words = raw(seed, SIGNS, 0, 0, 0, -(-values // 64))
    bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), bitorder="little")
    return (1 - 2 * bits[:values].astype(np.float32)).astype(np.float32)


def uniforms(seed: int, purpose: int, step: int, stream: int, first: int, count: int) -> np.ndarray:
    """Values ``first`` on of a stream of uniforms in (0, 1): float64 (count,), 53 bits each.

    ``first`` must be a multiple of 4.
    """
    words = raw(seed, purpose, step, stream, first // _WORDS_PER_BLOCK, count)
    return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def integer_below(bound: int, seed: int, purpose: int, step: int, stream: int = 0) -> int:
    """A uniform integer in [0, bound), any size; its bias is below 2^-64."""
    words = raw(seed, purpose, step, stream, 0, bound.bit_length() // 64 + 2)
    return int.from_bytes(words.astype("<u8", copy=False).tobytes(), "little") % bound


def start_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """x_T of each clip, float32 (len(seeds), *shape): the seeded draw that costs no bits."""
    values = math.prod(shape)
    draws = [normals(seed, 0, 0, 0, 1, values, purpose=START)[0] for seed in seeds]
    return torch.from_numpy(np.stack(draws)).reshape(len(seeds), *shape)
