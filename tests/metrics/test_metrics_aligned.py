"""Distances that forgive a small delay: attacks with known answers."""

import numpy as np
import pytest

from audioldm_utils.metrics import (
    REGISTRY,
    NotApplicable,
    default_names,
    evaluate_pair,
    log_mel_distance,
    log_mel_distance_aligned,
    multi_resolution_stft,
    multi_resolution_stft_aligned,
)
from tests.sounds import RATE, noise, speech_like

PAIRS = [
    (log_mel_distance, log_mel_distance_aligned),
    (multi_resolution_stft, multi_resolution_stft_aligned),
]
both = pytest.mark.parametrize(("plain", "aligned"), PAIRS)


def late(x, milliseconds, rate=RATE):
    """Of a sound that goes on before and after, the same stretch later."""
    return np.roll(x, round(milliseconds * rate / 1000))


@both
def test_a_delay_inside_the_range_costs_next_to_nothing(plain, aligned):
    for x in (noise(), speech_like()):
        for milliseconds in (5, -7.3, 10):
            y = late(x, milliseconds)
            assert aligned(x, y, RATE) < 0.05 * plain(x, y, RATE)


@both
def test_a_delay_outside_the_range_costs_what_is_beyond_it(plain, aligned):
    x = speech_like()
    for milliseconds in (25, -25):
        assert aligned(x, late(x, milliseconds), RATE) > 0.5 * plain(x, late(x, milliseconds), RATE)


@both
def test_what_is_no_delay_gains_next_to_nothing(plain, aligned):
    x = speech_like()
    for y in (x + 0.5 * x.std() * noise(3, 1.5, 1.0), noise(4, 1.5)):
        assert aligned(x, y, RATE) == pytest.approx(plain(x, y, RATE), rel=0.03)
    assert aligned(noise(0), noise(1), RATE) == pytest.approx(
        plain(noise(0), noise(1), RATE), rel=0.03
    )


@both
def test_a_delay_that_changes_and_an_echo_are_not_forgiven(plain, aligned):
    x = noise()
    half = len(x) // 2
    y = np.concatenate([late(x, 8)[:half], late(x, -8)[half:]])
    assert aligned(x, y, RATE) > 0.4 * plain(x, late(x, 8), RATE)
    assert aligned(x, x + late(x, 8), RATE) > 0.5 * plain(x, x + late(x, 8), RATE)


@both
def test_the_reference_comes_first(plain, aligned):
    loud, quiet = noise(), 1e-5 * noise(1)  # at the floor, where the reference sets it
    assert aligned(loud, quiet, RATE) != pytest.approx(aligned(quiet, loud, RATE), rel=1e-3)
    x = speech_like()
    early, delayed = aligned(x, late(x, -4), RATE), aligned(late(x, -4), x, RATE)
    assert max(early, delayed) < 0.05 * plain(x, late(x, -4), RATE)


@both
def test_another_sample_rate(plain, aligned):
    x = noise(seconds=3.6)  # 1.2 s at 48 kHz
    y = late(x, 5, 48000)
    assert aligned(x, y, 48000) < 0.05 * plain(x, y, 48000)


def test_too_short_or_silent_but_for_its_ends():
    short, silent = noise(seconds=0.08), noise()
    silent[200:-150] = 0
    for _, aligned in PAIRS:
        with pytest.raises(NotApplicable):
            aligned(short, short, RATE)
        with pytest.raises(NotApplicable, match="silent"):
            aligned(np.where(np.arange(len(silent)) < 150, silent, 0), silent, RATE)


def test_they_are_computed_where_they_are_named_and_only_there():
    names = [aligned.__name__ for _, aligned in PAIRS]
    assert not set(names) & set(default_names("speech_english"))
    scores = evaluate_pair(noise(), late(noise(), 5), RATE, names)
    assert [score.metric for score in scores] == names
    assert all(REGISTRY[name].better == "lower" for name in names)
