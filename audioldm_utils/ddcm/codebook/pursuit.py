"""Several atoms of one independent codebook: the two published ways, as baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from audioldm_utils.ddcm.codebook import bits
from audioldm_utils.ddcm.codebook.base import Codebook, unit_rms
from audioldm_utils.ddcm.codebook.gaussian import Gaussian
from audioldm_utils.ddcm.codebook.ranking import rank_subset, unrank_subset
from audioldm_utils.errors import UserError


class _OneCodebook(Codebook):
    """Shared by both: K independent atoms a step, best choice only."""

    def __init__(self, shape: Sequence[int], seed: int = 0, *, size: int = 1024) -> None:
        super().__init__(shape, seed)
        self._atoms = Gaussian(shape, seed, size=size)

    @property
    def size(self) -> int:
        return self._atoms.size

    def options(self) -> dict[str, Any]:
        return {"size": self.size}

    def _best_only(self, temperature: float) -> None:
        if temperature != 0:
            raise UserError(f"codebook {self.name!r} takes the best atoms only: temperature 0.")


class Turbo(_OneCodebook):
    """The M atoms of largest |<atom, residual>|, with signs, summed (Turbo-DDCM, 2511.06424).

    One pass over K independent atoms; the sum is brought to unit root mean square. A choice
    holds index * 2 + negative, ascending; its set of indices is ranked exactly, so a step has
    C(K, M) 2^M states.
    """

    name = "turbo"

    def radices(self, atoms: int = 1) -> tuple[int, ...]:  # noqa: D102
        return (2 * self.size,) * atoms

    def states(self, atoms: int = 1) -> int:  # noqa: D102
        if not 1 <= atoms <= self.size:
            raise UserError(f"{atoms} atoms cannot be taken from a codebook of {self.size}.")
        return math.comb(self.size, atoms) << atoms

    def to_integer(self, choice: Sequence[int], atoms: int = 1) -> int:  # noqa: D102
        entries = [int(entry) for entry in choice]
        if len(entries) != atoms or any(not 0 <= e < 2 * self.size for e in entries):
            raise ValueError("not a choice of this codebook")
        negative = sum((entry & 1) << place for place, entry in enumerate(entries))
        return rank_subset([entry >> 1 for entry in entries]) << atoms | negative

    def from_integer(self, value: int, atoms: int = 1) -> tuple[int, ...]:  # noqa: D102
        subset = unrank_subset(value >> atoms, self.size, atoms)
        return tuple(2 * index + (value >> place & 1) for place, index in enumerate(subset))

    def _choose(
        self,
        step: int,
        target: Tensor,
        wide: Tensor | None,
        atoms: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> Tensor:
        self.states(atoms)
        self._best_only(temperature)
        kept = torch.empty(len(target), 0)
        index = torch.empty(len(target), 0, dtype=torch.int64)
        for first, made in self._atoms.atoms(step):
            scores = (target @ made.to(target.device).T).cpu()
            new = torch.arange(first, first + len(made)).expand(len(target), -1)
            kept, index = torch.cat([kept, scores], 1), torch.cat([index, new], 1)
            best = kept.abs().topk(min(atoms, kept.shape[1]), dim=1).indices
            kept, index = kept.gather(1, best), index.gather(1, best)
        return (index * 2 + (kept < 0)).sort(dim=1).values

    def noise(self, step: int, choice: Tensor) -> Tensor:  # noqa: D102
        rows = []
        for entries in choice.tolist():
            total = torch.zeros(self.values)
            for entry in entries:
                made = bits.normals(self.seed, step, 0, entry >> 1, 1, self.values)[0]
                total += torch.from_numpy(-made if entry & 1 else made)
            rows.append(total)
        return unit_rms(torch.stack(rows)).reshape(len(choice), *self.shape)


class MatchingPursuit(_OneCodebook):
    """The DDCM paper's refinement: blend further atoms in, with quantised coefficients.

    noise <- unit(sqrt(g) noise + sqrt(1 - g) atom), g from a uniform grid over (0, 1], for the
    pair (atom, g) that points best; coefficient 0 says «no atom helps, keep». A choice holds
    k_1, then (k, coefficient) for each further atom. With one coefficient bit the grid holds
    g = 1 alone, so further atoms cost bits and change nothing; that is the published default.

    Args:
        size: K.
        coefficient_bits: C, 1 to 8.
    """

    name = "matching-pursuit"

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        *,
        size: int = 1024,
        coefficient_bits: int = 3,
    ) -> None:
        super().__init__(shape, seed, size=size)
        if not 1 <= coefficient_bits <= 8:
            raise UserError(f"coefficient_bits must lie between 1 and 8, not {coefficient_bits}.")
        self.coefficient_bits = int(coefficient_bits)

    def options(self) -> dict[str, Any]:  # noqa: D102
        return {"size": self.size, "coefficient_bits": self.coefficient_bits}

    def radices(self, atoms: int = 1) -> tuple[int, ...]:  # noqa: D102
        return (self.size, *(self.size, 2**self.coefficient_bits) * (atoms - 1))

    def _choose(
        self,
        step: int,
        target: Tensor,
        wide: Tensor | None,
        atoms: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> Tensor:
        self._best_only(temperature)
        chosen = [self._atoms.choose(step, target.reshape(-1, *self.shape))[:, 0]]
        noise = self._atoms.noise(step, chosen[0][:, None]).flatten(1)
        for _ in range(1, atoms):
            index, coefficient = self._next(step, target, noise)
            chosen += [index, coefficient]
            noise = self._extend(step, noise, index, coefficient)
        return torch.stack(chosen, dim=1)

    def _next(self, step: int, target: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The (atom, coefficient) of highest cosine with the target, (0, 0) if none helps."""
        device = target.device
        noise = noise.to(device)
        now, square = (target * noise).sum(1, keepdim=True), (noise * noise).sum(1, keepdim=True)
        best = now[:, 0] / square[:, 0].sqrt()
        index = torch.zeros(len(target), dtype=torch.int64, device=device)
        coefficient = torch.zeros_like(index)
        levels = 2**self.coefficient_bits - 1
        for first, made in self._atoms.atoms(step):
            made = made.to(device)
            along, cross, own = target @ made.T, noise @ made.T, (made * made).sum(1)
            for level in range(1, levels):
                share = level / levels
                a, b = math.sqrt(share), math.sqrt(1 - share)
                norm = (a * a * square + b * b * own + 2 * a * b * cross).sqrt()
                value, position = ((a * now + b * along) / norm).max(dim=1)
                better = value > best
                best = torch.where(better, value, best)
                index = torch.where(better, position + first, index)
                coefficient = torch.where(better, level, coefficient)
        return index.cpu(), coefficient.cpu()

    def _extend(self, step: int, noise: Tensor, index: Tensor, coefficient: Tensor) -> Tensor:
        rows = []
        for row, k, level in zip(noise, index.tolist(), coefficient.tolist(), strict=True):
            made = torch.from_numpy(bits.normals(self.seed, step, 0, k, 1, self.values))
            share = level / (2**self.coefficient_bits - 1)
            a, b = math.sqrt(share), math.sqrt(1 - share)
            rows.append(unit_rms(row[None] * a + made * b)[0] if level else row)
        return torch.stack(rows)

    def noise(self, step: int, choice: Tensor) -> Tensor:  # noqa: D102
        noise = self._atoms.noise(step, choice[:, :1]).flatten(1)
        for place in range(1, choice.shape[1], 2):
            noise = self._extend(step, noise, choice[:, place], choice[:, place + 1])
        return noise.reshape(len(choice), *self.shape)
