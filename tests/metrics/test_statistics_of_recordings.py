"""Intervals and tests over recordings, against hand values and simulated recordings."""

import math

import numpy as np
import pytest

from audioldm_utils.metrics import statistics
from audioldm_utils.metrics.statistics import (
    bootstrap_interval,
    bootstrap_means,
    bootstrap_reduction,
    compare_pairs,
    percentile_limits,
    recording_numbers,
    sign_flip_p,
)


def test_recordings_are_numbered_by_their_first_clips():
    assert recording_numbers(["b", "a", "b", "c"], 4).tolist() == [0, 1, 0, 2]
    assert recording_numbers(None, 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"one a clip, shape \(3,\), got \(2,\)"):
        recording_numbers(["a", "b"], 3)


def test_where_every_clip_is_its_own_recording_the_draws_are_those_of_clips():
    rng = np.random.default_rng(1)
    x, y = rng.gamma(2, 1, 41), rng.gamma(2, 1, 41)
    drawn = np.random.default_rng(5).integers(0, 41, (2000, 41))
    limits = percentile_limits(x[drawn].mean(axis=1), 41)
    for names in (None, rng.permutation(41)):
        found = bootstrap_interval(x, seed=5, recordings=names)
        assert (found.low, found.high, found.n, found.recordings) == (*limits, 41, 41)
        shares = 1 - x[drawn].mean(axis=1) / y[drawn].mean(axis=1)
        found = bootstrap_reduction(x, y, seed=5, recordings=names)
        assert (found.low, found.high) == percentile_limits(shares, 41)
        signs = np.random.default_rng(5).choice([-1.0, 1.0], (41, 9999))
        hits = (np.abs((x - y) @ signs / 41) >= abs((x - y).mean())).sum()
        assert sign_flip_p(x - y, seed=5, recordings=names) == (1 + hits) / 10000


def test_copies_of_a_clip_add_nothing():
    rng = np.random.default_rng(2)
    x, y = rng.gamma(2, 1, 16), rng.gamma(2, 1, 16)
    names = np.repeat(np.arange(16), 3)
    one, three = compare_pairs(x, y), compare_pairs(x.repeat(3), y.repeat(3), recordings=names)
    assert (three.n, three.recordings) == (48, 16)
    assert [three.mean, three.low, three.high] == pytest.approx([one.mean, one.low, one.high])
    assert three.p == one.p
    alone, copied = (
        bootstrap_reduction(x, y),
        bootstrap_reduction(x.repeat(3), y.repeat(3), recordings=names),
    )
    assert [copied.low, copied.high] == pytest.approx([alone.low, alone.high])
    apart = bootstrap_interval(x.repeat(3))
    assert apart.high - apart.low < 0.65 * (three.high - three.low)


def test_a_mean_is_over_clips_and_a_draw_brings_all_clips_of_a_recording():
    values, names = np.array([1.0, 2.0, 6.0]), ["a", "b", "b"]
    found = bootstrap_interval(values, recordings=names)
    assert (found.mean, found.n, found.recordings) == (3.0, 3, 2)
    means = bootstrap_means(values, recording_numbers(names, 3), 500, 0)
    # Twice a, twice b, or one of each: 1, 16 / 4, 9 / 3.
    assert set(means) == {1.0, 3.0, 4.0}


def test_one_recording_has_no_interval_and_shows_nothing():
    found = compare_pairs([3.0, 4.0, 5.0], [1.0, 1.0, 1.0], recordings=["a", "a", "a"])
    assert math.isnan(found.low)
    assert (found.p, found.n, found.recordings) == (1.0, 3, 1)


def test_clips_of_a_recording_change_their_sign_together():
    # Sums 1, 2 and 6: of eight patterns only + + + and - - - are as far out.
    assert sign_flip_p([1.0, 2.0, 2.5, 3.5], recordings=["a", "b", "c", "c"]) == 2 / 8
    assert sign_flip_p([1.0, 2.0, 2.5, 3.5]) == 2 / 16
    many = np.random.default_rng(4).normal(3, 0.1, (5, 40))
    p = sign_flip_p(many, draws=999, recordings=np.arange(40) // 2)
    np.testing.assert_array_equal(p, 1 / 1000)


def test_intervals_over_recordings_cover_the_truth_where_those_over_clips_do_not():
    rng = np.random.default_rng(0)
    sizes = np.tile([1, 2, 4, 7], 6)
    names = np.repeat(np.arange(len(sizes)), sizes)
    hits, rejected = np.zeros(2), 0
    for seed in range(400):
        values = rng.standard_normal(len(sizes))[names] + 0.5 * rng.standard_normal(len(names))
        for place, recordings in enumerate((names, None)):
            found = bootstrap_interval(values, seed, 400, recordings=recordings)
            hits[place] += found.low <= 0.0 <= found.high
        rejected += sign_flip_p(values, draws=199, seed=seed, recordings=names) <= 0.05
    assert 0.90 <= hits[0] / 400 <= 0.98
    assert hits[1] / 400 < 0.8
    assert rejected / 400 < 0.08


def test_an_interval_counts_its_clips_as_recordings_unless_told():
    assert statistics.Interval(1.0, 0.0, 2.0, 9).recordings == 9
    assert statistics.Interval(1.0, 0.0, 2.0, 9, recordings=4).recordings == 4
