"""The benchmark of growing cost: its slopes, and that its points are what they are called."""

from __future__ import annotations

import pytest

from audioldm_utils.ddcm import codebook
from audioldm_utils.ddcm.header import CODEBOOKS
from audioldm_utils.ddcm.settings import Settings
from tests.scripts import benchmark_script


@pytest.fixture(scope="module")
def growth():
    return benchmark_script("cost_growth")


def test_slopes(growth):
    assert growth.slope((1, 2, 8), [3, 12, 192]) == pytest.approx(2)
    assert growth.slope((10, 100), [5, 5]) == pytest.approx(0)
    points = [{"time_encode": 2 * s, "memory_encode": 700} for s in growth.GROWTH["steps"][0]]
    texts = {key: text for key, *_, text in growth.rows_of("steps", points)}
    assert texts["steps_grid"] == "10 to 200"
    assert texts["steps_200_time_encode"] == "400.00 s"
    assert texts["steps_time_encode"] == "1.00 (1)"
    assert texts["steps_memory_encode"].lstrip("-") == "0.00 (0)"
    assert texts["steps_time_encode_ends"] == "20.00 to 400.00 s"


@pytest.mark.parametrize("what", ["cyclic", "independent"])
def test_codebooks_have_as_many_atoms_as_is_said(growth, what):
    for atoms in growth.GROWTH[what][0]:
        settings = Settings(**growth.settings_of(what, atoms)[1])
        options = {CODEBOOKS[settings.codebook]: settings.size}
        shape = (8, growth.LATENT_FRAMES, 16)
        assert codebook.make(settings.codebook, shape, 0, **options).size == atoms
