"""Bounds against tables whose answer is known by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from audioldm_utils.errors import UserError
from audioldm_utils.metrics.statistics import Interval, bootstrap_reduction
from audioldm_utils.results.summaries import interval_text
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import choices, diffusion, published
from audioldm_utils.studies.artefacts import artefact_table, cures
from audioldm_utils.studies.diffusion import plane
from audioldm_utils.studies.repair import (
    repair_answer,
    repair_claims,
    repair_verdicts,
)
from audioldm_utils.studies.verdicts import (
    NOT_COMPARED,
    REFUTED,
    UNDECIDED,
    UPHELD,
    claim,
    compared,
    counted,
    of,
    together,
    where,
)


def table_of(bias, error, mrstft):
    """Values a clip of vae and repair: signed bias, energy error, STFT distance."""
    rows = ResultsBuilder("", 0)
    for number in range(6):
        name = f"clip{number}"
        for (method, stage), (b, e) in {
            ("vae", ""): (-4.0 - number / 10, 5.0),
            ("vae-highfreq", "blind"): (bias, 4.0),
            ("vae-highfreq", "side information"): (0.0, error),
        }.items():
            place = {"method": method, "stage": stage, "band": "4-8 kHz"}
            rows.add(name, "band_energy_bias", b, "dB", **place)
            rows.add(name, "band_energy_error", e, "dB", **place)
        rows.add(name, "multi_resolution_stft", 1.0, "1", method="vae")
        rows.add(name, "multi_resolution_stft", mrstft[number], "1", method="vae-restored")
    return rows.table()


def by_key(table):
    return {verdict.key: verdict for verdict in repair_verdicts(table)}


def test_a_reduction_by_hand():
    found = bootstrap_reduction([1.0, 1.0, 4.0], [2.0, 4.0, 6.0])
    assert found.mean == pytest.approx(0.5)
    assert found.low < 0.5 < found.high
    assert bootstrap_reduction([-1.0, 1.0], [2.0, 4.0], signed=True).mean == 1.0
    assert bootstrap_reduction([-3.0], [6.0], signed=True).mean == pytest.approx(0.5)
    assert np.isnan(bootstrap_reduction([1.0], [2.0]).low)
    with pytest.raises(ValueError, match="mean before is 0"):
        bootstrap_reduction([1.0, 1.0], [-1.0, 1.0])
    with pytest.raises(ValueError, match="paired"):
        bootstrap_reduction([1.0], [1.0, 2.0])


def test_bounds_that_hold_and_bounds_that_do_not():
    good = by_key(table_of(-0.4, 2.0, [0.8, 0.9, 0.8, 0.85, 0.9, 0.8]))
    assert good["blind"].measured == pytest.approx(100 * (1 - 0.4 / 4.25))
    assert good["restored_stft"].holds == "yes"
    assert good["restored_stft_worst"].measured == pytest.approx(-10)
    assert {verdict.holds for verdict in good.values()} == {"yes"}
    bad = by_key(table_of(-3.0, 4.5, [0.5, 0.5, 0.5, 0.9, 1.0, 1.2]))
    assert bad["blind"].holds == "no"
    assert bad["restored_stft"].measured < 0
    assert bad["restored_stft_worst"].measured == pytest.approx(20)
    assert bad["restored_stft_worst"].holds == "no"


def test_on_average_is_not_yes():
    uneven = by_key(table_of(-0.4, 2.0, [0.2, 1.0, 1.1, 1.05, 1.0, 1.05]))
    assert uneven["restored_stft"].holds == "on average"


def test_few_clips_keep_no_bound_but_that_of_the_worst_clip():
    table = table_of(-0.4, 2.0, [0.8, 0.9, 0.8, 0.85, 0.9, 0.8])
    few = by_key(table[table["clip"] != "clip5"])
    assert few["restored_stft"].holds == few["blind"].holds == "on average"
    assert few["restored_stft_worst"].holds == "yes"


def test_what_is_not_in_the_table_is_not_judged():
    assert "above" not in by_key(table_of(-0.4, 2.0, [1.0] * 6))


def repairs(visqol, chroma, stft, noise=1.0, clips=8):
    """A table of repairs; the fitted inverse, in use, has ViSQOL 4, chroma 0.8 and STFT 1."""
    rows = ResultsBuilder("", 0)
    for number in range(clips):
        name, wobble = f"clip{number}", number / 1000
        rows.add(name, "energy_above_8_khz", 5.0, "%", method="original")
        for method, change in (("vae-highfreq", 0.0), ("envelope-noise", noise)):
            where = {"method": method, "stage": "full band", "band": "8-16 kHz"}
            rows.add(name, "log_spectral_distance", 9.0 + change * (1 + wobble), "dB", **where)
        values = {"vae": (0, 0, 0), "vae-inverse": (0, 0, 0), "vae-refined": (0.1, 0, -0.1)}
        values |= {"vae-griffinlim": (-0.1, -0.1, 0.2), "vae-vocoder": (-1, -1, 1)}
        values["vae-restored"] = (visqol, chroma, stft)
        for method, (a, b, c) in values.items():
            rows.add(name, "visqol", 4.0 + a * (1 + wobble), "MOS", method=method)
            rows.add(name, "chroma_correlation", 0.8 + b * (1 + wobble), "1", method=method)
            rows.add(name, "multi_resolution_stft", 1.0 + c * (1 + wobble), "1", method=method)
    return rows.table()


def test_restoration_is_compared_with_the_plainest_alternative():
    good = repairs(0.3, 0.1, -0.1)
    assert set(repair_claims(good, "inverse").values()) == {UPHELD}
    said = repair_answer(good, "inverse")
    assert said["answer"].startswith("The largest repair is another synthesis. The fitted inverse")
    others = said["answer"].partition("All other repairs together are, beside ")[2]
    assert others.startswith("the fitted inverse alone, better by ViSQOL (+0.301 [+0.300, +0.302])")
    assert "not told apart" not in others
    assert said["advice"].startswith("Restore")
    assert said["advice_above"].startswith("Where sound above 8 kHz matters, add")
    bad = repairs(0.3, -0.1, -0.1, noise=-1.0)
    claims = repair_claims(bad, "vocoder")
    assert list(claims.values()) == [REFUTED, UNDECIDED, UPHELD, REFUTED]  # «vae» is the inverse
    said = repair_answer(bad, "inverse")
    assert "; worse by chroma correlation of tonal clips (−0.100" in said["answer"]
    assert said["advice_above"].startswith("Leave the band extension off")
    few = repairs(0.3, 0.1, -0.1, clips=3)
    assert set(repair_claims(few, "inverse").values()) == {UNDECIDED}
    said = repair_answer(few, "inverse")
    assert said["answer"].count("not told apart by ViSQOL (+") == 2
    assert "better by" not in said["answer"]
    assert "more is not shown to help" in said["advice"]
    assert "not shown" in said["advice_above"]
    larger = repair_answer(repairs(2.0, 0.1, 0.5), "inverse")["answer"]
    assert not larger.startswith("The largest repair")
    assert "; worse by multi-resolution STFT distance (+0.50" in larger
    silent = few[few["metric"] == "log_spectral_distance"]
    assert "alone, not compared." in repair_answer(silent, "inverse")["answer"]


def test_small_gains_are_told_as_gains():
    """A measure that stays as it is does not make the others «not shown»."""
    table = repairs(0.05, 0.0, -0.02)
    assert repair_claims(table, "inverse")["claim_1"] == UNDECIDED
    said = repair_answer(table, "inverse")
    assert "alone, better by ViSQOL (+0.05" in said["answer"]
    assert (
        "; not told apart by chroma correlation of tonal clips (+0.00 [+0.00, +0.00])"
        in (said["answer"])
    )
    assert "it gains more than all other repairs together" in said["advice"]
    tiny = compared(repairs(0.0005, 0.0, 0.0), of("vae-restored"), of("vae"), {"visqol": ("V", "")})
    assert tiny.startswith("not told apart by V (+0.00")


def artefacts_of(clips=8, **hum):
    rows = ResultsBuilder("", 0)
    for number in range(clips):
        for method, value in hum.items():
            name = method.replace("_", "-")
            rows.add(f"clip{number}", "hum", value + number / 10, "1", method=name)
    return rows.table()


def test_a_cure_is_what_an_interval_shows():
    table = artefacts_of(vae_vocoder=50, vae_inverse=3, vae_denoise=2, vae_refined=3)
    assert cures(table, "hum").replace("\N{NARROW NO-BREAK SPACE}", " ") == (
        "the fitted inverse in the vocoder's place (−47.00 [−47.00, −47.00] lines), "
        "vae-denoise (−1.00 [−1.00, −1.00] lines)"
    )
    shown = artefact_table(table).set_index("artefact").loc["steady lines, number"]
    assert shown["vae-vocoder"].startswith("50.35 [")
    assert (shown["vae-restored"], shown["n"]) == ("–", 8)
    worse = cures(artefacts_of(vae_vocoder=0.5, vae_inverse=9, vae_denoise=9), "hum")
    assert worse.startswith("none of the repairs measured here; the fitted inverse has more of it")
    absent = artefacts_of(vae_vocoder=-5, vae_inverse=-4, vae_denoise=-6)
    assert cures(absent, "hum").startswith("nothing to cure here: −3.65 [")
    assert "none of the repairs" not in cures(artefacts_of(clips=3, vae_inverse=9), "hum")


POINTS = {"calls": 10, "more_calls": 15, "strengths": [0.4], "rates": [2.0]}
RUNS = diffusion.runs_of(**POINTS)


def diffusion_table(guided, plausible=0.3, clips=6):
    """The VAE's mel error is 0.2 nat, SDEdit's 0.8, DDCM's 0.4; guidance's is given by clip."""
    rows = ResultsBuilder("", 0)
    for number in range(clips):
        values = {
            ("vae", ""): (0.2, 0.5),
            ("sdedit", "strength 0.4"): (0.8 + number / 100, plausible),
            ("guided", "strength 0.4"): (guided[number], 0.4),
            ("ddcm", "2 kbit/s"): (0.4, 0.5 + number / 100),
        }
        for (method, stage), (error, epsilon) in values.items():
            place = {"method": method, "stage": stage}
            rows.add(f"clip{number}", "mel_error", error, "nat", **place)
            rows.add(f"clip{number}", "epsilon_error", epsilon, "1", **place)
            rows.add(f"clip{number}", "clap_audio", 1.1 - error, "1", **place)
            if method == "ddcm":
                longer = {"method": method, "stage": f"{stage}{diffusion.EQUAL_SECONDS}"}
                rows.add(f"clip{number}", "mel_error", error - 0.1, "nat", **longer)
    return rows.table()


def test_diffusion_beside_the_vae_alone():
    table = diffusion_table([0.3, 0.31, 0.32, 0.3, 0.31, 0.33])
    found = diffusion.claims(table, RUNS, [0.4])
    assert found == {
        "claim_1": UPHELD, "claim_2": UPHELD, "where_2": "at strength 0.4",
        "claim_3": UNDECIDED, "where_3": NOT_COMPARED,
        "claim_4": UPHELD, "where_4": "at strength 0.4",
    }  # fmt: skip
    said = diffusion.answer(table, RUNS, 10, "6 clips")
    assert said.startswith("By mel error no diffusion method brings a clip back better than")
    assert "guidance at strength 0.4 and 10 network calls, changes the VAE's 0.200 nat by" in said
    assert "+0.112 [" in said
    assert said.endswith("(n = 6 clips).")
    assert "guidance keeps it nearer" in diffusion.advice(found)
    assert "the clip falls, from 0.90 to 0.28 (change" in diffusion.invented(table, 0.4)
    assert "not measured" in diffusion.invented(table, 0.7)
    assert "DDCM's at 2 kbit/s by \N{MINUS SIGN}0.100" in diffusion.longer(table, RUNS, 10, 15)
    better = diffusion_table([0.1] * 6, plausible=0.6)
    found = diffusion.claims(better, RUNS, [0.4])
    assert (found["claim_1"], found["claim_2"]) == (REFUTED, REFUTED)
    assert diffusion.advice(found).startswith("Try")
    assert diffusion.answer(better, RUNS, 10, "x").startswith("By mel error a diffusion")
    unsure = diffusion_table([0.1, 0.3, 0.1, 0.3, 0.1, 0.3])
    assert diffusion.claims(unsure, RUNS, [0.4])["claim_1"] == UNDECIDED
    assert "it is undecided" in diffusion.answer(unsure, RUNS, 10, "x")
    assert "No diffusion method was measured" in diffusion.answer(unsure[:0], RUNS, 10, "x")


def choices_table(shifts, paper=0.77, kmeans=0.5, clips=6):
    rows = ResultsBuilder("", 0)
    for number in range(clips):
        for method, value in (("ddcm", shifts), ("ddcm-gaussian", paper), ("ddcm, no mask", 0.7)):
            for stage in ("real, 0.1", "real, 0.9"):
                value += number / 1000 * (method == "ddcm")
                rows.add(f"c{number}", "efficiency", value, "1", method=method, stage=stage)
        for method, error in (("ddcm", 0.4), ("ddcm-kmeans", kmeans)):
            rows.add(f"c{number}", "mel_error", error, "nat", method=method, stage="equal rate")
    return rows.table()


def sampling(table, correlation):
    """With plain sampling's correlation of latents, and a quantiser of a larger error."""
    rows = ResultsBuilder("", 0)
    for number in range(6):
        where_to = {"method": "ddcm", "stage": "temperature inf"}
        value = correlation + (-1) ** number / 100
        rows.add(f"c{number}", "latent_correlation", value, "1", **where_to)
        rows.add(f"c{number}", "mel_error", 0.9 + number / 100, "nat", method="vq", stage="hard")
        rows.add(f"c{number}", "payload_rate", 3.2, "kbit/s", method="vq", stage="hard")
    return pd.concat([table, rows.table()], ignore_index=True)


def test_shifts_beside_independent_entries():
    white = pd.DataFrame({"mean": [0.83], "low": [0.82], "high": [0.84], "n": [128]})
    good = choices_table(0.8)
    found = choices.claims(good, white.assign(theory=0.83))
    assert found == {f"claim_{i}": UPHELD for i in range(1, 5)}
    said = choices.answer(good, found["claim_2"], "6 clips", (0.82, 0.78))
    assert said.startswith("Per bit, the shifts of one vector serve as well as independent")
    assert "0.80, where theory expects 0.82 of as many independent entries; fewer" in said
    assert "less than the 0.04 that theory gives for the larger size (n = 6 clips)" in said
    assert "is more than the 0.01" in choices.answer(good, UPHELD, "6 clips", (0.82, 0.81))
    assert choices.by_level(good) == "upheld at 0.1 and 0.9"
    assert "not shown to correlate" in choices.sampled(sampling(good, 0.0))
    assert "still correlate" in choices.sampled(sampling(good, 0.2))
    assert "not measured" in choices.sampled(good)
    assert "at 1 kbit/s: more (difference" in choices.quantised(sampling(good, 0.2), "1 kbit/s")
    assert choices.quantised(good, "").startswith("No quantiser")
    assert choices.advice(found) == "Take cyclic shifts of one vector under a mask of signs."
    assert choices.lowest(good) == "ddcm, no mask"
    bad = choices.claims(choices_table(0.6, kmeans=0.3), white.assign(theory=0.9))
    assert bad == {f"claim_{i}": REFUTED for i in range(1, 5)}
    assert choices.advice(bad).startswith("Take independent entries")
    few = choices.claims(choices_table(0.8, clips=3), white.assign(theory=0.845))
    assert few == {f"claim_{i}": UNDECIDED for i in range(1, 5)}
    assert choices.answer(good[:0], UNDECIDED, "x", (0.8, 0.8)).startswith("No real residual")


def test_a_plane_joins_two_metrics():
    summary = pd.DataFrame(
        [
            ("sdedit", "strength 0.2", "a", 1.0, 0.5, 1.5),
            ("sdedit", "strength 0.2", "b", 3.0, 2.0, 4.0),
            ("vae", "", "a", 2.0, 1.0, 3.0),
            ("vae", "", "b", 5.0, 4.0, 6.0),
            ("ddcm", "0.5 kbit/s", "a", 9.0, 8.0, 9.5),
        ],
        columns=["method", "stage", "metric", "mean", "low", "high"],
    )
    found = plane(summary, "a", "b", ["vae", "sdedit", "ddcm"])
    assert found["method"].tolist() == ["vae", "sdedit"]
    assert found[["x", "y_high"]].values.tolist() == [[2.0, 6.0], [1.0, 4.0]]


def test_the_published_size_is_read_or_said_to_be_missing(tmp_path):
    assert published.read_published(tmp_path) is None
    figures = [("encode", 5.12), ("UNet step", 20.48), ("decode", 10.24), ("vocode", 1.024)]
    lines = [f"ours-float32,{name} wall s,{value},10.24,2" for name, value in figures]
    head = "variant,figure,value,audio seconds,threads"
    path = tmp_path / "published_size.csv"
    path.write_text("\n".join([head, *lines]))
    found = published.read_published(tmp_path / "none", tmp_path)
    assert found == pytest.approx({"encode": 0.5, "UNet step": 1.0, "decode": 1.0, "vocode": 0.1})
    path.write_text("\n".join([head, *lines[1:]]))
    with pytest.raises(UserError, match="lacks encode"):
        published.read_published(tmp_path)


@pytest.mark.parametrize(
    ("low", "high", "n", "bound", "above", "word"),
    [
        (0.1, 0.3, 9, 0.0, True, UPHELD),
        (0.1, 0.3, 9, 0.0, False, REFUTED),
        (0.1, 0.3, 9, 0.2, True, UNDECIDED),
        (0.1, 0.3, 9, 0.4, True, REFUTED),
        (0.1, 0.3, 9, 0.4, False, UPHELD),
        (-0.3, -0.1, 9, 0.0, False, UPHELD),
        (0.1, 0.3, 2, 0.0, True, UNDECIDED),  # too few clips to say anything
        (float("nan"), float("nan"), 1, 0.0, True, UNDECIDED),
    ],
)
def test_a_claim_is_upheld_or_refuted_by_the_whole_interval(low, high, n, bound, above, word):
    assert claim(Interval((low + high) / 2, low, high, n), bound, above) == word


def test_claims_that_must_all_hold_share_one_word():
    assert claim(None) == together([]) == together([UPHELD, UNDECIDED]) == UNDECIDED
    assert together([UPHELD, UPHELD]) == UPHELD
    assert together([UPHELD, UNDECIDED, REFUTED]) == REFUTED


def test_a_claim_names_where_it_holds():
    found = {"1": UPHELD, "2": UPHELD, "5": NOT_COMPARED}
    assert where(found, "at {} kbit/s") == "at 1 and 2 kbit/s; not compared at 5 kbit/s"
    assert where({"1": UPHELD, "2": REFUTED, "3": UNDECIDED}) == "at 2; undecided at 3; upheld at 1"
    assert where({}) == ""
    assert counted(21, "21 recordings") == "n = 21 recordings"
    assert counted(2, "21 recordings") == "n = 2 of 21 recordings"


@pytest.mark.parametrize(
    ("values", "spec", "text"),
    [
        ((0.0177, 0.0169, 0.0188), "+.2f", "+0.018 [+0.017, +0.019]"),  # 0.02 [0.02, 0.02]
        ((-0.0192, -0.0242, -0.0146), "+.2f", "−0.019 [−0.024, −0.015]"),
        ((-0.0004, -0.0084, 0.0046), "+.2f", "0.000 [−0.008, +0.005]"),
        ((0.31, 0.28, 0.34), ".2f", "0.31 [0.28, 0.34]"),
        ((0.9803, 0.9801, 0.9805), ".3g", "0.9803 [0.9801, 0.9805]"),
        ((0.5, 0.5, 0.5), ".2f", "0.50 [0.50, 0.50]"),
        ((1.0, 1 - 1e-9, 1 + 1e-9), ".2f", "1.00 [1.00, 1.00]"),
        ((-1e-6, float("nan"), float("nan")), ".2f", "0.00"),
        ((0.725, 0.665, 0.785), ".0%", "72% [66%, 78%]"),
    ],
)
def test_an_interval_has_the_digits_that_it_needs(values, spec, text):
    assert interval_text(*values, spec) == text
