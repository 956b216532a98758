"""Denoising Diffusion Codebook Models: encode, decode and generate.

Ohayon et al., «Compressed Image Generation with Denoising Diffusion Codebook Models», ICML
2025, arXiv 2502.01189. Symbols:

==============  ============================================================
``x``           x_i, noisy latents; the start x_T is a seeded draw of 0 bits
``output``      what the network says of x_i
``x0_hat``      the denoised value that the output stands for
``residual``    x_0 - x0_hat, what the choice should point at
``noise``       C_i(k_i), the chosen atom, unit variance
==============  ============================================================

One loop, ``DDCM.run``, serves all: x_{i-1} = mu_i(x_i) + sigma_i C_i(k_i), with k_i from a
function ``pick``. Encoding picks by the residual, decoding replays, generation draws. So the
encoder's latents and the decoder's are equal bit for bit on one machine at equal batch and
threads. A denoiser is ``(x_t, t) -> output``, with prompt, guidance and windows inside; a
callback is called after each step. Latents x are (batch, 8, frames, 16) throughout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from audioldm_utils.ddcm.codebook import Codebook, start_noise
from audioldm_utils.ddcm.windows import Denoiser, fold, unfold
from audioldm_utils.model.schedule import Schedule


@dataclass(frozen=True)
class Step:
    """What a callback is shown; tensors are not copied, so do not change them.

    ``index`` counts from 0 (noisiest) to ``steps`` - 1; ``x`` is x_i, before the step.
    """

    index: int
    steps: int
    timestep: int
    x: Tensor
    x0_hat: Tensor
    noise: Tensor | None  # None in the last step
    target: Tensor | None  # latents to encode; None when decoding or generating
    choice: Tensor | None  # int64 (batch * segments, length); None in the last step

    def cosine(self) -> Tensor:
        """Cosine between chosen noise and residual, (batch,), -1 to 1; needs target and noise."""
        if self.target is None or self.noise is None:
            raise ValueError("no residual: a step has one when encoding, and not in the last step")
        residual = (self.target - self.x0_hat).flatten(1)
        return torch.cosine_similarity(self.noise.flatten(1), residual, dim=1)


Callback = Callable[[Step], None]
Pick = Callable[[int, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Codes:
    """The choices of a batch of clips: all that a decoder needs beside the configuration."""

    choices: tuple[Tensor, ...]  # one a noisy step, each int64 (batch * segments, length)
    shape: tuple[int, ...]  # of one clip's latents, (8, frames, 16)
    latents: Tensor = field(repr=False, compare=False)
    """What the run ended with; the decoder gets the same."""


class DDCM:
    """A schedule, a codebook, and how many atoms each step takes.

    Args:
        schedule: reverse steps, T of them; with eta 0 no choice has an effect.
        codebook: atoms and their selection. Its shape (8, h, 16) is that of a segment:
            latents of n * h frames take n choices a step, one after the other in time.
        atoms: atoms a noisy step, or T - 1 numbers; a step of 0 atoms adds the codebook's
            first atom and costs no bits.
    """

    def __init__(
        self, schedule: Schedule, codebook: Codebook, atoms: int | Sequence[int] = 1
    ) -> None:
        self.schedule, self.codebook = schedule, codebook
        noisy = schedule.noisy_steps
        self.atoms = (atoms,) * noisy if isinstance(atoms, int) else tuple(atoms)
        if len(self.atoms) != noisy:
            raise ValueError(f"{len(self.atoms)} numbers of atoms for {noisy} noisy steps")
        if any(count < 0 for count in self.atoms):
            raise ValueError("a number of atoms is negative")

    @property
    def bits(self) -> float:
        """Bits of one segment's codes, not rounded."""
        return sum(self.codebook.bits(count) for count in self.atoms if count)

    def segments(self, shape: Sequence[int]) -> int:
        """Segments of latents of ``shape`` (8, frames, 16); ValueError if none cover them."""
        channels, frames, width = shape
        if (channels, width) != (self.codebook.shape[0], self.codebook.shape[2]):
            raise ValueError(f"latents {tuple(shape)} for a codebook of {self.codebook.shape}")
        count, rest = divmod(frames, self.codebook.shape[1])
        if rest:
            raise ValueError(
                f"{frames} latent frames are no multiple of the codebook's {self.codebook.shape[1]}"
            )
        return count

    def start(self, batch: int, shape: Sequence[int]) -> Tensor:
        """x_T, (batch, *shape): the same seeded draw for each clip, so no bits."""
        return start_noise([self.codebook.seed], tuple(shape)).expand(batch, *shape).clone()

    @torch.no_grad()
    def run(
        self,
        x: Tensor,
        denoiser: Denoiser,
        pick: Pick,
        *,
        target: Tensor | None = None,
        callback: Callback | None = None,
    ) -> Codes:
        """All reverse steps from ``x``; any loss may decide in ``pick``.

        Args:
            x: x_T.
            pick: ``(i, x_i, output)`` to the atoms of step i, int64 (batch * segments, length);
                not called for steps of 0 atoms.
            target: shown to the callback.
        """
        count = self.segments(x.shape[1:])
        choices = []
        for i, t in enumerate(self.schedule.timesteps):
            output = denoiser(x, t)
            noise = choice = None
            if i < self.schedule.noisy_steps:
                if self.atoms[i]:
                    choice = pick(i, x, output)
                else:  # nothing to choose
                    shape = (len(x) * count, self.codebook.length(1))
                    choice = torch.zeros(shape, dtype=torch.int64)
                choices.append(choice)
                noise = unfold(self.codebook.noise(i, choice), count).to(x)
            if callback is not None:
                x0_hat = self.schedule.predict_x0(i, x, output)
                steps = len(self.schedule.timesteps)
                callback(Step(i, steps, t, x, x0_hat, noise, target, choice))
            x = self.schedule.step(i, x, output, noise)
        return Codes(tuple(choices), tuple(x.shape[1:]), x)

    def encode(
        self,
        latents: Tensor,
        denoiser: Denoiser,
        *,
        callback: Callback | None = None,
        **selection: object,
    ) -> Codes:
        """Choose the noise that leads to ``latents``: k_i = argmax <C_i(k), x_0 - x0_hat_i>.

        Args:
            latents: scaled latents x_0.
            denoiser: a decoder needs the same one.
            **selection: options of ``codebook.choose``: weights, temperature, seeds.
        """
        if latents.ndim != 4:
            raise ValueError(f"latents are (batch, 8, frames, 16), not {tuple(latents.shape)}")
        count = self.segments(latents.shape[1:])
        if selection.get("weights") is not None:
            weights = torch.broadcast_to(selection["weights"].to(latents), latents.shape)
            selection["weights"] = fold(weights, count)

        def pick(i: int, x: Tensor, output: Tensor) -> Tensor:
            residual = latents - self.schedule.predict_x0(i, x, output)
            return self.codebook.choose(i, fold(residual, count), self.atoms[i], **selection)

        x = self.start(len(latents), latents.shape[1:]).to(latents)
        return self.run(x, denoiser, pick, target=latents, callback=callback)

    def decode(
        self,
        codes: Codes,
        denoiser: Denoiser,
        *,
        edit: tuple[int, Denoiser] | None = None,
        start: Tensor | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Replay the choices to the latents.

        Args:
            codes: of ``encode`` or ``generate``; its latents say only how many and where.
            denoiser: the encoder's.
            edit: (step, other denoiser): from this step on, 0 to T, the other one is used,
                say with another prompt, while the choices stay.
            start: x_T where it was not the seeded draw.
        """
        if len(codes.choices) != self.schedule.noisy_steps:
            raise ValueError(
                f"codes of {len(codes.choices)} noisy steps for a schedule of "
                f"{self.schedule.noisy_steps}"
            )
        network = denoiser
        if edit is not None:
            late = set(self.schedule.timesteps[edit[0] :])
            network = lambda x, t: (edit[1] if t in late else denoiser)(x, t)  # noqa: E731
        if start is None:
            start = self.start(len(codes.latents), codes.shape).to(codes.latents.device)
        return self.run(start, network, lambda i, *_: codes.choices[i], callback=callback).latents

    def generate(
        self,
        frames: int,
        denoiser: Denoiser,
        *,
        seeds: Sequence[int],
        towards: Denoiser | None = None,
        subset: int = 64,
        start: Tensor | None = None,
        callback: Callback | None = None,
        device: str | torch.device = "cpu",
    ) -> Codes:
        """Random choices: samples of so many latent frames, and codes that ``decode`` replays.

        Args:
            denoiser: of the reverse process, which a decoder needs.
            seeds: one a sample, on which alone its choices hang.
            towards: the denoiser with a prompt, for codes that follow the prompt though their
                decoder has none (the paper's CCFG): of ``subset`` random choices a step, that
                with the largest <C_i(k), eps - eps_towards> is taken.
            subset: at least 1, which ignores the prompt; more follow it closer.
            start: x_T, instead of the seeded draw.
            device: of the seeded draw.
        """
        if subset < 1:
            raise ValueError(f"subset is {subset}; it must be at least 1")
        shape = (self.codebook.shape[0], frames, self.codebook.shape[2])
        count = self.segments(shape)
        if start is None:
            start = self.start(len(seeds), shape).to(device)

        def random(i: int, candidate: int = 0) -> Tensor:
            rows = [derived_seed(seed, part, candidate) for seed in seeds for part in range(count)]
            return self.codebook.random_choice(i, rows, self.atoms[i])

        def pick(i: int, x: Tensor, output: Tensor) -> Tensor:
            if towards is None:
                return random(i)
            prompted = towards(x, self.schedule.timesteps[i])
            wanted = self.schedule.predict_noise(i, x, output)
            wanted = wanted - self.schedule.predict_noise(i, x, prompted)
            wanted = fold(wanted, count).flatten(1).cpu()
            best, score = torch.tensor(0), torch.full((len(wanted),), -torch.inf)
            for candidate in range(subset):
                choice = random(i, candidate)
                found = (self.codebook.noise(i, choice).flatten(1) * wanted).sum(1)
                better = found > score
                best = torch.where(better[:, None], choice, best)
                score = torch.where(better, found, score)
            return best

        return self.run(start, denoiser, pick, callback=callback)


def derived_seed(*numbers: int) -> int:
    """A seed in [0, 2^64) from several integers, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:8], "little")
