"""Study ``02_repair``: each repair of the VAE on one clip, what it gains and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.clips import Clip
from audioldm_utils.methods import repair
from audioldm_utils.methods.base import Job, Output
from audioldm_utils.methods.cost import measured
from audioldm_utils.methods.enhance import bandwidth
from audioldm_utils.methods.registry import find_method
from audioldm_utils.studies import artefacts
from audioldm_utils.studies.bottleneck import add_mel_errors, add_scores

if TYPE_CHECKING:
    from audioldm_utils.model.networks import Stages
    from audioldm_utils.results.tables import ResultsBuilder

#: Only the beginning of each clip is repaired: refinement is dear without an accelerator.
SECONDS = 2.56
#: Gradient steps of refinement, and those at which its curve is kept.
STEPS = 50
SHOWN_STEPS = (0, 1, 2, 5, 10, 20, 30, 40, 50)
#: Judged at 16 kHz, where all methods can be compared.
MODEL_BAND = (
    "log_mel_distance",
    "multi_resolution_stft",
    "visqol",
    "log_spectral_distance",
    "band_energy_bias",
    "band_energy_error",
    "hf_retention",
)
#: Judged at the clip's own rate.
FULL_BAND = ("log_spectral_distance@8-16 kHz", "multi_resolution_stft")
FULL = "full band"
#: Stages of ``vae-highfreq``, in the order in which one adds to the other.
FITTED, BLIND, SIDE = "fitted table", "blind", "side information"

#: What an ablation shows, by name: method and stage.
STUDIED = {
    "highfreq, fitted table": ("vae-highfreq", FITTED),
    "highfreq, blind": ("vae-highfreq", BLIND),
    "highfreq, side information": ("vae-highfreq", SIDE),
    "vae-denoise": ("vae-denoise", ""),
    "vae-refined": ("vae-refined", ""),
    "vae-restored": ("vae-restored", ""),
}

_VARIANTS: dict[tuple[str, str], Callable[[Job], Output]] = {
    ("vae", ""): repair.vae,
    ("vae-highfreq", FITTED): lambda job: repair.vae_highfreq(
        job, blind="fitted", side_kbps=0.0, extend=False
    ),
    ("vae-highfreq", BLIND): lambda job: repair.vae_highfreq(job, side_kbps=0.0, extend=False),
    ("vae-highfreq", SIDE): lambda job: repair.vae_highfreq(job, extend=False),
    ("vae-denoise", ""): repair.vae_denoise,
    ("vae-refined", ""): lambda job: repair.vae_refined(job, steps=STEPS),
    ("vae-restored", ""): lambda job: repair.vae_restored(job, steps=STEPS, extend=False),
}


def beginning(clip: Clip, seconds: float) -> Clip:
    """The clip's first seconds."""
    return replace(clip, samples=clip.samples[: round(seconds * clip.sample_rate)])


def all_repairs(clip: Clip, stages: Stages, seed: int = 0) -> dict[str, tuple[np.ndarray, int]]:
    """The plain VAE and each repair of one clip with its defaults, for listening.

    Returns:
        Method to waveform ``(samples,)`` at the clip's own level, and sample rate. The latents
        are refined once for all.
    """
    job = Job(clip, stages, seed)
    found = {}
    for name in ("vae", "vae-highfreq", "vae-denoise", "vae-refined", "vae-restored"):
        output = find_method(name).load()(job)
        found[name] = np.asarray(job.gain.undo(output.waveform), np.float32), output.sample_rate
    return found


def study(clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """Every repair alone and all together, at 16 kHz and at the clip's own rate."""
    clip = beginning(clip, SECONDS)
    job = Job(clip, stages, seed)
    if not job.waveform.any():
        return

    def add(method: str, stage: str, metric: str, value: float, unit: str) -> None:
        if not np.isnan(value):
            rows.add(
                clip.name, metric, value, unit, category=clip.category, method=method, stage=stage
            )

    with measured(stages.checkpoint, ("vae",)) as encoding:
        _ = job.latents
    made: dict[tuple[str, str], Output] = {}
    refinement = (0.0, 0, 0)
    for (method, stage), run in _VARIANTS.items():
        with measured(stages.checkpoint, ("vae", "vocoder")) as cost:
            output = run(job)
        made[method, stage] = output
        # ViSQOL takes longer than the repairs without gradient steps: final stages only.
        names = [name for name in MODEL_BAND if name != "visqol" or stage not in (FITTED, BLIND)]
        add_scores(rows, clip, method, job.waveform, output.waveform, MODEL_RATE, stage, names)
        if len(job.waveform) >= MODEL_RATE / 2:  # shorter ones have no warble to measure
            for name, value in artefacts.measure(job.waveform, output.waveform, MODEL_RATE).items():
                unit = artefacts.MEASURES[name][1]
                add(method, stage, name, value, "1" if unit == "lines" else unit)
        add(method, stage, "side_rate", output.side_bits / clip.seconds / 1000, "kbit/s")
        seconds, forward = cost.seconds, cost.forward["vae_decoder"]
        backward = cost.backward["vae_decoder"]
        if method == "vae-refined":
            refinement = seconds, forward, backward
        elif method == "vae-restored":
            # The latents are refined once and shared; this clip is charged for it too.
            seconds, forward, backward = (
                own + shared
                for own, shared in zip((seconds, forward, backward), refinement, strict=True)
            )
        seconds += encoding.seconds
        add(method, stage, "seconds", seconds, "s")
        add(method, stage, "seconds_per_second", seconds / clip.seconds, "s")
        add(method, stage, "decoder_forward", forward, "calls")
        add(method, stage, "decoder_backward", backward, "calls")
    _add_refinement(rows, job, made["vae-refined", ""])
    for part, kept in made["vae-restored", ""].details["parts"].items():
        add("vae-restored", part, "kept", float(kept), "1")
    if clip.sample_rate > MODEL_RATE:
        _add_full_band(rows, job, made)


def _add_refinement(rows: ResultsBuilder, job: Job, output: Output) -> None:
    """Error of the decoded mel before and after, by band, and the curve over the steps."""
    frames = len(job.waveform) // job.stages.mel_config.hop_length
    true = job.mel[0, :frames].cpu().numpy()
    for method, latents in (("vae", job.latents), ("vae-refined", output.latents)):
        mel = job.stages.decode(latents)[0, :frames].cpu().numpy()
        add_mel_errors(rows, job.clip, method, "mel", true, mel)
    for step in SHOWN_STEPS:
        rows.add(
            job.clip.name, "mel_distance", output.details["mel_distance_by_step"][step], "nat",
            category=job.clip.category, method="vae-refined", stage=f"step {step}",
        )  # fmt: skip


def _add_full_band(rows: ResultsBuilder, job: Job, made: dict[tuple[str, str], Output]) -> None:
    """The band above 8 kHz: extended, filled with plain noise, or the original's (oracle)."""
    clip, rate = job.clip, job.clip.sample_rate
    samples = len(clip.samples)
    low = made["vae-highfreq", SIDE]
    extension = bandwidth.encode_extension(job.original, low.waveform, rate, 1.0, job.seed)
    restored = made["vae-restored", ""]
    takes = {
        "vae": bandwidth.upsample(made["vae", ""].waveform, rate, samples),
        "vae-highfreq": bandwidth.decode_extension(extension, low.waveform, job.seed),
        "envelope-noise": bandwidth.decode_extension(extension, low.waveform, job.seed, "noise"),
        "crossover (oracle)": bandwidth.oracle_crossover(job.original, low.waveform, rate),
        "vae-restored": repair.extended(job, restored, 1.0).waveform,
    }
    for method, waveform in takes.items():
        add_scores(rows, clip, method, job.original, waveform, rate, FULL, FULL_BAND)
    rows.add(
        clip.name, "side_rate", extension.bits / clip.seconds / 1000, "kbit/s",
        category=clip.category, method="vae-highfreq", stage=FULL,
    )  # fmt: skip
    rows.add(
        clip.name, "energy_above_8_khz", share_above(job.original, rate), "%",
        category=clip.category, method="original",
    )  # fmt: skip


def share_above(waveform: np.ndarray, sample_rate: int, frequency: float = 8000.0) -> float:
    """Energy above a frequency, per cent of all, of a waveform ``(samples,)``."""
    power = np.square(np.abs(np.fft.rfft(np.asarray(waveform, np.float64))))
    above = np.fft.rfftfreq(len(waveform), 1 / sample_rate) >= frequency
    return float(100 * power[above].sum() / max(power.sum(), 1e-30))
