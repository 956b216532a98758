"""What the codec's chapter claims, on tables whose answer is known by hand."""

from __future__ import annotations

import math

import pytest

from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import rate_claims
from audioldm_utils.studies.rate_curves import at_rates_of, heard_through
from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD

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
    assert rate_claims.advice(found).startswith("Take DDCM at 0.5 kbit/s; at 1 kbit/s")
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
    said = rate_claims.answer(table(), STAGES, "real clips")
    assert said.startswith("The mel error falls at every step, from 0.7")
    assert "(n = 8 of real clips)" in said
    risen = rate_claims.answer(table(last=0.9), STAGES, "real clips")
    assert "rises at some step" in risen
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
