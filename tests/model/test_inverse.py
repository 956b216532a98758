"""The fitted inverse of the mel: consistent with its mel, sharper than the pseudo-inverse."""

import numpy as np
import pytest
import torch

from audioldm_utils.errors import UserError
from audioldm_utils.metrics import chroma_correlation, multi_resolution_stft
from audioldm_utils.model.inverse import (
    MelInverse,
    inverse_magnitude,
    load_inverse,
    mel_consistent,
    save_inverse,
)
from audioldm_utils.model.mel import (
    MelConfig,
    griffin_lim,
    linear_magnitude,
    log_mel,
    mel_filterbank,
    stft_magnitude,
)
from audioldm_utils.model.synthesis import synthesise


def melody(seconds=1.5, rate=16000):
    steps = np.repeat([0, 3, 7, 10, 12], round(seconds * rate / 5))
    phase = np.cumsum(262 * 2 ** (steps / 12)) / rate
    wave = sum(np.sin(2 * np.pi * k * phase) / k**1.5 for k in range(1, 9))
    return torch.from_numpy((0.5 * wave / np.abs(wave).max()).astype(np.float32))[None]


def test_the_network_is_small_and_shipped():
    network = load_inverse()
    assert sum(p.numel() for p in network.parameters()) < 2.5e6
    assert not any(p.requires_grad for p in network.parameters())


def test_magnitudes_have_the_mel_that_was_given():
    mel = log_mel(melody())
    magnitude = inverse_magnitude(mel)
    assert magnitude.shape == (1, 513, mel.shape[1])
    weights = mel_filterbank(MelConfig(), torch.float32, "cpu")
    again = (weights @ magnitude).clamp(min=1e-5).log().transpose(1, 2)
    assert (again - mel).abs().mean() < 0.05


def test_consistency_of_the_true_magnitudes_changes_nothing():
    wave = melody()
    true = stft_magnitude(wave).transpose(1, 2)
    again = mel_consistent(true, log_mel(wave))
    assert (again - true).abs().sum() < 1e-4 * true.sum()
    assert torch.equal(again[..., 0], true[..., 0])  # no band holds 0 Hz


def test_nearer_to_the_truth_than_the_pseudo_inverse():
    wave = melody()
    true, mel = stft_magnitude(wave), log_mel(wave)
    fitted, plain = inverse_magnitude(mel), linear_magnitude(mel)
    assert (fitted - true).abs().sum() < 0.75 * (plain - true).abs().sum()
    sounds = wave, synthesise(mel, "inverse"), griffin_lim(mel)
    x, ours, theirs = (y[0].numpy() for y in sounds)
    assert multi_resolution_stft(x, ours, 16000) < multi_resolution_stft(x, theirs, 16000)
    assert chroma_correlation(x, ours, 16000) > 0.9


def test_a_batch_and_its_items_agree():
    mel = torch.cat([log_mel(melody()), log_mel(0.1 * melody())])
    together = inverse_magnitude(mel)
    for row in range(2):
        alone = inverse_magnitude(mel[row : row + 1])[0]
        assert torch.allclose(alone, together[row], rtol=1e-3, atol=1e-5)


def test_a_file_gives_back_what_was_saved(tmp_path):
    network = MelInverse(width=16, hidden=32, blocks=1, kernel=3)
    save_inverse(network, tmp_path / "small.safetensors")
    again = load_inverse(tmp_path / "small.safetensors")
    assert again.settings == network.settings
    for mine, theirs in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine.half().float(), theirs)


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="64"):
        inverse_magnitude(torch.zeros(1, 10, 32))
    with pytest.raises(ValueError, match="NaN"):
        inverse_magnitude(torch.full((1, 10, 64), float("nan")))
    (tmp_path / "x.safetensors").write_bytes(b"junk")
    with pytest.raises(UserError, match="no inverse of the mel"):
        load_inverse(tmp_path / "x.safetensors")
