"""What every codebook is: choose, make the noise again, count the bits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from audioldm_utils.ddcm.codebook import bits
from audioldm_utils.ddcm.packing import join_digits, split_digits
from audioldm_utils.errors import UserError


class Softness(NamedTuple):
    """How choices are drawn: the temperature, 0 for the best atom, and a seed for each clip."""

    temperature: float
    seeds: Sequence[int]

    def gumbel(self, step: int, stream: int, first: int, count: int) -> Tensor:
        """Gumbel noise for each clip and candidate: float32 (clips, count).

        The argmax of score / temperature + Gumbel noise is a draw from the softmax. ``first``
        must be a multiple of 4.
        """
        where = bits.SAMPLING, step, stream, first, count
        rows = np.stack([bits.uniforms(seed, *where) for seed in self.seeds])
        return torch.from_numpy(-np.log(-np.log(rows))).float()


class Codebook(ABC):
    """Noise for each step of the reverse process, named by a few integers.

    A choice is an integer tensor (batch, `length`) for each step. `noise` is the one function
    that turns a choice into noise: encoder and decoder both call it, and have the same bits.

    Args:
        shape: of one clip's latents, without the batch, e.g. (8, 256, 16).
        seed: 0 to 2^64 - 1; encoder and decoder must agree on it.
    """

    name: ClassVar[str]
    size: int
    """K: how many messages one atom can carry."""

    def __init__(self, shape: Sequence[int], seed: int = 0) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.values = math.prod(self.shape)
        self.seed = int(seed)
        if self.values < 1:
            raise UserError(f"a codebook needs a shape without zeros, not {self.shape}.")
        if not 0 <= self.seed < 2**64:
            raise UserError(f"a codebook's seed must lie between 0 and 2^64 - 1, not {seed}.")

    def choose(
        self,
        step: int,
        residual: Tensor,
        atoms: int = 1,
        *,
        weights: Tensor | None = None,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
    ) -> Tensor:
        """The atoms that point best towards the residual: int64 (batch, `length`), on the CPU.

        Args:
            residual: (batch, *shape), where the noise should lead (x0 minus the denoised value);
                only its direction counts.
            atoms: how many atoms to add up; 0 is a step without bits, whose noise is the seed's.
            weights: positive, broadcast to the residual: what matters more (priority over time
                or frequency). The decoder does not need them.
            temperature: 0 takes the best atom (compression); above, an atom is drawn from the
                softmax of its score over the temperature, the score in standard deviations of
                a random atom's; infinity is plain sampling.
            seeds: one a clip, for that draw; default 0, 1, 2, ...
        """
        if tuple(residual.shape[1:]) != self.shape:
            raise ValueError(
                f"residual of shape {tuple(residual.shape)}; this codebook wants (batch, "
                f"{', '.join(map(str, self.shape))})"
            )
        target, wide = residual.detach().reshape(len(residual), -1).float(), None
        if not bool(torch.isfinite(target).all()):
            raise ValueError("the residual holds NaN or infinity: the denoiser has failed")
        if weights is not None:
            wide = torch.broadcast_to(weights.to(target), residual.shape).reshape(target.shape)
            if not bool((wide > 0).all()):
                raise UserError("priority weights must be positive.")
            target = target * wide
        if temperature < 0:
            raise UserError(f"temperature must not be negative, not {temperature}.")
        soft = Softness(temperature, range(len(target)) if seeds is None else seeds)
        return self._choose(step, target, wide, atoms, soft)

    @abstractmethod
    def _choose(
        self, step: int, target: Tensor, wide: Tensor | None, atoms: int, soft: Softness
    ) -> Tensor:
        """`choose` for the weighted residual and the weights, both (batch, values)."""

    @abstractmethod
    def noise(self, step: int, choice: Tensor) -> Tensor:
        """The noise that a choice names: float32 (batch, *shape) of unit variance, on the CPU."""

    def length(self, atoms: int = 1) -> int:
        """Integers in one clip's choice of a step."""
        return len(self.radices(atoms))

    def radices(self, atoms: int = 1) -> tuple[int, ...]:
        """How many values each entry of a choice can take."""
        return (self.size,) * atoms

    def states(self, atoms: int = 1) -> int:
        """How many different choices a step has: an exact integer."""
        return math.prod(self.radices(atoms))

    def bits(self, atoms: int = 1) -> float:
        """Bits of one step's choice, log2 of `states`; not rounded up."""
        return log2(self.states(atoms))

    def to_integer(self, choice: Sequence[int], atoms: int = 1) -> int:
        """One step's choice of one clip as an integer in [0, `states`)."""
        return join_digits(choice, self.radices(atoms))

    def from_integer(self, value: int, atoms: int = 1) -> tuple[int, ...]:
        """The choice that `to_integer` turned into ``value``."""
        return tuple(split_digits(value, self.radices(atoms)))

    def random_choice(self, step: int, seeds: Sequence[int], atoms: int = 1) -> Tensor:
        """A uniform choice for each clip, from that clip's seed alone: int64 (batch, length)."""
        states = self.states(atoms)
        drawn = [bits.integer_below(states, seed, bits.CHOICES, step) for seed in seeds]
        rows = [self.from_integer(value, atoms) for value in drawn]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), -1)

    def _normal(self, step: int, stream: int, index: int) -> Tensor:
        """A normal vector of the seed, float32 (values,)."""
        return torch.from_numpy(bits.normals(self.seed, step, stream, index, 1, self.values)[0])


def unit_rms(rows: Tensor) -> Tensor:
    """Each row over its root mean square, the same bits on every machine: float32 (batch, n).

    The sum of squares is taken over values rounded to 2^-8 and is exact in 64-bit integers
    (for magnitudes below 2^16 and up to 2^16 values), so no order of summation can change it.
    """
    grid = (rows * 256).round().long()
    square = (grid * grid).sum(1).tolist()
    gains = [256 / math.sqrt(s / rows.shape[1]) if s else 0.0 for s in square]
    return rows * torch.tensor(gains, dtype=torch.float64)[:, None].float()


def with_signs(scores: Tensor) -> Tensor:
    """Scores (batch, n) of atoms and of their negatives in turn: (batch, 2 n)."""
    return torch.stack([scores, -scores], dim=2).flatten(1)


def log2(integer: int) -> float:
    """Base-2 logarithm of a positive integer of any size."""
    shift = max(integer.bit_length() - 60, 0)
    return math.log2(integer >> shift) + shift
