"""Recordings and collections in results tables, and what is read from them."""

import io
import math

import numpy as np
import pytest

from audioldm_utils.errors import UserError
from audioldm_utils.metrics.statistics import Interval
from audioldm_utils.results import comparison, tables
from audioldm_utils.results import summaries as results
from audioldm_utils.studies import rate_curves
from audioldm_utils.studies.verdicts import (
    UNDECIDED,
    UPHELD,
    as_table,
    claim,
    difference,
    judge,
    reduction,
)

VAE, REPAIR = {"method": "vae"}, {"method": "repair"}


def table_of(copies, recordings=9, collections=3):
    """Log-mel of two methods: each recording has a value, each of its clips the same."""
    rows = results.ResultsBuilder()
    rng = np.random.default_rng(0)
    for number in range(recordings):
        value, gain = rng.gamma(4, 1), rng.normal(-1, 0.3)
        for clip in range(copies):
            about = {
                "recording": f"r{number} 0",
                "collection": f"c{number % collections}" if collections else "",
            }
            name = f"r{number} {clip}"
            rows.add(name, "log_mel", value, "dB", method="vae", **about)
            rows.add(name, "log_mel", value + gain, "dB", method="repair", **about)
    return rows.table()


def limits(found):
    return [found.mean, found.low, found.high]


def test_copies_of_clips_change_no_summary_difference_or_verdict():
    one, three = table_of(1), table_of(3)
    lines = [results.summarise(table, ["method"], better={}) for table in (one, three)]
    for column in ("mean", "low", "high", "recordings"):
        assert lines[1][column].tolist() == pytest.approx(lines[0][column].tolist())
    assert lines[1]["n"].tolist() == [27, 27]
    told = [
        results.differences(table, {"gain": (REPAIR, VAE)}, "log_mel") for table in (one, three)
    ]
    for column in ("difference", "low", "high", "p, Holm"):
        assert told[1].loc["gain", column] == pytest.approx(told[0].loc["gain", column])
    assert told[1].loc["gain", ["n", "recordings"]].tolist() == [27, 9]
    assert told[0].loc["gain", ["n", "recordings"]].tolist() == [9, 9]
    for study in (difference, reduction):
        first, second = (study(table, REPAIR, VAE, "log_mel") for table in (one, three))
        assert limits(second) == pytest.approx(limits(first))
        assert (second.n, second.recordings) == (27, 9)


def test_intervals_over_collections():
    table = table_of(2)
    found = results.summarise(table, ["method"], better={}, over="collection")
    assert found["collections"].tolist() == [3, 3]
    assert found.attrs["aggregator"] == "mean over clips [95 % interval over collections]"
    assert (
        results.differences(table, {"gain": (REPAIR, VAE)}, "log_mel", over="collection").loc[
            "gain", "collections"
        ]
        == 3
    )
    # Of no collection, a recording counts for itself.
    assert results.units(table_of(2, collections=0), ["r1 0", "r1 1"], "collection").tolist() == [
        "r1 0",
        "r1 0",
    ]
    with pytest.raises(ValueError, match="over must be recording or collection, got 'clip'"):
        results.summarise(table, over="clip")


def test_both_counts_are_told_where_they_differ():
    summary = results.summarise(table_of(3), better={})
    assert summary.attrs["aggregator"] == "mean over clips [95 % interval over recordings]"
    assert results.tabulate(summary)["n"].tolist() == ["27 clips of 9 recordings"] * 2
    assert results.tabulate(results.summarise(table_of(1), better={}))["n"].tolist() == ["9"] * 2
    found = difference(table_of(3), REPAIR, VAE, "log_mel")
    verdicts = judge("gain", "nearer", found, 0, False, "dB")
    assert as_table(verdicts)["n"].tolist() == ["27 clips of 9 recordings"]


def test_few_recordings_keep_no_bound_however_many_clips():
    table = table_of(8, recordings=4)
    found = difference(table, REPAIR, VAE, "log_mel")
    assert found.n == 32
    assert found.high < 0
    assert claim(found, above=False) == UNDECIDED
    assert judge("gain", "nearer", found, 0, False, "dB")[0].holds == "on average"
    assert claim(Interval(-1, -2, -0.5, 32, recordings=6), above=False) == UPHELD


def test_runs_are_compared_over_recordings():
    sides = [results.select(table_of(3), **side) for side in (REPAIR, VAE)]
    sides = [side.assign(method="x") for side in sides]
    found = comparison.compare_runs(*sides)
    assert found[["n", "recordings"]].values.tolist() == [[27, 9]]
    assert "27 clips of 9 recordings" in comparison.format_differences(found)


def test_a_table_of_before_has_a_recording_a_clip(tmp_path):
    old = [name for name in results.COLUMNS if name not in ("recording", "collection")]
    table = table_of(2)[old]
    path = tmp_path / "old.csv"
    table.to_csv(path, index=False)
    before = path.read_bytes()
    found = results.read(path)
    assert found["recording"].tolist() == found["clip"].tolist()
    assert set(found["collection"]) == {""}
    assert path.read_bytes() == before
    again = tables.from_csv(io.StringIO(tables.to_csv(found)), "it")
    assert again.equals(found)


def test_a_clip_has_one_recording_and_one_collection():
    table = table_of(2)
    for column in ("recording", "collection"):
        wrong = table.assign(**{column: [str(i) for i in range(len(table))]})
        with pytest.raises(UserError, match=f"clip 'r0 0' more than one {column}"):
            results.validate(wrong)


def test_rate_is_saved_over_recordings():
    def coded(copies):
        rows, rng = results.ResultsBuilder(), np.random.default_rng(3)
        for number in range(6):
            shift, factor = rng.normal(0, 0.05), rng.uniform(0.6, 0.9)
            for clip in range(copies):
                for method, share in (("a", factor), ("b", 1.0)):
                    for stage, rate in (("1", 1.0), ("2", 2.0), ("4", 4.0)):
                        about = {"method": method, "stage": stage, "recording": f"{number} 0"}
                        name = f"{number} {clip}"
                        rows.add(name, "rate", share * rate, "kbit/s", **about)
                        rows.add(name, "mel_error", 1 / rate**0.5 + shift, "nat", **about)
        return rate_curves.delta(rows.table(), "a", "b", "mel_error", ["1", "2", "4"])

    one, two = coded(1), coded(2)
    assert limits(two) == pytest.approx(limits(one))
    assert (two.n, two.recordings) == (12, 6)
    assert not math.isnan(two.low)
