"""Text to audio, with the samplers by name.

With the same seed and sampler the result equals that of the plain diffusers pipeline sample
for sample: the same arithmetic in the same order on the same random numbers.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audioldm_utils import bounds
from audioldm_utils.errors import UserError
from audioldm_utils.model import DOWNSAMPLING
from audioldm_utils.model.checkpoint import Checkpoint, load
from audioldm_utils.model.networks import Networks

#: Module and class of each sampler, by the names that the command line knows.
SAMPLERS = {
    "ddim": ("diffusers", "DDIMScheduler"),  # deterministic at eta 0, arXiv 2010.02502
    "ddpm": ("diffusers", "DDPMScheduler"),  # fresh noise at each step, arXiv 2006.11239
    # Second order, for few steps, arXiv 2211.01095.
    "dpm-solver++": ("diffusers", "DPMSolverMultistepScheduler"),
    "ddcm": ("audioldm_utils.ddcm", "DDCMScheduler"),  # noise from a codebook, arXiv 2502.01189
}


@dataclass(frozen=True)
class Generated:
    """What :func:`generate` made; sound is float32 on the CPU."""

    audio: Tensor  # the best candidate of each prompt, (prompts, samples)
    sample_rate: int
    candidates: Tensor  # the best first, (prompts, candidates, samples)
    scores: Tensor | None  # CLAP similarity with the prompt, (prompts, candidates), falling
    latents: Tensor  # before ranking, (prompts * candidates, 8, frames, 16)
    calls: int  # UNet evaluations, counted a clip; guidance takes two a step
    scheduler: Any  # after its run


def make_scheduler(sampler: str, config: Mapping[str, Any], **options: Any) -> Any:
    """The scheduler of that name on a checkpoint's noise schedule; UserError if there is none.

    ``options`` override entries of ``config``, or are the scheduler's own.
    """
    if sampler not in SAMPLERS:
        raise UserError(f"there is no sampler '{sampler}': give one of {', '.join(SAMPLERS)}")
    module, name = SAMPLERS[sampler]
    kind = getattr(importlib.import_module(module), name)
    return kind.from_config(dict(config), **options)


def sample(
    networks: Networks,
    scheduler: Any,
    denoiser: Callable[[Tensor, Tensor], Tensor],
    latents: Tensor,
    steps: int,
    generator: torch.Generator | None = None,
    eta: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Run a scheduler of diffusers' interface from noise to latents.

    Args:
        denoiser: ``(x_t, t) -> output``.
        latents: standard normal noise, ``(batch, 8, frames, 16)``.
        generator: of the noise that the scheduler adds, if it adds any.
        eta: share of noise, 0 to 1; schedulers other than DDIM have none.
        progress: called with (steps done, steps in all) after each step.
    """
    scheduler.set_timesteps(steps, device=networks.device)
    accepted = inspect.signature(scheduler.step).parameters
    extra = {k: v for k, v in {"eta": eta, "generator": generator}.items() if k in accepted}
    latents = latents.to(networks.device) * scheduler.init_noise_sigma
    timesteps = scheduler.timesteps
    with torch.no_grad():
        for done, t in enumerate(timesteps, start=1):
            output = denoiser(scheduler.scale_model_input(latents, t), t)
            latents = scheduler.step(output, t, latents, **extra).prev_sample
            if progress is not None:
                progress(done, len(timesteps))
    return latents


def starting_noise(seeds: Sequence[int], frames: int) -> Tensor:
    """Standard normal latents ``(len(seeds), 8, frames, 16)``, each from a seed of its own."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.cat([torch.randn((1, 8, frames, 16), generator=one) for one in generators])


def generate(
    prompts: str | Sequence[str],
    checkpoint: Networks | Checkpoint | str | Path = "mini",
    sampler: str = "ddim",
    steps: int = 50,
    guidance: float = 3.5,
    seconds: float = 5.0,
    seed: int = 0,
    negative: str | Sequence[str] | None = None,
    candidates: int = 1,
    audio_prompt: Tensor | None = None,
    eta: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    synthesis: str = "auto",
    **sampler_options: Any,
) -> Generated:
    """Make sound from text, or from text and a sound.

    Equals ``pipe(prompts, ..., generator=torch.Generator().manual_seed(seed))`` of plain
    diffusers, whose scheduler is ``make_scheduler(sampler, pipe.scheduler.config)``, for
    lengths of whole frames (10 ms) up to one window (10.24 s), candidates in the same order.

    Args:
        prompts: one text or several; several are embedded together, as diffusers does.
        checkpoint: name, folder or hub id, of which each part is unloaded as soon as it is not
            needed, or a checkpoint or networks that are kept as they are.
        sampler: one of ``SAMPLERS``.
        guidance: classifier-free guidance; 1 is none.
        seed: of the noise, drawn on the CPU whatever the device is.
        negative: what to lead away from, one for all or one a prompt.
        candidates: made for each prompt and ranked by the checkpoint's own CLAP.
        audio_prompt: waveform ``(1 or prompts, samples)`` at 16 kHz, whose CLAP embedding
            takes the place of the text's.
        eta: share of noise in DDIM, 0 to 1.
        progress: called with (steps done, steps in all).
        device, dtype: where and in which precision a checkpoint given by name is loaded.
        synthesis: of a checkpoint that is no ``Networks`` yet, as there.
        sampler_options: of the scheduler, such as DDCM's ``codebook`` and ``size``.

    Raises:
        UserError: an argument out of range, or a checkpoint that cannot be used.
    """
    bounds.STEPS.check("steps", steps)
    bounds.FULL_GUIDANCE.check("guidance", guidance)
    bounds.SECONDS.check("seconds", seconds)
    bounds.CANDIDATES.check("candidates", candidates)
    bounds.SHARE.check("eta", eta)
    bounds.SEED.check("seed", seed)
    own = not isinstance(checkpoint, Networks | Checkpoint)
    if own:
        checkpoint = load(checkpoint, ("scheduler",), device, dtype)
    if not isinstance(networks := checkpoint, Networks):
        networks = Networks(checkpoint, synthesis=synthesis)
    scheduler = make_scheduler(sampler, networks.checkpoint.scheduler_config, **sampler_options)
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if audio_prompt is None:
        conditioning = networks.embed(texts, negative, together=True)
    else:
        conditioning = networks.embed_audio(audio_prompt, texts, negative)
    if own:
        networks.drop_text()
    # The tolerance keeps 0.29 s, which is 28.999... frames in floating point, at 29.
    frames = math.ceil(seconds * networks.mel_config.frame_rate - 1e-6)
    shape = (conditioning.batch * candidates, 8, math.ceil(frames / DOWNSAMPLING), 16)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator)
    denoiser = networks.denoiser(conditioning, guidance)
    latents = sample(networks, scheduler, denoiser, noise, steps, generator, eta, progress)
    if own:
        networks.checkpoint.unload("unet")
    rate = networks.mel_config.sample_rate
    audio = networks.synthesise(networks.decode(latents), align=False)[:, : round(seconds * rate)]
    audio, scores = audio.cpu().reshape(conditioning.batch, candidates, -1), None
    if candidates > 1:
        text = audio_prompt is None
        wanted = networks.clap_text(texts) if text else networks.clap_audio(audio_prompt)
        audio, scores = _ranked(networks, audio, wanted)
    return Generated(audio[:, 0], rate, audio, scores, latents, denoiser.calls, scheduler)


def _ranked(networks: Networks, audio: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates ``(prompts, candidates, samples)``, those nearest to CLAP's ``wanted`` first."""
    heard = networks.clap_audio(audio.flatten(0, 1)).reshape(*audio.shape[:2], -1)
    scores, order = torch.einsum("pd,pcd->pc", wanted.expand(len(heard), -1), heard).sort(
        dim=1, descending=True, stable=True
    )
    return audio.gather(1, order[:, :, None].expand_as(audio)), scores
