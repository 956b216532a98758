"""Atoms chosen one after another: independent normal vectors, or the shifts of a few.

Independent atoms are the codebook of the DDCM paper (arXiv 2502.01189, section 3). Every cyclic
shift of a vector of independent normal values is again such a vector, so a random shift is exact
normal noise, while the inner products with all N shifts are one correlation: N log N work and N
memory instead of K N of each. On a smooth residual, shifts by a few values say almost the same;
a fixed seeded sign for each value, multiplied onto every atom, mends that.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from audioldm_utils.ddcm.codebook import bits
from audioldm_utils.ddcm.codebook.base import Codebook, Softness, with_signs
from audioldm_utils.errors import UserError

CHUNK_VALUES = 2**20
"""Normal values held at once while choosing: about 15 MiB with their indices."""


class GreedyCodebook(Codebook):
    """Atoms chosen one after another, each from a fresh codebook against what is left.

    The noise is the sum of the atoms over the square root of their number. What is left of the
    residual after some atoms is its part orthogonal to their sum, whose direction alone counts.
    """

    @abstractmethod
    def _scores(self, step: int, atom: int, target: Tensor) -> Iterator[Tensor]:
        """Inner products of target (batch, values) with all atoms, in chunks (batch, count)."""

    @abstractmethod
    def _make(self, step: int, atom: int, index: Tensor) -> Tensor:
        """The atoms of these indices (batch,): float32 (batch, values) on the CPU."""

    def _best(self, step: int, atom: int, target: Tensor, soft: Softness) -> Tensor:
        """Index of the best atom for each row of target (batch, values): int64 (batch,)."""
        best = torch.full((len(target),), -torch.inf)
        index = torch.zeros(len(target), dtype=torch.int64)
        spread = target.norm(dim=1, keepdim=True).cpu()
        first = drawn = 0
        for scores in self._scores(step, atom, target):
            scores, count = scores.cpu(), scores.shape[1]
            if soft.temperature > 0:
                draws = soft.gumbel(step, atom, drawn, count)
                scores = scores + soft.temperature * spread * draws
            value, position = scores.max(dim=1)
            better = value > best
            best = torch.where(better, value, best)
            index = torch.where(better, position + first, index)
            first, drawn = first + count, drawn + -(-count // 4) * 4
        return index

    def _choose(
        self, step: int, target: Tensor, wide: Tensor | None, atoms: int, soft: Softness
    ) -> Tensor:
        if math.isinf(soft.temperature):
            return self.random_choice(step, soft.seeds, atoms)
        total, left, chosen = 0.0, target, []
        for atom in range(atoms):
            index = self._best(step, atom, left, soft)
            chosen.append(index)
            if atom + 1 < atoms:
                total = total + self._make(step, atom, index).to(target.device)
                weighted = total if wide is None else total * wide
                gain = (target * total).sum(1) / (weighted * total).sum(1)
                left = target - gain[:, None] * weighted
        if not chosen:
            return torch.empty(len(target), 0, dtype=torch.int64)
        return torch.stack(chosen, dim=1)

    def noise(self, step: int, choice: Tensor) -> Tensor:  # noqa: D102
        atoms = choice.shape[1]
        # A step without bits has the seed's own noise, the same for every clip.
        first = choice[:, 0] if atoms else torch.zeros(len(choice), dtype=torch.int64)
        total = self._make(step, 0, first)
        for atom in range(1, atoms):
            total = total + self._make(step, atom, choice[:, atom])
        if atoms > 1:
            total = total * (1 / math.sqrt(atoms))
        return total.reshape(len(choice), *self.shape)


class Gaussian(GreedyCodebook):
    """K independent standard normal atoms for each step, and fresh ones for each further atom.

    Atom k of a step is made from (seed, step, k) alone; the codebook is never held whole.

    Args:
        size: K, at least 2; a smaller codebook is the beginning of a larger one.
    """

    name = "gaussian"

    def __init__(self, shape: Sequence[int], seed: int = 0, *, size: int = 1024) -> None:
        super().__init__(shape, seed)
        if size < 2:
            raise UserError(f"a codebook needs at least 2 atoms, not {size}.")
        self.size = int(size)

    def atoms(self, step: int, stream: int = 0) -> Iterator[tuple[int, Tensor]]:
        """The codebook of a step in chunks: (index of the first, float32 (count, values))."""
        chunk = max(CHUNK_VALUES // self.values // 4 * 4, 4)
        for first in range(0, self.size, chunk):
            count = min(chunk, self.size - first)
            made = bits.normals(self.seed, step, stream, first, count, self.values)
            yield first, torch.from_numpy(made)

    def _scores(self, step: int, atom: int, target: Tensor) -> Iterator[Tensor]:
        for _, made in self.atoms(step, atom):
            yield target @ made.to(target.device).T

    def _make(self, step: int, atom: int, index: Tensor) -> Tensor:
        return torch.stack([self._normal(step, atom, k) for k in index.tolist()])


class CyclicShift(GreedyCodebook):
    """2 x N x bases atoms a step: every shift of every base vector, with both signs.

    Index (base * N + shift) * 2 + negative names the atom sign * mask * roll(base, shift), on
    the latents read in memory order. N is the number of latent values, so the size is seldom a
    power of two. Fewer bases are the beginning of more.

    Args:
        bases: normal vectors for each atom, at least 1; each doubling costs one bit more and
            twice the time.
        mask: the fixed signs; False is for showing what they are worth.
    """

    name = "cyclic"

    def __init__(
        self, shape: Sequence[int], seed: int = 0, *, bases: int = 1, mask: bool = True
    ) -> None:
        super().__init__(shape, seed)
        if bases < 1:
            raise UserError(f"a cyclic-shift codebook needs at least 1 base, not {bases}.")
        self.bases = int(bases)
        self.size = 2 * self.values * self.bases
        signs = torch.from_numpy(bits.signs(self.seed, self.values))
        self._mask = signs if mask else torch.ones(self.values)

    def _scores(self, step: int, atom: int, target: Tensor) -> Iterator[Tensor]:
        spectrum = torch.fft.rfft(target * self._mask.to(target.device))
        for base in range(self.bases):
            vector = torch.fft.rfft(self._normal(step, atom, base).to(target.device))
            yield with_signs(torch.fft.irfft(spectrum * vector.conj(), n=self.values))

    def _make(self, step: int, atom: int, index: Tensor) -> Tensor:
        rows = []
        for k in index.tolist():
            base, rest = divmod(k, 2 * self.values)
            shift, negative = divmod(rest, 2)
            row = torch.roll(self._normal(step, atom, base), shift) * self._mask
            rows.append(-row if negative else row)
        return torch.stack(rows)
