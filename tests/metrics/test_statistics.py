"""Intervals, permutation tests, effect sizes and Bjøntegaard deltas, against hand values."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from audioldm_utils.errors import UserError
from audioldm_utils.metrics import bjontegaard, statistics


def test_bootstrap_of_constant_values_is_a_point():
    found = statistics.bootstrap_interval([2.0, 2.0, 2.0])
    assert (found.mean, found.low, found.high, found.n) == (2.0, 2.0, 2.0, 3)
    assert not found.excludes(2.0)
    assert found.excludes(2.1)


def test_an_interval_as_a_dictionary():
    found = statistics.compare_pairs([1.0, 2.0, 4.0], [0.0, 2.0, 1.0])
    assert found.as_dict() == {"mean": found.mean, "low": found.low, "high": found.high, "n": 3}


def test_bootstrap_is_reproducible_and_equivariant():
    x = np.random.default_rng(1).gamma(2, 1, 30)
    one, two = statistics.bootstrap_interval(x, seed=5), statistics.bootstrap_interval(x, seed=5)
    assert one == two
    assert statistics.bootstrap_interval(x, seed=6) != one
    moved = statistics.bootstrap_interval(10 + 3 * x, seed=5)
    np.testing.assert_allclose(
        [moved.mean, moved.low, moved.high],
        [10 + 3 * one.mean, 10 + 3 * one.low, 10 + 3 * one.high],
    )


def test_bootstrap_equals_students_interval_on_normal_data():
    for n in (8, 40):
        x = stats.norm.ppf((np.arange(n) + 0.5) / n)
        found = statistics.bootstrap_interval(x, draws=40000)
        half = stats.t.ppf(0.975, n - 1) * x.std(ddof=1) / math.sqrt(n)
        assert found.high == pytest.approx(half, rel=0.04)
        assert found.low == pytest.approx(-half, rel=0.04)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for draw, truth in ((rng.standard_normal, 0.0), (rng.standard_exponential, 1.0)):
        hits = 0
        for i in range(1000):
            found = statistics.bootstrap_interval(draw(14), seed=i, draws=500)
            hits += not found.excludes(truth)
        # Exponential values are skewed, which no percentile interval of 14 clips fully heals.
        assert hits / 1000 >= (0.935 if truth == 0 else 0.90)
        assert hits / 1000 <= 0.97


def test_bootstrap_edges():
    assert math.isnan(statistics.bootstrap_interval([1.0]).low)
    assert math.isinf(statistics.bootstrap_interval([1.0, math.inf]).mean)
    with pytest.raises(ValueError, match="at least 1"):
        statistics.bootstrap_interval([])
    with pytest.raises(ValueError, match="NaN"):
        statistics.bootstrap_interval([1.0, math.nan])
    with pytest.raises(ValueError, match="level must lie"):
        statistics.bootstrap_interval([1.0, 2.0], level=95)


def test_sign_flip_by_hand():
    # 2^3 patterns; only + + + and - - - reach |mean| = 2.
    assert statistics.sign_flip_p([1.0, 2.0, 3.0]) == 2 / 8
    assert statistics.sign_flip_p([1.0, 2.0, 3.0], "greater") == 1 / 8
    assert statistics.sign_flip_p([1.0, 2.0, 3.0], "less") == 1.0
    # Rounding must not lose a tie: 0.1 + 0.2 - 0.3 against its arrangements.
    assert statistics.sign_flip_p([0.1, 0.2, -0.3]) == 1.0


def test_sign_flip_equals_scipys_permutation_test():
    x = np.random.default_rng(3).normal(0.4, 1, 10)
    for alternative in ("two-sided", "greater", "less"):
        independent = stats.permutation_test(
            (x,), np.mean, permutation_type="samples", alternative=alternative, n_resamples=np.inf
        ).pvalue
        assert statistics.sign_flip_p(x, alternative) == pytest.approx(independent, abs=1e-12)


def test_sign_flip_monte_carlo_is_never_zero_and_takes_many_experiments():
    x = np.random.default_rng(4).normal(3, 0.1, (5, 40))
    p = statistics.sign_flip_p(x, draws=999)
    np.testing.assert_array_equal(p, 1 / 1000)
    assert p.shape == (5,)
    assert statistics.sign_flip_p(x.reshape(5, 1, 40), draws=99).shape == (5, 1)
    with pytest.raises(ValueError, match="alternative must be"):
        statistics.sign_flip_p(x, "bigger")


def test_label_permutation_against_all_splits():
    a, b = np.array([3.0, 4.0, 5.0, 2.5]), np.array([1.0, 2.0, 3.5])
    pooled, observed = np.r_[a, b], a.mean() - b.mean()
    hits = 0
    splits = list(itertools.combinations(range(7), 4))
    for chosen in splits:
        inside = pooled[list(chosen)]
        outside = np.delete(pooled, chosen)
        hits += abs(inside.mean() - outside.mean()) >= abs(observed) - 1e-12
    found = statistics.label_permutation_p(a, b, draws=20000)
    assert found == pytest.approx(hits / len(splits), abs=0.012)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, made monotone: 0.04, 0.06, 0.06, 0.06.
    np.testing.assert_allclose(statistics.holm([0.03, 0.01, 0.04, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(statistics.holm([0.5, 0.9]), [1.0, 1.0])
    np.testing.assert_allclose(statistics.holm([0.2]), [0.2])
    with pytest.raises(ValueError, match="from 0 to 1"):
        statistics.holm([0.1, 1.2])


def test_effect_sizes_by_hand():
    assert statistics.cohens_dz([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert statistics.cohens_dz([0.0, 0.0]) == 0.0
    assert statistics.cohens_dz([-0.1, -0.1, -0.1]) == -math.inf
    # 3 beats both of (1, 2); 2 beats 1 and ties 2; 1 ties 1 and loses to 2: (4 - 1) of 6.
    assert statistics.cliffs_delta([1, 2, 3], [1, 2]) == pytest.approx((3 - 1) / 6)
    assert statistics.cliffs_delta([5, 6], [1, 2]) == 1.0
    assert statistics.cliffs_delta([1, 2], [5, 6]) == -1.0


def test_compare_pairs_swaps_its_sign():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 20), rng.normal(0, 1, 20)
    one, two = statistics.compare_pairs(a, b), statistics.compare_pairs(b, a)
    assert one.mean == pytest.approx(-two.mean)
    assert one.p == two.p
    assert one.d_z == pytest.approx(-two.d_z)
    assert one.cliff == -two.cliff
    with pytest.raises(ValueError, match="one shape"):
        statistics.compare_pairs(a, b[:-1])
    with pytest.raises(ValueError, match="must be finite"):
        statistics.compare_pairs([1.0, math.inf], [1.0, 2.0])


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
