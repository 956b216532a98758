"""Tests of matched correlations against nulls, on synthetic data whose answer is known."""

import math

import numpy as np
import pytest
import torch

from audioldm_utils.metrics import correlations as correlation
from audioldm_utils.metrics.statistics import holm, sign_flip_p
from audioldm_utils.studies.correlation_tests import (
    corrected,
    over_recordings,
    pairing_p,
    partners,
    smallest_p,
    verify,
)

EXPERIMENTS = 1000
ALPHA = 0.05
#: Three standard errors of a rate of 0.05 seen in 1,000 experiments.
MARGIN = 3 * math.sqrt(ALPHA * (1 - ALPHA) / EXPERIMENTS)


def test_partners():
    np.testing.assert_array_equal(partners(2), [[False, True], [True, False]])
    same = partners(3, ["rain", "wind", "rain"])
    np.testing.assert_array_equal(np.argwhere(same), [[0, 2], [2, 0]])


def test_pairing_p_by_hand():
    # Of the 3! pairings of three clips only the identity has trace 3.
    assert pairing_p(np.eye(3)) == pytest.approx(1 / 6)
    assert pairing_p(np.eye(8), draws=20000) == 1 / 20001  # of 40,320 some are drawn
    # Within classes {0, 1} and {2, 3}: 4 pairings.
    assert pairing_p(np.eye(4), ["a", "a", "b", "b"]) == pytest.approx(1 / 4)


def test_the_floor_of_a_p_value_is_what_a_perfect_match_gets():
    for n in (5, 13, 14, 30):
        found = sign_flip_p(np.arange(1.0, n + 1), "greater", draws=999)
        assert found == smallest_p(n, 999)
    for n, classes in ((4, None), (30, None), (6, ["a", "a", "b", "b", "c", "c"])):
        found = pairing_p(np.eye(n), classes, draws=999)
        assert found == smallest_p(n, 999, classes=classes, paired=True)


def test_clips_of_a_recording_are_one_observation():
    matrix = np.array([[9.0, 8, 1, 2], [7, 5, 3, 4], [1, 3, 6, 0], [2, 4, 0, 8]])
    found = over_recordings(matrix, ["a", "a", "b", "c"])
    # Each clip of a recording with itself; with another recording each pair once.
    np.testing.assert_allclose(found, [[7, 2, 3], [2, 6, 0], [3, 0, 8]])
    np.testing.assert_array_equal(over_recordings(matrix, list("abcd")), matrix)


@pytest.mark.parametrize("sizes", [(1,) * 6 + (6,) * 3, (4,) * 5])
def test_false_positives_with_recordings_of_several_clips(sizes):
    """Clips of a recording that are nearly the same would be several times one clip's chance."""
    rng, experiments = np.random.default_rng(6), 400
    belongs = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    index = np.repeat(np.arange(len(sizes)), sizes)
    matrices = np.empty((experiments, len(index), len(index)))
    for matrix in matrices:
        inputs, outputs = (
            rng.normal(size=(len(sizes), 40))[index] + 0.2 * rng.normal(size=(len(index), 40))
            for _ in range(2)
        )
        matrix[:] = np.corrcoef(outputs, inputs)[: len(index), len(index) :]
    together = np.array([over_recordings(matrix, belongs) for matrix in matrices])
    matched = np.diagonal(together, axis1=1, axis2=2)
    margin = 3 * math.sqrt(ALPHA * (1 - ALPHA) / experiments)
    for p in (pairing_p(together, draws=199), sign_flip_p(matched, "greater")):
        assert abs((p <= ALPHA).mean() - ALPHA) < margin
    alone = np.diagonal(matrices, axis1=1, axis2=2)
    assert (sign_flip_p(alone, "greater") <= ALPHA).mean() > ALPHA + 2 * margin


def test_verify_counts_recordings():
    matched, nulls, matrices, *_ = experiment(0, 0.5, clips=12)
    belongs = [str(i // 2) for i in range(12)]
    found = verify(matched, nulls, matrices, ["a", "b", "c"] * 4, belongs)
    assert {c["null"]: c["n"] for c in found} == {
        "random indices": 6, "another clip": 6, "another clip of the class": 6,
    }  # fmt: skip
    assert found[0]["matched"] == pytest.approx(np.mean(matched["latent"]))


def simulate(rng, follow, clips=16, size=150, shared=0.0):
    """Correlation matrices ``(experiments, clips, clips)`` of vectors of ``size`` values.

    ``follow`` is the true correlation of an output with its own input, ``shared`` that of
    any two inputs (and so of outputs with other clips' inputs).
    """
    shape = (EXPERIMENTS, clips, size)
    common = rng.normal(size=(EXPERIMENTS, 1, size))
    inputs = math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.normal(size=shape)
    noise = math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.normal(size=shape)
    outputs = follow * inputs + math.sqrt(1 - follow**2) * noise
    for x in (inputs, outputs):
        x -= x.mean(axis=2, keepdims=True)
        x /= np.linalg.norm(x, axis=2, keepdims=True)
    return outputs @ inputs.transpose(0, 2, 1)


@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_false_positives_of_re_pairing_over_1000_experiments(shared):
    p = pairing_p(simulate(np.random.default_rng(1), 0.0, shared=shared), draws=499)
    assert abs((p <= ALPHA).mean() - ALPHA) < MARGIN
    assert (p <= 0.01).mean() < 0.01 + 3 * math.sqrt(0.01 * 0.99 / EXPERIMENTS)


@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_power_of_re_pairing_over_1000_experiments(shared):
    p = pairing_p(simulate(np.random.default_rng(2), 0.1, shared=shared), draws=499)
    # Mean of 16 correlations of 0.1 (1 - shared), standard error 1 / sqrt(16 * 150) about.
    assert (p <= ALPHA).mean() > (0.99 if shared == 0 else 0.8)


def test_a_class_is_not_the_clip():
    """Outputs that follow their class alone: another clip's null falls, its class-mate's not."""
    rng = np.random.default_rng(3)
    classes = ["rain", "wind", "dog", "bell"] * 4
    centres = rng.normal(size=(EXPERIMENTS, 4, 60))
    index = np.tile(np.arange(4), 4)
    inputs, outputs = (centres[:, index] + rng.normal(size=(EXPERIMENTS, 16, 60)) for _ in range(2))
    for x in (inputs, outputs):
        x -= x.mean(axis=2, keepdims=True)
        x /= np.linalg.norm(x, axis=2, keepdims=True)
    matrices = outputs @ inputs.transpose(0, 2, 1)
    any_clip = pairing_p(matrices, draws=499)
    class_mate = pairing_p(matrices, classes, draws=499)
    assert (any_clip <= ALPHA).mean() > 0.99
    assert abs((class_mate <= ALPHA).mean() - ALPHA) < MARGIN


def test_sign_flips_over_1000_experiments_with_skewed_nulls():
    rng = np.random.default_rng(4)
    # Each clip has its own level and spread, and a null of one tail.
    level, spread = rng.normal(size=(EXPERIMENTS, 16)), rng.gamma(2, 1, (EXPERIMENTS, 16))
    values = level[..., None] + spread[..., None] * rng.exponential(size=(EXPERIMENTS, 16, 2))
    difference = values[..., 0] - values[..., 1]
    p = sign_flip_p(difference, "greater", draws=499)
    assert abs((p <= ALPHA).mean() - ALPHA) < MARGIN
    p = sign_flip_p(difference + 2 * spread, "greater", draws=499)
    assert (p <= ALPHA).mean() > 0.95


def test_corrected_family_over_1000_experiments():
    """Fifteen comparisons that are all null: any false claim in at most 5 % of experiments."""
    rng = np.random.default_rng(5)
    matched, null = (rng.normal(size=(EXPERIMENTS, 15, 16)) for _ in range(2))
    p = sign_flip_p(matched - null, "greater", draws=999)
    after = np.array([holm(row) for row in p])
    assert (p.min(axis=1) <= ALPHA).mean() > 0.4
    assert (after.min(axis=1) <= ALPHA).mean() < ALPHA + MARGIN


def experiment(seed, follow, clips=24):
    """Latents through a codec that follows its input to the correlation ``follow``."""
    rng = np.random.default_rng(seed)
    spectrum = 2 * rng.normal(size=(1, 8, 1, 4))
    draw = lambda: rng.normal(size=(clips, 8, 30, 4))  # noqa: E731
    inputs, noise = draw(), draw()
    outputs = follow * inputs + math.sqrt(1 - follow**2) * noise
    x, y, random = (torch.from_numpy(v + spectrum) for v in (inputs, outputs, draw()))
    classes = [f"class {i % 4}" for i in range(clips)]
    matched, null, matrices = {}, {}, {}
    for name, remove in (("latent", ""), ("latent, bin mean removed", "bins")):
        matched[name] = correlation.correlate(x, y, "latent", remove).numpy()
        null[name] = correlation.correlate(x, random, "latent", remove).numpy()
        matrices[name] = correlation.correlation_matrix(y, x, "latent", remove)
    alone = [str(i) for i in range(clips)]
    return matched, {"random indices": null}, matrices, classes, alone


def test_verify_finds_what_is_there():
    found = list(corrected(verify(*experiment(0, 0.5))).itertuples())
    assert [(c.null, c.representation) for c in found] == [
        (null, name)
        for null in ("random indices", "another clip", "another clip of the class")
        for name in ("latent", "latent, bin mean removed")
    ]
    for c in found:
        assert c.follows
        assert c.low < c.difference < c.high
        assert c.low > 0
        assert (c.above, c.cliff, c.n) == (1.0, 1.0, 24)
        assert c.p <= c.p_corrected < 0.01
    removed = [c for c in found if "removed" in c.representation]
    assert all(abs(c.matched - 0.5) < 0.02 and abs(c.null_mean) < 0.02 for c in removed)
    # With the bins' levels left in, even the null correlates: why they are removed.
    assert all(c.null_mean > 0.5 for c in found if "removed" not in c.representation)


def test_verify_leaves_a_negative_control_alone():
    claims = 0
    for seed in range(40):
        found = corrected(verify(*experiment(seed, 0.0), draws=999))
        claims += (found["p_corrected"] < 0.05).any()
        assert not found["follows"].any()
    assert claims <= 6  # 40 x 0.05 = 2 expected; 7 or more has probability 0.003


def test_verify_counts_clips_with_a_class_mate_only():
    matched, _, matrices, _, alone = experiment(0, 0.5, clips=6)
    found = verify(matched, {}, matrices, ["a", "a", "b", "b", "c", "d"], alone)
    counts = {c["null"]: c["n"] for c in found}
    assert counts == {"another clip": 6, "another clip of the class": 4}
