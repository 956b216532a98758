"""Intervals, permutation tests and effect sizes, against hand values."""

import math

import numpy as np
import pytest
from scipy import stats

from audioldm_utils.metrics import statistics


def test_bootstrap_of_constant_values_is_a_point():
    found = statistics.bootstrap_interval([2.0, 2.0, 2.0])
    assert (found.mean, found.low, found.high, found.n) == (2.0, 2.0, 2.0, 3)


def test_an_interval_as_a_dictionary():
    found = statistics.compare_pairs([1.0, 2.0, 4.0], [0.0, 2.0, 1.0])
    known = {"mean": found.mean, "low": found.low, "high": found.high, "n": 3, "recordings": 3}
    assert found.as_dict() == known


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
            hits += found.low <= truth <= found.high
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
