"""The DDCM library as reconstruction methods: ``ddcm`` and ``ddcm-quantised``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch

from audioldm_utils import bounds
from audioldm_utils.ddcm.codebook.fitted import load_quantiser
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.methods.base import Job, Output


def ddcm(
    job: Job,
    *,
    kbps: Annotated[float, bounds.KBPS] = 0.5,
    steps: Annotated[int, bounds.STEPS] = 50,
    codebook: str = "cyclic",
    prompt: str = "none",
    guidance: Annotated[float, bounds.GUIDANCE] = 1.0,
) -> Output:
    """Diffusion whose noise is chosen from codebooks so that it ends at the input's latents.

    Args:
        kbps: most kilobits a second, every bit of the file counted.
        steps: most UNet calls.
        codebook: ``cyclic``, ``gaussian``, ``turbo``, ``matching-pursuit`` or ``k-means``.
        prompt: ``none``, ``caption`` (the clip's, where it has one), or a text; it is
            part of the file and of its bits.
        guidance: scale of classifier-free guidance; 1 is none.
    """
    text = job.text(prompt) or None
    guidance = guidance if text else 1.0
    chosen = {"codebook": codebook, "prompt": text, "guidance": guidance, "seed": job.seed}
    return _code(job, Settings(kbps=kbps, steps=steps, **chosen))


def ddcm_quantised(
    job: Job,
    *,
    kbps: Annotated[float, bounds.KBPS] = 0.5,
    steps: Annotated[int, bounds.STEPS] = 50,
    codebook: str = "cyclic",
    quantiser: str = "vq",
    temperature: Annotated[float, bounds.SOFTNESS] = 0.0,
) -> Output:
    """The input's latent vectors replaced by a fitted codebook's, then DDCM towards those.

    Args:
        kbps: most kilobits a second of DDCM, every bit of the file counted.
        steps: most UNet calls.
        codebook: as in ``ddcm``.
        quantiser: name of the vector quantiser that ``audioldm-utils fit`` stored.
        temperature: 0 takes the nearest vector; above, an average weighted by
            exp(-distance^2 / temperature), in squared latent units.
    """
    checkpoint = job.networks.checkpoint
    vectors = load_quantiser(checkpoint.path, checkpoint.fingerprint, quantiser)

    def prepare(latents: torch.Tensor) -> torch.Tensor:
        return vectors.soft(latents, temperature).to(latents)

    settings = Settings(kbps=kbps, steps=steps, codebook=codebook, seed=job.seed)
    return _code(job, settings, prepare)


def _code(
    job: Job, settings: Settings, prepare: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> Output:
    encoded = Codec(job.networks).encode(
        # The file holds the level; the codec takes it off and finds the same.
        job.gain.undo(job.waveform),
        settings,
        original=(len(job.clip.samples), job.clip.sample_rate),
        callback=lambda step: job.step(step.index + 1, settings.steps),
        prepare=prepare,
    )
    latents = encoded.codes.latents
    details = {
        "file_kbps": encoded.sizes.kbps,
        "payload_kbps": encoded.sizes.payload_kbps,
        "steps": encoded.header.steps,
        "latent_distance": float((latents - encoded.latents).square().mean().sqrt()),
    }
    return job.finish(latents, side_bits=8 * encoded.sizes.file, details=details)
