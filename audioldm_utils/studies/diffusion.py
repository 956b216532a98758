"""Study ``03_diffusion``: the VAE against diffusion at equal network calls and equal seconds.

Fidelity asks how near the result is to the clip; plausibility, how readily the model takes it for
a sound of its own kind: by ``epsilon_error`` (the model's own training loss, so methods that the
model leads are favoured by it), and by the cosine of the checkpoint's CLAP with the clip's caption
(``clap_text``) and with the clip itself (``clap_audio``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from audioldm_utils.audio.clips import Clip
from audioldm_utils.ddcm.placement import RateTooLowError
from audioldm_utils.methods.base import Job
from audioldm_utils.methods.cost import NETWORKS, Cost, measured
from audioldm_utils.methods.registry import find_method
from audioldm_utils.model.schedule import Schedule
from audioldm_utils.studies.rows import Row, beginning
from audioldm_utils.studies.verdicts import Verdict, difference, judge, worst

if TYPE_CHECKING:
    import pandas as pd

    from audioldm_utils.model.networks import Networks
    from audioldm_utils.results.tables import ResultsBuilder

EQUAL_SECONDS = ", equal seconds"


@dataclass(frozen=True)
class Run:
    """One method at one operating point."""

    method: str
    stage: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def middle(values: Sequence[float]) -> float:
    """The strength of the comparison at equal seconds: the middle one, or the lower of two."""
    return sorted(values)[(len(values) - 1) // 2]


def runs_of(
    calls: int, more_calls: int, strengths: Sequence[float], rates: Sequence[float]
) -> list[Run]:
    """What is run, in order.

    Args:
        calls: UNet calls that every method gets, backward ones counted.
        more_calls: what others get in the time of ``calls`` of which half are backward.
        strengths: of SDEdit and guidance.
        rates: of DDCM, kbit/s; the last one is compared at equal seconds.
    """
    half = calls // 2
    # Strength 0 is the check that nothing but the diffusion differs from the VAE.
    runs = [Run("vae"), Run("sdedit", "strength 0", {"strength": 0.0, "prompt": "none"})]
    for strength in strengths:
        stage, common = f"strength {strength:g}", {"strength": strength, "prompt": "none"}
        runs.append(Run("sdedit", stage, {"steps": calls, **common}))
        runs.append(Run("guided", stage, {"steps": half, **common}))
    centre = middle(strengths)
    common = {"strength": centre, "prompt": "none"}
    runs.append(Run("guided", "caption", {**common, "steps": half, "prompt": "caption"}))
    longer = f"strength {centre:g}{EQUAL_SECONDS}"
    runs.append(Run("sdedit", longer, {**common, "steps": more_calls}))
    runs.append(Run("ddpm-inversion", "", {"steps": half, "prompt": "none"}))
    for rate in rates:
        runs.append(Run("ddcm", f"{rate:g} kbit/s", {"kbps": rate, "steps": calls}))
    longer = f"{rates[-1]:g} kbit/s{EQUAL_SECONDS}"
    runs.append(Run("ddcm", longer, {"kbps": rates[-1], "steps": more_calls}))
    return runs


def measure_diffusion(
    clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int, seconds: float, calls: int,
    more_calls: int, strengths: Sequence[float], rates: Sequence[float], probes: Sequence[int],
) -> None:  # fmt: skip
    """Fidelity, plausibility and cost of every run (:func:`runs_of`) on a clip's beginning.

    Args:
        seconds: of the beginning.
        probes: timesteps at which plausibility is asked for (:func:`epsilon_error`).
    """
    clip = beginning(clip, seconds)
    job = Job(clip, networks, seed)
    if not job.waveform.any():
        return
    # Encoded before the clock runs, since every method needs it; prompts likewise.
    _ = job.latents
    networks.denoiser()
    caption = networks.clap_text([clip.caption])[0] if clip.caption else None
    original = networks.clap_audio(torch.from_numpy(job.waveform)[None])[0]
    if caption is not None:
        Row(rows, clip, "original").add("clap_text", float(original @ caption), "1")
    for run in runs_of(calls, more_calls, strengths, rates):
        method = find_method(run.method)
        try:
            with measured(networks.checkpoint, method.needs) as cost:
                output = method.load()(job, **run.options)
        except RateTooLowError:
            continue  # the clip is too short for this rate
        row = Row(rows, clip, run.method, run.stage)
        row.scores(job.waveform, output.waveform)
        decoded = networks.decode(output.latents)
        row.add("mel_error", float((decoded - job.mel).abs().mean()), "nat")
        drift = float((output.latents - job.latents).abs().max())
        row.add("largest_latent_difference", drift, "1")
        row.add("epsilon_error", epsilon_error(networks, output.latents, probes, seed), "1")
        heard = networks.clap_audio(torch.from_numpy(output.waveform)[None])[0]
        row.add("clap_audio", float(heard @ original), "1")
        if caption is not None:
            row.add("clap_text", float(heard @ caption), "1")
        _add_cost(row, cost, clip.seconds)


def _add_cost(row: Row, cost: Cost, seconds: float) -> None:
    row.add("unet_calls", cost.unet_calls, "calls")
    row.add("unet_backward", cost.backward["unet"], "calls")
    others = sum(cost.forward[n] + cost.backward[n] for n in NETWORKS if n != "unet")
    row.add("other_calls", others, "calls")
    row.add("seconds", cost.seconds, "s")
    row.add("seconds_per_second", cost.seconds / seconds, "s")
    if not math.isnan(cost.memory_growth):
        row.add("memory_growth", max(cost.memory_growth, 0.0), "MB")


@torch.no_grad()
def epsilon_error(
    networks: Networks, latents: torch.Tensor, probes: Sequence[int], seed: int = 0
) -> float:
    """Mean squared error of the denoiser in the noise added to latents, per value.

    Args:
        latents: ``(1, 8, frames, 16)``, scaled.
        probes: timesteps of the training schedule; the mean over them is taken.
        seed: of the noise, the same for every method.

    Returns:
        1 is what answering 0 would give.
    """
    denoise = networks.denoiser()
    generator = torch.Generator().manual_seed(seed)
    errors = []
    for t in probes:
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        schedule = Schedule.from_config(networks.checkpoint.scheduler_config, placement=[t])
        share = schedule.alphas_bar[0]
        noisy = math.sqrt(share) * latents + math.sqrt(1 - share) * noise
        found = schedule.predict_noise(0, noisy, denoise(noisy, t))
        errors.append(float((found - noise).square().mean()))
    return sum(errors) / len(errors)


def diffusion_verdicts(table: pd.DataFrame, strengths: Sequence[float]) -> list[Verdict]:
    """The bounds of «VAE against diffusion», from the study's table."""
    drift = "largest_latent_difference"
    replayed = worst(table, {"method": "ddpm-inversion", "stage": ""}, drift)
    unmoved = worst(table, {"method": "sdedit", "stage": "strength 0"}, drift)
    asked = "DDPM inversion, replayed, returns the latents to 1e-4"
    out = judge("inversion", asked, replayed, 1e-4, False, "")
    asked = "SDEdit at strength 0 returns the VAE's latents"
    out += judge("strength_0", asked, unmoved, 0.0, False, "")
    for strength in strengths:
        sides = [{"method": m, "stage": f"strength {strength:g}"} for m in ("guided", "sdedit")]
        found = difference(table, *sides, "log_mel_distance")
        asked = f"guided nearer than SDEdit at strength {strength:g}, equal calls"
        out += judge(f"guided_{strength:g}", asked, found, 0, False, "dB")
    return out


def plane(summary: pd.DataFrame, x: str, y: str, methods: Sequence[str]) -> pd.DataFrame:
    """Two metrics of a summary side by side, for ``plotting.trade_off``.

    Args:
        summary: by method, stage and metric; points that lack one of the metrics are left out.
        methods: in this order; a method's points are in the order of their stages.

    Returns:
        Columns ``method``, ``stage``, and ``x``, ``x_low``, ``x_high``, the same for ``y``.
    """
    import pandas as pd

    sides = []
    for name, metric in (("x", x), ("y", y)):
        side = summary.loc[summary["metric"] == metric, ["method", "stage", "mean", "low", "high"]]
        sides.append(
            side.set_axis(["method", "stage", name, f"{name}_low", f"{name}_high"], axis=1)
        )
    both = pd.merge(*sides, on=["method", "stage"])
    both = both[both["method"].isin(list(methods))]
    place = both["method"].map({method: number for number, method in enumerate(methods)})
    both = both.assign(place=place).sort_values(["place", "stage"], kind="stable")
    return both.drop(columns="place").reset_index(drop=True)
