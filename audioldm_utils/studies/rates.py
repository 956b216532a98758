"""Study ``05_rates``: what DDCM and others keep of a clip at each rate of the file.

Every file counts all its bytes, header included. Errors are told in the mel of the decoded
latents (natural logarithm, before any phase is made up) and, where a waveform is to be judged,
by metrics of the waveform at 16 kHz. The studies of its placement and of its codebooks are in
``ddcm.comparisons``; they measure some of the same clips, so that their rows can be paired
with these.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from audioldm_utils.audio.clips import Clip, to_model_rate
from audioldm_utils.audio.signals import Gain
from audioldm_utils.ddcm.bitstream import FIXED_LIMIT
from audioldm_utils.ddcm.codebook.fitted import load_quantiser
from audioldm_utils.ddcm.codebook.planning import RateTooLowError
from audioldm_utils.ddcm.codec import Codec, Encoded
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.errors import UserError
from audioldm_utils.metrics import NotApplicable, evaluate_pair
from audioldm_utils.model.mel import griffin_lim
from audioldm_utils.model.networks import normalise
from audioldm_utils.studies import baselines

if TYPE_CHECKING:
    from audioldm_utils.model.networks import Stages
    from audioldm_utils.results.tables import ResultsBuilder

#: Targets in kbit/s; a file never exceeds its target.
RATES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
#: Only the beginning of each clip is coded, with few network calls, so that the study runs on
#: many clips without an accelerator.
SECONDS = 2.56
STEPS = 25
#: At the lowest rate the header takes most of a short file, so twice as much is coded there;
#: it is judged on the same beginning.
LOW_RATE, LOW_SECONDS = 0.1, 5.12
#: Stages of the residual quantiser that are measured.
RVQ_STAGES = (1, 2, 4, 9, 18)
WAVEFORM_METRICS = ("log_mel_distance", "multi_resolution_stft", "visqol")

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


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a clip, through the front end.

    Attributes:
        wave: float32 ``(n,)`` at 16 kHz, at its own level.
        mel: of the normalised wave, ``(1, frames, 64)``.
        latents: ``(1, 8, frames / 4, 16)``.
        level: what normalisation removed.
    """

    wave: np.ndarray
    mel: torch.Tensor
    latents: torch.Tensor
    level: Gain

    @classmethod
    def of(cls, wave: np.ndarray, stages: Stages, seconds: float = SECONDS) -> Excerpt:
        """The first ``seconds`` of a wave at 16 kHz."""
        wave = wave[: round(seconds * stages.mel_config.sample_rate)]
        normalised, level = normalise(torch.from_numpy(wave)[None])
        mel = stages.to_mel(normalised)
        return cls(wave, mel, stages.encode(mel), level)

    def mel_error(self, mel: torch.Tensor, frames: int | None = None) -> float:
        """Mean absolute difference of a log-mel, nat, over the first ``frames``."""
        count = min(self.mel.shape[1], mel.shape[1], frames or mel.shape[1])
        return (mel[:, :count] - self.mel[:, :count]).abs().mean().item()

    def waveform(self, stages: Stages, mel: torch.Tensor) -> np.ndarray:
        """A log-mel through the vocoder, at the excerpt's level and length."""
        return self.level.undo(stages.vocode(mel).cpu())[0].numpy()[: len(self.wave)]


class Row:
    """Adds numbers about one clip and one way of coding it."""

    def __init__(self, rows: ResultsBuilder, clip: Clip, method: str, stage: str = "") -> None:
        self._rows = rows
        self._about = {"category": clip.category, "method": method, "stage": stage}
        self._clip = clip.name

    def add(self, metric: str, value: float, unit: str) -> None:
        """One number."""
        self._rows.add(self._clip, metric, value, unit, **self._about)

    def heard(self, reference: np.ndarray, estimate: np.ndarray) -> None:
        """The metrics of the waveform at 16 kHz; what does not apply has no row."""
        count = min(len(reference), len(estimate))
        try:
            scores = evaluate_pair(reference[:count], estimate[:count], 16000, WAVEFORM_METRICS)
        except NotApplicable:  # a silent excerpt
            return
        for score in scores:
            self.add(score.metric, score.value, score.unit)

    def coded(self, encoded: Encoded) -> None:
        """Rates and network calls of a file."""
        self.add("rate", encoded.sizes.kbps, "kbit/s")
        self.add("payload_rate", encoded.sizes.payload_kbps, "kbit/s")
        self.add("network_calls", encoded.calls, "calls")


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Pearson correlation of two latents over their common frames."""
    frames = min(a.shape[2], b.shape[2])
    both = torch.stack([a[:, :, :frames].flatten(), b[:, :, :frames].flatten()])
    return torch.corrcoef(both)[0, 1].item()


def study(clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """DDCM at each rate, the ceilings, and other codecs, on the beginning of a clip."""
    wave = to_model_rate(clip)
    short = Excerpt.of(wave, stages)
    frames = short.mel.shape[1]
    codec = Codec(stages)
    overhead = 8 * FIXED_LIMIT
    for rate in RATES:
        long = rate <= LOW_RATE
        excerpt = Excerpt.of(wave, stages, LOW_SECONDS) if long else short
        row = Row(rows, clip, "ddcm", f"{rate:g} kbit/s")
        start = time.process_time()
        try:
            encoded = codec.encode(excerpt.wave, Settings(kbps=rate, steps=STEPS, seed=seed))
        except RateTooLowError:
            continue  # a clip this short has no row at this rate
        row.coded(encoded)
        row.add("encode_seconds", time.process_time() - start, "s")
        start = time.process_time()
        mel = stages.decode(encoded.codes.latents)[:, : excerpt.mel.shape[1]]
        heard = excerpt.waveform(stages, mel)
        row.add("synthesis_seconds", time.process_time() - start, "s")
        row.add("mel_error", excerpt.mel_error(mel, frames), "nat")
        row.add(
            "latent_correlation",
            correlation(encoded.codes.latents[:, :, : frames // 4], excerpt.latents),
            "1",
        )
        row.heard(short.wave, heard)
        overhead = 8 * (encoded.sizes.file - encoded.sizes.payload)
    _ceilings(clip, stages, rows, short, seed)
    _quantised(clip, stages, rows, short, overhead)
    _others(clip, rows, short)


def _ceilings(clip: Clip, stages: Stages, rows: ResultsBuilder, short: Excerpt, seed: int) -> None:
    """What no bits are counted for: VAE + vocoder, and the true mel with Griffin-Lim."""
    mel = stages.decode(short.latents)
    row = Row(rows, clip, "vae")
    row.add("mel_error", short.mel_error(mel), "nat")
    row.heard(short.wave, short.waveform(stages, mel))
    made_up = griffin_lim(short.mel, seed=seed)
    back = short.level.undo(made_up)[0].numpy()
    Row(rows, clip, "mel-griffinlim").heard(short.wave, back[: len(short.wave)])


def _quantised(
    clip: Clip, stages: Stages, rows: ResultsBuilder, short: Excerpt, overhead: int
) -> None:
    """The residual quantiser of the same latents, charged the header of a ``.ddcm`` file."""
    checkpoint = stages.checkpoint
    try:
        quantiser = load_quantiser(checkpoint.path, checkpoint.fingerprint, "rvq")
    except UserError:
        return  # nothing is fitted for this checkpoint
    seconds = len(short.wave) / stages.mel_config.sample_rate
    for count in (count for count in RVQ_STAGES if count <= quantiser.stages):
        row = Row(rows, clip, "rvq", f"{count} stages")
        mel = stages.decode(quantiser.hard(short.latents, count))
        bits = quantiser.bits(tuple(short.latents.shape[1:]), count)
        row.add("payload_rate", bits / seconds / 1000, "kbit/s")
        row.add("rate", (bits + overhead) / seconds / 1000, "kbit/s")
        row.add("mel_error", short.mel_error(mel), "nat")
        row.heard(short.wave, short.waveform(stages, mel))


def _others(clip: Clip, rows: ResultsBuilder, short: Excerpt) -> None:
    """Ogg Opus and MP3 at their lowest rates, of the same 16 kHz excerpt."""
    seconds = len(short.wave) / 16000
    for method, function, levels in (
        ("opus", baselines.opus, baselines.OPUS_LEVELS),
        ("mp3", baselines.mp3, baselines.MP3_LEVELS),
    ):
        for number, level in enumerate(levels, 1):
            coded = function(short.wave, 16000, level)
            row = Row(rows, clip, method, f"level {number}")
            row.add("rate", coded.file_bits / seconds / 1000, "kbit/s")
            row.add("payload_rate", coded.payload_bits / seconds / 1000, "kbit/s")
            row.heard(short.wave, coded.samples)


def payable(
    codec: Codec, waveform: np.ndarray, rates: tuple[float, ...], settings: Settings
) -> list[tuple[float, Encoded]]:
    """The clip's files at those rates, kbit/s, that pay its header and a choice."""
    found = []
    for rate in rates:
        with suppress(RateTooLowError):
            found.append((rate, codec.encode(waveform, replace(settings, kbps=rate))))
    return found
