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
from audioldm_utils.studies.baselines import NOISES
from audioldm_utils.studies.prompts import CONTRASTING, other_prompt
from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD
from audioldm_utils.studies.verification import JUDGED, METRICS, strangers, wrong_network
from audioldm_utils.studies.verification_tables import (
    ALOUD,
    ALPHA,
    NULLS,
    PERTURBED,
    answer,
    by_call,
    claims,
    comparisons,
    control,
    failing,
    fewest_clips,
    matrix,
    name_of,
    nearest,
    robustness,
)

#: Every method of the study, and its nulls.
METHODS = {"ddcm", *(method for method, _ in NULLS)}


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
    clips = [
        clip(n, k, seed) for seed, (n, k) in enumerate(zip("abc", ("x", "x", "y"), strict=True))
    ]
    return rows_of(networks, clips), rows_of(Networks(load(tiny_checkpoint)), clips[:1])


def test_every_method_metric_and_pair_has_its_row(measured):
    table, _ = measured
    plain = table[(table["band"] == "") & table["metric"].isin(METRICS)]
    assert set(plain["method"]) == METHODS | {"vae"}
    assert plain.groupby(["method", "stage", "metric"]).size().eq(3).all()
    assert set(plain.loc[plain["method"] == "envelope-noise", "stage"]) == set(NOISES)
    pairs = table[table["band"].str.startswith("with ")]
    assert set(pairs["metric"]) == set(JUDGED)
    counts = pairs.groupby(["method", "metric", "stage"]).size()
    assert set(pairs["method"]) == METHODS
    # All are paired for own codes and random indices; else each with one stranger.
    for method, found in counts.groupby(level=0):
        assert found.eq(6 if method in ("ddcm", "ddcm-random") else 3).all()


def test_noise_of_the_levels_follows_a_clip_of_a_changing_level(measured):
    table, _ = measured
    rates = table[(table["method"] == "envelope-noise") & (table["metric"] == "rate")]
    assert rates.groupby("stage")["value"].mean().between(0.02, 1.5).all()


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
    growth = by_call(table, "1 kbit/s", "denoised_correlation_centred")
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


def test_a_stranger_is_of_another_class():
    clips = [clip(str(i), kind) for i, kind in enumerate(["a", "a", "b", "b", "b"])]
    assert strangers(clips) == [2, 2, 0, 0, 0]
    assert strangers([clip("x"), clip("y")]) == [1, 0]
    assert strangers([clip("x", "a"), clip("y", "a")]) == [0, 1]


def test_names_say_which_means_are_removed():
    names = [name_of(metric) for metric in METRICS]
    assert names[:5] == [
        "latent", "latent, bin means removed", "log-mel", "log-mel, bin means removed",
        "log-mel, bin and frame means removed",
    ]  # fmt: skip


def invented(matched, others=0.1, n=20, seed=2, **nulls):
    """Rows of n clips in pairs of a class, with these mean correlations, some by null."""
    rng = np.random.default_rng(seed)
    rows = ResultsBuilder("0" * 12, 0)

    def add(i, method, stage, metric, mean, band=""):
        value = mean + 0.05 * rng.standard_normal()
        rows.add(f"c{i:02d}", metric, value, "1", category=f"k{i // 2}", method=method,
                 stage=stage, band=band)  # fmt: skip

    for metric in JUDGED:
        for (method, kind), null in {("ddcm", ""): "own", **NULLS}.items():
            own = matched if method == "ddcm" else nulls.get(null.replace(" ", "_"), others)
            full = method in ("ddcm", "ddcm-random")
            for i in range(n):
                add(i, method, kind or "1 kbit/s", metric, own)
                for j in range(n) if full else [(i + 2) % n]:
                    if i != j:
                        add(i, method, kind or "1 kbit/s", metric, others, f"with c{j:02d}")
    return rows.table()


def test_a_real_effect_is_found_and_its_controls_are_not():
    table = invented(0.5)
    found = comparisons(table)
    assert found["follows"].all()
    assert set(found["null"]) == {*NULLS.values(), "another clip", "another clip of the class"}
    assert found["at_floor"].all()
    controls = control(table)
    # Every null has its control.
    assert set(controls["null"]) == set(found["null"])
    assert not controls["follows"].any()
    words = claims(found, controls)
    assert set(words.values()) == {UPHELD}
    told = "At 1 kbit/s the output follows its own input more than all 7 comparisons"
    assert answer(found, words) == told
    assert failing(found) == "none"
    assert robustness(found, "1 kbit/s").startswith("0.090 against 0.504 of own codes")
    assert set(ALOUD) == set(found["null"]) - {PERTURBED}
    square = matrix(table, "ddcm", "1 kbit/s", JUDGED[0])
    assert isinstance(square, pd.DataFrame)
    assert (np.diag(square) > 0.3).all()
    hits, reached = nearest(table, "1 kbit/s")
    assert hits == len(reached) == 20
    assert reached.is_monotonic_increasing


def test_no_effect_is_not_found():
    table = invented(0.1)
    found = comparisons(table)
    assert not found["follows"].any()
    assert failing(found).count(";") == 13
    words = claims(found, control(table))
    assert {words[f"claim_{i}"] for i in (1, 2, 3, 4, 5, 6, 8)} == {UNDECIDED}
    assert nearest(table, "1 kbit/s")[0] < 10
    assert answer(found, words) == "It is not shown that the output follows its own input"


def test_a_null_that_gives_more_refutes_its_claim_alone():
    table = invented(0.5, noise_of_its_loudness=0.7, another_prompt=0.48)
    found = comparisons(table)
    words = claims(found, control(table))
    assert words == {
        "claim_1": UPHELD, "claim_2": UPHELD, "claim_3": UNDECIDED, "claim_4": REFUTED,
        "claim_5": UPHELD, "claim_6": UPHELD, "claim_7": UPHELD, "claim_8": REFUTED,
    }  # fmt: skip
    first, *others = answer(found, words).split("; ")
    assert first.endswith("more than 5 of 7 comparisons")
    assert others[0].startswith(
        "another prompt follows it not clearly less or more in latents (0.4"
    )
    assert "and less, but by less than was asked, in log-mel (0.4" in others[0]
    assert others[1].startswith("noise of the clip's loudness follows it more in latents (0.7")
    assert all("log-mel" in other for other in others)
    assert failing(found).startswith("another prompt, 1 kbit/s, latent (")
    assert "log-mel (\N{MINUS SIGN}" in failing(found)


def test_codes_of_a_perturbed_network_are_no_null():
    found = comparisons(invented(0.5, **{PERTURBED.replace(" ", "_"): 0.5}))
    words = claims(found, control(invented(0.5)))
    assert set(words.values()) == {UPHELD}
    assert "all 7 comparisons" in answer(found, words)
    assert robustness(found, "2 kbit/s") == "not compared"


def test_a_control_that_passes_is_told_first():
    table = invented(0.5)
    strange = (table["method"] == "ddcm") & (table["band"] != "")
    table.loc[strange, "value"] += 0.3  # own outputs are like any input
    found = comparisons(table)
    words = claims(found, control(table))
    assert words["claim_7"] == REFUTED
    assert answer(found, words).startswith("The test cannot tell")


def test_few_clips_are_called_too_few_and_not_a_failure():
    table = invented(0.5, n=4)
    few = comparisons(table)
    assert not few["follows"].any()
    needed = fewest_clips(len(few))
    assert len(few) * 2.0**-needed < ALPHA <= len(few) * 2.0 ** (1 - needed)
    words = claims(few, control(table))
    assert set(words.values()) == {UNDECIDED}
    assert answer(few, words) == f"Too few recordings to tell: the test needs {needed} and has 4"
