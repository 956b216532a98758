"""Pitch metrics: known answers, attacks, and what they refuse."""

import numpy as np
import pytest

from audioldm_utils.metrics import (
    NotApplicable,
    chroma_correlation,
    comb_excess,
    comb_share,
    f0_error,
)

RATE = 16000
TIME = np.arange(2 * RATE) / RATE


def tone(frequency, partials=8):
    return sum(np.sin(2 * np.pi * frequency * k * TIME) / k for k in range(1, partials + 1)) * 0.1


def melody(semitones=0.0):
    steps = np.repeat([0, 4, 7, 12], len(TIME) // 4)
    phase = np.cumsum(220 * 2 ** ((steps + semitones) / 12)) / RATE
    return sum(np.sin(2 * np.pi * k * phase) / k for k in range(1, 5)) * 0.1


def noise(seed=0):
    return np.random.default_rng(seed).standard_normal(len(TIME)) * 0.1


def test_chroma_of_the_same_sound_at_any_level_polarity_or_octave_colour():
    assert chroma_correlation(melody(), melody(), RATE) == pytest.approx(1)
    assert chroma_correlation(melody(), -0.1 * melody(), RATE) == pytest.approx(1, abs=1e-6)


def test_chroma_hears_a_wrong_pitch_and_a_comb():
    assert chroma_correlation(melody(), melody(3), RATE) < 0.2
    assert chroma_correlation(melody(), tone(100), RATE) < 0.5
    assert abs(chroma_correlation(melody(), noise(), RATE)) < 0.3


def test_chroma_survives_a_small_delay_and_a_little_noise():
    late = np.roll(melody(), 80)
    assert chroma_correlation(melody(), late, RATE) > 0.98
    assert chroma_correlation(melody(), melody() + 0.03 * noise(), RATE) > 0.9


def test_comb_share_is_one_for_a_buzz_and_the_width_of_the_teeth_for_noise():
    assert comb_share(tone(100, 40), RATE) > 0.99
    shares = [comb_share(noise(seed), RATE) for seed in range(8)]
    assert np.mean(shares) == pytest.approx(0.06, abs=0.005)
    assert comb_share(tone(437), RATE) < 0.01


def test_comb_excess_forgives_what_the_reference_has():
    assert comb_excess(tone(200), tone(200), RATE) == 0
    assert comb_excess(tone(437), tone(100, 40), RATE) > 0.98


@pytest.mark.parametrize("cents", [0, 50, 100])
def test_f0_error_reads_cents(cents):
    shifted = tone(150 * 2 ** (cents / 1200))
    assert f0_error(tone(150), shifted, RATE) == pytest.approx(cents, abs=10)
    assert f0_error(0.2 * tone(150), -0.2 * shifted, RATE) == pytest.approx(cents, abs=10)


def test_what_does_not_apply():
    short = slice(0, RATE // 2)
    with pytest.raises(NotApplicable):
        comb_share(noise()[short], RATE)
    for metric in (chroma_correlation, comb_excess):
        with pytest.raises(NotApplicable):
            metric(noise()[short], noise(1)[short], RATE)
    with pytest.raises(NotApplicable, match="voiced in both"):
        f0_error(tone(150), noise(), RATE)
    with pytest.raises(NotApplicable, match="silent"):
        chroma_correlation(melody(), np.zeros_like(TIME), RATE)
