"""The benchmark's work runs on a tiny checkpoint of the published layout."""

import pytest

from tests import tiny
from tests.scripts import benchmark_script


@pytest.fixture(scope="module")
def benchmark():
    return benchmark_script("published_size")


def test_all_variants_do_the_same_work(benchmark, tiny_checkpoint, tmp_path):
    published = tiny.as_published(tiny_checkpoint, tmp_path / "published")
    arrays, figures = {}, {}
    for variant in benchmark.VARIANTS:
        arrays[variant] = tmp_path / f"{variant}.npz"
        figures[variant] = benchmark.work(variant, published, 0.64, 1, arrays[variant])
    assert len({frozenset(row) for row in figures.values()}) == 1
    errors = {(variant, name): value for variant, name, value in benchmark.compare(arrays)}
    for name in ("latents", "epsilon", "mel"):
        assert errors["ours-float32", f"{name} error"] < 1e-4
        assert 1e-4 < errors["ours-bfloat16", f"{name} error"] < 0.2
