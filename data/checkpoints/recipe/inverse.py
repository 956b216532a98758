"""Fit the inverse of the mel filterbank (:mod:`audioldm_utils.model.inverse`) on train."""

from __future__ import annotations

import copy
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
from audioldm_utils.model.mel import log_mel, stft_magnitude
from recipe.data import Corpus, load_corpus
from recipe.loop import Trainer
from recipe.vae import rebuilder

#: Crops in a step, and their frames.
CROPS, FRAMES = 20, 64


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

    Where ``folder`` has a VAE, half of the mels are its reconstructions: what the inverse will
    be given. It belongs to no checkpoint for that; any VAE's mel is a little smoother.

    Args:
        data, folder, budget, seed, device: as for every component.
        start: anything but None goes on from the shipped weights, which no checkpoint holds.
        learning_rate: peak.
    """
    corpus = load_corpus(data)
    tune = np.flatnonzero(corpus.held)
    torch.manual_seed(seed)
    inverse = copy.deepcopy(load_inverse()).requires_grad_(True) if start else MelInverse()
    inverse.to(device)
    rebuild = rebuilder(folder, device) if (Path(folder) / "vae").is_dir() else None

    def loss(rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        wave = corpus.varied_audio(rng, CROPS, FRAMES).to(device)
        mel, target = log_mel(wave), stft_magnitude(wave).transpose(1, 2)
        if rebuild:
            mel = rebuild(mel, rng)
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
        evaluate=lambda average: inverse_error(average["inverse"], corpus, tune),
    )
    average = trainer.run()["inverse"].cpu()
    save_inverse(average, Path(folder) / "inverse.safetensors")
    return average
