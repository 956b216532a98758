"""The study of chapter 07 on a tiny checkpoint, and its tables on rows with known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from audioldm_utils.audio.clips import Clip
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Networks
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import verification
from audioldm_utils.studies.prompts import CONTRASTING, other_prompt
from audioldm_utils.studies.verification import (
    ALPHA,
    METRICS,
    by_call,
    comparisons,
    control,
    fewest_clips,
    matrix,
    verdict,
    wrong_network,
)


def clip(name, category=None, seed=0, tmp="x.wav"):
    noise = np.random.default_rng(seed).standard_normal(12000).astype(np.float32)
    return Clip(name, 0.1 * noise, 16000, tmp, "a sound", category)


def rows_of(networks, clips):
    rows = ResultsBuilder(networks.checkpoint.fingerprint, 0)
    grid = {"seconds": 0.64, "steps": 3, "rates": (1.0,), "guidance": 3.5, "perturbation": 0.1}
    verification.measure_correlations(clips, networks, rows, 0, **grid)
    return rows.table()


@pytest.fixture(scope="module")
def measured(tiny_checkpoint):
    networks = Networks(load(tiny_checkpoint))
    clips = [clip(name, "noise", seed) for seed, name in enumerate(("a", "b", "c"))]
    return rows_of(networks, clips), rows_of(Networks(load(tiny_checkpoint)), clips[:1])


def test_every_method_metric_and_pair_has_its_row(measured):
    table, _ = measured
    plain = table[(table["band"] == "") & table["metric"].isin(METRICS)]
    assert set(plain["method"]) == {"vae", "ddcm", "ddcm-random", "ddcm-prompt", "ddcm-wrong"}
    assert plain.groupby(["method", "metric"]).size().eq(3).all()
    pairs = table[table["band"].str.startswith("with ") & (table["method"] == "ddcm")]
    assert pairs.groupby("metric").size().eq(6).all()
    assert set(pairs["metric"]) == set(METRICS)


def test_rows_of_a_clip_do_not_depend_on_the_others(measured):
    table, alone = measured
    both = alone.merge(
        table, on=["clip", "method", "stage", "metric", "band"], suffixes=("", "_all")
    )
    assert len(both) == len(alone)
    assert np.allclose(both["value"], both["value_all"], atol=1e-3)


def test_the_vae_is_the_ceiling_of_latents_and_steps_are_traced(measured):
    table, _ = measured
    ceiling = table[(table["method"] == "vae") & (table["metric"] == "latent_correlation")]
    assert np.allclose(ceiling["value"], 1.0)
    growth = by_call(table, "1 kbit/s", "denoised_correlation")
    assert set(growth["method"]) == {"ddcm", "ddcm-random", "bound"}
    assert growth.groupby("method")["call"].max().nunique() == 1


def test_the_wrong_network_differs_by_what_was_asked():
    layer = torch.nn.Linear(200, 200)
    wrong = wrong_network(layer, 0.1)
    change = (wrong.weight - layer.weight).std() / layer.weight.std()
    assert change.item() == pytest.approx(0.1, rel=0.05)


def test_another_prompt_is_of_another_class():
    for category, _ in CONTRASTING:
        for name in "abcdefgh":
            prompt = other_prompt(clip(name, category))
            assert dict((text, c) for c, text in CONTRASTING)[prompt] != category


def invented(matched, others, n=20, seed=2):
    """Rows of n clips in pairs of a class, with these mean correlations."""
    rng = np.random.default_rng(seed)
    rows = ResultsBuilder("0" * 12, 0)

    def add(i, method, metric, value, band=""):
        rows.add(f"c{i:02d}", metric, value, "1", category=f"k{i // 2}", method=method,
                 stage="1 kbit/s", band=band)  # fmt: skip

    for metric in METRICS:
        for method in ("ddcm", "ddcm-random"):
            for i in range(n):
                for j in range(n):
                    mean = matched if i == j and method == "ddcm" else others
                    band = "" if i == j else f"with c{j:02d}"
                    add(i, method, metric, mean + 0.05 * rng.standard_normal(), band)
        for method in ("ddcm-prompt", "ddcm-wrong"):
            for i in range(n):
                add(i, method, metric, others + 0.05 * rng.standard_normal())
    return rows.table()


def test_a_real_effect_is_found_and_its_control_is_not():
    table = invented(0.5, 0.1)
    found = comparisons(table)
    assert found["follows"].all()
    assert set(found["null"]) == {
        "random indices", "another prompt", "wrong checkpoint's codes",
        "another clip", "another clip of the class",
    }  # fmt: skip
    assert not control(table)["follows"].any()
    square = matrix(table, "ddcm", "1 kbit/s", "latent_correlation")
    assert isinstance(square, pd.DataFrame)
    assert (np.diag(square) > 0.3).all()


def test_no_effect_is_not_found():
    found = comparisons(invented(0.1, 0.1))
    assert not found["follows"].any()
    assert verdict(found) == "not above every null as asked"


def test_few_clips_are_called_too_few_and_not_a_failure():
    enough = comparisons(invented(0.5, 0.1))
    assert verdict(enough) == "above every null"
    few = comparisons(invented(0.5, 0.1, n=4))
    assert not few["follows"].any()
    needed = fewest_clips(len(few))
    assert len(few) * 2.0**-needed < ALPHA <= len(few) * 2.0 ** (1 - needed)
    assert (
        verdict(few)
        == f"above every null on average (4 clips, too few to test: that takes {needed})"
    )
