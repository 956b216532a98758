"""Griffin-Lim and the original-phase oracle: aligned, right in pitch, seeded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audioldm_utils.mel import log_mel
from audioldm_utils.phase import griffin_lim, magnitudes, with_phase


def pulses_and_tone(seconds=1.0, rate=16000):
    t = np.arange(int(seconds * rate)) / rate
    wave = 0.2 * np.sin(2 * np.pi * 1000 * t)
    wave[4000::4000] += 0.3
    return torch.from_numpy(wave.astype(np.float32))[None]


@pytest.fixture(scope="module")
def wave():
    return pulses_and_tone()


def test_magnitudes_have_the_given_mel(wave):
    mel = log_mel(wave)
    import librosa

    weights = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=64, fmin=0, fmax=8000)
    again = np.log(np.maximum(weights @ magnitudes(mel)[0], 1e-5)).T
    assert np.abs(again - mel[0].numpy()).mean() < 0.05


def test_length_is_160_a_frame_and_the_mel_comes_back(wave):
    mel = log_mel(wave)
    audio = griffin_lim(mel)
    assert audio.shape == (1, mel.shape[1] * 160)
    assert (log_mel(audio) - mel).abs().mean() < 0.35


def test_pitch_is_kept(wave):
    spectrum = np.abs(np.fft.rfft(griffin_lim(log_mel(wave))[0].numpy()))
    assert abs(spectrum.argmax() - 1000) <= 16


def test_the_oracle_is_aligned_to_the_sample():
    """With the true phase the waveform itself must lie at lag 0."""
    rng = np.random.default_rng(0)
    wave = torch.from_numpy((0.1 * rng.standard_normal((1, 16000))).astype(np.float32))
    audio = with_phase(log_mel(wave), wave)[0].numpy()
    lags = range(-100, 101)
    inner = wave[0, 1000:15000].numpy()
    scores = [float(inner @ audio[1000 + lag : 15000 + lag]) for lag in lags]
    assert lags[int(np.argmax(scores))] == 0


def test_griffin_lim_is_aligned_by_its_envelope():
    wave = torch.zeros(1, 16000)
    wave[0, 8000:8020] = 0.5
    audio = griffin_lim(log_mel(wave))[0].numpy()
    centre = (np.arange(16000) * audio**2).sum() / (audio**2).sum()
    assert abs(centre - 8010) < 40


def test_seed_decides(wave):
    mel = log_mel(wave)
    assert torch.equal(griffin_lim(mel, seed=3), griffin_lim(mel, seed=3))
    assert not torch.equal(griffin_lim(mel, seed=3), griffin_lim(mel, seed=4))


def test_batch_rows_are_independent(wave):
    mel = log_mel(wave)
    both = griffin_lim(torch.cat([mel, mel - 1.0]))
    assert both.shape[0] == 2
    assert both[0].abs().max() > both[1].abs().max()
