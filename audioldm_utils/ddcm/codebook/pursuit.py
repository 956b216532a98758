"""Several atoms of one independent codebook: the two published ways, as baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from audioldm_utils.ddcm.codebook.base import Softness, unit_rms
from audioldm_utils.ddcm.codebook.greedy import Gaussian
from audioldm_utils.ddcm.packing import rank_subset, unrank_subset
from audioldm_utils.errors import UserError


def _refuse(soft: Softness, name: str) -> None:
    if soft.temperature != 0:
        raise UserError(f"codebook {name!r} takes the best atoms only: temperature 0.")


class Turbo(Gaussian):
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
        self, step: int, target: Tensor, wide: Tensor | None, atoms: int, soft: Softness
    ) -> Tensor:
        self.states(atoms)
        _refuse(soft, self.name)
        scores = torch.cat(list(self._scores(step, 0, target)), dim=1).cpu()
        index = scores.abs().topk(atoms, dim=1).indices
        return (index * 2 + (scores.gather(1, index) < 0)).sort(dim=1).values

    def noise(self, step: int, choice: Tensor) -> Tensor:  # noqa: D102
        total = torch.zeros(len(choice), self.values)
        for row, entries in zip(total, choice.tolist(), strict=True):
            for entry in entries:
                made = self._normal(step, 0, entry >> 1)
                row += -made if entry & 1 else made
        return unit_rms(total).reshape(len(choice), *self.shape)


class MatchingPursuit(Gaussian):
    """The DDCM paper's refinement: blend further atoms in, with quantised coefficients.

    noise <- unit(sqrt(g) noise + sqrt(1 - g) atom), g from a uniform grid over (0, 1], for the
    pair (atom, g) that points best; coefficient 0 says «no atom helps, keep». A choice holds
    k_1, then (k, coefficient) for each further atom. With one coefficient bit the grid holds
    g = 1 alone, so further atoms cost bits and change nothing; that is the published default.

    Args:
        coefficient_bits: 1 to 8.
    """

    name = "matching-pursuit"

    def __init__(
        self, shape: Sequence[int], seed: int = 0, *, size: int = 1024, coefficient_bits: int = 3
    ) -> None:
        super().__init__(shape, seed, size=size)
        if not 1 <= coefficient_bits <= 8:
            raise UserError(f"coefficient_bits must lie between 1 and 8, not {coefficient_bits}.")
        self.levels = 2 ** int(coefficient_bits) - 1

    def radices(self, atoms: int = 1) -> tuple[int, ...]:  # noqa: D102
        return (self.size, *(self.size, self.levels + 1) * (atoms - 1))

    def _choose(
        self, step: int, target: Tensor, wide: Tensor | None, atoms: int, soft: Softness
    ) -> Tensor:
        _refuse(soft, self.name)
        chosen = [self._best(step, 0, target, soft)]
        noise = self._make(step, 0, chosen[0])
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
        for first, made in self.atoms(step):
            made = made.to(device)
            along, cross, own = target @ made.T, noise @ made.T, (made * made).sum(1)
            for level in range(1, self.levels):
                share = level / self.levels
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
            made, share = self._normal(step, 0, k), level / self.levels
            mixed = row * math.sqrt(share) + made * math.sqrt(1 - share)
            rows.append(unit_rms(mixed[None])[0] if level else row)
        return torch.stack(rows)

    def noise(self, step: int, choice: Tensor) -> Tensor:  # noqa: D102
        noise = self._make(step, 0, choice[:, 0])
        for place in range(1, choice.shape[1], 2):
            noise = self._extend(step, noise, choice[:, place], choice[:, place + 1])
        return noise.reshape(len(choice), *self.shape)
