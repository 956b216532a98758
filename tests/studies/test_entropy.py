"""The entropy of the indices: nothing is left to code in DDCM's, and planted structure is found."""

import numpy as np
import pytest

from audioldm_utils.ddcm import DDCM
from audioldm_utils.ddcm.codebook import make
from audioldm_utils.model.schedule import Schedule
from audioldm_utils.studies.streams import index_entropy
from tests.ddcm.test_ddcm import CONFIG, SHAPE, latents, network


def random(shape, size, seed=0):
    return np.random.default_rng(seed).integers(0, size, shape)


def test_uniform_indices_leave_nothing():
    found = index_entropy(list(random((20, 100), 65536)), 65536)
    assert found.bits == 16
    assert found.count == 2000
    assert found.buckets == 100
    assert abs(found.saving) < 0.02
    assert abs(found.memory) < 0.02
    assert found.p_uniform > 0.001
    assert found.p_independent > 0.001


def test_p_values_are_uniform_under_the_null():
    found = [index_entropy([random(400, 1000, seed)], 1000) for seed in range(200)]
    for values in ([f.p_uniform for f in found], [f.p_independent for f in found]):
        assert 0.35 < float(np.mean(values)) < 0.65
        assert float(np.mean(np.array(values) < 0.05)) < 0.15


def test_half_of_the_indices_unused_saves_one_bit():
    found = index_entropy([random(5000, 500)], 1000)
    assert found.saving == pytest.approx(1, abs=0.03)
    assert found.p_uniform < 1e-12


def test_an_index_that_follows_from_the_one_before_is_found():
    walk = np.cumsum(np.random.default_rng(1).integers(0, 40, 3000)) % 1000
    found = index_entropy([walk], 1000)
    assert found.memory > 0.5
    assert found.p_independent < 1e-12
    assert abs(found.saving) < 0.1


def test_a_codebook_of_a_size_that_buckets_do_not_divide():
    found = index_entropy([random(20000, 7)], 7)
    assert found.buckets == 7
    assert abs(found.saving) < 0.01
    uneven = index_entropy([random(4000, 301)], 301)
    assert uneven.p_uniform > 0.001


def test_indices_of_the_codec_leave_nothing_to_code():
    schedule = Schedule.from_config(CONFIG, 40)
    coder = DDCM(schedule, make("cyclic", SHAPE, 0))
    codes = coder.encode(latents(12), network())
    streams = np.stack([choice[:, 0].numpy() for choice in codes.choices], axis=1)
    found = index_entropy(list(streams), coder.codebook.size)
    assert found.count == 12 * 39
    assert found.saving < 0.1
    assert found.p_uniform > 0.001
    assert found.p_independent > 0.001


def test_rejected_input():
    with pytest.raises(ValueError, match="at least 40"):
        index_entropy([[1, 2]], 4)
    with pytest.raises(ValueError, match="outside the codebook of 4"):
        index_entropy([list(range(50))], 4)
