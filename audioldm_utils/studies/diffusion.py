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
from typing import Any

import pandas as pd
import torch

from audioldm_utils.audio.clips import Clip
from audioldm_utils.ddcm.placement import RateTooLowError
from audioldm_utils.methods.base import Job
from audioldm_utils.methods.cost import NETWORKS, Cost, measured
from audioldm_utils.methods.registry import find_method
from audioldm_utils.model.networks import Networks
from audioldm_utils.model.schedule import Schedule
from audioldm_utils.model.synthesis import SYNTHESES
from audioldm_utils.results.summaries import differences
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies.rows import Row, beginning, sound
from audioldm_utils.studies.verdicts import (
    NOT_COMPARED,
    REFUTED,
    UNDECIDED,
    UPHELD,
    at_stages,
    claim,
    counted,
    interval_of,
    listed,
    of,
    together,
    told,
    where,
    words,
)

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
    half, runs = calls // 2, [Run("vae")]
    for strength in strengths:
        stage, common = f"strength {strength:g}", {"strength": strength, "prompt": "none"}
        runs.append(Run("sdedit", stage, {"steps": calls, **common}))
        runs.append(Run("guided", stage, {"steps": half, **common}))
    centre = middle(strengths)
    common = {"strength": centre, "prompt": "none"}
    runs.append(Run("guided", "caption", {**common, "steps": half, "prompt": "caption"}))
    longer = f"strength {centre:g}{EQUAL_SECONDS}"
    runs.append(Run("sdedit", longer, {**common, "steps": more_calls}))
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
        row.heard(job.waveform, output.waveform)
        decoded = networks.decode(output.latents)
        row.add("mel_error", float((decoded - job.mel).abs().mean()), "nat")
        row.add("epsilon_error", epsilon_error(networks, output.latents, probes, seed), "1")
        heard = networks.clap_audio(torch.from_numpy(output.waveform)[None])[0]
        row.add("clap_audio", float(heard @ original), "1")
        if caption is not None:
            row.add("clap_text", float(heard @ caption), "1")
        _add_cost(row, cost, clip.seconds)
    for synthesis in SYNTHESES:
        made = sound(networks, networks.decode(job.latents), synthesis, seed)[0].cpu().numpy()
        row = Row(rows, clip, f"vae-{synthesis.replace('-', '')}")
        row.heard(job.waveform, made[: len(job.waveform)])


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

    Answering 0 would give 1.

    Args:
        latents: ``(1, 8, frames, 16)``, scaled.
        probes: timesteps of the training schedule; the mean over them is taken.
        seed: of the noise, the same for every method.
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


def beside_vae(table: pd.DataFrame, runs: Sequence[Run], metric: str) -> pd.DataFrame:
    """Paired differences of each run to the VAE alone, by names such as «DDCM at 2 kbit/s».

    Of those at the same number of calls and without a prompt.
    """
    asked = {
        f"{NAMES[run.method]} at {run.stage}": (of(run.method, run.stage), of("vae"))
        for run in runs
        if run.method != "vae" and run.stage != "caption" and EQUAL_SECONDS not in run.stage
    }
    return differences(table, asked, metric)


def claims(table: pd.DataFrame, runs: Sequence[Run], strengths: Sequence[float]) -> dict[str, str]:
    """The chapter's claims, each with its word, and ``where_2`` to ``where_4``.

    ``claim_1``: at equal calls no run has a smaller mel error than the VAE alone. ``claim_2``:
    SDEdit's results are more plausible to the denoiser at every strength. ``claim_3``: they are
    nearer to the caption by CLAP. ``claim_4``: guidance has a smaller mel error than SDEdit at
    every strength. ``where_N`` are the strengths at which the claim got its word, and others.
    """
    near = beside_vae(table, runs, "mel_error")
    sides = at_stages("guided", "sdedit", [f"strength {strength:g}" for strength in strengths])
    parts = {
        2: (beside_vae(table, runs, "epsilon_error"), False),
        3: (beside_vae(table, runs, "clap_text"), True),
        4: (differences(table, sides, "mel_error"), False),
    }
    found = {"claim_1": together(words(near, above=True))}
    for number, (part, up) in parts.items():
        part = part[part.index.str.startswith(("SDEdit", "strength"))]
        names = [str(name).split()[-1] for name in part.index]
        said = dict(zip(names, words(part, above=up), strict=True))
        found[f"claim_{number}"] = together(list(said.values()))
        found[f"where_{number}"] = where(said, "at strength {}") or NOT_COMPARED
    return found


#: How the first claim begins a sentence.
NO_BETTER = {
    UPHELD: "By mel error no diffusion method brings a clip back better than the VAE alone",
    UNDECIDED: "By mel error it is undecided whether any diffusion method is better than the VAE",
    REFUTED: "By mel error a diffusion method brings a clip back better than the VAE alone",
}


def answer(table: pd.DataFrame, runs: Sequence[Run], calls: int, source: str) -> str:
    """The chapter's answer: the nearest run beside the VAE, and what the methods aim at."""
    near = beside_vae(table, runs, "mel_error")
    if near.empty:
        return "No diffusion method was measured on these clips."
    best = near.loc[near["difference"].idxmin()]
    begins = NO_BETTER[together(words(near, above=True))]
    return (
        f"{begins}, whose own latents guidance and DDCM aim at. The nearest, {best.name} and "
        f"{calls} network calls, changes the VAE's {best['second']:.3f} nat by "
        f"{told(interval_of(best), '+.3f')} nat ({counted(best['n'], source)})."
    )


#: How a measure goes, by the word for «it rises».
_GOES = {UPHELD: "rises", UNDECIDED: "is not shown to change", REFUTED: "falls"}


def invented(table: pd.DataFrame, strength: float) -> str:
    """What SDEdit puts in the clip's place at a strength, beside the VAE alone, in a sentence."""
    parts = []
    asked = {"": (of("sdedit", f"strength {strength:g}"), of("vae"))}
    names = {
        "chroma_correlation": "chroma correlation",
        "clap_audio": "CLAP's cosine with the clip",
    }
    for metric, name in names.items():
        for _, row in differences(table, asked, metric).iterrows():
            goes = _GOES[claim(interval_of(row))]
            parts.append(
                f"{name} {goes}, from {row['first'] - row['difference']:.2f} to {row['first']:.2f} "
                f"(change {told(interval_of(row), '+.2f')}, n = {row['n']:.0f})"
            )
    if not parts:
        return "What SDEdit puts in its place was not measured on these clips."
    return f"From the VAE alone to SDEdit at strength {strength:g}, {listed(parts)}."


def longer(table: pd.DataFrame, runs: Sequence[Run], calls: int, more_calls: int) -> str:
    """What more calls change in the mel error of those without backward ones, in a sentence."""
    parts = []
    for run in runs:
        if EQUAL_SECONDS in run.stage:
            short = run.stage.removesuffix(EQUAL_SECONDS)
            asked = {"": (of(run.method, run.stage), of(run.method, short))}
            parts += [
                f"{NAMES[run.method]}'s at {short} by {told(interval_of(row), '+.3f')} nat"
                for _, row in differences(table, asked, "mel_error").iterrows()
            ]
    if not parts:
        return "More calls were not measured on these clips."
    return f"{more_calls} calls in place of {calls} change the mel error: {listed(parts)}."


def advice(found: dict[str, str]) -> str:
    """What to do, from :func:`claims`."""
    if found["claim_1"] == REFUTED:
        return "Try the diffusion method that is nearest, at its cost in network calls."
    nearer = "; guidance keeps it nearer to the clip" * (found["claim_4"] == UPHELD)
    return f"To bring a clip back, use the VAE alone. To vary it, use SDEdit{nearer}."


#: Methods as sentences call them.
NAMES = {"sdedit": "SDEdit", "guided": "guidance", "ddcm": "DDCM"}


def plane(summary: pd.DataFrame, x: str, y: str, methods: Sequence[str]) -> pd.DataFrame:
    """Two metrics of a summary side by side, for ``plotting.trade_off``.

    Columns ``method`` (in this order), ``stage`` (in theirs), and ``x``, ``x_low``, ``x_high``,
    the same for ``y``; points that lack one of the metrics are left out.
    """
    sides = []
    for name, metric in (("x", x), ("y", y)):
        side = summary.loc[summary["metric"] == metric, ["method", "stage", "mean", "low", "high"]]
        sides.append(
            side.set_axis([*side.columns[:2], name, f"{name}_low", f"{name}_high"], axis=1)
        )
    both = pd.merge(*sides, on=["method", "stage"]).sort_values("stage", kind="stable")
    both = both[both["method"].isin(list(methods))]
    place = list(methods).index
    return both.sort_values("method", key=lambda m: m.map(place), kind="stable", ignore_index=True)
