"""The ladder on a tiny checkpoint: every rung is there, aligned and at the clip's level."""

from __future__ import annotations

import numpy as np
import pytest

from audioldm_utils.audio.clips import Clip
from audioldm_utils.model.networks import Stages
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import bottleneck as ladder


@pytest.fixture(scope="module")
def stages(tiny_checkpoint):
    return Stages(tiny_checkpoint)


@pytest.fixture(scope="module")
def clip():
    t = np.arange(24000) / 48000
    noise = 0.02 * np.random.default_rng(0).standard_normal(24000)
    samples = (0.3 * np.sin(2 * np.pi * 1000 * t) + noise).astype(np.float32)
    return Clip("tone", samples, 48000, None, "a tone", "tone")


def test_every_rung_has_the_clips_length(stages, clip):
    found = ladder.climb(clip, stages)
    assert set(found.audio) == set(ladder.RUNGS)
    assert len(found.audio["band-limit"]) == len(clip.samples)
    for rung in ladder.RUNGS[1:]:
        assert found.audio[rung].shape == found.reference.shape


def test_with_the_true_phase_the_true_mel_is_nearly_the_clip(stages, clip):
    """Level, alignment and gain are all right only if the waveform itself comes back."""
    found = ladder.climb(clip, stages)
    correlation = np.corrcoef(found.audio["mel-original-phase"], found.reference)[0, 1]
    assert correlation > 0.97


def test_every_rung_is_in_the_table(stages, clip):
    rows = ResultsBuilder(stages.checkpoint.fingerprint, 0)
    ladder.study(clip, stages, rows, 0)
    table = rows.table()
    assert set(table["method"]) == set(ladder.RUNGS)
    assert {"snr", "log_mel_distance", "multi_resolution_stft"} <= set(table["metric"])
    assert set(table["checkpoint"]) == {stages.checkpoint.fingerprint[:12]}


def test_band_errors_by_hand():
    reference = np.zeros((10, 64))
    estimate = reference.copy()
    estimate[:, -1] = 0.64
    found = ladder.band_errors(reference, estimate)
    assert found[""] == pytest.approx(0.01)
    assert found["0-0.5 kHz"] == 0
    assert found["4-8 kHz"] > 0.01


def test_refinement_never_loses(stages, clip):
    rows = ResultsBuilder(stages.checkpoint.fingerprint, 0)
    ladder.study_refined(clip, stages, rows, 0)
    table = rows.table()
    error = table[table["band"] == ""].set_index("method")["value"]
    assert error["refined-latent"] < error["vae"]


def test_step_costs_are_paired():
    rows = ResultsBuilder("", 0)
    for name, hard in (("a", 0.0), ("b", 10.0)):
        rows.add(name, "log_mel_distance", 1 + hard, "dB", method="mel-griffinlim")
        rows.add(name, "log_mel_distance", 3 + hard, "dB", method="vae-griffinlim")
    found = ladder.step_costs(
        rows.table(), {"VAE": ("vae-griffinlim", "mel-griffinlim")}, "log_mel_distance"
    )
    assert found["mean"].tolist() == [2.0]
    assert found["low"].tolist() == [2.0]


def test_attacks_have_their_known_answers(clip):
    from audioldm_utils.metrics import snr

    changed = ladder.attacks()
    x = clip.samples[:16000]
    assert snr(x, changed["inverted polarity"](x), 16000) == pytest.approx(-6.02, abs=0.01)
    assert snr(x, changed["white noise at 10 dB"](x), 16000) == pytest.approx(10, abs=0.2)
    assert changed["5 ms later"](x)[80:100] == pytest.approx(x[:20])
