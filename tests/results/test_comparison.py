"""``audioldm-utils compare``: two runs, paired."""

import numpy as np
import pandas as pd
import pytest

from audioldm_utils.cli import main as cli
from audioldm_utils.errors import UserError
from audioldm_utils.results import comparison
from audioldm_utils.results import summaries as results

BETTER = {"log_mel": "lower", "visqol": "higher"}


def run_table(log_mel, visqol, method="vae", clips=14, first=0):
    builder = results.ResultsBuilder(seed=0, method=method)
    rng = np.random.default_rng(0)
    for i in range(first, first + clips):
        hardness = rng.normal(0, 1)
        builder.add(f"clip{i}", "log_mel", log_mel + hardness + 0.01 * i, "dB")
        builder.add(f"clip{i}", "visqol", visqol + 0.1 * hardness, "MOS")
        builder.add(f"clip{i}", "seconds", 1.0 + i, "s")
    return builder.table()


@pytest.fixture(autouse=True)
def known_directions(monkeypatch):
    monkeypatch.setattr(comparison, "directions", lambda: BETTER)


def test_differences_are_paired_and_judged_by_direction():
    a, b = run_table(2.0, 4.0), run_table(2.5, 4.5)
    found = comparison.compare_runs(a, b).set_index("metric")
    assert found.loc["log_mel", "difference"] == pytest.approx(-0.5)
    assert found.loc["log_mel", "verdict"] == "A better"
    assert found.loc["visqol", "verdict"] == "B better"
    assert found.loc["seconds", "verdict"] == "equal"
    assert found.loc["log_mel", "n"] == 14
    # 2 of 2^14 sign patterns are that far out, at least 1 of 10,000 counted; Holm over three.
    assert found.loc["log_mel", "p"] < 0.01
    assert set(found["mean_a"] - found["mean_b"] - found["difference"] < 1e-9) == {True}


def test_swapped_runs_swap_the_verdict():
    a, b = run_table(2.0, 4.0), run_table(2.5, 4.5)
    found = comparison.compare_runs(b, a).set_index("metric")
    assert found.loc["log_mel", "verdict"] == "B better"
    assert found.loc["visqol", "verdict"] == "A better"


def test_few_clips_claim_nothing():
    found = comparison.compare_runs(run_table(2, 4, clips=4), run_table(9, 4, clips=4))
    assert "not told apart" in set(found["verdict"])
    assert not {"A better", "B better"} & set(found["verdict"])
    single = comparison.compare_runs(run_table(2, 4, clips=1), run_table(9, 4, clips=1))
    assert single["low"].isna().all()


def test_only_shared_clips_count_and_infinite_values_are_left_out():
    a, b = run_table(2, 4), run_table(2.5, 4, first=4)
    a.loc[(a["clip"] == "clip5") & (a["metric"] == "visqol"), "value"] = np.inf
    found = comparison.compare_runs(a, b).set_index("metric")
    assert found.loc["log_mel", "n"] == 10
    assert found.loc["visqol", "n"] == 9


def test_methods_of_one_table_against_each_other():
    both = results.concat([run_table(2, 4), run_table(3, 4, method="ddcm")])
    found = comparison.compare_runs(both, both, metrics=["log_mel"], methods=("vae", "ddcm"))
    assert list(found["method"]) == ["vae - ddcm"]
    assert found["difference"].iloc[0] == pytest.approx(-1.0)


def test_nothing_in_common_is_said():
    with pytest.raises(UserError, match=r"nothing in common.*methods vae; B: .*methods ddcm"):
        comparison.compare_runs(run_table(1, 1), run_table(1, 1, method="ddcm"))
    with pytest.raises(UserError, match=r"no results with metric .*there are log_mel"):
        comparison.compare_runs(run_table(1, 1), run_table(1, 1), metrics=["snr"])


def test_a_folder_is_read_once_whatever_lies_in_it(tmp_path):
    results.write(run_table(1, 1), tmp_path / "a" / "one")
    results.write(run_table(1, 1, method="ddcm"), tmp_path / "b" / "two")
    (tmp_path / "manifest.csv").write_text("file,caption\nx.flac,rain\n")
    assert len(comparison.read_run(tmp_path)) == 2 * len(run_table(1, 1))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"broken\.parquet cannot be read"):
        comparison.read_run(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no results table in this folder"):
        comparison.read_run(tmp_path / "empty")


def test_command(tmp_path, capsys):
    results.write(run_table(2.0, 4.0), tmp_path / "a" / "t")
    results.write(run_table(2.5, 4.5), tmp_path / "b" / "t")
    out = tmp_path / "d.csv"
    code = cli.main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out)])
    text = capsys.readouterr().out
    assert code == 0
    assert "-0.5 [-0.5, -0.5]" in text
    assert "A better" in text
    assert len(pd.read_csv(out)) == 3


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--level", "95"], "--level must be a number from 0.01 to 0.9999, not '95'"),
        (["--metric", "snr"], "no results with metric"),
        (["--method", "vae", "x"], "no results with method 'x'"),
    ],
)
def test_command_refuses_with_one_sentence(tmp_path, capsys, extra, sentence):
    paths = results.write(run_table(2, 4), tmp_path / "t")
    assert cli.main(["compare", str(paths["csv"]), str(paths["csv"]), *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("audioldm-utils: error: ")
    assert sentence in error


def test_command_with_a_missing_run(tmp_path, capsys):
    assert cli.main(["compare", str(tmp_path / "no"), str(tmp_path / "no")]) == 2
    assert "no such results table" in capsys.readouterr().err
