"""The results table: validation, bytes, provenance, summaries, evidence."""

import hashlib
import json
import math
import os

import numpy as np
import pandas as pd
import pytest

from audioldm_utils import __version__
from audioldm_utils.errors import UserError
from audioldm_utils.results import evidence, tables
from audioldm_utils.results import summaries as results

FINGERPRINT = hashlib.sha256(b"weights").hexdigest()


def example(method="vae", shift=0.0, clips=("a", "b", "c"), seed=0):
    builder = results.ResultsBuilder(FINGERPRINT, seed, method)
    for i, clip in enumerate(clips):
        builder.add(clip, "log_mel", 1.0 + i + shift, "nat", category="rain")
        builder.add(clip, "snr", -3.0 * i, "dB", category="rain")
    return builder.table()


def test_builder_fills_every_column():
    table = example()
    assert tuple(table.columns) == results.COLUMNS
    row = table.iloc[0]
    assert (row["clip"], row["class"], row["checkpoint"]) == ("a", "rain", FINGERPRINT[:12])
    assert row["version"] == __version__
    assert table["value"].dtype == np.float64


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"value": float("nan")}, "is NaN"),
        ({"unit": "furlong"}, "unknown unit 'furlong'"),
        ({"clip": ""}, "must be named"),
        ({"method": ""}, "must be named"),
    ],
)
def test_builder_refuses(change, match):
    row = {"clip": "a", "metric": "snr", "value": 1.0, "unit": "dB", "method": "vae", **change}
    with pytest.raises(ValueError, match=match):
        results.ResultsBuilder().add(**row)


def test_builder_refuses_a_checkpoint_name_and_a_bad_seed():
    with pytest.raises(ValueError, match="fingerprint in hexadecimal"):
        results.ResultsBuilder("mini")
    with pytest.raises(ValueError, match="non-negative integer"):
        results.ResultsBuilder(seed=-1)


def test_validate_names_what_is_wrong():
    table = example()
    with pytest.raises(UserError, match=r"columns missing \['band'\]"):
        results.validate(table.drop(columns="band"))
    with pytest.raises(UserError, match="metric 'snr' more than one unit"):
        results.validate(table.assign(unit=["nat", "dB", "nat", "1", "nat", "dB"]))
    with pytest.raises(UserError, match="clip 'a' more than one class"):
        results.validate(table.assign(**{"class": ["x", "y", "z", "z", "z", "z"]}))
    with pytest.raises(UserError, match="that is no number"):
        results.validate(table.assign(value="loud"))


def test_concat_refuses_rows_given_twice_and_takes_other_seeds():
    both = results.concat([example(), example(seed=1)])
    assert len(both) == 12
    with pytest.raises(UserError, match=r"6 row\(s\) twice, the first: clip 'a'"):
        results.concat([example(), example()])
    assert results.concat([]).empty


def test_same_results_give_same_bytes_in_any_order(tmp_path):
    table = results.concat([example(), example("ddcm", 0.1234567891234)])
    shuffled = table.sample(frac=1, random_state=3)
    first = results.write(table, tmp_path / "one" / "t.csv")
    second = results.write(shuffled, tmp_path / "two" / "t")
    for suffix in ("csv", "parquet"):
        assert first[suffix].read_bytes() == second[suffix].read_bytes()
    assert b"1.12345679," in first["csv"].read_bytes()


def test_csv_and_parquet_read_back_the_same(tmp_path):
    table = results.concat([example(), example("ddcm", 1 / 3)])
    table.loc[0, "value"] = math.inf
    table.loc[table["clip"] == "b", "class"] = "NA"
    paths = results.write(table, tmp_path / "t")
    a, b = results.read(paths["csv"]), results.read(paths["parquet"])
    pd.testing.assert_frame_equal(a, b)
    pd.testing.assert_frame_equal(a, results.validate(table))
    assert math.isinf(a["value"].iloc[0])
    assert "NA" in set(a["class"])


def test_read_names_the_file(tmp_path):
    with pytest.raises(UserError, match="no such results table"):
        results.read(tmp_path / "none.csv")
    for name in ("empty.csv", "text.parquet", "empty.parquet"):
        (tmp_path / name).write_text("hello" if "text" in name else "")
        with pytest.raises(UserError, match=f"{name} cannot be read as a results table"):
            results.read(tmp_path / name)
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UserError, match=r"other.csv is no results table"):
        results.read(tmp_path / "other.csv")


def test_sidecar_records_command_hashes_seeds_versions_n(tmp_path):
    clip = tmp_path / "a.flac"
    clip.write_bytes(b"sound")
    made = evidence.provenance("audioldm-utils evaluate A B", [clip], [0, 1], FINGERPRINT, note="x")
    paths = results.write(example(), tmp_path / "t", made)
    record = json.loads(paths["json"].read_text())
    assert record["inputs"] == {"a.flac": hashlib.sha256(b"sound").hexdigest()}
    assert record["csv_sha256"] == hashlib.sha256(paths["csv"].read_bytes()).hexdigest()
    assert (record["n"], record["rows"], record["seeds"]) == (3, 6, [0, 1])
    assert record["versions"]["numpy"] == np.__version__
    assert record["checkpoint"] == FINGERPRINT


def test_failed_write_leaves_the_old_files_and_no_others(tmp_path, monkeypatch):
    results.write(example(), tmp_path / "t")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(tables, "_write_parquet", full)
    with pytest.raises(UserError, match="t: the results could not be written: No space left"):
        results.write(example(shift=1), tmp_path / "t")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_select_names_what_there_is():
    table = results.concat([example(), example("ddcm")])
    assert len(results.select(table, method=["vae", "ddcm"], metric="snr", category="rain")) == 6
    with pytest.raises(UserError, match="no results with method 'vea'; there are ddcm, vae"):
        results.select(table, method="vea")


def test_summarise_averages_within_the_clip_first():
    table = results.concat([example(), example(seed=1, shift=3, clips=("a",))])
    summary = results.summarise(table, ["method"], better={"log_mel": "lower", "snr": "higher"})
    row = summary[summary["metric"] == "log_mel"].iloc[0]
    # a: (1 + 4) / 2, b: 2, c: 3
    assert row["mean"] == pytest.approx((2.5 + 2 + 3) / 3)
    assert (row["n"], row["better"], row["unit"]) == (3, "↓", "nat")
    assert row["low"] < row["mean"] < row["high"]
    assert summary.attrs["aggregator"] == "mean over clips [95 % interval]"


def test_tabulate_names_unit_direction_and_aggregator():
    table = results.concat([example(), example("ddcm", 1, clips=("a", "b"))])
    summary = results.summarise(table, better={"log_mel": "lower", "snr": "higher"})
    wide = results.tabulate(summary)
    assert list(wide.columns) == [
        "log mel, nat ↓",
        "snr, dB ↑",
        "n",
    ]
    assert wide.columns.name == "method; mean over clips [95 % interval]"
    assert wide.loc["vae"].iloc[0].startswith("2 [")
    assert list(wide["n"]) == ["2", "3"]


def test_infinite_values_have_a_mean_and_no_interval():
    table = example()
    table.loc[table["metric"] == "snr", "value"] = math.inf
    summary = results.summarise(table, better={})
    row = summary[summary["metric"] == "snr"].iloc[0]
    assert math.isinf(row["mean"])
    assert math.isnan(row["low"])
    assert results.tabulate(summary).loc["vae"].iloc[1] == "inf"


def test_paired_difference_uses_shared_clips_only():
    table = results.concat([example(), example("ddcm", -0.5, clips=("b", "c", "d"))])
    # vae: b 2, c 3; ddcm: b 0.5, c 1.5
    sides = {"method": "vae"}, {"method": "ddcm", "seed": 0}
    found = results.differences(table, {"VAE": sides}, "log_mel").loc["VAE"]
    assert found["n"] == 2
    assert found["difference"] == pytest.approx(1.5)
    assert (found["first"], found["second"]) == (2.5, 1.0)
    apart = results.concat([example(clips=("a",)), example("ddcm", clips=("d",))])
    assert results.differences(apart, {"VAE": sides}, "log_mel").empty
    assert [len(side) for side in results.pairs(apart, *sides, "log_mel")] == [0, 0]


def test_evidence_that_agrees_is_counted_without_timings():
    committed = results.concat([example(), example("ddcm")])
    now = example(shift=0.004)
    extra = results.ResultsBuilder(FINGERPRINT, 0, "vae")
    extra.add("a", "seconds", 3.0, "s", category="rain")
    now = results.concat([now, extra.table()])
    assert evidence.compare_evidence(now, committed, {"log_mel": 0.005, "": 0}) == 6
    assert evidence.compare_evidence(now, committed, 0.0, relative=0.01) == 6


def test_stale_evidence_lists_the_rows():
    clips = [f"clip {i:02}" for i in range(evidence.SHOWN + 1)]
    now, committed = example(shift=0.02, clips=clips), example(clips=clips)
    with pytest.raises(evidence.StaleEvidenceError) as caught:
        evidence.compare_evidence(now, committed, {"log_mel": 0.01, "snr": 0.0})
    first, *lines, last = str(caught.value).splitlines()
    assert first == "21 of 42 recomputed rows disagree with the evidence:"
    assert lines[0] == ("  clip 00 | vae  | log_mel : now 1.02, committed 1 nat, allowed 0.01")
    assert [line.split(" | ")[0].strip() for line in lines] == clips[:-1]
    assert last == "  and 1 more"


def test_rows_missing_from_the_evidence_are_stale():
    with pytest.raises(evidence.StaleEvidenceError, match="committed nan"):
        evidence.compare_evidence(example(clips=("a", "z")), example(), 1e-9)


def test_evidence_of_another_checkpoint_or_too_little_of_it():
    other = results.validate(example().assign(checkpoint="0" * 12))
    with pytest.raises(UserError, match=f"this run uses {FINGERPRINT[:12]}; make the evidence"):
        evidence.compare_evidence(example(), other, 0.1)
    timings = example().assign(unit="s")
    with pytest.raises(UserError, match=r"only 0 row\(s\) could be compared, 1 are needed"):
        evidence.compare_evidence(timings, example(), 0.1)
    with pytest.raises(UserError, match="no tolerance is stated for snr"):
        evidence.compare_evidence(example(), example(), {"log_mel": 0.1})


def test_infinite_evidence_must_stay_infinite():
    committed = example()
    committed.loc[0, "value"] = math.inf
    assert evidence.compare_evidence(committed, committed, 0.1) == 6
    with pytest.raises(evidence.StaleEvidenceError, match="1 of 6"):
        evidence.compare_evidence(example(), committed, 1e9)


def test_neighbours_are_paired_and_corrected():
    builder = results.ResultsBuilder(FINGERPRINT, 0, "ddcm")
    for index in range(12):
        for stage, value in (("1", 3.0), ("2", 2.0), ("5", 2.0 + 0.1 * (-1) ** index)):
            builder.add(f"clip{index}", "mel_error", value + index, "nat", stage=stage)
    stage = {name: {"method": "ddcm", "stage": name} for name in ("1", "2", "5")}
    asked = {("1", "2"): (stage["2"], stage["1"]), ("2", "5"): (stage["5"], stage["2"])}
    found = results.differences(builder.table(), asked, "mel_error")
    assert [first for first, _ in found.index] == ["1", "2"]
    assert found["difference"].tolist() == pytest.approx([-1.0, 0.0])
    # 12 equal differences: 2 / 2**12 by sign flips, doubled for two pairs; the other is noise.
    assert found["p, Holm"].iloc[0] == pytest.approx(4 / 2**12, rel=0.2)
    assert found["p, Holm"].iloc[1] > 0.5
    assert found["n"].tolist() == [12, 12]
