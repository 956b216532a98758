"""Random codes against free noise: statistics with known answers, and the study on a tiny model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies.prompts import PROMPTS
from audioldm_utils.studies.sampling import (
    diversity,
    equivalence,
    equivalences,
    frechet,
    measure_samples,
    methods,
    sample_scores,
)

COUNTS = {
    "sizes": (2, 64, 1024, 65536), "judged_size": 64, "judged_samples": 20, "other_samples": 2,
}  # fmt: skip


def pairs(mean, noises=30, seed=0, prompts=20, methods=1):
    """Differences of samples whose starting noise adds the same to both methods."""
    rng = np.random.default_rng(seed)
    return [mean + 0.1 * rng.standard_normal((noises, methods)) for _ in range(prompts)]


def test_equivalence_of_equal_and_of_shifted_scores():
    found = equivalence(pairs(0.0))
    assert abs(found.mean) < 0.02
    assert found.low < found.mean < found.high
    assert found.n == 600
    assert equivalence(pairs(0.1, seed=2)).low > 0.05


def test_the_interval_covers_ninety_percent():
    inside = 0
    for seed in range(100):
        found = equivalence(pairs(0, 12, seed), draws=400)
        inside += found.low <= 0 <= found.high
    assert 80 <= inside <= 97


def test_missing_samples_are_left_out_and_prompts_count_alike():
    few, many = np.full((4, 2), 1.0), np.full((4, 2), 3.0)
    few[1:, 1] = np.nan
    few[3, 0] = np.nan
    found = equivalence([few, many])
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))
    assert found.n == 12


def test_methods_of_one_noise_are_no_independent_samples():
    """The same column twice tells nothing new: the interval stays as wide."""
    once = pairs(0.0, 16)
    twice = equivalence([np.repeat(part, 2, axis=1) for part in once])
    single = equivalence(once)
    assert twice.high - twice.low == pytest.approx(single.high - single.low, rel=1e-9)


def test_frechet_distance_of_known_sets():
    torch.manual_seed(0)
    real = torch.randn(4000, 3)
    assert frechet(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet(real + torch.tensor([2.0, 0, 0]), real) == pytest.approx(4, rel=0.01)
    assert frechet(2 * real, real) == pytest.approx(3, rel=0.1)


def test_diversity_of_equal_and_of_orthogonal_samples():
    equal = torch.tensor([1.0, 0.0]).expand(2, 3, 2)
    assert diversity(equal) == pytest.approx(0)
    assert diversity(torch.eye(3)[None]) == pytest.approx(1)


def test_equivalence_table_of_invented_rows():
    rows = ResultsBuilder("0" * 12, 0)
    rng = np.random.default_rng(0)
    for (method, stage), each in methods(**COUNTS).items():
        worse = 0.3 if stage == "K = 2" else 0.0
        for i, (category, _) in enumerate(PROMPTS):
            for number in range(20 * each):
                value = 0.2 + 0.02 * i - worse + 0.1 * rng.standard_normal()
                rows.add(f"{category} {number}", "clap_score", value, "1", category=category,
                         method=method, stage=stage)  # fmt: skip
    table = equivalences(rows.table(), COUNTS["sizes"], 64, 0.1).set_index("stage")
    assert table["equivalent"].to_dict() == {
        "K = 2": False, "K = 64": True, "K = 1024": True, "K = 65536": True, "all judged": True,
    }  # fmt: skip
    assert sample_scores(rows.table(), methods(**COUNTS))["stage"].iloc[0] == "CFG"


def test_the_study_on_a_tiny_checkpoint(tiny_checkpoint):
    from audioldm_utils.model.checkpoint import load
    from audioldm_utils.model.networks import Networks

    rows = ResultsBuilder("0" * 12, 0)
    from tests.studies.test_verification import clip

    clips, networks = [clip("a"), clip("b", seed=1)], Networks(load(tiny_checkpoint))
    how = {"seed": 0, "seconds": 1.28, "steps": 2, "guidance": 3.5, "subset": 2}
    measure_samples(clips, networks, rows, **how, **COUNTS, of_each=1)
    table = rows.table()
    assert set(zip(table["method"], table["stage"], strict=True)) == set(methods(**COUNTS))
    assert table["clip"].nunique() == 4
