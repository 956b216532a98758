"""What the codec's chapter claims, on tables whose answer is known by hand."""

from __future__ import annotations

import math

import pytest

from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import rate_claims
from audioldm_utils.studies.rate_curves import at_rates_of, by_group, heard_through
from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD
from tests.demo_project import ROOT

RATES = (0.5, 1.0, 2.0)
STAGES = [f"{rate:g} kbit/s" for rate in RATES]


def table(quantiser=(0.9, 0.6, 0.2), last=0.3, clips=8, spread=0.0):
    """DDCM's error falls from 0.7 over 0.5 to ``last``; the quantiser's points lie at its rates."""
    rows = ResultsBuilder("", 0)
    for number in range(clips):
        wobble = 0.01 * number + spread * (-1) ** number
        add = {"category": "speech_english" if number % 2 else "piano"}
        for rate, error, stage in zip(RATES, (0.7, 0.5, last), STAGES, strict=True):
            place = {"method": "ddcm", "stage": stage, **add}
            rows.add(f"c{number}", "rate", rate, "kbit/s", **place)
            rows.add(f"c{number}", "mel_error", error + wobble, "nat", **place)
            for end, gain in (("", 1.0), (", vocoder", 0.0)):
                sound = {**place, "stage": stage + end}
                rows.add(f"c{number}", "visqol", 3 + gain * rate / 2 + wobble, "MOS", **sound)
        for rate, error in zip(RATES, quantiser, strict=True):
            place = {"method": "rvq", "stage": f"{rate:g} stages", **add}
            rows.add(f"c{number}", "rate", 0.9 * rate, "kbit/s", **place)
            rows.add(f"c{number}", "mel_error", error + 0.01 * number, "nat", **place)
        for stage, rate, error in (("broadband", 0.6, 2.0), ("seven bands", 1.0, 0.1)):
            place = {"method": "envelope-noise", "stage": stage, **add}
            rows.add(f"c{number}", "rate", rate, "kbit/s", **place)
            rows.add(f"c{number}", "mel_error", error, "nat", **place)
        for stage, quality in (("", 4.1), ("vocoder", 3.9)):
            rows.add(f"c{number}", "visqol", quality, "MOS", method="vae", stage=stage, **add)
        rows.add(f"c{number}", "mel_error", 0.1, "nat", method="vae", **add)
    return rows.table()


def test_another_codec_is_read_at_the_same_rate():
    joined = at_rates_of(table(), "rvq", "ddcm", "mel_error")
    read = joined[(joined["method"] == "rvq") & joined["stage"].isin(STAGES)]
    first = read[read["clip"] == "c0"].set_index("stage")["value"]
    # At 1 kbit/s between 0.9 and 1.8; the highest point of the quantiser ends below 2 kbit/s.
    assert set(first.index) == {"0.5 kbit/s", "1 kbit/s"}
    assert 0.5 < first["1 kbit/s"] < 0.6
    at_ends = table(quantiser=(0.9, 0.9, 0.9))
    flat = at_rates_of(at_ends, "rvq", "ddcm", "mel_error")
    chosen = (flat["method"] == "rvq") & (flat["clip"] == "c0") & flat["stage"].isin(STAGES)
    assert flat[chosen]["value"].tolist() == pytest.approx([0.9, 0.9])


def test_where_ddcm_is_better_undecided_and_worse():
    found = rate_claims.against(table(quantiser=(1.5, 0.3, 0.2)), "rvq", STAGES)
    assert found["claim"].to_dict() == {"0.5 kbit/s": UPHELD, "1 kbit/s": REFUTED}
    assert rate_claims.by_range(found) == "better at 0.5 kbit/s; worse at 1 kbit/s"
    assert rate_claims.by_range(found, STAGES).endswith("; not compared at 2 kbit/s")
    assert rate_claims.range_of(found, STAGES) == (
        "at 1 kbit/s; upheld at 0.5 kbit/s; not compared at 2 kbit/s"
    )
    assert "latents at 0.5 kbit/s; at 1 kbit/s it was not" in rate_claims.advice(found)
    some = table()
    some = some[(some["clip"] != "c0") | (some["method"] != "rvq")]
    assert "at 0.5 kbit/s 1 of 8 clips, on which DDCM's error is 0.70 nat" in rate_claims.left_out(
        some, "rvq", STAGES[:2]
    )
    assert rate_claims.left_out(table(), "rvq", STAGES[:2]).startswith("No clip")
    wide = rate_claims.against(table(quantiser=(0.75, 0.52, 0.2), spread=2.0), "rvq", STAGES)
    assert set(wide["claim"]) == {UNDECIDED}
    assert rate_claims.by_range(wide) == "undecided at 0.5 and 1 kbit/s"
    assert rate_claims.advice(wide).startswith("Take the residual quantiser")
    few = rate_claims.against(table(clips=2), "rvq", STAGES)
    assert set(few["claim"]) == {UNDECIDED}
    none = rate_claims.against(table(), "linear", STAGES)
    assert rate_claims.by_range(none) == "not compared on these clips"


def test_noise_of_the_envelope_is_met_at_its_own_rate():
    found = rate_claims.against_noise(table())
    assert found["claim"].to_dict() == {"broadband": UPHELD, "seven bands": REFUTED}
    assert found.loc["broadband", "second"] == pytest.approx(2.0)


def test_the_answer_tells_the_ends_and_whether_the_error_falls():
    said = rate_claims.answer(table(), STAGES, "8 real clips")
    assert said.startswith("DDCM's mel error falls at every step of the rate, from 0.7")
    assert said.endswith("(n = 8 real clips).")
    risen = rate_claims.answer(table(last=0.9), STAGES, "real clips")
    assert "rises at some step" in risen
    short = table()
    short = short[(short["clip"] != "c0") | (short["stage"] != STAGES[0])]
    assert "; n = 7 at the lowest rate" in rate_claims.answer(short, STAGES, "8 real clips")
    one = rate_claims.answer(table(), STAGES[:1], "real clips")
    assert "was measured at one rate" in one
    assert rate_claims.answer(table(), [], "real clips").startswith("No file")


def test_what_is_heard_improves_step_by_step_or_does_not():
    shown, told, ends = rate_claims.heard(table(), STAGES)
    assert told == ends == {"visqol": UPHELD}
    assert shown["n"].tolist() == ["8"]
    assert shown["within 10 % of the VAE at 2 kbit/s"].tolist() == [UPHELD]
    assert shown["0.5 to 1 kbit/s"].tolist() == ["+0.25: upheld"]
    shown, told, ends = rate_claims.heard(table(), STAGES, synthesis="vocoder")
    assert (told, ends) == ({"visqol": UNDECIDED}, {"visqol": REFUTED})
    assert rate_claims.heard(table(), [])[1:] == ({}, {})
    assert shown["within 10 % of the VAE at 2 kbit/s"].tolist() == [REFUTED]


def test_rows_of_another_synthesis_become_methods():
    found = heard_through(table(), "vocoder")
    assert {"ddcm-vocoder", "vae-vocoder"} <= set(found["method"])
    other = found[(found["method"] == "ddcm-vocoder") & (found["clip"] == "c0")]
    assert set(other["stage"]) == set(STAGES)
    assert set(other["metric"]) == {"rate", "visqol"}
    assert not found["stage"].str.contains("vocoder").any()


def test_codecs_of_speech_are_named_or_said_to_be_missing():
    assert "were not installed" in rate_claims.speech_codecs(table())
    with_one = table().replace({"method": {"rvq": "codec2"}})
    assert rate_claims.speech_codecs(with_one).startswith("Codec2 code 8 kHz")
    assert "No clip is labelled" in rate_claims.speech_codecs(table(clips=1))
    assert not math.isnan(with_one["value"].sum())


def heard_table(noise, opus, clips=8):
    """STOI and ViSQOL of DDCM at 0.5 to 2 kbit/s, of noise and of two levels of Opus."""
    rows = ResultsBuilder("", 0)
    for number in range(clips):
        for stage, rate in zip(STAGES, RATES, strict=True):
            place = {"method": "ddcm", "stage": stage}
            rows.add(f"c{number}", "payload_rate", rate, "kbit/s", **place)
            rows.add(f"c{number}", "stoi", 0.5 + number / 100, "1", **place)
            rows.add(f"c{number}", "visqol", 3.5 + rate / 2, "MOS", **place)
        for method, stage, rate, metric, value in (
            ("envelope-noise", "broadband", 1.0, "stoi", noise),
            ("opus", "level 1", 6.0, "visqol", 3.0),
            ("opus", "level 2", 9.0, "visqol", opus),
        ):
            place = {"method": method, "stage": stage}
            rows.add(f"c{number}", "payload_rate", rate, "kbit/s", **place)
            unit = "MOS" if metric == "visqol" else "1"
            rows.add(f"c{number}", metric, value + number / 1000, unit, **place)
    return rows.table()


def test_speech_is_compared_at_the_others_payload():
    found = heard_table(0.7, 5.0)
    said = rate_claims.stoi_beside(found, "envelope-noise", "noise")
    assert "at 1 kbit/s (refuted); n = 8 of speech" in said
    few = rate_claims.stoi_beside(heard_table(0.7, 5.0, 3), "envelope-noise", "x")
    assert "(undecided)" not in few
    assert few.endswith("of speech, too few to decide.")
    assert "was not compared" in rate_claims.stoi_beside(found, "codec2", "Codec2")


def test_visqol_has_a_floor_and_other_codecs_pass():
    found = heard_table(0.7, 5.0)
    floor = rate_claims.visqol_floor(found, STAGES, ROOT / "book" / "evidence")
    assert "DDCM's is lower at 0.5 kbit/s, Opus' at its lowest rate is 3.00" in floor
    assert rate_claims.visqol_floor(found, STAGES, "nowhere") == ""
    assert "from a payload of 9 kbit/s on" in rate_claims.passed_by(
        found, "opus", "Opus", STAGES[1]
    )
    assert "is not shown" in rate_claims.passed_by(heard_table(1, 3.1), "opus", "Opus", STAGES[1])


def test_mixtures_and_classes_have_their_finding():
    rows = ResultsBuilder("", 0)
    for number in range(8):
        for stage, error in (("one clip", 0.3), ("pair", 0.4), ("triple", 0.5)):
            value = error + number / 100 * error
            rows.add(f"c{number}", "mel_error", value, "nat", method="ddcm", stage=stage)
    assert rate_claims.mixed(rows.table()).startswith("Mixing raises the error: +0.10")
    assert rate_claims.mixed(rows.table()[:0]) == "No mixture was measured."
    groups = {f"c{number}": "music" if number < 6 else "animals" for number in range(8)}
    grouped = by_group(rows.table(), "ddcm", "mel_error", groups)
    assert rate_claims.classes(grouped, "pair").startswith("Too few clips")
    both = grouped.assign(recordings=6)
    said = rate_claims.classes(both, "pair")
    assert "least for music" in said
    assert "largest for animals" in said
