"""Studies of the codec: what DDCM and others keep of a clip at each rate of the file.

Every file counts all its bytes, header included. Errors are told in the mel of the decoded
latents (natural logarithm, before any phase is made up) and, where a waveform is to be judged,
by metrics of the waveform at 16 kHz. ``05_placement``, ``05_codebooks`` and ``05_mixtures``
change one part at a time; their rows are to be paired with those of ``05_rates``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.clips import Clip, fit_length, match_loudness, to_model_rate
from audioldm_utils.ddcm.codebook.fitted import load_fitted, load_quantiser
from audioldm_utils.ddcm.codec import Codec, Encoded
from audioldm_utils.ddcm.header import FIXED_LIMIT
from audioldm_utils.ddcm.placement import RateTooLowError, load_rules
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.ddcm.windows import Denoiser
from audioldm_utils.model import HOP
from audioldm_utils.model.networks import Networks
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import baselines
from audioldm_utils.studies.linear_denoiser import LinearDenoiser
from audioldm_utils.studies.rate_curves import through
from audioldm_utils.studies.rows import Bench, Excerpt, Row, correlation, fitted

FAMILIES = {
    "speech and voice": ("speech", "singing", "human", "baby", "sneeze", "laugh", "cough"),
    "animals": ("dog", "bird", "rooster", "animal", "cat", "insect", "frog"),
    "surroundings": (
        *("rain", "sea", "wind", "weather", "nature", "fire", "water", "chainsaw", "helicopter"),
        *("vehicle", "machine", "explosion", "household", "clock", "bell", "electronic", "foot"),
        *("white", "click", "log"),
    ),
}


def family(category: str) -> str:
    """A broad class: speech and voice, animals, surroundings, music (instruments), or none."""
    if not category:
        return "no class"
    for name, beginnings in FAMILIES.items():
        if category.startswith(beginnings):
            return name
    return "music"


def add_rates(row: Row, encoded: Encoded) -> None:
    """Rates and network calls of a file."""
    row.add("rate", encoded.sizes.kbps, "kbit/s")
    row.add("payload_rate", encoded.sizes.payload_kbps, "kbit/s")
    row.add("network_calls", encoded.calls, "calls")


def measure_rates(
    clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int, seconds: float, steps: int,
    rates: Sequence[float], low_rate: float, low_seconds: float, rvq_stages: Sequence[int],
    coarse_stages: Sequence[int],
) -> None:  # fmt: skip
    """DDCM at each rate, the ceilings, and other codecs, on the beginning of a clip.

    Args:
        seconds, steps: of the beginning; network calls, at most.
        rates: targets in kbit/s; a file never exceeds its target.
        low_rate, low_seconds: up to this rate so much is coded, since the header takes most of
            a short file; it is judged on the same beginning.
        rvq_stages, coarse_stages: of the residual quantiser, and of that of larger blocks; the
            lowest of these codes ``low_seconds``.
    """
    at, codec = Bench(clip, networks, rows), Codec(networks)
    short, long = at.excerpt(seconds), at.excerpt(low_seconds)
    overhead = 8 * FIXED_LIMIT
    for rate in rates:
        excerpt = long if rate <= low_rate else short
        row = at.row("ddcm", stage := f"{rate:g} kbit/s")
        start = time.process_time()
        try:
            encoded = codec.encode(excerpt.wave, Settings(kbps=rate, steps=steps, seed=seed))
        except RateTooLowError:
            continue  # a clip this short has no row at this rate
        add_rates(row, encoded)
        row.add("encode_seconds", time.process_time() - start, "s")
        latents = encoded.codes.latents[:, :, : short.shape[1]]
        row.add("latent_correlation", correlation(latents, excerpt.latents), "1")
        start = time.process_time()
        mel = networks.decode(encoded.codes.latents)[:, : excerpt.mel.shape[1]]
        row.add("decode_seconds", time.process_time() - start, "s")
        _hear(at, "ddcm", stage, excerpt, mel, len(short.wave))
        overhead = 8 * (encoded.sizes.file - encoded.sizes.payload)
    _hear(at, "vae", "", short, networks.decode(short.latents), len(short.wave))
    at.row("mel").heard(short.wave, short.waveform(networks, short.mel))
    for name, stages in (("rvq", rvq_stages), ("rvq-coarse", coarse_stages)):
        _quantised(at, name, stages, (short, long), overhead)
    _noises(at, short, overhead, seed)
    _others(at, short)


def _hear(
    at: Bench, method: str, stage: str, excerpt: Excerpt, mel: torch.Tensor, samples: int
) -> None:
    """Mel error of decoded latents, and their sound by each synthesis, over so many samples.

    Rows of the networks' own synthesis have the stage's name; those of the vocoder, and of plain
    Griffin-Lim where nothing is coded, end in it.
    """
    row = at.row(method, stage)
    row.add("mel_error", excerpt.mel_error(mel, samples // HOP), "nat")
    start = time.process_time()
    made = excerpt.waveform(at.networks, mel)
    row.add("synthesis_seconds", time.process_time() - start, "s")
    row.heard(excerpt.wave[:samples], made)
    for synthesis in ("vocoder",) if stage else ("vocoder", "griffin-lim"):
        if synthesis != at.networks.synthesis:
            other = at.row(method, through(stage, synthesis))
            other.heard(excerpt.wave[:samples], excerpt.waveform(at.networks, mel, synthesis))


def _quantised(
    at: Bench, name: str, counts: Sequence[int], excerpts: tuple[Excerpt, Excerpt], overhead: int
) -> None:
    """A residual quantiser of the latents, charged the header of a ``.ddcm`` file.

    The lowest point of the coarse one codes the longer excerpt, as DDCM does at its lowest rate.
    """
    quantiser, (short, long) = fitted(load_quantiser, at.networks, name), excerpts
    coarse, samples = name != "rvq", len(short.wave)
    for count in (count for count in counts if quantiser and count <= quantiser.stages):
        row = at.row("rvq", f"{count} {'coarse ' * coarse}stages")
        excerpt = long if coarse and count == min(counts) else short
        mel = at.networks.decode(quantiser.hard(excerpt.latents, count))
        bits = quantiser.bits(excerpt.shape, count)
        row.add("payload_rate", bits / excerpt.seconds / 1000, "kbit/s")
        row.add("rate", (bits + overhead) / excerpt.seconds / 1000, "kbit/s")
        row.add("mel_error", excerpt.mel_error(mel, samples // HOP), "nat")
        row.heard(short.wave, excerpt.waveform(at.networks, mel))


def _noises(at: Bench, short: Excerpt, overhead: int, seed: int) -> None:
    """Noise in the clip's own envelope, charged the same header.

    Its mel error is that of the mel which its levels alone promise, the mean of eight draws: the
    fluctuations of one draw would count against it.
    """
    wave = short.level.apply(torch.from_numpy(short.wave)[None])[0].numpy()
    for kind in baselines.NOISES:
        row = at.row("envelope-noise", kind)
        draws = [baselines.envelope_noise(wave, MODEL_RATE, kind, seed + i) for i in range(8)]
        row.add("payload_rate", draws[0].payload_bits / short.seconds / 1000, "kbit/s")
        bits = draws[0].payload_bits + overhead
        row.add("rate", bits / short.seconds / 1000, "kbit/s")
        sounds = torch.from_numpy(np.stack([coded.samples for coded in draws]))
        mel = at.networks.to_mel(sounds).mean(dim=0, keepdim=True)
        row.add("mel_error", short.mel_error(mel), "nat")
        row.heard(short.wave, short.level.undo(sounds[:1])[0].numpy())


def _others(at: Bench, short: Excerpt) -> None:
    """Ogg Opus and MP3 at their lowest rates, and codecs of speech, of the same excerpt."""
    others = [("opus", baselines.opus, baselines.OPUS_LEVELS)]
    others += [("mp3", baselines.mp3, baselines.MP3_LEVELS)]
    if (at.clip.category or "").startswith("speech"):
        others += [codec for codec in baselines.SPEECH if not baselines.missing(codec[0])]
    for method, function, levels in others:
        for number, level in enumerate(levels, 1):
            coded = function(short.wave, MODEL_RATE, level)
            row = at.row(method, f"level {number}")
            row.add("rate", coded.file_bits / short.seconds / 1000, "kbit/s")
            row.add("payload_rate", coded.payload_bits / short.seconds / 1000, "kbit/s")
            row.heard(short.wave, coded.samples)


def _measure(
    row: Row, codec: Codec, excerpt: Excerpt, settings: Settings, denoiser: Denoiser | None = None
) -> None:
    """Encode, add mel error and rates; nothing where the rate is too low."""
    with suppress(RateTooLowError):
        encoded = codec.encode(excerpt.wave, settings, denoiser=denoiser)
        add_rates(row, encoded)
        row.add("mel_error", excerpt.mel_error(codec.networks.decode(encoded.codes.latents)), "nat")


def measure_placement(
    clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int, seconds: float, steps: int,
    rates: Sequence[float], low_rate: float,
) -> None:  # fmt: skip
    """The codec of ``05_rates`` with uniform timesteps, at its rates above ``low_rate``."""
    at = Bench(clip, networks, rows)
    excerpt, codec = at.excerpt(seconds), Codec(networks)
    for rate in (rate for rate in rates if rate > low_rate):
        settings = Settings(kbps=rate, steps=steps, seed=seed, placement="uniform")
        _measure(at.row("ddcm-uniform", f"{rate:g} kbit/s"), codec, excerpt, settings)


def measure_codebooks(
    clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int, seconds: float, steps: int,
    pursuit_rates: Sequence[float], linear_rates: Sequence[float], paper_steps: int, bases: int,
) -> None:  # fmt: skip
    """Other codebooks, and the best linear denoiser in the network's place.

    Args:
        pursuit_rates: of the official matching pursuit: several atoms a step, K = 1024, 3
            coefficient bits.
        paper_steps, bases: as in :func:`_one_atom`.
    """
    at = Bench(clip, networks, rows)
    excerpt, codec = at.excerpt(seconds), Codec(networks)
    pursuit = {"codebook": "matching-pursuit", "coefficient_bits": 3}
    for rate in pursuit_rates:
        settings = Settings(kbps=rate, steps=steps, seed=seed, **pursuit)
        _measure(at.row("ddcm-pursuit", f"{rate:g} kbit/s"), codec, excerpt, settings)
    _one_atom(at, excerpt, codec, seed, paper_steps, bases)
    linear = _linear(networks)
    for rate in linear_rates if linear is not None else ():
        settings = Settings(kbps=rate, steps=steps, seed=seed)
        _measure(at.row("linear", f"{rate:g} kbit/s"), codec, excerpt, settings, linear)


def _one_atom(
    at: Bench, excerpt: Excerpt, codec: Codec, seed: int, paper_steps: int, bases: int
) -> None:
    """Equal bits with one atom a step: many small choices against fewer large ones.

    Args:
        paper_steps: network calls with the paper's K = 1024 independent atoms.
        bases: of the cyclic codebook, which gets as many steps as those bits pay for.
    """
    checkpoint, values = at.networks.checkpoint, excerpt.latents[0].numel()
    budget = 10 * (paper_steps - 1)
    rules = load_rules(checkpoint.path, checkpoint.fingerprint)
    _, placement, power, stop = next(rule for rule in rules if budget / values < rule[0])
    common = {
        "kbps": None, "atoms": 1, "seed": seed,
        "placement": placement, "power": power, "stop": stop,
    }  # fmt: skip
    paper = Settings(codebook="gaussian", size=1024, steps=paper_steps, **common)
    _measure(at.row("ddcm-gaussian", "one atom of 1024"), codec, excerpt, paper)
    steps = 1 + int(budget // np.log2(2 * values * bases))
    shifts = Settings(size=bases, steps=steps, **common)
    _measure(at.row("ddcm", "one atom of shifts"), codec, excerpt, shifts)


def _linear(networks: Networks) -> Denoiser | None:
    """The fitted linear denoiser, or None where `audioldm-utils fit` has stored none."""
    found = fitted(load_fitted, networks, "linear")
    if found is None:
        return None
    denoiser = LinearDenoiser(found[0]["mean"].float(), found[0]["lags"].float())
    return denoiser.denoiser(networks.checkpoint.scheduler_config)


def measure_mixtures(
    clips: Sequence[Clip], networks: Networks, rows: ResultsBuilder, seed: int, seconds: float,
    steps: int, mixture_rate: float,
) -> None:  # fmt: skip
    """A clip alone, mixed with a second one, and with a third, all equally loud, at one rate.

    The rows carry the first clip's name and class; the stage says of how many clips the
    mixture is.
    """
    at, codec = Bench(clips[0], networks, rows), Codec(networks)
    length = round(seconds * networks.mel_config.sample_rate)
    waves = [to_model_rate(clip)[:length] for clip in clips]
    first = waves[0]
    total = np.zeros(len(first), np.float32)
    for stage, wave in zip(("one clip", "pair", "triple"), waves, strict=False):
        more = fit_length(wave, len(first))
        total += more if stage == "one clip" else match_loudness(more, first, 16000)
        excerpt = Excerpt.of(total.copy(), networks, seconds)
        vae = excerpt.mel_error(networks.decode(excerpt.latents))
        at.row("vae", stage).add("mel_error", vae, "nat")
        settings = Settings(kbps=mixture_rate, steps=steps, seed=seed)
        _measure(at.row("ddcm", stage), codec, excerpt, settings)


def linear_fit(latents: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """What ``audioldm-utils fit`` stores of a linear denoiser, in half precision.

    Latents have a spread near 1, so that half precision costs less than the fit's own error.
    """
    linear = LinearDenoiser.fit(latents)
    return {"mean": linear.mean.half(), "lags": linear.lags.half()}


def payable(
    codec: Codec, waveform: np.ndarray, rates: Sequence[float], settings: Settings
) -> list[tuple[float, Encoded]]:
    """The clip's files at those rates, kbit/s, that pay its header and a choice."""
    found = []
    for rate in rates:
        with suppress(RateTooLowError):
            found.append((rate, codec.encode(waveform, replace(settings, kbps=rate))))
    return found
