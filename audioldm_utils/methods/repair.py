"""The VAE as it is, and its repairs: ``vae``, ``vae-highfreq``, ``vae-denoise``, and so on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Annotated

import librosa
import numpy as np
import torch

from audioldm_utils import bounds, metrics
from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.methods.base import Job, Output, check_choice
from audioldm_utils.methods.enhance import bands, bandwidth, noise
from audioldm_utils.methods.enhance.latent import refine_latents
from audioldm_utils.methods.enhance.phase import only_cuts_below, refine_phase
from audioldm_utils.methods.enhance.stft import log_energy_of
from audioldm_utils.model.synthesis import synthesise

#: Latent frames refined at once (10.24 s), so that memory stays flat in the clip's length.
REFINE_ROWS = 256
#: Rounds that lead 4 to 8 kHz to the energies of the decoder's own mel.
BLIND_ROUNDS = 6
#: What lies this far below a clip's loudest mel value is a pause to ``vae-denoise``, nat (30 dB).
QUIET = 3.5
#: ``vae-restored`` keeps a part where it betters the rule's measures by this share.
MIN_GAIN = 0.01
#: And only where none of them gets worse by more than this share.
MAX_LOSS = 0.05
#: Samples of the rule's window for magnitudes, 16 ms: a shock that a long window spreads shows.
RULE_WINDOW = 256
#: Bits that say which parts the decoder is to apply, with one for the band extension's own.
SWITCHES = 5


def vae(job: Job) -> Output:
    """Plain reconstruction: posterior mode, decoder, synthesis; gain and lag undone."""
    return job.finish(job.latents)


def vae_griffinlim(job: Job, *, iterations: Annotated[int, bounds.ITERATIONS] = 32) -> Output:
    """The VAE's mel through Griffin-Lim in place of the vocoder: the plain baseline.

    Args:
        iterations: of Griffin-Lim.
    """
    return _synthesised(job, "griffin-lim", iterations)


def vae_inverse(job: Job, *, iterations: Annotated[int, bounds.ITERATIONS] = 32) -> Output:
    """The VAE's mel through the fitted inverse of the filterbank, then Griffin-Lim.

    Args:
        iterations: of Griffin-Lim.
    """
    return _synthesised(job, "inverse", iterations)


def _synthesised(job: Job, synthesis: str, iterations: int) -> Output:
    made = synthesise(job.networks.decode(job.latents), synthesis, iterations, job.seed)
    return Output(made[0, : len(job.waveform)].cpu().numpy(), MODEL_RATE, job.latents)


def vae_highfreq(
    job: Job,
    *,
    blind: str = "mel",
    side_kbps: Annotated[float, bounds.SIDE_KBPS] = 0.2,
    extend: bool = True,
    extension_kbps: Annotated[float, bounds.SIDE_KBPS] = 1.0,
    oracle: bool = False,
) -> Output:
    """High frequencies put back.

    Args:
        blind: compensation from 4 to 8 kHz that costs no bits. ``mel`` leads the waveform to
            the energies that the decoder's own mel stands for: corrected by what the VAE loses
            on other clips, and by how much energy a mel so tonal holds there. ``fitted`` knows
            only what VAE and vocoder together lose on other clips, by band and level; ``none``
            leaves it out.
        side_kbps: most side information for the envelope from 4 to 8 kHz; 0 for none.
        extend: extend the band above 8 kHz, output at the clip's own rate.
        extension_kbps: most side information for that.
        oracle: instead of all this, take the original itself above 4 kHz; an upper bound.
    """
    check_choice("blind", blind, ("mel", "fitted", "none"))
    mel = job.networks.decode(job.latents)
    waveform = job.synthesise(mel)
    if oracle:
        rate = max(job.clip.sample_rate, MODEL_RATE)
        reference = job.original if rate > MODEL_RATE else job.waveform
        full = bandwidth.oracle_crossover(reference, waveform, rate, bands.HIGH_BAND[0])
        return Output(full, rate, job.latents, oracle=True)
    high = bands.high_bands()
    if blind == "fitted":
        gain = job.compensation.gain(bands.mel_of(waveform))
        waveform = bands.apply_gain(waveform, gain * np.isin(np.arange(gain.shape[1]), high))
    elif blind == "mel":
        target = job.compensation.energy_target(mel[0].cpu().numpy())
        waveform, _ = refine_phase(waveform, target, BLIND_ROUNDS, high, log_energy_of)
    waveform, bits = _side_information(job, waveform, side_kbps)
    details = {"side_bits_4_to_8_khz": bits}
    output = Output(waveform, MODEL_RATE, job.latents, bits, details)
    return extended(job, output, extension_kbps if extend else 0.0)


def _side_information(job: Job, waveform: np.ndarray, kbps: float) -> tuple[np.ndarray, int]:
    """Encode what 4 to 8 kHz still lack, decode it from the bytes, apply it."""
    if not kbps:
        return waveform, 0
    reference, estimate = bands.energy_of(job.waveform), bands.energy_of(waveform)
    budget = kbps * 1000 * job.seconds
    statistics = job.statistics
    gain, bits = bands.high_bands_by_side_information(reference, estimate, statistics, budget)
    return bands.apply_gain(waveform, gain), bits


def extended(job: Job, output: Output, kbps: float) -> Output:
    """Extend a repair at 16 kHz above 8 kHz, if the clip has that band; its bits are counted on.

    ``kbps``: most side information to spend; 0 leaves everything as it is.
    """
    rate = job.clip.sample_rate
    if rate <= MODEL_RATE or not kbps:
        return output
    extension = bandwidth.encode_extension(job.original, output.waveform, rate, kbps, job.seed)
    full = bandwidth.decode_extension(extension, output.waveform, job.seed)
    details = {**output.details, "side_bits_above_8_khz": extension.bits}
    bits = output.side_bits + extension.bits
    return replace(output, waveform=full, sample_rate=rate, side_bits=bits, details=details)


def vae_denoise(
    job: Job,
    *,
    iterations: Annotated[int, bounds.ROUNDS] = 12,
    fitted: bool = True,
    lines: bool = True,
    gate: Annotated[float, bounds.SHARE] = 0.0,
) -> Output:
    """Noise and artefacts of VAE and vocoder suppressed; the decoder needs no bits for it.

    Args:
        iterations: rounds of mel-consistent refinement, from the vocoder's phase.
        fitted: let that aim at the decoded mel less the noise that the VAE adds to quiet
            bands, as fitted on other clips.
        lines: notch out the steady lines that the vocoder answers to silence with.
        gate: strength of noisereduce's spectral gate on that answer's spectrum, 0 to 1.
    """
    mel = job.networks.decode(job.latents)
    target = mel[0].cpu().numpy()
    waveform = job.synthesise(mel)
    if fitted:
        target = target + np.clip(job.compensation.mel_gain(target), -bands.MAX_CUT, 0)
    if lines or gate:
        idle = _idle_answer(job)
        waveform = _without_lines(waveform, idle) if lines else waveform
        waveform = noise.spectral_gate(waveform, MODEL_RATE, idle, gate) if gate else waveform
    own = bands.mel_of(waveform)
    target = only_cuts_below(target[: len(own)], own, QUIET)
    waveform, curve = refine_phase(waveform, target, iterations)
    return Output(waveform, MODEL_RATE, job.latents, details={"mel_error_by_round": curve})


def _idle_answer(job: Job) -> np.ndarray:
    """What the synthesis makes of 128 frames of silence, ``(samples,)``."""
    silence = torch.full((1, 128, 64), job.networks.mel_config.silence)
    return job.networks.synthesise(silence, seed=job.seed)[0].cpu().numpy()


def _without_lines(waveform: np.ndarray, idle: np.ndarray) -> np.ndarray:
    # Below -80 dB of full scale nothing is heard, and a notch would only cost.
    if np.sqrt(np.mean(np.square(idle))) < 1e-4:
        return waveform
    found = noise.hum_lines(np.zeros_like(idle), idle, MODEL_RATE)
    return noise.suppress_lines(waveform, found, MODEL_RATE)


def vae_refined(
    job: Job,
    *,
    steps: Annotated[int, bounds.DESCENT_STEPS] = 50,
    learning_rate: Annotated[float, bounds.LEARNING_RATE] = 0.3,
    precision: str = "float32",
) -> Output:
    """Latents refined by gradient steps on the multi-scale mel distance.

    Args:
        steps: Adam steps; a forward and a backward call of the VAE's decoder each.
        learning_rate: in latent standard deviations a step.
        precision: of the gradient steps, ``float32`` or ``bfloat16``, which is faster on
            processors that have it.
    """
    latents, curve = _refined(job, steps, learning_rate, precision)
    return job.finish(latents, details={"mel_distance_by_step": curve})


def _refined(
    job: Job, steps: int, learning_rate: float, precision: str
) -> tuple[torch.Tensor, np.ndarray]:
    """Refine piece by piece; the curve is the pieces' mean, weighted by length.

    Kept on the job, so that an ablation refines a clip once.
    """
    if (key := (steps, learning_rate, precision)) in job.refined:
        return job.refined[key]
    check_choice("precision", precision, ("float32", "bfloat16"))

    def decode(latents: torch.Tensor) -> torch.Tensor:
        with torch.autocast(latents.device.type, torch.bfloat16, precision == "bfloat16"):
            return job.networks.decode_grad(latents).float()

    rows = job.latents.shape[2]
    starts = range(0, max(rows - REFINE_ROWS // 4, 1), REFINE_ROWS)
    refined, curves = [], []
    for number, (start, stop) in enumerate(pairwise([*starts, rows])):
        latents, curve = refine_latents(
            job.latents[:, :, start:stop],
            job.mel[:, 4 * start : 4 * stop],
            decode,
            steps,
            learning_rate,
            lambda done: job.step(number * steps + done, len(starts) * steps),  # noqa: B023
        )
        refined.append(latents)
        curves.append(curve[:, 0] * (stop - start) / rows)
    job.refined[key] = torch.cat(refined, dim=2), np.sum(curves, axis=0)
    return job.refined[key]


def _rule(job: Job, waveform: np.ndarray) -> np.ndarray:
    """What decides which parts of ``vae-restored`` a clip gets; lower is better.

    Logarithms, so that differences are relative changes, of three distances: log-spectral
    distance, the mean over bands of the band energy error, and the relative error of the
    magnitudes of short windows, which sees single loud places. Side information aims at the second;
    neither ViSQOL nor chroma, which judge the result, is among them.
    """
    if not job.waveform.any():
        return np.zeros(3)  # nothing betters silence
    pair = job.waveform, waveform, MODEL_RATE
    held = [band for band, (low, _) in metrics.BANDS.items() if low < MODEL_RATE / 2]
    energies = np.mean([metrics.band_energy_error(*pair, band=band) for band in held])
    options = {"n_fft": RULE_WINDOW, "hop_length": RULE_WINDOW // 4}
    a, b = (np.abs(librosa.stft(x, **options)) for x in pair[:2])
    magnitudes = np.linalg.norm(a - b) / np.linalg.norm(a)
    return np.log(np.maximum([metrics.log_spectral_distance(*pair), energies, magnitudes], 1e-6))


def _betters(score: np.ndarray, value: np.ndarray) -> bool:
    """Better on the whole, and clearly worse in nothing."""
    change = value - score
    return bool(change.mean() < -MIN_GAIN and change.max() <= MAX_LOSS)


def vae_restored(
    job: Job,
    *,
    steps: Annotated[int, bounds.DESCENT_STEPS] = 50,
    learning_rate: Annotated[float, bounds.LEARNING_RATE] = 0.3,
    precision: str = "float32",
    lines: bool = True,
    iterations: Annotated[int, bounds.ROUNDS] = 12,
    blind: bool = True,
    side_kbps: Annotated[float, bounds.SIDE_KBPS] = 0.2,
    extend: bool = True,
    extension_kbps: Annotated[float, bounds.SIDE_KBPS] = 1.0,
) -> Output:
    """All repairs together, each left out of a clip that it would hurt.

    The encoder decodes with and without each part and sends a bit for each of the decoder's.
    Its rule looks at log-spectral distance, band energies and short-time magnitudes, never at
    ViSQOL or chroma, which judge the result, nor at the log-mel that refinement minimises.

    Args:
        steps: latent refinement; 0 leaves it out.
        learning_rate: of it.
        precision: of it, ``float32`` or ``bfloat16``.
        lines: start that from a waveform whose steady lines are notched out, as
            ``vae-denoise`` does.
        iterations: mel-consistent refinement from the vocoder's phase; 0 leaves it out.
        blind: aim that at the compensated mel.
        side_kbps: most side information for the envelope from 4 to 8 kHz; 0 leaves it out.
        extend: extend the band above 8 kHz, output at the clip's own rate.
        extension_kbps: most side information for that.
    """
    latents, mel = job.latents, job.networks.decode(job.latents)
    waveform = job.synthesise(mel)
    score = _rule(job, waveform)
    kept: dict[str, bool] = {}
    bits = 0
    curve = np.zeros(1)

    def offer(name: str, candidate: np.ndarray, cost: int = 0, flag: int = 1) -> bool:
        """Take a part if the rule wants it; one bit says so, where the decoder must know."""
        nonlocal waveform, score, bits
        value = _rule(job, candidate)
        kept[name] = _betters(score, value)
        bits += flag
        if kept[name]:
            waveform, score = candidate, value
            bits += cost
        return kept[name]

    if steps:
        refined, curve = _refined(job, steps, learning_rate, precision)
        decoded = job.networks.decode(refined)
        # Whichever latents are sent, the decoder treats them alike.
        if offer("refined", job.synthesise(decoded), flag=0):
            latents, mel = refined, decoded
    if iterations:
        start = _without_lines(waveform, _idle_answer(job)) if lines else waveform
        own = bands.mel_of(start)
        target = mel[0, : len(own)].cpu().numpy()
        quiet = only_cuts_below(target, own, QUIET)
        offer("phase", refine_phase(start, target, iterations)[0])
        offer("quiet", refine_phase(start, quiet, iterations)[0])
        if blind:
            aimed = target + job.compensation.mel_gain(target)
            offer("compensation", refine_phase(start, aimed, iterations)[0])
    if side_kbps:
        budget = side_kbps - SWITCHES / 1000 / job.seconds
        offer("envelope", *_side_information(job, waveform, budget))
    details = {"side_bits_4_to_8_khz": bits, "parts": kept, "mel_distance_by_step": curve}
    output = Output(waveform, MODEL_RATE, latents, bits, details)
    return extended(job, output, extension_kbps if extend else 0.0)
