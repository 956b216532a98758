"""Placement tuned for a checkpoint, kept beside it, and used by the codec."""

import json
import math

import pytest
import torch

from audioldm_utils.ddcm.placement import PLACEMENT_BY_RATE, load_rules, placement_path
from audioldm_utils.errors import UserError
from audioldm_utils.studies.placement_tuning import CANDIDATES, save_rules, tune
from tests.oracle import CONFIG, oracle, white

MARK = "ab" * 32


def test_tuning_finds_the_better_placement_with_the_exact_denoiser():
    latents = white(3, (8, 16, 16))

    def distance(found: torch.Tensor) -> float:
        return float((found - latents).square().mean())

    rules, trials = tune(latents, oracle(), CONFIG, distance, steps=12, bits=(0.5, 1.5))
    # For white normal latents uniform in alpha-bar is best at any rate; it lies at one end.
    assert rules[-1][0] == math.inf
    assert {rule[1] for rule in rules} == {"alpha-bar"}
    assert rules[-1][2] >= 0.7
    by = {(t["bits"], t["placement"], t["power"]): t["distance"] for t in trials}
    best = by[(1.5, *rules[-1][1:3])]
    assert best == min(value for key, value in by.items() if key[0] == 1.5)
    assert len(trials) <= 2 * len(CANDIDATES)


def test_a_table_is_found_by_its_checkpoint_only(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOLDM_UTILS_FITS", str(tmp_path))
    assert load_rules(tmp_path, MARK) == PLACEMENT_BY_RATE
    rules = ((0.3, "uniform", 1.0, 0.99), (math.inf, "alpha-bar", 0.7, 0.98))
    save_rules(tmp_path, MARK, rules, {"clips": ["a"]})
    assert load_rules(tmp_path, MARK) == rules
    assert load_rules(tmp_path, "cd" * 32) == PLACEMENT_BY_RATE
    path = placement_path(tmp_path, MARK)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "fingerprint": "cd" * 32}))
    with pytest.raises(UserError, match="not this checkpoint's"):
        load_rules(tmp_path, MARK)
    path.write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        load_rules(tmp_path, MARK)
