"""Streams by hops: the same whatever the pieces, little delay, and a phase without seams."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audioldm_utils.errors import UserError
from audioldm_utils.metrics import evaluate_pair
from audioldm_utils.model import HOP, hops
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.mel import griffin_lim_from, log_mel, stft_magnitude
from audioldm_utils.model.networks import MEL_CONTEXT, PEAK, Networks
from tests.model.test_streaming import clip


@pytest.fixture(scope="module")
def networks(tiny_checkpoint):
    return Networks(load(tiny_checkpoint, ()), synthesis="vocoder")


def through(networks, samples, size, peak=1.0, window=0.32, hop=0.08, ahead=0.08):
    stream, late = hops.Rolling(networks, window, hop, ahead, peak), 0
    pieces = []
    for start in range(0, len(samples), size):
        pieces.append(stream.push(samples[start : start + size]))
        if len(pieces[-1]):
            late = max(late, stream.taken - stream.given + len(pieces[-1]))
    pieces.append(stream.finish())
    return np.concatenate(pieces), late


@pytest.mark.parametrize("synthesis", ["vocoder", "inverse", "griffin-lim"])
def test_the_size_of_the_pieces_does_not_matter(tiny_checkpoint, synthesis):
    networks, samples = Networks(load(tiny_checkpoint, ()), synthesis=synthesis), clip(9001)
    whole, _ = through(networks, samples, 9001)
    assert whole.shape == samples.shape
    assert np.abs(whole).max() > 1e-3
    for size in (160, 777):
        assert np.abs(through(networks, samples, size)[0] - whole).max() < 1e-5


@pytest.mark.parametrize("n", [0, 1, 300, 1281, 2560, 2561])
def test_as_many_samples_come_out_as_go_in(networks, n):
    assert through(networks, clip(n), 160)[0].shape == (n,)


def test_a_sample_waits_for_its_hop_and_what_is_ahead(networks):
    _, late = through(networks, clip(32000), 160)
    assert late <= (8 + 8 + MEL_CONTEXT + 1) * HOP


def test_one_hop_over_a_whole_clip_is_one_pass(networks):
    samples = clip(9600)
    mel = networks.to_mel(torch.from_numpy(samples)[None] * (PEAK / 0.7))
    expected = networks.vocode(networks.decode(networks.encode(mel)))[0].numpy() * (0.7 / PEAK)
    found, _ = through(networks, samples, 9600, 0.7, window=2, hop=1, ahead=1)
    assert np.abs(found - expected).max() < 1e-5


def test_hops_whose_windows_see_the_whole_past_give_the_sound_before_a_change(networks):
    """What is further ahead than said has no effect."""
    samples, hop = clip(16000), 0.08
    other = samples.copy()
    other[12000:] = 0
    first, second = (through(networks, s, 160, hop=hop)[0] for s in (samples, other))
    settled = 12000 - (8 + 8 + MEL_CONTEXT) * HOP
    assert np.array_equal(first[:settled], second[:settled])
    assert not np.allclose(first[settled:], second[settled:])


def test_a_phase_that_goes_on_is_as_good_as_one_of_the_whole_sound(monkeypatch):
    """From true magnitudes of chords and noise; a phase begun anew each hop is worse."""
    time = np.arange(32000) / 16000
    samples = 0.1 * sum(np.sin(2 * np.pi * f * time * (1 + 0.05 * time)) for f in (220, 331, 587))
    samples = torch.from_numpy(samples + 0.01 * np.random.default_rng(0).standard_normal(32000))
    magnitude = stft_magnitude(samples.float()[None])
    mel = log_mel(samples.float()[None])

    def distance(forget=False):
        where = iter(range(0, 200, 16))
        phased, pieces = hops.Phased("griffin-lim"), []
        monkeypatch.setattr(phased, "_magnitude", lambda _: magnitude[:, :, seen])
        for start in where:
            end, last = min(200, start + 16), min(200, start + 32)
            seen = slice(start - phased._mel.shape[1], last)
            pieces.append(
                phased.push(mel[:, start:end], mel[:, end:last])[:, : (end - start) * HOP]
            )
            if forget:
                phased._given = phased._given[:0]
        return score(torch.cat(pieces, 1)[0])

    def score(found):
        names = ["multi_resolution_stft"]
        (one,) = evaluate_pair(samples.float().numpy(), found.numpy(), 16000, names=names)
        return one.value

    whole = score(griffin_lim_from(magnitude)[0])
    assert distance() < 1.2 * whole
    assert distance(forget=True) > 1.5 * distance()


def test_impossible_hops(networks):
    with pytest.raises(UserError, match="too short for a hop"):
        hops.Rolling(networks, window=0.32, hop=0.16, ahead=0.24)
    with pytest.raises(UserError, match="ahead must be"):
        hops.Rolling(networks, ahead=0.0)
