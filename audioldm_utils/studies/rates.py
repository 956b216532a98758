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
from typing import TYPE_CHECKING

import numpy as np
import torch

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.clips import Clip, fit_length, match_loudness, to_model_rate
from audioldm_utils.ddcm.codebook.fitted import load_fitted, load_quantiser
from audioldm_utils.ddcm.codec import Codec, Encoded
from audioldm_utils.ddcm.header import FIXED_LIMIT
from audioldm_utils.ddcm.placement import RateTooLowError, load_rules
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.model.mel import griffin_lim
from audioldm_utils.studies import baselines
from audioldm_utils.studies.linear_denoiser import LinearDenoiser
from audioldm_utils.studies.rows import Bench, Excerpt, Row, correlation, fitted

if TYPE_CHECKING:
    from audioldm_utils.ddcm.windows import Denoiser
    from audioldm_utils.model.networks import Networks
    from audioldm_utils.results.tables import ResultsBuilder

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
) -> None:  # fmt: skip
    """DDCM at each rate, the ceilings, and other codecs, on the beginning of a clip.

    Args:
        seconds, steps: of the beginning; network calls, at most.
        rates: targets in kbit/s; a file never exceeds its target.
        low_rate, low_seconds: up to this rate so much is coded, since the header takes most of
            a short file; it is judged on the same beginning.
        rvq_stages: of the residual quantiser.
    """
    at, codec = Bench(clip, networks, rows), Codec(networks)
    short = at.excerpt(seconds)
    frames, overhead = short.mel.shape[1], 8 * FIXED_LIMIT
    for rate in rates:
        excerpt = at.excerpt(low_seconds) if rate <= low_rate else short
        row = at.row("ddcm", f"{rate:g} kbit/s")
        start = time.process_time()
        try:
            encoded = codec.encode(excerpt.wave, Settings(kbps=rate, steps=steps, seed=seed))
        except RateTooLowError:
            continue  # a clip this short has no row at this rate
        add_rates(row, encoded)
        row.add("encode_seconds", time.process_time() - start, "s")
        start = time.process_time()
        mel = networks.decode(encoded.codes.latents)[:, : excerpt.mel.shape[1]]
        heard = excerpt.waveform(networks, mel)
        row.add("synthesis_seconds", time.process_time() - start, "s")
        row.add("mel_error", excerpt.mel_error(mel, frames), "nat")
        latents = encoded.codes.latents[:, :, : frames // 4]
        row.add("latent_correlation", correlation(latents, excerpt.latents), "1")
        row.scores(short.wave, heard)
        overhead = 8 * (encoded.sizes.file - encoded.sizes.payload)
    _ceilings(at, short, seed)
    _quantised(at, short, overhead, rvq_stages)
    _others(at, short)


def _ceilings(at: Bench, short: Excerpt, seed: int) -> None:
    """What no bits are counted for: VAE + vocoder, and the true mel with Griffin-Lim."""
    row, mel = at.row("vae"), at.networks.decode(short.latents)
    row.add("mel_error", short.mel_error(mel), "nat")
    row.scores(short.wave, short.waveform(at.networks, mel))
    made_up = short.level.undo(griffin_lim(short.mel, seed=seed))[0].numpy()
    at.row("mel-griffinlim").scores(short.wave, made_up[: len(short.wave)])


def _quantised(at: Bench, short: Excerpt, overhead: int, counts: Sequence[int]) -> None:
    """The residual quantiser of the same latents, charged the header of a ``.ddcm`` file."""
    quantiser = fitted(load_quantiser, at.networks, "rvq")
    for count in (count for count in counts if quantiser and count <= quantiser.stages):
        row = at.row("rvq", f"{count} stages")
        mel = at.networks.decode(quantiser.hard(short.latents, count))
        bits = quantiser.bits(short.shape, count)
        row.add("payload_rate", bits / short.seconds / 1000, "kbit/s")
        row.add("rate", (bits + overhead) / short.seconds / 1000, "kbit/s")
        row.add("mel_error", short.mel_error(mel), "nat")
        row.scores(short.wave, short.waveform(at.networks, mel))


def _others(at: Bench, short: Excerpt) -> None:
    """Ogg Opus and MP3 at their lowest rates, of the same 16 kHz excerpt."""
    for method, function, levels in (
        ("opus", baselines.opus, baselines.OPUS_LEVELS),
        ("mp3", baselines.mp3, baselines.MP3_LEVELS),
    ):
        for number, level in enumerate(levels, 1):
            coded = function(short.wave, MODEL_RATE, level)
            row = at.row(method, f"level {number}")
            row.add("rate", coded.file_bits / short.seconds / 1000, "kbit/s")
            row.add("payload_rate", coded.payload_bits / short.seconds / 1000, "kbit/s")
            row.scores(short.wave, coded.samples)


def _measure(
    row: Row, codec: Codec, excerpt: Excerpt, settings: Settings, denoiser: Denoiser | None = None
) -> bytes | None:
    """Encode, add mel error and rates; the file, or None where the rate is too low."""
    try:
        encoded = codec.encode(excerpt.wave, settings, denoiser=denoiser)
    except RateTooLowError:
        return None
    add_rates(row, encoded)
    row.add("mel_error", excerpt.mel_error(codec.networks.decode(encoded.codes.latents)), "nat")
    return encoded.data


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
    row = at.row("ddcm", "one atom of shifts")
    data = _measure(row, codec, excerpt, Settings(size=bases, steps=steps, **common))
    start = time.process_time()
    codec.decode(data)
    row.add("decode_seconds", time.process_time() - start, "s")


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
