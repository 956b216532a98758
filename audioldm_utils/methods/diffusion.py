"""Reconstruction by the diffusion model: ``sdedit``, ``ddpm-inversion``, ``guided``.

Symbols: x0 latents, x_t noisy latents, abar the schedule's alpha-bar, x0_hat the denoised
value that the network's output stands for.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch

from audioldm_utils import bounds
from audioldm_utils.ddcm.header import OVERLAP, SEGMENT
from audioldm_utils.ddcm.windows import Denoiser, windowed
from audioldm_utils.methods.base import Job, Output, check_choice
from audioldm_utils.methods.enhance.latent import mel_distance
from audioldm_utils.model.schedule import Schedule


def _denoiser(job: Job, prompt: str, guidance: float, grad: bool = False) -> tuple[Denoiser, str]:
    """The denoiser of a prompt, in windows where the clip is long, and the prompt's text."""
    conditioning, text = None, job.text(prompt)
    if text:
        conditioning = job.networks.embed([text], negative=[""] if guidance != 1 else None)
        job.networks.drop_text()
    # Guidance needs a prompt to lead to; without one it is left out.
    denoiser = job.networks.denoiser(conditioning, guidance if text else 1.0, grad)
    return windowed(denoiser, SEGMENT, OVERLAP), text


def _schedule(job: Job, strength: float, steps: int, eta: float) -> Schedule | None:
    """``steps`` timesteps from ``strength`` of the training schedule down; None for none."""
    config = job.networks.checkpoint.scheduler_config
    total = int(config.get("num_train_timesteps", 1000))
    top = round(strength * total)
    if top == 0:
        return None
    count = min(steps, top)
    placed = np.round(np.arange(count) * (top / count)).astype(int)
    placed += min(int(config.get("steps_offset", 0)), total - 1 - int(placed[-1]))
    return Schedule.from_config(config, placement=[int(t) for t in placed[::-1]], eta=eta)


def _draw(generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    """Standard normal noise, drawn on the CPU so that every device gets the same."""
    return torch.randn(like.shape, generator=generator).to(like)


def _noised(x0: torch.Tensor, abar: float, generator: torch.Generator) -> torch.Tensor:
    """Draw from q(x_t | x0)."""
    return math.sqrt(abar) * x0 + math.sqrt(1 - abar) * _draw(generator, x0)


@torch.no_grad()
def sdedit(
    job: Job,
    *,
    strength: Annotated[float, bounds.SHARE] = 0.3,
    steps: Annotated[int, bounds.STEPS] = 25,
    prompt: str = "caption",
    guidance: Annotated[float, bounds.GUIDANCE] = 1.0,
    eta: Annotated[float, bounds.SHARE] = 1.0,
) -> Output:
    """Noise the latents up to a strength and denoise them again.

    Args:
        strength: share of the training schedule that is noised over; 0 is ``vae`` itself.
        steps: UNet calls from there down (twice as many with guidance).
        prompt: ``caption`` (the clip's, where it has one), ``none``, or a text.
        guidance: scale of classifier-free guidance; 1 is none.
        eta: 1 for ancestral sampling, 0 for DDIM.
    """
    schedule = _schedule(job, strength, steps, eta)
    if schedule is None:
        return job.finish(job.latents, details={"steps": 0})
    model, text = _denoiser(job, prompt, guidance)
    generator = torch.Generator().manual_seed(job.seed)
    x = _noised(job.latents, schedule.alphas_bar[0], generator)
    for i, t in enumerate(schedule.timesteps):
        x = schedule.step(i, x, model(x, t), _draw(generator, x))
        job.step(i + 1, len(schedule))
    return job.finish(x, details={"steps": len(schedule), "prompt": text})


@torch.no_grad()
def ddpm_inversion(
    job: Job,
    *,
    steps: Annotated[int, bounds.STEPS] = 25,
    skip: Annotated[float, bounds.SHARE] = 0.0,
    prompt: str = "caption",
    target: str = "same",
    guidance: Annotated[float, bounds.GUIDANCE] = 1.0,
    target_guidance: Annotated[float, bounds.GUIDANCE] = 3.0,
) -> Output:
    """Edit-friendly DDPM inversion, and its replay.

    Independent noise makes each x_t from the input; the noise maps that lead from one to the
    next are solved for exactly (Huberman-Spiegelglas et al. 2304.06140, equations 5 and 6).
    Replayed with the same prompt they return the input's latents; with another one, an edit.
    The last map, where the schedule adds no noise, is the difference itself.

    Args:
        steps: of the whole schedule; inversion and replay make that many UNet calls each.
        skip: share of the noisiest steps that the replay leaves out, so that an edit stays
            nearer to the input.
        prompt: of the inversion: ``caption``, ``none``, or a text.
        target: of the replay: ``same``, ``none``, or a text.
        guidance: of the inversion.
        target_guidance: of the replay, where its prompt is another one.
    """
    schedule = _schedule(job, 1.0, steps, eta=1.0)
    source, text = _denoiser(job, prompt, guidance)
    replay = source
    if target not in ("same", text):
        replay, text = _denoiser(job, target, target_guidance)
    generator = torch.Generator().manual_seed(job.seed)
    x0, count = job.latents, len(schedule)
    path = [*(_noised(x0, abar, generator) for abar in schedule.alphas_bar), x0]
    maps = []
    for i, t in enumerate(schedule.timesteps):
        mean = schedule.mean(i, path[i], source(path[i], t))
        maps.append((path[i + 1] - mean) / (schedule.sigma(i) or 1.0))
        job.step(i + 1, 2 * count)
    first = min(round(skip * count), count)
    x = path[first]
    for i in range(first, count):
        mean = schedule.mean(i, x, replay(x, schedule.timesteps[i]))
        x = mean + (schedule.sigma(i) or 1.0) * maps[i]
        job.step(count + i + 1, 2 * count)
    error = float((x - x0).abs().max())
    return job.finish(x, details={"distance_from_input": error, "prompt": text})


def guided(
    job: Job,
    *,
    strength: Annotated[float, bounds.SHARE] = 0.3,
    steps: Annotated[int, bounds.STEPS] = 12,
    distance: str = "latent",
    scale: Annotated[float, bounds.SHARE] = 0.7,
    gradient: str = "unet",
    prompt: str = "caption",
    guidance: Annotated[float, bounds.GUIDANCE] = 1.0,
    eta: Annotated[float, bounds.SHARE] = 1.0,
) -> Output:
    """Reverse diffusion drawn to the input by the gradient of a distance.

    Diffusion posterior sampling (Chung et al. 2209.14687, algorithm 1), with the step's
    length chosen so that ``scale`` 1 would bring a distance that falls linearly to 0
    (Polyak 1969), in place of a constant for all steps.

    Args:
        strength: where the reverse process starts, as in ``sdedit``; 0 is ``vae`` itself.
        steps: each is a forward and, with gradient ``unet``, a backward call of the UNet.
        distance: ``latent`` (squared distance of x0_hat to the input's latents) or ``mel``
            (multi-scale distance of the decoded mel: a forward and a backward call of the
            VAE's decoder a step).
        scale: share of the distance that a step closes, 0 to 1.
        gradient: ``unet`` goes through the denoiser to x_t; ``direct`` stops at x0_hat.
        prompt: ``caption``, ``none``, or a text.
        guidance: scale of classifier-free guidance; 1 is none.
        eta: 1 for ancestral sampling, 0 for DDIM.
    """
    check_choice("distance", distance, ("latent", "mel"))
    check_choice("gradient", gradient, ("unet", "direct"))
    schedule = _schedule(job, strength, steps, eta)
    if schedule is None:
        return job.finish(job.latents, details={"steps": 0})
    through = gradient == "unet"
    model, text = _denoiser(job, prompt, guidance, grad=through)
    generator = torch.Generator().manual_seed(job.seed)
    x = _noised(job.latents, schedule.alphas_bar[0], generator)
    curve = []
    for i, t in enumerate(schedule.timesteps):
        x = x.detach().requires_grad_(through)
        output = model(x, t)
        x0_hat = schedule.predict_x0(i, x, output)
        if not through:
            x0_hat = x0_hat.detach().requires_grad_(True)
        value, order = _distance(job, x0_hat, distance)
        curve.append(float(value.detach()))
        gradients = torch.autograd.grad(value, (x0_hat, x) if through else (x0_hat,))
        inner, direction = gradients[0], gradients[-1]
        length = order * curve[-1] / max(float(inner.norm()), 1e-12)
        direction = direction / direction.norm().clamp(min=1e-12)
        with torch.no_grad():
            x = schedule.step(i, x.detach(), output.detach(), _draw(generator, x))
            x = x - scale * math.sqrt(schedule.next_bar[i]) * length * direction
        job.step(i + 1, len(schedule))
    details = {"distance_by_step": np.array(curve), "steps": len(schedule), "prompt": text}
    return job.finish(x.detach(), details=details)


def _distance(job: Job, x0_hat: torch.Tensor, kind: str) -> tuple[torch.Tensor, float]:
    """The distance, and its order: a distance of order p falls to 0 in p Polyak steps."""
    if kind == "latent":
        return 0.5 * (x0_hat - job.latents).square().sum(), 2.0
    return mel_distance(job.mel, job.networks.decode_grad(x0_hat)).sum(), 1.0
