"""Bjøntegaard deltas against hand values."""

import math

import numpy as np
import pytest
from scipy import stats

from audioldm_utils.errors import UserError
from audioldm_utils.studies import bjontegaard


def curve(clips=6, slope=1.0, rate_factor=1.0, offset=0.0):
    """Distance falling linearly with log-rate; clips differ by a constant."""
    rates = np.tile(rate_factor * np.array([0.5, 1.0, 2.0, 4.0]), (clips, 1))
    base = 3.0 + 0.1 * np.arange(clips)[:, None]
    return rates, base - slope * np.log10(rates / rate_factor) + offset


def test_bd_rate_of_half_the_rate_is_minus_fifty_percent():
    found = bjontegaard.bd_rate(*curve(rate_factor=0.5), *curve(), lower_is_better=True)
    assert found.mean == pytest.approx(-50.0)
    assert (found.low, found.high) == (pytest.approx(-50.0), pytest.approx(-50.0))
    assert (found.points, found.n, found.failed) == ((4, 4), 6, 0.0)
    back = bjontegaard.bd_rate(*curve(), *curve(rate_factor=0.5), lower_is_better=True)
    assert back.mean == pytest.approx(100.0)


def test_bd_of_equal_curves_is_zero_and_higher_better_mirrors():
    assert bjontegaard.bd_rate(*curve(), *curve(), lower_is_better=True).mean == 0.0
    (ra, qa), (rb, qb) = curve(rate_factor=0.7), curve(slope=1.3)
    down = bjontegaard.bd_rate(ra, qa, rb, qb, lower_is_better=True)
    up = bjontegaard.bd_rate(ra, -qa, rb, -qb, lower_is_better=False)
    assert up.mean == pytest.approx(down.mean)
    assert up.low == pytest.approx(down.low)


def test_bd_quality_by_hand():
    # The same lines, shifted by 0.2 in distance at every rate.
    found = bjontegaard.bd_quality(*curve(offset=0.2), *curve(), lower_is_better=True)
    assert found.mean == pytest.approx(0.2)
    assert found.overlap == (pytest.approx(0.5), pytest.approx(4.0))
    # Slope 1.5 against 1 from the same point at 0.5: the gap grows from 0.5 * log10(0.5) on.
    gap = bjontegaard.bd_quality(*curve(slope=1.5), *curve(slope=1.0), lower_is_better=True)
    assert gap.mean == pytest.approx(-0.5 * (math.log10(4) + math.log10(0.5)) / 2)


def test_bd_rate_interval_is_over_clips():
    rng = np.random.default_rng(0)
    rates, quality = curve(clips=30)
    factor = np.exp(rng.normal(math.log(0.8), 0.1, (30, 1)))
    found = bjontegaard.bd_rate(rates * factor, quality, rates, quality, lower_is_better=True)
    expected = 100 * (np.exp(np.log(factor).mean()) - 1)
    assert found.mean == pytest.approx(expected)
    half = 80 * stats.t.ppf(0.975, 29) * 0.1 / math.sqrt(30)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.3)
    assert found.low < found.mean < found.high < 0
    alone = bjontegaard.bd_rate(
        rates[:1] * factor[:1], quality[:1], rates[:1], quality[:1], lower_is_better=True
    )
    assert alone.mean == pytest.approx(100 * (factor[0, 0] - 1))
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)


def test_points_that_are_beaten_are_left_out():
    rates, quality = bjontegaard.pareto_front([1, 2, 3, 4], [5, 3, 3.5, 1], lower_is_better=True)
    np.testing.assert_array_equal(rates, [1, 2, 4])
    np.testing.assert_array_equal(quality, [5, 3, 1])


def test_bd_refuses_what_cannot_be_compared():
    rates, quality = curve()
    with pytest.raises(UserError, match="share no range of quality"):
        bjontegaard.bd_rate(rates, quality + 50, rates, quality, lower_is_better=True)
    with pytest.raises(UserError, match="points that improve with rate: 1 and 4"):
        bjontegaard.bd_rate(rates, -quality, rates, quality, lower_is_better=True)
    with pytest.raises(ValueError, match="the same clips"):
        bjontegaard.bd_rate(rates[:3], quality[:3], rates, quality, lower_is_better=True)
    with pytest.raises(ValueError, match="positive"):
        bjontegaard.bd_rate(rates * 0, quality, rates, quality, lower_is_better=True)
