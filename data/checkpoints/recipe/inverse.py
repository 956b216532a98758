"""Fit the inverse of the mel filterbank (:mod:`audioldm_utils.model.inverse`) on train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from audioldm_utils.model.inverse import (
    FLOOR,
    MelInverse,
    load_inverse,
    mel_consistent,
    save_inverse,
)
from audioldm_utils.model.mel import MelConfig, log_mel, stft_magnitude
from recipe.data import Corpus, load_corpus
from recipe.loop import Trainer
from recipe.split import tune_mask

#: Crops in a step, and their frames.
CROPS, FRAMES = 20, 64
#: Frames read for a crop: a faster one needs more.
SPEED = (0.8, 1.25)


def crop_audio(
    corpus: Corpus, rng: np.random.Generator, weights: np.ndarray, count: int, frames: int
) -> torch.Tensor:
    """Crops ``(count, frames * 160)`` at other speeds and levels, some of them two at once.

    Most instruments of train play a handful of pitches; at other speeds they play others.
    """
    hop = MelConfig().hop_length
    longest = int(np.ceil(frames * SPEED[1])) + 1
    out = np.zeros((count, frames * hop), np.float32)
    pairs = rng.random(count) < 0.25
    for row in range(count):
        for layer in range(2 if pairs[row] else 1):
            clips, first = corpus.crops(rng, 1, longest, weights)
            wave = corpus.audio_batch(clips, first, longest)[0].numpy()
            speed = np.exp(rng.uniform(*np.log(SPEED))) if rng.random() < 0.6 else 1.0
            places = np.arange(out.shape[1]) * speed
            gain = 10 ** (rng.uniform(-25, 3) / 20) if rng.random() < 0.5 or layer else 1.0
            out[row] += gain * np.interp(places, np.arange(len(wave)), wave).astype(np.float32)
    return torch.from_numpy(out)


def magnitude_loss(estimate: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
    """L1 of the log magnitudes, and of the magnitudes relative to the crop's mean.

    Args:
        estimate: ``ln(magnitude + FLOOR)``. target: magnitudes; both ``(batch, frames, 513)``.
    """
    log = (estimate - (target + FLOOR).log()).abs().mean()
    level = target.mean((1, 2), keepdim=True).clamp(min=FLOOR)
    return {"log": log, "linear": ((estimate.exp() - FLOOR - target).abs() / level).mean()}


@torch.no_grad()
def inverse_error(inverse: torch.nn.Module, corpus: Corpus, clips: np.ndarray) -> dict[str, float]:
    """Mean over clips of the log error before and after the mel is made to agree."""
    rows = []
    for clip in clips:
        target = stft_magnitude(torch.from_numpy(corpus.waveform(clip))[None]).transpose(1, 2)
        mel = torch.from_numpy(corpus.log_mel(clip))[None]
        estimate = inverse(mel)
        consistent = mel_consistent((estimate.exp() - FLOOR).clamp(min=1e-7), mel)
        losses = magnitude_loss((consistent + FLOOR).log(), target)
        rows.append(
            {
                "raw_log": magnitude_loss(estimate, target)["log"].item(),
                **{key: value.item() for key, value in losses.items()},
            }
        )
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def train_inverse(
    data: str | Path,
    folder: str | Path,
    budget: float,
    seed: int = 0,
    device: str = "cpu",
    start: str | Path | None = None,
    learning_rate: float = 1e-3,
) -> torch.nn.Module:
    """Fit, and write ``inverse.safetensors`` under ``folder``.

    Args:
        data, folder, budget, seed, device: as for every component.
        start: anything but None goes on from the shipped weights, which no checkpoint holds.
        learning_rate: peak.
    """
    corpus = load_corpus(data)
    held = tune_mask(corpus.table)
    weights = np.where(held, 0.0, corpus.table["frames"].to_numpy(float))
    torch.manual_seed(seed)
    inverse = load_inverse().requires_grad_(True) if start else MelInverse()
    inverse.to(device)

    def loss(rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        wave = crop_audio(corpus, rng, weights, CROPS, FRAMES).to(device)
        mel, target = log_mel(wave), stft_magnitude(wave).transpose(1, 2)
        losses = magnitude_loss(inverse(mel), target)
        return losses["log"] + losses["linear"], {k: v.item() for k, v in losses.items()}

    trainer = Trainer(
        "inverse",
        {"inverse": inverse},
        loss,
        folder,
        budget,
        learning_rate=learning_rate,
        seed=seed,
        evaluate=lambda average: inverse_error(average["inverse"], corpus, np.flatnonzero(held)),
    )
    average = trainer.run()["inverse"].cpu()
    save_inverse(average, Path(folder) / "inverse.safetensors")
    return average
