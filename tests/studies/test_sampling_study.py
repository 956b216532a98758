"""Random codes against free noise: statistics with known answers, and the study on a tiny model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from audioldm_utils.metrics.statistics import Interval
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import sampling
from audioldm_utils.studies.editing import edit_effects
from audioldm_utils.studies.prompts import CLASSES, PROMPTS
from audioldm_utils.studies.registry import WHOLE
from audioldm_utils.studies.sampling import (
    ONE_PROMPT,
    ONE_SEED,
    alikeness,
    diversity,
    frechet,
    measure_samples,
    methods,
)
from audioldm_utils.studies.sampling_tables import (
    FREE,
    PROMPT_FREE,
    UNGUIDED,
    advice,
    answer,
    claims,
    equivalences,
    frechet_distance,
    measures,
    sample_scores,
    within,
)
from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD, claim

ROOT = Path(__file__).parents[2]
SIZES = (2, 64, 65536)


def test_frechet_distance_of_known_sets():
    torch.manual_seed(0)
    real = torch.randn(4000, 3)
    assert frechet(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet(real + torch.tensor([2.0, 0, 0]), real) == pytest.approx(4, rel=0.01)
    assert frechet(2 * real, real) == pytest.approx(3, rel=0.1)


def test_diversity_of_equal_and_of_orthogonal_samples():
    equal = torch.tensor([1.0, 0.0]).expand(2, 3, 2)
    assert diversity(equal).tolist() == pytest.approx([0, 0])
    assert diversity(torch.eye(3)[None]).tolist() == pytest.approx([1])


def test_alikeness_of_equal_and_of_opposite_spectra():
    rise = np.arange(4.0)
    assert alikeness(np.stack([[rise, rise + 1, 2 * rise]])) == pytest.approx([1])
    assert alikeness(np.stack([[rise, -rise]])) == pytest.approx([-1])


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(-0.1, 0.1, UPHELD), (0.3, 0.5, REFUTED), (-0.5, -0.3, REFUTED), (0.1, 0.3, UNDECIDED)],
)
def test_equivalence_is_the_whole_interval_within_the_margin(low, high, word):
    assert within(Interval((low + high) / 2, low, high, 40), 0.2) == word
    assert within(Interval((low + high) / 2, low, high, 2), 0.2) == UNDECIDED


def invented(seed=0, each=6, codes=0.0, smallest=0.0, **changed):
    """Rows of samples; scores of random codes differ so much, in deviations within a prompt."""
    rows, rng = ResultsBuilder("0" * 12, 0), np.random.default_rng(seed)
    values = {
        "told": 0.5,
        "ccfg": 0.5,
        "spread": 0.9,
        "frechet": 0.0,
        "one_seed": 0.2,
        "level": -20,
    }
    values |= changed
    noise = 0.1 * rng.standard_normal((len(PROMPTS), each))
    for method, stage in methods(SIZES):
        key = (method, stage)
        shift = smallest if stage == "K = 2" else codes if stage.startswith("K") else 0.0
        shift = values["ccfg"] if key == PROMPT_FREE else shift
        about = {"method": method, "stage": stage}
        for i, (category, text) in enumerate(PROMPTS):
            for j in range(each):
                score = 0.02 * i + noise[i, j] + 0.1 * shift + 0.03 * rng.standard_normal()
                for metric, value, unit in (
                    ("clap_score", score, "1"), ("level", values["level"], "dB"),
                    ("class_told", float(rng.random() < values["told"]), "1"),
                ):  # fmt: skip
                    rows.add(f"{text} {j:02d}", metric, value, unit, category=category, **about)
            spread = values["spread"] if key == PROMPT_FREE else 0.2
            rows.add(WHOLE, "diversity", spread + 0.01 * rng.random(), "1", **about, band=text)
        for band in ("", *(f"without {name}" for name in CLASSES)):
            far = values["frechet"] if key == PROMPT_FREE else 0.1
            rows.add(WHOLE, "frechet_clap", far + 1e-3 * rng.random(), "1", **about, band=band)
    for stage, alike in ((ONE_SEED, values["one_seed"]), (ONE_PROMPT, 0.5)):
        for i in range(8):
            value = alike + 0.05 * rng.standard_normal()
            about = {"method": "ddim", "stage": stage, "band": str(i)}
            rows.add(WHOLE, "spectrum_correlation", value, "1", **about)
    for method in ("original", "vae"):
        for i in range(20):
            rows.add(WHOLE, "class_told", i % 2, "1", method=method, band=f"c{i}")
    return rows.table()


def told(**changed):
    table = invented(**changed)
    tests = equivalences(table, SIZES, 0.2)
    return table, tests, claims(table, SIZES, tests)


def test_all_claims_upheld():
    table, tests, words = told()
    assert words.pop("claim_6") == UNDECIDED
    assert set(words.values()) == {UPHELD}
    sentence = answer(tests, 0.2)
    start = "By CLAP score, random codes of K = 2, K = 64 and K = 65536 equal DDPM's free noise: "
    assert sentence.startswith(start)
    assert sentence.count("[") == len(SIZES)
    assert sentence.endswith("margin ±0.2)")
    assert tests["samples"].eq(240).all()
    assert tests["prompts"].eq(40).all()
    assert sample_scores(table, methods(SIZES))["label"].iloc[0] == "DDPM, CFG"
    shown = measures(table, methods(SIZES)).set_index("sampler")
    assert shown.loc["DDPM, CFG", "samples"] == "240"
    assert shown.loc["real clips through VAE", "class told ↑"].startswith("0.50 [")
    assert all("[" in text for text in shown.loc["DDPM, CFG"].iloc[:4])


def test_a_smallest_codebook_that_differs_is_named():
    _, tests, words = told(smallest=-1.0)
    assert dict(zip(tests["codebook"], tests["equivalent"], strict=True)) == {
        "K = 2": REFUTED, "K = 64": UPHELD, "K = 65536": UPHELD,
    }  # fmt: skip
    assert words["claim_1"] == REFUTED
    assert (
        "K = 64 and K = 65536 equal DDPM's free noise; random codes of K = 2 differ from free noise"
        in answer(tests, 0.2)
    )
    # Differences are in deviations within a prompt.
    assert tests["difference"].iloc[0] == pytest.approx(-1.0, abs=0.15)


def test_refuted_and_undecided_claims():
    _, _, words = told(ccfg=-0.5, spread=0.1, told=0.0, one_seed=0.9, frechet=0.2)
    assert [words[f"claim_{i}"] for i in (1, 2, 3, 4, 5, 10)] == [UPHELD, *[REFUTED] * 5]
    assert "by a prompt scores below no guidance" in advice(words)
    _, tests, words = told(ccfg=0.0, spread=0.2, one_seed=0.5, codes=0.2, frechet=0.1)
    assert [words[f"claim_{i}"] for i in (2, 3, 5)] == [UNDECIDED] * 3
    assert "equality with DDPM's free noise is undecided" in answer(tests, 0.2)
    assert "is not shown to help" in advice(words)


def test_quiet_samples_are_told_apart_from_those_of_free_noise():
    table = invented()
    louder = (table["method"] == "ddcm-random") & (table["stage"] == "K = 2")
    first = louder & (table["metric"] == "level") & table["clip"].str.endswith("00")
    table.loc[first, "value"] = -50
    tests = equivalences(table, SIZES, 0.2)
    assert claims(table, SIZES, tests)["claim_6"] == UPHELD


def test_a_prompt_is_a_unit_and_a_class_of_the_distance():
    table = invented()
    twice = pd.concat([table, table.assign(clip=table["clip"] + "9")])
    twice = twice[twice["metric"] == "clap_score"]
    once = equivalences(table, SIZES, 0.2)
    again = equivalences(twice, SIZES, 0.2)
    # More samples that say the same make no interval narrower (but for the deviations).
    width = [(found["high"] - found["low"]).iloc[1] for found in (once, again)]
    assert width[1] == pytest.approx(width[0], rel=0.15)
    found = frechet_distance(table, PROMPT_FREE, FREE)
    assert found.n == len(CLASSES)
    assert found.low < found.mean < found.high
    assert frechet_distance(table[table["metric"] == "level"], UNGUIDED) is None


def test_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).standard_normal(20)
    rows = ResultsBuilder("0" * 12, 0)
    for i in (None, *range(20)):
        kept = values if i is None else np.delete(values, i)
        band = "" if i is None else f"without {i}"
        rows.add(WHOLE, "frechet_clap", kept.mean(), "1", method="ddpm", stage="CFG", band=band)
    found = frechet_distance(rows.table(), FREE)
    assert (found.high - found.low) / 2 == pytest.approx(
        2.093 * values.std(ddof=1) / np.sqrt(20), rel=1e-3
    )


def test_prompts_are_those_that_were_drawn():
    assert len(PROMPTS) == len(dict((text, name) for name, text in PROMPTS)) == 40
    assert len(CLASSES) == 20
    table = ROOT.parent / "shared" / "audio" / "train.csv"
    if table.is_file():
        sys.path.insert(0, str(ROOT / "data" / "checkpoints"))
        from recipe.captions import drawn_prompts

        assert tuple(drawn_prompts(pd.read_csv(table))) == PROMPTS


def edits(never, early, n=8):
    rows, rng = ResultsBuilder("0" * 12, 0), np.random.default_rng(0)
    for i in range(n):
        for stage, value in (("change at 0%", early), ("change at 100%", never)):
            for metric, sign in (("source_correlation", 1), ("target_score", -1)):
                rows.add(f"c{i}", metric, sign * value + 0.01 * rng.random(), "1", method="ddcm",
                         stage=stage)  # fmt: skip
        for stage, value in (("audio prompt", (-1) ** i), ("caption", 0)):
            rows.add(f"c{i}", "source_clap", value, "1", method="ddcm-random", stage=stage)
    return edit_effects(rows.table(), [0.0, 1.0])


def test_claims_of_edits():
    assert [claim(found) for found in edits(0.9, 0.1).values()] == [UPHELD, UPHELD, UNDECIDED]
    assert [claim(found) for found in edits(0.1, 0.9).values()] == [REFUTED, REFUTED, UNDECIDED]
    assert {claim(found) for found in edits(0.9, 0.1, n=3).values()} == {UNDECIDED}


@pytest.mark.parametrize("of_each", [1, None])
def test_the_study_on_a_tiny_checkpoint(tiny_checkpoint, of_each, monkeypatch):
    from audioldm_utils.model.checkpoint import load
    from audioldm_utils.model.networks import Networks

    rows = ResultsBuilder("0" * 12, 0)
    from tests.studies.test_verification import clip

    clips, networks = [clip("a", "rain"), clip("b", seed=1)], Networks(load(tiny_checkpoint))
    how = {"seed": 0, "seconds": 0.64, "steps": 2, "guidance": 3.5, "subset": 2}
    grid = {"sizes": (2, 65536), "each": 2, "alike": 3}
    monkeypatch.setattr(sampling, "PROMPTS", PROMPTS[:8])
    measure_samples(clips, networks, rows, **how, **grid, of_each=of_each)
    table = rows.table()
    made = table[table["clip"] != WHOLE]
    assert set(zip(made["method"], made["stage"], strict=True)) == set(methods(grid["sizes"]))
    assert made["clip"].nunique() == (1 if of_each == 1 else 16)
    assert made.groupby("metric").size().nunique() == 1
    if of_each == 1:
        assert WHOLE not in set(table["clip"])
    else:
        alike = table[table["metric"] == "spectrum_correlation"]
        assert alike.groupby("stage").size().to_dict() == {ONE_SEED: 3, ONE_PROMPT: 3}
        ceiling = table[(table["clip"] == WHOLE) & (table["metric"] == "class_told")]
        assert set(zip(ceiling["method"], ceiling["band"], strict=True)) == {
            ("original", "a"), ("vae", "a"),
        }  # fmt: skip
        order = methods(grid["sizes"])
        assert not (measures(table, order).iloc[: len(order)] == "–").any(axis=None)
