"""Correlations and their verification, on synthetic data whose answer is known."""

import math

import numpy as np
import pytest
import torch

from audioldm_utils.metrics import correlations as correlation


def latents(seed, batch=3, time=20):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, 8, time, 4)))


def test_perfect_copies_inverted_copies_and_gain():
    x = latents(0)
    for remove in ("", "bins", "bins and frames"):
        np.testing.assert_allclose(correlation.correlate(x, x, "latent", remove), 1.0)
        np.testing.assert_allclose(correlation.correlate(x, -3 * x, "latent", remove), -1.0)
    mel = latents(1).flatten(2)
    np.testing.assert_allclose(correlation.correlate(mel, mel + 5, "log-mel"), 1.0)


def test_hand_value_and_numpy():
    a, b = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 2.0]])
    assert correlation.correlate(a, b, "waveform").item() == pytest.approx(0.5)
    x, y = latents(1), latents(2) + 0.5 * latents(1)
    expected = [np.corrcoef(i.flatten(), j.flatten())[0, 1] for i, j in zip(x, y, strict=True)]
    np.testing.assert_allclose(correlation.correlate(x, y, "latent"), expected)
    np.testing.assert_allclose(correlation.correlate(y, x, "latent"), expected)


def test_bin_means_are_over_time_and_only_removed_if_asked():
    level = torch.linspace(-8, 0, 64)[None, None]
    a, b = (torch.from_numpy(np.random.default_rng(s).normal(size=(1, 400, 64))) for s in (1, 2))
    assert correlation.correlate(a + level, b + level, "log-mel") > 0.8
    assert abs(correlation.correlate(a + level, b + level, "log-mel", "bins")) < 0.03
    # For latents time is axis 2: a level for each channel and frequency goes, one over time stays.
    x, y = latents(1, 1, 300), latents(2, 1, 300)
    bins, ramp = 9 * latents(3, 1, 1), torch.linspace(-5, 5, 300)[None, None, :, None]
    assert correlation.correlate(x + bins, y + bins, "latent") > 0.9
    assert abs(correlation.correlate(x + bins, y + bins, "latent", "bins")) < 0.05
    assert correlation.correlate(x + ramp, y + ramp, "latent", "bins") > 0.8


def test_without_frame_means_loudness_alone_is_no_likeness():
    loudness = latents(1, 1, 300)[:, 0, :, :1]
    shape, noise = (latents(seed, 1, 300).movedim(2, 1).flatten(2) for seed in (2, 3))
    mel, follower = shape + 3 * loudness, noise + 3 * loudness
    assert correlation.correlate(mel, follower, "log-mel", "bins") > 0.8
    assert abs(correlation.correlate(mel, follower, "log-mel", "bins and frames")) < 0.1
    both = correlation.correlate(mel, mel - 2 * loudness, "log-mel", "bins and frames")
    np.testing.assert_allclose(both, 1.0)
    # Of latents each channel has its own mean over frequency.
    x, y = latents(4, 1, 300), latents(5, 1, 300)
    level = 9 * latents(6, 1, 300)[..., :1]
    assert correlation.correlate(x + level, y + level, "latent", "bins") > 0.9
    assert abs(correlation.correlate(x + level, y + level, "latent", "bins and frames")) < 0.05
    with pytest.raises(ValueError, match="remove must be"):
        correlation.correlate(x, y, "latent", "frames")


def test_silence_has_no_correlation():
    x = latents(0)
    silent = torch.full_like(x, -11.51)
    np.testing.assert_array_equal(correlation.correlate(x, silent, "latent"), 0.0)
    np.testing.assert_array_equal(correlation.correlate(silent, silent, "latent", "bins"), 0.0)
    tiny = 1e-9 * x
    np.testing.assert_allclose(correlation.correlate(x, tiny, "latent"), 1.0)


def test_envelope_reads_rms_of_a_sine_in_its_band():
    t = torch.arange(16000, dtype=torch.float64) / 16000
    wave = 0.3 * torch.sin(2 * math.pi * 1500 * t)[None]
    envelope = correlation.band_envelope(wave)
    assert envelope.shape == (1, 101, 7)
    np.testing.assert_allclose(envelope[0, 5:-5, 4], 0.3 / math.sqrt(2), rtol=1e-3)
    assert envelope[0, 5:-5, 3].max() < 1e-3


def test_where_an_excerpt_is_cut_no_band_hears_a_step():
    t = torch.arange(16123, dtype=torch.float64) / 16000
    wave = 0.3 * torch.sin(2 * math.pi * 100.3 * t)[None]  # cut anywhere
    envelope = correlation.band_envelope(wave)
    assert envelope[0, :, 5:].max() < 1e-3 * envelope[0, :, 0].max()


def test_envelope_follows_the_gate_not_the_phase():
    rng = np.random.default_rng(0)
    gate = torch.from_numpy(np.repeat(rng.random((1, 20)), 1600, axis=1))
    a, b = (torch.from_numpy(rng.normal(size=(1, 32000))) for _ in range(2))
    assert abs(correlation.correlate(gate * a, gate * b, "waveform")) < 0.05
    a, b, other = (correlation.band_envelope(wave) for wave in (gate * a, gate * b, -gate * a))
    assert correlation.correlate(a, b, "envelope", "bins") > 0.8
    assert correlation.correlate(a, other, "envelope") == pytest.approx(1.0)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"latent needs 4 non-empty axes, got shape \(2, 3\)"):
        correlation.correlate(torch.zeros(2, 3), torch.zeros(2, 3), "latent")
    with pytest.raises(ValueError, match=r"got \(1, 5, 64\) and \(1, 6, 64\)"):
        correlation.correlate(torch.zeros(1, 5, 64), torch.zeros(1, 6, 64), "log-mel")
    with pytest.raises(ValueError, match=r"32 ms \(512\) are needed"):
        correlation.band_envelope(torch.zeros(1, 100))
    with pytest.raises(ValueError, match="representation must be one of"):
        correlation.correlate(torch.zeros(1, 5), torch.zeros(1, 5), "pitch")


def test_matrix_rows_are_outputs_and_its_diagonal_is_the_correlation():
    x, y = latents(1, 4), latents(2, 5)
    y[:4] += x
    matrix = correlation.correlation_matrix(y, x, "latent", "bins")
    assert matrix.shape == (5, 4)
    np.testing.assert_allclose(np.diag(matrix), correlation.correlate(x, y[:4], "latent", "bins"))
    expected = correlation.correlate(x[1:2], y[:1], "latent", "bins").item()
    assert matrix[0, 1] == pytest.approx(expected)


def test_matrix_of_clips_of_other_lengths_uses_the_shorter_time():
    x, y = latents(1, 1, 20), latents(2, 1, 30)
    matrix = correlation.correlation_matrix(x, y, "latent")
    expected = correlation.correlate(x, y[:, :, :20], "latent").item()
    assert matrix[0, 0] == pytest.approx(expected)
