"""Study ``02_repair``: each repair of the VAE on one clip, what it gains, costs and keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.clips import Clip
from audioldm_utils.methods import repair
from audioldm_utils.methods.base import Job, Output
from audioldm_utils.methods.cost import Cost, measured
from audioldm_utils.methods.enhance import bandwidth
from audioldm_utils.methods.registry import find_method
from audioldm_utils.metrics import REGISTRY
from audioldm_utils.metrics.pitch import pitch_names
from audioldm_utils.metrics.statistics import Interval
from audioldm_utils.model.networks import Networks
from audioldm_utils.results.summaries import pairs
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import artefacts
from audioldm_utils.studies.rows import HEARD, Bench, Row, beginning, sound
from audioldm_utils.studies.verdicts import (
    REFUTED,
    UNDECIDED,
    UPHELD,
    Verdict,
    Worst,
    claim,
    compared,
    difference,
    judge,
    of,
    reduction,
    together,
)

#: Judged at 16 kHz, where all methods can be compared.
MODEL_BAND = (
    *HEARD, "log_spectral_distance", "band_energy_bias", "band_energy_error", "hf_retention",
)  # fmt: skip
#: Judged at the clip's own rate.
FULL_BAND = ("log_spectral_distance@8-16 kHz", "multi_resolution_stft")
FULL = "full band"
#: Stages of ``vae-highfreq``, in the order in which one adds to the other.
FITTED, BLIND, SIDE = "fitted table", "blind", "side information"
#: The plain alternatives to every repair: the VAE's mel, and what makes sound of it.
PLAIN = {"vae-vocoder": "vocoder", "vae-griffinlim": "griffin-lim", "vae-inverse": "inverse"}
#: What an ablation shows, by name: method and stage.
STUDIED = {
    **{name: (name, "") for name in PLAIN},
    **{f"highfreq, {stage}": ("vae-highfreq", stage) for stage in (FITTED, BLIND, SIDE)},
    **{name: (name, "") for name in ("vae-denoise", "vae-refined", "vae-restored")},
}
#: What sentences compare a method of these with, by their names in `STUDIED`.
BESIDE = {
    "vae-inverse": "vae-vocoder",
    "vae-griffinlim": "vae-inverse",
    **dict.fromkeys((f"highfreq, {BLIND}", f"highfreq, {SIDE}", "vae-refined"), "vae"),
    "vae-restored": "vae",
}
HIGH, ABOVE = "4-8 kHz", "8-16 kHz"
#: Clips with less of their energy above 8 kHz have no such band to lose, per cent.
LEAST_ABOVE = 0.1


def _variants(steps: int) -> dict[tuple[str, str], Callable[[Job], Output]]:
    """Method and stage to its run, with so many gradient steps of refinement."""
    high = repair.vae_highfreq
    return {
        ("vae", ""): repair.vae,
        **{(name, ""): partial(_plain, synthesis=way) for name, way in PLAIN.items()},
        ("vae-highfreq", FITTED): lambda job: high(
            job, blind="fitted", side_kbps=0.0, extend=False
        ),
        ("vae-highfreq", BLIND): lambda job: high(job, side_kbps=0.0, extend=False),
        ("vae-highfreq", SIDE): lambda job: high(job, extend=False),
        ("vae-denoise", ""): repair.vae_denoise,
        ("vae-refined", ""): lambda job: repair.vae_refined(job, steps=steps),
        ("vae-restored", ""): lambda job: repair.vae_restored(job, steps=steps, extend=False),
    }


def _plain(job: Job, synthesis: str) -> Output:
    """The VAE's mel made sound by a synthesis of that name, whichever is in use."""
    made = sound(job.networks, job.networks.decode(job.latents), synthesis, job.seed)
    return Output(made[0, : len(job.waveform)].cpu().numpy(), MODEL_RATE, job.latents)


def shown_steps(steps: int) -> list[int]:
    """Those of the gradient steps at which the curve of refinement is kept."""
    return sorted({step for step in (0, 1, 2, 5, *range(10, steps, 10)) if step < steps} | {steps})


def all_repairs(
    clip: Clip, networks: Networks, seed: int, steps: int
) -> dict[str, tuple[np.ndarray, int]]:
    """The plain alternatives and each repair of one clip, for listening; refined once for all.

    Returns:
        Method to waveform ``(samples,)`` at the clip's own level, and sample rate.
    """
    job = Job(clip, networks, seed)
    found = {}
    for name in (*PLAIN, "vae-highfreq", "vae-denoise", "vae-refined", "vae-restored"):
        options = {"steps": steps} if name in ("vae-refined", "vae-restored") else {}
        if name in PLAIN:
            output = _plain(job, PLAIN[name])
        else:
            output = find_method(name).load()(job, **options)
        found[name] = np.asarray(job.gain.undo(output.waveform), np.float32), output.sample_rate
    return found


def measure_repairs(
    clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int, seconds: float, steps: int
) -> None:
    """Each plain synthesis, each repair alone, all together: at 16 kHz and at the clip's own rate.

    The repairs start from the networks' own synthesis, which is the method ``vae``.

    Args:
        seconds: of the clip's beginning that is repaired: refinement is dear.
        steps: gradient steps of refinement.
    """
    clip = beginning(clip, seconds)
    at, job = Bench(clip, networks, rows), Job(clip, networks, seed)
    if not job.waveform.any():
        return
    with measured(networks.checkpoint, ("vae",)) as encoding:
        _ = job.latents
    made: dict[tuple[str, str], Output] = {}
    costs: dict[str, Cost] = {}
    for (method, stage), run in _variants(steps).items():
        with measured(networks.checkpoint, ("vae", "vocoder")) as cost:
            output = run(job)
        made[method, stage], costs[method] = output, cost
        row = at.row(method, stage)
        _add_sound(row, job, output, visqol=stage not in (FITTED, BLIND))
        row.add("side_rate", output.side_bits / clip.seconds / 1000, "kbit/s")
        # The latents are refined once and shared; the restored clip is charged for it too.
        paid = [cost, costs["vae-refined"]] if method == "vae-restored" else [cost]
        spent = sum(one.seconds for one in paid) + encoding.seconds
        row.add("seconds", spent, "s")
        row.add("seconds_per_second", spent / clip.seconds, "s")
        row.add("decoder_forward", sum(one.forward["vae_decoder"] for one in paid), "calls")
        row.add("decoder_backward", sum(one.backward["vae_decoder"] for one in paid), "calls")
    _add_refinement(at, job, made["vae-refined", ""], shown_steps(steps))
    for part, kept in made["vae-restored", ""].details["parts"].items():
        at.row("vae-restored", part).add("kept", float(kept), "1")
    if clip.sample_rate > MODEL_RATE:
        _add_full_band(at, job, made)


def _add_sound(row: Row, job: Job, output: Output, visqol: bool) -> None:
    """Metrics and artefacts at 16 kHz; ViSQOL takes longer than a repair without gradients."""
    names = [name for name in MODEL_BAND if name != "visqol" or visqol]
    names += pitch_names(job.clip.category)
    row.scores(job.waveform, output.waveform, names=names)
    if len(job.waveform) < MODEL_RATE / 2:  # has no warble to measure
        return
    for name, value in artefacts.measure(job.waveform, output.waveform, MODEL_RATE).items():
        unit = artefacts.MEASURES[name][1]
        if not np.isnan(value):
            row.add(name, value, "1" if unit == "lines" else unit)


def _add_refinement(at: Bench, job: Job, output: Output, steps: list[int]) -> None:
    """Error of the decoded mel before and after, by band, and the curve over the steps."""
    frames = len(job.waveform) // at.networks.mel_config.hop_length
    true = job.mel[0, :frames].cpu().numpy()
    for method, latents in (("vae", job.latents), ("vae-refined", output.latents)):
        mel = at.networks.decode(latents)[0, :frames].cpu().numpy()
        at.row(method, "mel").mel_errors(true, mel)
    for step in steps:
        value = output.details["mel_distance_by_step"][step]
        at.row("vae-refined", f"step {step}").add("mel_distance", value, "nat")


def _add_full_band(at: Bench, job: Job, made: dict[tuple[str, str], Output]) -> None:
    """The band above 8 kHz: extended, filled with plain noise, or the original's (oracle)."""
    clip, rate = job.clip, job.clip.sample_rate
    low = made["vae-highfreq", SIDE]
    extension = bandwidth.encode_extension(job.original, low.waveform, rate, 1.0, job.seed)
    takes = {
        "vae": bandwidth.upsample(made["vae", ""].waveform, rate, len(clip.samples)),
        "vae-highfreq": bandwidth.decode_extension(extension, low.waveform, job.seed),
        "envelope-noise": bandwidth.decode_extension(extension, low.waveform, job.seed, "noise"),
        "crossover (oracle)": bandwidth.oracle_crossover(job.original, low.waveform, rate),
        "vae-restored": repair.extended(job, made["vae-restored", ""], 1.0).waveform,
    }
    for method, waveform in takes.items():
        at.row(method, FULL).scores(job.original, waveform, rate, FULL_BAND)
    side_rate = extension.bits / clip.seconds / 1000
    at.row("vae-highfreq", FULL).add("side_rate", side_rate, "kbit/s")
    at.row("original").add("energy_above_8_khz", share_above(job.original, rate), "%")


def share_above(waveform: np.ndarray, sample_rate: int, frequency: float = 8000.0) -> float:
    """Energy above a frequency, per cent of all, of a waveform ``(samples,)``."""
    power = np.square(np.abs(np.fft.rfft(np.asarray(waveform, np.float64))))
    above = np.fft.rfftfreq(len(waveform), 1 / sample_rate) >= frequency
    return float(100 * power[above].sum() / max(power.sum(), 1e-30))


def with_band_above(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the clips that have :data:`LEAST_ABOVE` of their energy above 8 kHz."""
    rows = table[(table["metric"] == "energy_above_8_khz") & (table["value"] >= LEAST_ABOVE)]
    return table[table["clip"].isin(rows["clip"])]


def repair_verdicts(table: pd.DataFrame) -> list[Verdict]:
    """The bounds of «Repairing the VAE» that can fail, from the study's table.

    What is enforced, such as a rate, and what a method is given as its target have tests instead.
    """
    vae, full = of("vae"), with_band_above(table)
    blind, side = of("vae-highfreq", BLIND), of("vae-highfreq", SIDE)
    above, noisy = of("vae-highfreq", FULL), of("envelope-noise", FULL)
    lsd = "log_spectral_distance"
    blind_bias = reduction(table, blind, vae, "band_energy_bias", HIGH, signed=True)
    side_mel = difference(table, side, vae, "log_mel_distance")
    above_lsd = reduction(full, above, of("vae", FULL), lsd, ABOVE)
    above_noise = difference(full, above, noisy, lsd, ABOVE)
    found = [
        ("blind", "blind: at least 80 % of the mean 4 to 8 kHz bias removed",
         blind_bias, 80, True, "%"),
        ("side_mel", "log-mel distance no worse with side information", side_mel, 0, False, "dB"),
        ("above", "above 8 kHz: log-spectral distance at least halved", above_lsd, 50, True, "%"),
        ("above_noise", "better than noise of the same envelope", above_noise, 0, False, "dB"),
    ]  # fmt: skip
    restored = of("vae-restored")
    for key, name, metric, unit, more in (
        ("restored_stft", "multi-resolution STFT distance", "multi_resolution_stft", "", False),
        ("restored_visqol", "ViSQOL", "visqol", "MOS", True),
    ):
        change = difference(table, restored, vae, metric)
        found.append((key, f"restored: {name} better", change, 0, more, unit))
        first, second = pairs(table, restored, vae, metric)
        # Relative loss of the clip that fares worst, positive where it is worse.
        loss = Worst.of((np.where(more, 1, -1) * (second - first) / second).to_numpy())
        asked = f"restored: no clip worse by more than 10 % in {name}"
        found.append((f"{key}_worst", asked, loss, 10, False, "%"))
    return [verdict for arguments in found for verdict in judge(*arguments)]


def refinement_gain(table: pd.DataFrame) -> Interval | None:
    """Share of the VAE's mel error that refinement takes off."""
    return reduction(table, of("vae-refined", "mel"), of("vae", "mel"), "mel_error")


#: Judges of a comparison with ``vae-restored``, which neither minimises nor chooses by them.
UNTOUCHED = {"visqol": "ViSQOL", "chroma_correlation": "chroma correlation of tonal clips"}


def better(table: pd.DataFrame, a: str, b: str, metric: str) -> str:
    """What becomes of «method ``a`` is better than ``b``» by a metric of the registry."""
    found = difference(table, of(a), of(b), metric)
    return claim(found, above=REGISTRY[metric].better == "higher")


def repair_claims(table: pd.DataFrame, synthesis: str) -> dict[str, str]:
    """What becomes of each claim of «Repairing the VAE», by its key.

    Args:
        synthesis: in use, which ``vae`` and all repairs start from.
    """
    others = [name for name, way in PLAIN.items() if way != synthesis]
    full, above = with_band_above(table), [of(m, FULL) for m in ("vae-highfreq", "envelope-noise")]
    noise = difference(full, *above, "log_spectral_distance", ABOVE)
    stft = "multi_resolution_stft"
    return {
        "claim_1": together([better(table, "vae-restored", "vae-inverse", m) for m in UNTOUCHED]),
        "claim_2": together([better(table, "vae", other, stft) for other in others]),
        "claim_3": together([better(table, "vae-refined", "vae", m) for m in (stft, "visqol")]),
        "claim_4": claim(noise, above=False),
    }


#: What sentences compare by: what they call it, and its unit.
SOUNDS = {
    **{metric: (name, "") for metric, name in UNTOUCHED.items()},
    "multi_resolution_stft": ("multi-resolution STFT distance", ""),
}
COMPARED = {**SOUNDS, "log_mel_distance": ("log-mel distance", "dB")}


def repair_answer(table: pd.DataFrame, synthesis: str) -> dict[str, str]:
    """The chapter's answer and its advice, by their keys.

    Keys ``answer``, ``advice`` and, of the band above 8 kHz, ``advice_above``.
    """
    claims = repair_claims(table, synthesis)
    vocoder, inverse, restored = (of(f"vae-{name}") for name in ("vocoder", "inverse", "restored"))
    gains = [
        [difference(table, *sides, metric) for metric in UNTOUCHED]
        for sides in ((inverse, vocoder), (restored, inverse))
    ]
    larger = all(a and b and claim(a, b.high) == UPHELD for a, b in zip(*gains, strict=True))
    largest = "The largest repair is another synthesis. " if larger else ""
    both = SOUNDS | {"pre_echo": ("pre-echo", "dB")}
    answer = (
        f"{largest}The fitted inverse is, beside the checkpoint's vocoder, "
        f"{compared(table, inverse, vocoder, both)}. All other repairs together are, beside "
        f"the fitted inverse alone, {compared(table, restored, inverse, SOUNDS)}."
    )
    advice = {
        UPHELD: "Restore (vae-restored), where the seconds that it takes are there.",
        REFUTED: "Use the fitted inverse alone (vae-inverse), and no repair after it.",
        UNDECIDED: "Use the fitted inverse alone (vae-inverse): more is not shown to help.",
    }
    if larger:
        advice[UNDECIDED] = (
            "Use the fitted inverse (vae-inverse): it gains more than all other repairs together."
        )
    above = {
        UPHELD: "Where sound above 8 kHz matters, add the band extension (vae-highfreq with "
        "blind=none and side_kbps=0, which leave 4 to 8 kHz as it is).",
        REFUTED: "Leave the band extension off: plain noise of its envelope is nearer.",
        UNDECIDED: "The band extension is not shown to be nearer than noise of its envelope.",
    }
    return {
        "answer": answer,
        "advice": advice[claims["claim_1"]],
        "advice_above": above[claims["claim_4"]],
    }
