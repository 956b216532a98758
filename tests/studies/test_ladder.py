"""Reconstruction each way on a tiny checkpoint: every path is there, aligned, at its level."""

from __future__ import annotations

import numpy as np
import pytest

from audioldm_utils.audio.clips import Clip
from audioldm_utils.model.networks import Networks
from audioldm_utils.results.summaries import differences
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import bottleneck
from audioldm_utils.studies.rows import band_errors


@pytest.fixture(scope="module")
def networks(tiny_checkpoint):
    return Networks(tiny_checkpoint)


@pytest.fixture(scope="module")
def clip():
    t = np.arange(24000) / 48000
    noise = 0.02 * np.random.default_rng(0).standard_normal(24000)
    samples = (0.3 * np.sin(2 * np.pi * 1000 * t) + noise).astype(np.float32)
    return Clip("tone", samples, 48000, None, "a tone", "tone")


def test_every_path_has_the_clips_length(networks, clip):
    found = bottleneck.reconstruct_each_way(clip, networks)
    assert set(found.audio) == set(bottleneck.PATHS)
    assert len(found.audio["band-limit"]) == len(clip.samples)
    for path in bottleneck.PATHS[1:]:
        assert found.audio[path].shape == found.reference.shape


def test_with_the_true_phase_the_true_mel_is_nearly_the_clip(networks, clip):
    """Level, alignment and gain are all right only if the waveform itself comes back."""
    found = bottleneck.reconstruct_each_way(clip, networks)
    correlation = np.corrcoef(found.audio["mel-original-phase"], found.reference)[0, 1]
    assert correlation > 0.97


def test_every_path_is_in_the_table(networks, clip):
    rows = ResultsBuilder(networks.checkpoint.fingerprint, 0)
    bottleneck.measure_paths(clip, networks, rows, 0)
    table = rows.table()
    assert set(table["method"]) == set(bottleneck.PATHS)
    assert {"snr", "log_mel_distance", "multi_resolution_stft"} <= set(table["metric"])
    assert set(table["checkpoint"]) == {networks.checkpoint.fingerprint[:12]}


def test_band_errors_by_hand():
    reference = np.zeros((10, 64))
    estimate = reference.copy()
    estimate[:, -1] = 0.64
    found = band_errors(reference, estimate)
    assert found[""] == pytest.approx(0.01)
    assert found["0-0.5 kHz"] == 0
    assert found["4-8 kHz"] > 0.01


def test_refinement_never_loses(networks, clip):
    rows = ResultsBuilder(networks.checkpoint.fingerprint, 0)
    bottleneck.measure_refined(clip, networks, rows, 0, excerpt_seconds=2.56, refine_steps=25)
    table = rows.table()
    error = table[table["band"] == ""].set_index("method")["value"]
    assert error["refined-latent"] < error["vae"]


def test_step_costs_are_paired():
    rows = ResultsBuilder("", 0)
    for name, hard in (("a", 0.0), ("b", 10.0)):
        rows.add(name, "log_mel_distance", 1 + hard, "dB", method="mel-griffinlim")
        rows.add(name, "log_mel_distance", 3 + hard, "dB", method="vae-griffinlim")
    asked = {"VAE": ({"method": "vae-griffinlim"}, {"method": "mel-griffinlim"})}
    found = differences(rows.table(), asked, "log_mel_distance")
    assert found["difference"].tolist() == [2.0]
    assert found["low"].tolist() == [2.0]


def test_attacks_have_their_known_answers(clip):
    from audioldm_utils.metrics import snr

    changed = bottleneck.attacks()
    x = clip.samples[:16000]
    assert snr(x, changed["inverted polarity"](x), 16000) == pytest.approx(-6.02, abs=0.01)
    assert snr(x, changed["white noise at 10 dB"](x), 16000) == pytest.approx(10, abs=0.2)
    assert changed["5 ms later"](x)[80:100] == pytest.approx(x[:20])
