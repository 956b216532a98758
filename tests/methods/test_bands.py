"""Mel bands: compensation, tonality and side information, on signals whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from audioldm_utils.errors import UserError
from audioldm_utils.methods.enhance import bands
from audioldm_utils.methods.enhance.phase import refine_phase
from audioldm_utils.methods.enhance.stft import log_energy_of, mel_weights
from audioldm_utils.studies.compensation import fit_compensation
from tests.sounds import RATE, noise_clip, tone


def test_constant_gain_scales_every_band():
    x = noise_clip()
    gain = np.full((len(x) // 160, 64), 0.7)
    assert np.abs(bands.apply_gain(x, gain) - np.exp(0.7) * x).max() < 1e-4
    with pytest.raises(ValueError, match="got shape"):
        bands.apply_gain(x, gain[:-1])


def dulled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A reconstruction that loses 1 nat from 4 to 8 kHz."""
    gain = np.zeros((len(x) // 160, 64))
    gain[:, bands.high_bands()] = -1.0
    y = bands.apply_gain(x, gain)
    return bands.mel_of(y), y


def test_blind_compensation_finds_a_known_loss_on_other_clips():
    clips = [(f"c{i}", noise_clip(seed=i) * (0.3 + i)) for i in range(3)]
    fit = fit_compensation(clips, dulled, "f" * 64, shrink=10)
    judged = noise_clip(seed=9)
    _, y = dulled(judged)
    high = bands.high_bands()[1:]
    before = bands.mel_of(y) - bands.mel_of(judged)
    in_high = np.isin(np.arange(64), bands.high_bands())
    fixed = bands.apply_gain(y, fit.gain(bands.mel_of(y)) * in_high)
    after = bands.mel_of(fixed) - bands.mel_of(judged)
    assert before[:, high].mean() == pytest.approx(-1, abs=0.1)
    assert abs(after[:, high].mean()) < 0.2 * abs(before[:, high].mean())
    assert np.abs(after[:, :40]).mean() < 0.05
    assert fit.clips == ("c0", "c1", "c2")


def partials(seconds: float = 0.8, seed: int = 0) -> np.ndarray:
    """A held tone of 430 Hz with partials up to 8 kHz, between the bins."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16000)) / 16000
    phases = draw.uniform(0, 6.28, 18)
    parts = [np.sin(6.283 * 430 * (k + 1) * time + phase) for k, phase in enumerate(phases)]
    return (0.05 * np.sum(parts, 0)).astype(np.float32)


def test_energy_of_a_sine_and_of_noise_by_theory():
    x = noise_clip(20.0)
    excess = (bands.energy_of(x) - bands.mel_of(x))[:, 50:].mean(0)
    # The mean of logarithms lies a little below the logarithm of means.
    assert np.abs(excess - bands.noise_concentration()[50:]).max() < 0.03
    # A sine fills three bins of a Hann window, with magnitudes 1/2, 1, 1/2.
    sine = tone(376 * RATE / 1024, seconds=0.5, level=1.0)
    held = (bands.energy_of(sine) - bands.mel_of(sine))[10:40]
    weights = mel_weights()[:, 375:378]
    magnitudes = np.array([0.5, 1.0, 0.5])
    band = weights.sum(1).argmax()
    row = weights[band]
    expected = 0.5 * np.log(row @ magnitudes**2) - np.log(row @ magnitudes)
    assert np.allclose(held[:, band], expected, atol=0.01)


def test_tonality_tells_tones_from_noise_of_any_envelope():
    noise, tone = (bands.tonality(bands.mel_of(x)) for x in (noise_clip(), partials()))
    sloped = bands.mel_of(noise_clip()) - np.linspace(0, 6, 64)
    assert noise.shape == (80,)
    assert noise.mean() < 0.2
    assert bands.tonality(sloped).mean() < 0.3
    assert tone.mean() > 0.6


def test_energies_that_a_tonal_mel_holds_are_learnt_from_other_clips():
    clips = [(f"n{i}", noise_clip(seed=i)) for i in range(3)]
    clips += [(f"t{i}", partials(seed=i)) for i in range(3)]
    fit = fit_compensation(clips, lambda x: (bands.mel_of(x), x), "f" * 64, shrink=1)
    for judged in (noise_clip(seed=9), partials(seed=9)):
        target = fit.energy_target(bands.mel_of(judged))[20:60, 50:]
        power = np.exp(2 * bands.energy_of(judged))[20:60, 50:]
        assert 10 * np.log10(np.exp(2 * target).sum() / power.sum()) == pytest.approx(0, abs=1)


def test_refinement_reaches_the_energies_of_a_tone_from_noise():
    x, start = partials(), noise_clip(seed=2) * 0.3
    high = bands.high_bands()

    def lacking(y: np.ndarray) -> float:
        energies = (np.exp(2 * bands.energy_of(z)[20:60, high]).sum() for z in (y, x))
        return float(10 * np.log10(np.divide(*energies)))

    by_mel, _ = refine_phase(start, bands.mel_of(x), 6, bands=high)
    by_energy, _ = refine_phase(start, bands.energy_of(x), 6, bands=high, measure=log_energy_of)
    assert lacking(by_mel) < -2
    assert abs(lacking(by_energy)) < 1


def test_compensation_round_trip_and_refusals(tmp_path):
    folder = tmp_path / "checkpoint"
    fit = bands.identity_compensation("a" * 64)
    path = bands.save_compensation(fit, folder)
    again = bands.load_compensation(folder, "a" * 64)
    assert np.allclose(again.scale, fit.scale, atol=1e-4)
    assert np.allclose(again.concentration, fit.concentration, atol=1e-4)
    assert path.read_text() == again.to_json()
    with pytest.raises(UserError, match="audioldm-utils fit"):
        bands.load_compensation(folder, "b" * 64)
    other = bands.compensation_path(folder, "b" * 64)
    other.parent.mkdir(parents=True)
    other.write_text(fit.to_json())
    with pytest.raises(UserError, match="belongs to another checkpoint"):
        bands.load_compensation(folder, "b" * 64)
    path.write_text('{"fingerprint": "a"}')
    with pytest.raises(UserError, match="not a compensation file"):
        bands.load_compensation(folder, "a" * 64)
    with pytest.raises(UserError, match="no clips"):
        fit_compensation([], dulled, "f" * 64)


def test_side_information_halves_the_band_error_within_its_rate():
    x = noise_clip(2.0)
    x *= (0.2 + np.abs(np.sin(np.arange(len(x)) / 3000))).astype("f4")
    shape = np.zeros((len(x) // 160, 64))
    shape[:, bands.high_bands()] = -1.2 + np.sin(np.arange(len(shape)) / 25)[:, None]
    y = bands.apply_gain(x, shape)
    fit = bands.identity_compensation("a" * 64)
    reference, estimate = bands.energy_of(x), bands.energy_of(y)
    gain, bits = bands.high_bands_by_side_information(reference, estimate, fit, 400)
    assert 0 < bits <= 400
    assert not gain[:, :50].any()
    fixed = bands.energy_of(bands.apply_gain(y, gain))
    high = bands.high_bands()
    before = np.abs(estimate - reference)[:, high].mean()
    assert np.abs(fixed - reference)[:, high].mean() < 0.5 * before
