"""Study ``05_rates``: what DDCM and others keep of a clip at each rate of the file.

Every file counts all its bytes, header included. Errors are told in the mel of the decoded
latents (natural logarithm, before any phase is made up) and, where a waveform is to be judged,
by metrics of the waveform at 16 kHz.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.clips import Clip
from audioldm_utils.ddcm.bitstream import FIXED_LIMIT
from audioldm_utils.ddcm.codebook.fitted import load_quantiser
from audioldm_utils.ddcm.codebook.planning import RateTooLowError
from audioldm_utils.ddcm.codec import Codec, Encoded
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.errors import UserError
from audioldm_utils.model.mel import griffin_lim
from audioldm_utils.studies import baselines
from audioldm_utils.studies.rows import Bench, Excerpt, Row, correlation

if TYPE_CHECKING:
    from audioldm_utils.model.networks import Stages
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
    clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int, seconds: float, steps: int,
    rates: Sequence[float], low_rate: float, low_seconds: float, rvq_stages: Sequence[int],
) -> None:  # fmt: skip
    """DDCM at each rate, the ceilings, and other codecs, on the beginning of a clip.

    Args:
        seconds: of the beginning.
        steps: network calls, at most.
        rates: targets in kbit/s; a file never exceeds its target.
        low_rate, low_seconds: up to this rate so much is coded, since the header takes most of
            a short file; it is judged on the same beginning.
        rvq_stages: of the residual quantiser.
    """
    at, codec = Bench(clip, stages, rows), Codec(stages)
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
        mel = stages.decode(encoded.codes.latents)[:, : excerpt.mel.shape[1]]
        heard = excerpt.waveform(stages, mel)
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
    row, mel = at.row("vae"), at.stages.decode(short.latents)
    row.add("mel_error", short.mel_error(mel), "nat")
    row.scores(short.wave, short.waveform(at.stages, mel))
    made_up = short.level.undo(griffin_lim(short.mel, seed=seed))[0].numpy()
    at.row("mel-griffinlim").scores(short.wave, made_up[: len(short.wave)])


def _quantised(at: Bench, short: Excerpt, overhead: int, counts: Sequence[int]) -> None:
    """The residual quantiser of the same latents, charged the header of a ``.ddcm`` file."""
    checkpoint = at.stages.checkpoint
    try:
        quantiser = load_quantiser(checkpoint.path, checkpoint.fingerprint, "rvq")
    except UserError:
        return  # nothing is fitted for this checkpoint
    for count in (count for count in counts if count <= quantiser.stages):
        row = at.row("rvq", f"{count} stages")
        mel = at.stages.decode(quantiser.hard(short.latents, count))
        bits = quantiser.bits(short.shape, count)
        row.add("payload_rate", bits / short.seconds / 1000, "kbit/s")
        row.add("rate", (bits + overhead) / short.seconds / 1000, "kbit/s")
        row.add("mel_error", short.mel_error(mel), "nat")
        row.scores(short.wave, short.waveform(at.stages, mel))


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
