import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from audioldm_utils.ddcm.codebook import bits, start_noise


def test_golden_values():
    """The first values that files of this format stand on; NumPy promises the bit stream."""
    assert bits.raw(7, bits.ATOMS, 3, 2, 5, 2).tolist() == GOLDEN_RAW
    atom = bits.normals(7, 3, 2, 1, 1, 40)[0]
    assert (atom[:4] * 2**20).astype(int).tolist() == GOLDEN_NORMALS
    assert hashlib.sha256(atom.astype("<f4").tobytes()).hexdigest()[:16] == GOLDEN_ATOM
    assert bits.signs(7, 8).tolist() == GOLDEN_SIGNS
    assert bits.integer_below(10**30, 7, bits.CHOICES, 3) == GOLDEN_INTEGER


GOLDEN_RAW = [13895181949123174642, 18335763716344412427]
GOLDEN_NORMALS = [-1982518, 282959, 311266, 357051]
GOLDEN_ATOM = "9b8edc5d0c8a7e2b"
GOLDEN_SIGNS = [-1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0, 1.0]
GOLDEN_INTEGER = 143808585076469722167732375396


def test_raw_bits_are_philox_4x64_10():
    """An independent computation of the generator (Salmon et al. 2011), from its definition."""
    mask = 2**64 - 1

    def philox(counter, key):
        c, k = list(counter), list(key)
        for _ in range(10):
            a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [b >> 64 ^ c[1] ^ k[0], b & mask, a >> 64 ^ c[3] ^ k[1], a & mask]
            k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
        return c

    drawn = bits.raw(11, bits.ATOMS, 5, 6, 20, 8)
    assert drawn[:4].tolist() == philox([21, 5, 6, 0], [11, bits.ATOMS])
    assert drawn[4:].tolist() == philox([22, 5, 6, 0], [11, bits.ATOMS])


def test_the_table_is_normal():
    table = bits.normal_table().astype(np.float64)
    assert np.all(np.diff(table) > 0)
    assert np.array_equal(table, -table[::-1])
    assert table.mean() == 0
    assert table.var() == pytest.approx(1, abs=1e-6)
    assert (table**4).mean() == pytest.approx(3, abs=5e-3)
    exact = stats.norm.ppf((np.arange(65536) + 0.5) / 65536)
    assert abs(table - exact).max() < 5e-5


def test_draws_are_normal_and_independent():
    drawn = bits.normals(1, 0, 0, 0, 16, 4096)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    other_step = bits.normals(1, 1, 0, 0, 16, 4096)
    other_stream = bits.normals(1, 0, 1, 0, 16, 4096)
    other_seed = bits.normals(2, 0, 0, 0, 16, 4096)
    for other in (other_step, other_stream, other_seed, np.roll(drawn, 1, axis=0)):
        assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < 4 / 256
    lagged = np.corrcoef(drawn.ravel()[:-1], drawn.ravel()[1:])[0, 1]
    assert abs(lagged) < 4 / 256


@pytest.mark.parametrize("values", [1, 7, 16, 33, 1000])
def test_an_atom_is_the_same_alone_in_chunks_and_in_any_order(values):
    whole = bits.normals(5, 2, 1, 0, 9, values)
    for k in (8, 0, 3):
        assert np.array_equal(bits.normals(5, 2, 1, k, 1, values)[0], whole[k])
    assert np.array_equal(bits.normals(5, 2, 1, 4, 5, values), whole[4:])


def test_uniforms_and_integers():
    drawn = bits.uniforms(3, bits.SAMPLING, 0, 0, 0, 4000)
    assert 0 < drawn.min() < drawn.max() < 1
    assert np.array_equal(drawn[400:], bits.uniforms(3, bits.SAMPLING, 0, 0, 400, 3600))
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    small = [bits.integer_below(3, seed, bits.CHOICES, 0) for seed in range(600)]
    assert stats.chisquare(np.bincount(small)).pvalue > 1e-3
    big = 3**500
    assert 0 <= bits.integer_below(big, 1, bits.CHOICES, 0) < big


def test_signs_are_balanced():
    drawn = bits.signs(1, 10001)
    assert set(drawn.tolist()) == {-1.0, 1.0}
    assert abs(drawn.mean()) < 0.04


def test_start_noise_belongs_to_the_clip():
    batch = start_noise([4, 5], (8, 3, 16))
    assert batch.shape == (2, 8, 3, 16)
    assert torch.equal(batch[1], start_noise([5], (8, 3, 16))[0])
    atom = bits.normals(5, 0, 0, 0, 1, 384).reshape(8, 3, 16)
    assert not np.array_equal(batch[1].numpy(), atom)


def test_importing_the_package_loads_nothing_heavy():
    code = "import audioldm_utils, sys; print('numpy' in sys.modules, 'torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]
