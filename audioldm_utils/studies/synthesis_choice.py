"""Which synthesis ``auto`` stands for: measured once for a checkpoint, on clips not judged on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio import clips as audio
from audioldm_utils.audio.clips import Clip
from audioldm_utils.audio.survey import loaded, spread_clips
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write
from audioldm_utils.metrics.signal import multi_resolution_stft
from audioldm_utils.metrics.statistics import compare_pairs
from audioldm_utils.model.networks import Networks
from audioldm_utils.model.synthesis import SYNTHESES, synthesis_path
from audioldm_utils.studies.rows import sound

#: The rule, as it is stored beside the choice.
RULE = (
    "the synthesis of the least mean multi-resolution STFT distance through the VAE; the vocoder,"
    " unless that one is nearer over the clips with p < 0.05 (signs of whole recordings flipped)"
)
LEVEL = 0.05


@dataclass(frozen=True)
class Choice:
    """What was measured: distances of each clip, ``(clips,)`` a synthesis, and what follows."""

    synthesis: str
    distances: dict[str, np.ndarray]
    p: float  # of the nearest one against the vocoder; 1 where that is the nearest
    path: Path

    @property
    def sentences(self) -> list[str]:
        """For people."""
        shown = ", ".join(f"{name} {values.mean():.3f}" for name, values in self.distances.items())
        clips = len(self.distances["vocoder"])
        return [
            f"mean distance over {clips} clips: {shown}",
            f"{self.synthesis} (p = {self.p:.4f}); {self.path}",
        ]


def choose(
    distances: dict[str, np.ndarray], recordings: Sequence[str] | None = None
) -> tuple[str, float]:
    """The rule :data:`RULE`: name and p; fewer than two clips keep the vocoder."""
    best = min(distances, key=lambda name: distances[name].mean())
    if best == "vocoder" or len(distances["vocoder"]) < 2:
        return "vocoder", 1.0
    p = compare_pairs(distances[best], distances["vocoder"], recordings=recordings).p
    return (best if p < LEVEL else "vocoder"), p


def fit(
    networks: Networks,
    folder: str | Path,
    limit: int | None = None,
    max_seconds: float = 5.0,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = print,
) -> Choice:
    """Measure each synthesis on clips of a folder, store the choice in the checkpoint.

    Args:
        folder: clips on which nothing will be judged.
        limit, max_seconds, progress, say: as of ``compensation.fit``.

    Raises:
        UserError: the folder holds no clips that can be used.
    """
    spread = spread_clips(folder, limit)
    measured: list[Clip] = []
    rows: dict[str, list[float]] = {name: [] for name in SYNTHESES}
    for clip in loaded(spread, max_seconds, say):
        wave = audio.normalise(audio.to_model_rate(clip))[0].astype(np.float32)
        if not wave.any():
            continue
        mel = networks.decode(networks.encode(networks.to_mel(torch.from_numpy(wave)[None])))
        for name, values in rows.items():
            estimate = sound(networks, mel, name)[0, : len(wave)].cpu().numpy()
            values.append(multi_resolution_stft(wave, estimate, MODEL_RATE))
        measured.append(clip)
        if progress:
            progress(len(measured), len(spread))
    if not measured:
        raise UserError(f"{folder} holds no sound to measure a synthesis on.")
    distances = {name: np.array(values) for name, values in rows.items()}
    synthesis, p = choose(distances, [clip.recording for clip in measured])
    checkpoint = networks.checkpoint
    path = synthesis_path(checkpoint.path, checkpoint.fingerprint)
    record: dict[str, Any] = {
        "synthesis": synthesis,
        "fingerprint": checkpoint.fingerprint,
        "rule": RULE,
        "p": round(p, 6),
        "mean_distance": {name: round(float(v.mean()), 6) for name, v in distances.items()},
        "clips": [clip.name for clip in measured],
        "max_seconds": max_seconds,
    }
    atomic_write(path, json.dumps(record, indent=1) + "\n")
    return Choice(synthesis, distances, p, path)
