"""Bjøntegaard deltas against hand values."""

import math

import numpy as np
import pytest
from scipy import stats

from audioldm_utils.studies.rate_curves import bd_rate, pareto_front


def curve(clips=6, slope=1.0, rate_factor=1.0, offset=0.0):
    """Distance falling linearly with log-rate; clips differ by a constant."""
    rates = np.tile(rate_factor * np.array([0.5, 1.0, 2.0, 4.0]), (clips, 1))
    base = 3.0 + 0.1 * np.arange(clips)[:, None]
    return rates, base - slope * np.log10(rates / rate_factor) + offset


def test_bd_rate_of_half_the_rate_is_minus_fifty_percent():
    found = bd_rate(*curve(rate_factor=0.5), *curve())
    assert found.mean == pytest.approx(-50.0)
    assert (found.low, found.high) == (pytest.approx(-50.0), pytest.approx(-50.0))
    assert (found.n, found.recordings) == (6, 6)
    back = bd_rate(*curve(), *curve(rate_factor=0.5))
    assert back.mean == pytest.approx(100.0)


def test_bd_of_equal_curves_is_zero():
    assert bd_rate(*curve(), *curve()).mean == 0.0


def test_bd_rate_by_hand_of_curves_that_open():
    # Slopes 1.5 and 1 from one point: over the errors q that both cover, log-rates differ by
    # (3 - q) / 3 + const.; by hand at its middle, as the gap is linear.
    steep, flat = curve(clips=1, slope=1.5), curve(clips=1)
    middle = 3 - (math.log10(4) + math.log10(0.5)) / 2
    gap = (3 - middle) / 1.5 - (3 - middle)
    assert bd_rate(*steep, *flat).mean == pytest.approx(100 * (10**gap - 1))


def test_bd_rate_interval_is_over_clips():
    rng = np.random.default_rng(0)
    rates, quality = curve(clips=30)
    factor = np.exp(rng.normal(math.log(0.8), 0.1, (30, 1)))
    found = bd_rate(rates * factor, quality, rates, quality)
    expected = 100 * (np.exp(np.log(factor).mean()) - 1)
    assert found.mean == pytest.approx(expected)
    half = 80 * stats.t.ppf(0.975, 29) * 0.1 / math.sqrt(30)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.3)
    assert found.low < found.mean < found.high < 0
    alone = bd_rate(rates[:1] * factor[:1], quality[:1], rates[:1], quality[:1])
    assert alone.mean == pytest.approx(100 * (factor[0, 0] - 1))
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)


def test_points_that_are_beaten_are_left_out():
    rates, errors = pareto_front([1, 2, 3, 4], [5, 3, 3.5, 1])
    np.testing.assert_array_equal(rates, [1, 2, 4])
    np.testing.assert_array_equal(errors, [5, 3, 1])


def test_bd_is_none_of_what_cannot_be_compared():
    rates, errors = curve()
    assert bd_rate(rates, errors + 50, rates, errors) is None
    assert bd_rate(rates, -errors, rates, errors) is None  # one point that improves with rate
