"""Fitting a checkpoint's compensation on a folder of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from audioldm_utils import audio
from audioldm_utils.enhance.bands import (
    Compensation,
    compensation_path,
    fit_compensation,
    load_compensation,
    save_compensation,
)
from audioldm_utils.stages import Stages


def fit(
    stages: Stages,
    folder: str | Path,
    limit: int | None = None,
    max_seconds: float = 5.0,
    progress: Callable[[int, int], None] | None = None,
) -> Compensation:
    """Fit the blind compensation of a checkpoint on clips that it will not be judged on.

    Args:
        stages: of the checkpoint.
        folder: clips, as :func:`audioldm_utils.audio.find_clips` takes them.
        limit: number of clips, spread evenly over the folder; None is all.
        max_seconds: of each clip.
        progress: gets the number of clips done and the number of all.

    Raises:
        UserError: the folder holds no clips.
    """
    found = audio.find_clips(folder)
    count = min(len(found), limit or len(found))
    chosen = [found[round(i * len(found) / count)] for i in range(count)]

    def waveforms() -> Iterator[tuple[str, np.ndarray]]:
        for done, info in enumerate(chosen):
            clip = audio.load_clip(info, max_seconds)
            yield clip.name, audio.normalise(audio.to_model_rate(clip))[0].astype(np.float32)
            if progress:
                progress(done + 1, count)

    def reconstruct(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mel = stages.decode(stages.encode(stages.to_mel(torch.from_numpy(waveform)[None])))
        vocoded = stages.vocode(mel)[0, : len(waveform)]
        return mel[0].cpu().numpy(), vocoded.cpu().numpy()

    return fit_compensation(waveforms(), reconstruct, stages.checkpoint.fingerprint)


def fit_if_missing(stages: Stages, folder: str | Path, limit: int = 4) -> str:
    """Fit and store a checkpoint's compensation where there is none, so that a chapter can run.

    Returns:
        How the compensation that is now there came about, for a sentence.
    """
    checkpoint = stages.checkpoint
    if compensation_path(checkpoint.path, checkpoint.fingerprint).exists():
        found = load_compensation(checkpoint.path, checkpoint.fingerprint)
        return f"fitted before on {len(found.clips)} clips"
    found = fit(stages, folder, limit)
    save_compensation(found, checkpoint.path)
    return f"fitted on {len(found.clips)} clips of this very run, for want of another"
