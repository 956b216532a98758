"""Study ``03_diffusion``: the VAE against diffusion at equal network calls and equal seconds.

Fidelity asks how near the result is to the clip; plausibility, how readily the model takes it
for a sound of its own kind, whether or not it is this one:

* ``epsilon_error``: noise of two levels is added to the result's latents; the denoiser's mean
  squared error in finding it, per value. 1 is no idea; lower is more plausible. It is the
  model's own training loss, so methods that the model leads are favoured by it.
* ``clap_text``: cosine of the checkpoint's CLAP between the audio and the clip's caption;
  higher is better. ``clap_audio``: the same between the audio and the clip itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.clips import Clip
from audioldm_utils.ddcm.codebook.planning import RateTooLowError
from audioldm_utils.methods.base import Job, Output
from audioldm_utils.methods.cost import NETWORKS, Cost, measured
from audioldm_utils.methods.registry import find_method
from audioldm_utils.model.schedule import training_alphas_bar
from audioldm_utils.studies.bottleneck import add_scores
from audioldm_utils.studies.repair import beginning

if TYPE_CHECKING:
    from audioldm_utils.model.networks import Stages
    from audioldm_utils.results.tables import ResultsBuilder

#: Only the beginning of each clip, so that the study runs on many without an accelerator.
SECONDS = 2.56
#: UNet calls that every method gets, backward ones counted.
CALLS = 10
#: A backward call takes about as long as two forward ones: in the time of ``CALLS``, half of
#: them backward, others make this many forward ones.
CALLS_OF_EQUAL_SECONDS = 15
STRENGTHS = (0.2, 0.4, 0.7)
#: The strength of the comparison at equal seconds.
MIDDLE = 0.4
RATES = (0.5, 2.0)
#: Timesteps of the training schedule at which plausibility is asked for.
PROBES = (200, 500)
EQUAL_SECONDS = ", equal seconds"
_FIDELITY = ("log_mel_distance", "multi_resolution_stft", "visqol")


@dataclass(frozen=True)
class Run:
    """One method at one operating point."""

    method: str
    stage: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def _runs() -> list[Run]:
    half, more = CALLS // 2, CALLS_OF_EQUAL_SECONDS
    # Strength 0 is the check that nothing but the diffusion differs from the VAE.
    runs = [Run("vae"), Run("sdedit", "strength 0", {"strength": 0.0, "prompt": "none"})]
    for strength in STRENGTHS:
        stage, common = f"strength {strength:g}", {"strength": strength, "prompt": "none"}
        runs.append(Run("sdedit", stage, {"steps": CALLS, **common}))
        runs.append(Run("guided", stage, {"steps": half, **common}))
    middle = {"strength": MIDDLE, "prompt": "none"}
    runs.append(Run("guided", "caption", {**middle, "steps": half, "prompt": "caption"}))
    runs.append(Run("sdedit", f"strength {MIDDLE:g}{EQUAL_SECONDS}", {**middle, "steps": more}))
    runs.append(Run("ddpm-inversion", "", {"steps": half, "prompt": "none"}))
    for rate in RATES:
        runs.append(Run("ddcm", f"{rate:g} kbit/s", {"kbps": rate, "steps": CALLS}))
    last = RATES[-1]
    runs.append(Run("ddcm", f"{last:g} kbit/s{EQUAL_SECONDS}", {"kbps": last, "steps": more}))
    return runs


#: What is run, in order.
RUNS = _runs()


def options_of(method: str, stage: str) -> dict[str, Any]:
    """The options with which a method was run at a stage."""
    return next(run.options for run in RUNS if (run.method, run.stage) == (method, stage))


def run_one(job: Job, run: Run) -> tuple[Output, Cost] | None:
    """The run's output and cost; None where the clip is too short for its rate."""
    method = find_method(run.method)
    try:
        with measured(job.stages.checkpoint, method.needs) as cost:
            return method.load()(job, **run.options), cost
    except RateTooLowError:
        return None


def study(clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """Fidelity, plausibility and cost of every run."""
    clip = beginning(clip, SECONDS)
    job = Job(clip, stages, seed)
    if not job.waveform.any():
        return
    # Encoded before the clock runs, since every method needs it; prompts likewise.
    _ = job.latents
    stages.denoiser()
    caption = stages.clap_text([clip.caption])[0] if clip.caption else None
    original = stages.clap_audio(torch.from_numpy(job.waveform)[None])[0]

    def add(run: Run, metric: str, value: float, unit: str) -> None:
        rows.add(
            clip.name, metric, value, unit,
            category=clip.category, method=run.method, stage=run.stage,
        )  # fmt: skip

    if caption is not None:
        add(Run("original"), "clap_text", float(original @ caption), "1")
    for run in RUNS:
        found = run_one(job, run)
        if found is None:
            continue
        output, cost = found
        add_scores(
            rows, clip, run.method, job.waveform, output.waveform, MODEL_RATE, run.stage, _FIDELITY
        )
        decoded = stages.decode(output.latents)
        add(run, "mel_error", float((decoded - job.mel).abs().mean()), "nat")
        drift = float((output.latents - job.latents).abs().max())
        add(run, "largest_latent_difference", drift, "1")
        add(run, "epsilon_error", epsilon_error(stages, output.latents, seed), "1")
        heard = stages.clap_audio(torch.from_numpy(output.waveform)[None])[0]
        add(run, "clap_audio", float(heard @ original), "1")
        if caption is not None:
            add(run, "clap_text", float(heard @ caption), "1")
        add(run, "unet_calls", cost.unet_calls, "calls")
        add(run, "unet_backward", cost.backward["unet"], "calls")
        others = sum(cost.forward[n] + cost.backward[n] for n in NETWORKS if n != "unet")
        add(run, "other_calls", others, "calls")
        add(run, "seconds", cost.seconds, "s")
        add(run, "seconds_per_second", cost.seconds / clip.seconds, "s")
        if not math.isnan(cost.memory_growth):
            add(run, "memory_growth", max(cost.memory_growth, 0.0), "MB")


@torch.no_grad()
def epsilon_error(stages: Stages, latents: torch.Tensor, seed: int = 0) -> float:
    """Mean squared error of the denoiser in the noise added to latents, per value.

    Args:
        stages: whose denoiser is asked, without a prompt.
        latents: ``(1, 8, frames, 16)``, scaled.
        seed: of the noise, the same for every method.

    Returns:
        Mean over :data:`PROBES`; 1 is what answering 0 would give. For epsilon-predicting
        checkpoints, as all published ones are.
    """
    denoise = stages.denoiser()
    abar = training_alphas_bar(stages.checkpoint.scheduler_config)
    generator = torch.Generator().manual_seed(seed)
    errors = []
    for t in PROBES:
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        share = float(abar[t])
        noisy = math.sqrt(share) * latents + math.sqrt(1 - share) * noise
        errors.append(float((denoise(noisy, t) - noise).square().mean()))
    return sum(errors) / len(errors)
