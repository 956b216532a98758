"""The card's figures, on sounds whose answer is known and on the tiny checkpoint."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from recipe.classifier import pairwise
from recipe.data import Corpus
from recipe.evaluate import heard, sound_figures

from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.mel import log_mel
from audioldm_utils.model.networks import Networks


def tone(hertz: float, seconds: float = 1.28) -> np.ndarray:
    """A tone of three partials, a whole number of latent frames long."""
    time = np.arange(round(seconds * 16000)) / 16000
    partials = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in (1, 2, 3))
    return (0.25 * partials).astype(np.float32)


def test_identity_is_perfect_and_what_does_not_apply_is_left_out():
    found = heard(tone(440), tone(440), "piano")
    assert set(found) == {"log_mel", "multi_resolution_stft", "visqol", "chroma", "comb"}
    assert found["log_mel"] == 0
    assert found["chroma"] == pytest.approx(1)
    assert found["comb"] < 0.05
    assert "comb" not in heard(tone(440), tone(440), "rain")
    assert "chroma" not in heard(tone(440, 0.64), tone(440, 0.64), "piano")  # shorter than a second


def test_a_buzz_is_told_from_a_tone():
    assert heard(tone(440), tone(100), "piano")["comb"] > 0.95


def test_mean_correlation_of_pairs_by_hand():
    one, other = np.array([0.0, 1, 2, 3]), np.array([3.0, 2, 1, 0])
    groups = np.array([[one, 2 * one + 1, other], [one, one, one]])
    assert pairwise(groups) == pytest.approx([(1 - 1 - 1) / 3, 1])


def test_every_path_of_a_checkpoint_is_told(tiny_codec):
    waves = [tone(440), tone(300)]
    audio = [np.round(wave * 32767).astype(np.int16) for wave in waves]
    mels = [log_mel(torch.from_numpy(wave)[None])[0].numpy().astype(np.float16) for wave in waves]
    table = pd.DataFrame({
        "file": ["piano_1.flac", "dog_1.flac"], "class": ["piano", "dog"],
        "caption": ["a piano", "a dog"], "frames": [len(mel) for mel in mels],
        "source_repo": "x", "source_path": ["a", "b"],
    })  # fmt: skip
    start = np.cumsum([0, *table["frames"]])
    corpus = Corpus(table, np.concatenate(audio), np.concatenate(mels), start)
    found = sound_figures(Networks(load(tiny_codec), window=None), corpus, corpus)
    paths = {f"{s}-{n}" for s in ("mel", "vae") for n in ("vocoder", "griffin-lim", "inverse")}
    assert paths | {"original"} <= set(found)
    assert found["mel-inverse"]["chroma"]["n"] == 1
    assert found["mel-inverse"]["log_mel"]["n"] == 2
    assert "stoi" not in found["whole_path"]
    assert found["auto"] == "vocoder"
    assert found["vocoder_ratio_tonal"] > found["inverse_ratio_tonal"]
    assert found["inverse_re_plain_tonal"] < 1
