"""Reading tables of rate and quality; the tables of the codebooks' benchmarks."""

import math

import pytest

from audioldm_utils.errors import UserError
from audioldm_utils.results.summaries import differences
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import codebook_theory
from audioldm_utils.studies import rate_curves as rates
from tests.demo_project import ROOT


@pytest.fixture
def table():
    """Codec «b» needs twice the rate of «a» at every error; three clips."""
    rows = ResultsBuilder("", 0)
    for number in range(3):
        for stage, kbps in (("low", 1.0), ("middle", 2.0), ("high", 4.0)):
            for method, factor in (("a", 1.0), ("b", 2.0)):
                error = 1 / (1 + math.log2(kbps)) + 0.01 * number
                add = {"method": method, "stage": stage, "category": "rain"}
                rows.add(f"clip{number}", "rate", factor * kbps, "kbit/s", **add)
                rows.add(f"clip{number}", "mel_error", error, "nat", **add)
    return rows.table()


def test_curves_lie_at_the_true_rates(table):
    curve = rates.over_rate(table, "mel_error", ("b", "a", "unknown"))
    assert curve["method"].tolist() == ["b"] * 3 + ["a"] * 3
    assert curve["kbps"].tolist() == [2, 4, 8, 1, 2, 4]
    assert (curve["n"] == 3).all()


def test_the_rate_is_that_of_the_clips_that_have_the_metric(table):
    one = table["clip"].unique()[0]
    here = table["clip"].eq(one)
    table = table.assign(value=table["value"].mask(here & (table["metric"] == "rate"), 7.0))
    table = table[here | (table["metric"] != "mel_error")]
    assert set(rates.over_rate(table, "mel_error", ("a", "b"))["kbps"]) == {7.0}


def test_half_the_rate_is_a_delta_of_minus_fifty_percent(table):
    stages = ["low", "middle", "high"]
    found = rates.delta(table, "a", "b", "mel_error", stages)
    assert found.mean == pytest.approx(-50, abs=0.1)
    assert found.n == 3
    assert rates.delta_text(found).startswith("\N{MINUS SIGN}50 %")
    by_name = {"a": stages, "b": stages[:2]}
    assert rates.delta(table, "a", "b", "mel_error", by_name).mean == pytest.approx(-50, abs=6)
    assert rates.delta(table, "a", "b", "mel_error", ["low", "none"]) is None
    alone = rates.delta(
        table[table["clip"] == table["clip"].iloc[0]], "a", "b", "mel_error", stages
    )
    assert rates.delta_text(alone) == "\N{MINUS SIGN}50 %"  # one clip: a mean, no interval
    assert rates.delta(table, "a", "c", "mel_error", stages) is None
    assert rates.delta_text(None) == "not measured on these clips"


def test_points_are_paired_and_told(table):
    high, low = ({"method": "a", "stage": stage} for stage in ("high", "low"))
    asked = {"better?": (high, low), "unknown?": (high, {"method": "c", "stage": "low"})}
    points = differences(table, asked, "mel_error")
    assert points.index.tolist() == ["better?"]
    assert points["difference"].iloc[0] == pytest.approx(1 / 3 - 1)
    assert rates.difference_text(points, "better?").startswith("\N{MINUS SIGN}0.667 nat")
    assert rates.difference_text(points, "unknown?") == "not measured on these clips"


def test_groups_of_clips(table):
    groups = {"clip0": "x", "clip1": "x", "clip2": "y"}
    found = rates.by_group(table, "a", "mel_error", groups)
    means = found.set_index(["group", "stage"])["mean"]
    assert means["x", "low"] == pytest.approx(1.005)
    assert means["y", "low"] == pytest.approx(1.02)


def test_families_of_classes():
    from audioldm_utils.studies.rates import family

    assert family("speech_english") == "speech and voice"
    assert family("dog") == "animals"
    assert family("rain") == "surroundings"
    assert family("acoustic_guitar") == family("piano") == "music"


def test_the_committed_tables_show_what_is_claimed():
    folder = ROOT / "book" / "evidence"
    table = codebook_theory.read_efficiency(folder)
    shifts = table[(table["codebook"] == "cyclic shift") & table["bits"].isin([16, 128, 512])]
    assert len(shifts) == 6
    white = shifts[shifts["residual"] == "white"].set_index("bits")
    smooth = shifts[shifts["residual"] == "smooth"].set_index("bits")
    assert (white["low"] >= 0.79).all()
    assert (smooth["mean"] >= 0.95 * white["mean"]).all()
    assert set(codebook_theory.over_bits(table)["method"]) >= {"ddcm", "ddcm-gaussian"}
    theory = codebook_theory.turbo_theory(16384, [30, 300])
    turbo = table[(table["method"] == "ddcm-turbo") & (table["residual"] == "white")]
    assert theory["mean"].tolist() == pytest.approx(turbo["mean"].iloc[[0, 2]].tolist(), abs=0.01)
    assert codebook_theory.cosine_theory([1024])["mean"].iloc[0] == pytest.approx(0.0179, abs=2e-4)
    assert "choose, processor" in codebook_theory.read_cost(folder)
    placed = codebook_theory.placed(codebook_theory.read_oracle(folder))
    assert placed.startswith("With 200 steps of one shift each, uniform steps reach")
    with pytest.raises(UserError, match="benchmarks/codebook_speed"):
        codebook_theory.read_cost(folder / "nowhere")
