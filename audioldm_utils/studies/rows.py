"""What every study needs: rows about one clip and one way, and the beginning of a clip."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.clips import Clip, to_model_rate
from audioldm_utils.audio.signals import Gain, resample
from audioldm_utils.errors import UserError
from audioldm_utils.methods.enhance.stft import band_centres
from audioldm_utils.metrics import NotApplicable, evaluate_pair
from audioldm_utils.metrics.perception import stoi
from audioldm_utils.metrics.pitch import pitch_names
from audioldm_utils.model.networks import Networks, normalise
from audioldm_utils.model.synthesis import synthesise
from audioldm_utils.results.tables import ResultsBuilder

#: Edges in Hz of the bands in which the mel error is reported.
MEL_BANDS = ((0, 500), (500, 1000), (1000, 2000), (2000, 4000), (4000, 8000))
#: Of codecs of speech, Hz.
NARROW_RATE = 8000
#: Judged at 16 kHz beside the mel error, where a waveform is there.
HEARD = ("log_mel_distance", "multi_resolution_stft", "visqol")


def heard_of(category: str | None) -> tuple[str, ...]:
    """Names of the metrics that judge a waveform of a class: of pitch, of speech, or neither."""
    return (*HEARD, *(name for name in pitch_names(category) if name != "f0_error"))


class Row:
    """Adds numbers about one clip and one way of treating it."""

    def __init__(self, rows: ResultsBuilder, clip: Clip, method: str, stage: str = "") -> None:
        self._rows = rows
        self._about = {**clip.labels, "method": method, "stage": stage}
        self._clip = clip.name

    def add(self, metric: str, value: float, unit: str, band: str = "") -> None:
        """One number."""
        self._rows.add(self._clip, metric, value, unit, **self._about, band=band)

    def scores(
        self,
        reference: np.ndarray,
        estimate: np.ndarray,
        rate: int = MODEL_RATE,
        names: Iterable[str] | None = None,
    ) -> None:
        """Metrics of a waveform (every one for None); what does not apply has no row."""
        count = min(len(reference), len(estimate))
        category = self._about["category"]
        try:
            found = evaluate_pair(reference[:count], estimate[:count], rate, names, category)
        except NotApplicable:  # a silent excerpt
            return
        for score in found:
            self.add(score.metric, score.value, score.unit, score.band)

    def heard(self, reference: np.ndarray, estimate: np.ndarray) -> None:
        """What judges a waveform of its class at 16 kHz (:func:`heard_of`).

        Intelligibility is asked of the band up to 4 kHz besides, which is all that codecs of
        8 kHz carry.
        """
        names = heard_of(self._about["category"])
        self.scores(reference, estimate, names=names)
        if "stoi" in names:
            pair = reference, estimate[: len(reference)]
            below = [resample(wave, MODEL_RATE, NARROW_RATE) for wave in pair]
            with suppress(NotApplicable):
                self.add("stoi", stoi(*below, NARROW_RATE), "1", band_name(0, NARROW_RATE / 2))

    def mel_errors(self, reference: np.ndarray, estimate: np.ndarray) -> None:
        """Mean absolute error of log-mels ``(frames, 64)``, over all and by band."""
        for band, value in band_errors(reference, estimate).items():
            self.add("mel_error", value, "nat", band)


def band_errors(reference: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """Mean absolute log-mel error in nat by band, ``""`` for all, from ``(frames, 64)`` mels."""
    centres = band_centres()
    error = np.abs(np.asarray(reference, np.float64) - estimate)
    bands = {"": float(error.mean())}
    for low, high in MEL_BANDS:
        chosen = (centres >= low) & (centres < high)
        bands[band_name(low, high)] = float(error[:, chosen].mean())
    return bands


def band_name(low: float, high: float) -> str:
    """``0.5-1 kHz`` for (500, 1000)."""
    return f"{low / 1000:g}-{high / 1000:g} kHz"


@dataclass(frozen=True)
class Bench:
    """A clip that is measured, the networks that it goes through, where its numbers go."""

    clip: Clip
    networks: Networks
    rows: ResultsBuilder

    def row(self, method: str, stage: str = "") -> Row:
        """Takes numbers about one way."""
        return Row(self.rows, self.clip, method, stage)

    def excerpt(self, seconds: float) -> Excerpt:
        """The clip's first seconds, through the front end."""
        return Excerpt.of(to_model_rate(self.clip), self.networks, seconds)


def beginning(clip: Clip, seconds: float) -> Clip:
    """The clip's first seconds."""
    return replace(clip, samples=clip.samples[: round(seconds * clip.sample_rate)])


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a clip, through the front end.

    ``wave`` is float32 ``(n,)`` at 16 kHz, at its own level; ``mel`` ``(1, frames, 64)`` and
    ``latents`` ``(1, 8, frames / 4, 16)`` are of the normalised wave; ``level`` is what
    normalisation removed.
    """

    wave: np.ndarray
    mel: torch.Tensor
    latents: torch.Tensor
    level: Gain

    @classmethod
    def of(cls, wave: np.ndarray, networks: Networks, seconds: float) -> Excerpt:
        """The first ``seconds`` of a wave at 16 kHz."""
        wave = wave[: round(seconds * networks.mel_config.sample_rate)]
        normalised, level = normalise(torch.from_numpy(wave)[None])
        mel = networks.to_mel(normalised)
        return cls(wave, mel, networks.encode(mel), level)

    @property
    def seconds(self) -> float:
        """Its length; a short clip is shorter than was asked for."""
        return len(self.wave) / MODEL_RATE

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its latents, without the batch."""
        return tuple(self.latents.shape[1:])

    def mel_error(self, mel: torch.Tensor, frames: int | None = None) -> float:
        """Mean absolute difference of a log-mel, nat, over the first ``frames``."""
        count = min(self.mel.shape[1], mel.shape[1], frames or mel.shape[1])
        return (mel[:, :count] - self.mel[:, :count]).abs().mean().item()

    def waveform(self, networks: Networks, mel: torch.Tensor, synthesis: str = "") -> np.ndarray:
        """A log-mel as sound, at the excerpt's level and length; by the networks' synthesis."""
        made = sound(networks, mel, synthesis)
        return self.level.undo(made.cpu())[0].numpy()[: len(self.wave)]


def sound(networks: Networks, mel: torch.Tensor, synthesis: str, seed: int = 0) -> torch.Tensor:
    """A log-mel as waveform ``(batch, samples)`` by a synthesis of that name, or else in use."""
    if not synthesis:
        return networks.synthesise(mel)
    return networks.vocode(mel) if synthesis == "vocoder" else synthesise(mel, synthesis, seed=seed)


def clip_seed(clip: Clip, seed: int) -> int:
    """The seed of a clip's own random codes, the same whatever other clips there are."""
    return seed * 2**32 + zlib.crc32(clip.name.encode())


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Pearson correlation of two latents over their common frames."""
    frames = min(a.shape[2], b.shape[2])
    both = torch.stack([a[:, :, :frames].flatten(), b[:, :, :frames].flatten()])
    return torch.corrcoef(both)[0, 1].item()


def fitted(
    load: Callable[..., Any], networks: Networks, *arguments: object, **options: object
) -> Any:
    """What ``audioldm-utils fit`` stored for the checkpoint; None where it stored nothing."""
    try:
        return load(
            networks.checkpoint.path, networks.checkpoint.fingerprint, *arguments, **options
        )
    except UserError:
        return None
