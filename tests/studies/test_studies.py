"""Studies: the same rows from any number of workers; evidence that is checked, or left aside."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from audioldm_utils.audio.clips import find_clips
from audioldm_utils.bounds import check_parameter
from audioldm_utils.errors import UserError
from audioldm_utils.results.evidence import StaleEvidenceError
from audioldm_utils.studies import registry as study_list
from audioldm_utils.studies.findings import findings, why_alone
from audioldm_utils.studies.registry import Clips, Study
from audioldm_utils.studies.run import measure, measure_clips, run_study, write_evidence
from tests.demo_project import ROOT


@pytest.fixture(autouse=True)
def light(monkeypatch):
    monkeypatch.setitem(
        study_list.STUDIES,
        "light",
        Study("light", "tests.light_study:study", {"": 1e-6}, clips=Clips(every=2)),
    )


def folder_of_clips(folder, names, first=0):
    folder.mkdir()
    for index, name in enumerate(names, first):
        noise = np.random.default_rng(index).standard_normal(8000)
        sf.write(folder / f"{name}.wav", 0.1 * noise, 16000)
    return folder


@pytest.fixture
def places(tmp_path, tiny_checkpoint):
    judged = folder_of_clips(tmp_path / "eval", ["a", "b", "c"])
    shipped = folder_of_clips(tmp_path / "shipped", ["x", "y", "z"], first=10)
    out = tmp_path / "evidence"
    write_evidence("light", judged, shipped, out, str(tiny_checkpoint))
    return judged, shipped, out, str(tiny_checkpoint)


def test_evidence_holds_every_so_many_of_both_folders_and_says_where_from(places):
    _, _, out, _ = places
    table = pd.read_csv(out / "light.csv")
    assert sorted(table["clip"]) == ["a", "c", "x", "z"]
    record = json.loads((out / "light.json").read_text())
    assert record["shipped"] == ["x", "z"]
    assert record["n"] == 2
    assert set(record["inputs"]) == {"a.wav", "c.wav", "x.wav", "z.wav"}
    assert len(record["checkpoint"]) == 64
    assert "evidence" in record["command"]


def test_a_study_can_leave_out_the_first_clips(tmp_path, tiny_checkpoint, monkeypatch):
    study = Study("late", "tests.light_study:study", {"": 1e-6}, clips=Clips(every=2, first=1))
    monkeypatch.setitem(study_list.STUDIES, "late", study)
    judged = folder_of_clips(tmp_path / "eval", ["a", "b", "c", "d"])
    shipped = folder_of_clips(tmp_path / "shipped", ["x", "y"], first=10)
    write_evidence("late", judged, shipped, tmp_path / "out", str(tiny_checkpoint))
    assert sorted(pd.read_csv(tmp_path / "out" / "late.csv")["clip"]) == ["b", "d", "y"]


def test_a_report_measures_the_clips_of_the_evidence_and_takes_its_findings(places):
    _, shipped, out, checkpoint = places
    clips = find_clips(shipped)
    run = run_study("light", clips, checkpoint, evidence_dir=out)
    assert sorted(run["clip"]) == ["x", "z"]
    found = findings(run, clips, "light", out)
    assert (found.n, found.compared) == (2, 2)
    assert sorted(found.table["clip"]) == ["a", "c"]
    assert sorted(found.at_hand["clip"]) == ["x", "z"]


def test_rows_that_disagree_are_stale(places):
    _, shipped, out, checkpoint = places
    clips = find_clips(shipped)
    run = run_study("light", clips, checkpoint, evidence_dir=out)
    run.loc[0, "value"] += 0.1
    with pytest.raises(StaleEvidenceError, match="1 of 2"):
        findings(run, clips, "light", out)


def test_a_readers_own_clips_are_all_measured_and_reported(places, tmp_path):
    _, _, out, checkpoint = places
    own = find_clips(folder_of_clips(tmp_path / "own", ["x", "mine", "more"], first=50))
    run = run_study("light", own, checkpoint, evidence_dir=out)
    assert sorted(run["clip"]) == ["mine", "more", "x"]
    found = findings(run, own, "light", out)
    assert (found.n, found.compared) == (3, 0)


@pytest.mark.processes
def test_workers_give_the_rows_of_one_process(places):
    judged, _, _, checkpoint = places
    clips = find_clips(judged)
    alone = measure_clips("light", clips, checkpoint, progress=False)
    pd.testing.assert_frame_equal(
        alone, measure_clips("light", clips, checkpoint, jobs=2, progress=False)
    )


def test_what_cannot_be_run_is_said(places):
    judged, _, out, checkpoint = places
    with pytest.raises(UserError, match="01_ladder"):
        run_study("nonsense", find_clips(judged), checkpoint)
    with pytest.raises(UserError, match="no clips"):
        run_study("light", [], checkpoint, evidence_dir=out)


def test_groups_are_measured_together_and_the_last_may_be_smaller(places, monkeypatch):
    judged, shipped, out, checkpoint = places
    grouped = Study("pairs", "tests.light_study:together", {"": 1e-6}, clips=Clips(together=2))
    monkeypatch.setitem(study_list.STUDIES, "pairs", grouped)
    table = measure_clips("pairs", find_clips(judged), checkpoint, progress=False)
    assert table.set_index("clip")["value"].to_dict() == {"a": 2.0, "c": 1.0}
    one = run_study("pairs", find_clips(judged), checkpoint, evidence_dir=out, new_clips=1)
    assert one["clip"].tolist() == ["a"]
    write_evidence("pairs", judged, shipped, out, checkpoint)
    again = run_study("pairs", find_clips(shipped), checkpoint, evidence_dir=out, recheck=1)
    assert again.set_index("clip")["value"].to_dict() == {"x": 2.0}


def test_part_of_the_evidences_folder_forms_groups_of_its_own(places, monkeypatch):
    judged, shipped, out, checkpoint = places
    grouped = Study("pairs", "tests.light_study:together", {"": 1e-6}, clips=Clips(together=2))
    monkeypatch.setitem(study_list.STUDIES, "pairs", grouped)
    write_evidence("pairs", judged, shipped, out, checkpoint)
    part = find_clips(judged)[1:]
    run = run_study("pairs", part, checkpoint, evidence_dir=out, recheck=0)
    assert run.set_index("clip")["value"].to_dict() == {"b": 2.0}
    assert findings(run, part, "pairs", out).compared == 0
    whole = find_clips(judged)
    run = run_study("pairs", whole, checkpoint, evidence_dir=out, recheck=1)
    assert findings(run, whole, "pairs", out).compared == 1


def test_with_recheck_0_the_committed_rows_stand_in(places):
    _, shipped, out, checkpoint = places
    clips = find_clips(shipped)
    path = out / "light.csv"
    table = pd.read_csv(path)
    table.loc[table["clip"] == "x", "value"] = 7.0  # so that one sees where a value is from
    table.to_csv(path, index=False)
    run = run_study("light", clips, checkpoint, evidence_dir=out, recheck=0)
    assert run.set_index("clip")["value"]["x"] == 7.0
    assert sorted(run["clip"]) == ["x", "z"]


def test_evidence_of_another_checkpoint_serves_no_run(places):
    """Its clips are as a reader's own: so many of them are measured, none of it stands in."""
    _, shipped, out, checkpoint = places
    clips = find_clips(shipped)
    record = json.loads((out / "light.json").read_text())
    (out / "light.json").write_text(json.dumps(record | {"checkpoint": "0" * 64}))
    table = pd.read_csv(out / "light.csv").assign(checkpoint="0" * 12, value=7.0)
    table.to_csv(out / "light.csv", index=False)
    for recheck in (0, 1):
        run = run_study("light", clips, checkpoint, evidence_dir=out, recheck=recheck, new_clips=2)
        assert run["clip"].tolist() == ["x", "y"]
        assert not (run["value"] == 7.0).any()
    found = findings(run, clips, "light", out)
    assert (found.n, found.compared) == (2, 0)
    assert "the committed table is of another checkpoint" in found.rests


def test_a_run_with_another_parameter_rests_on_itself_and_says_so(places, tmp_path):
    """Whatever the parameter: nothing of the evidence is joined with what it was not made with."""
    _, shipped, out, checkpoint = places
    clips = find_clips(shipped)
    for recheck in (None, 0, 1):
        given = (clips, checkpoint, {"seed": 1}, tmp_path / "results", out)
        found = measure("light", *given, recheck=recheck, new_clips=1)
        assert found.run["clip"].tolist() == ["x"]
        assert found.table is found.run
        assert set(found.table["seed"]) == {1}
        assert (found.n, found.compared, found.source) == (1, 0, "1 clip of this run")
        assert found.rests == (
            "The findings rest on this run alone (1 clip): seed is 1, while the committed table "
            "has 0."
        )
    record = json.loads((tmp_path / "results" / "light.json").read_text())
    assert record["parameters"] == {"seed": 1}
    same = measure("light", clips, checkpoint, {"seed": 0}, tmp_path / "results", out, new_clips=1)
    assert (same.n, same.compared) == (2, 2)
    assert same.rests == (
        "The findings rest on 2 real recordings never trained on, from a stored table; 2 of "
        "its 4 rows were measured again here and agree."
    )


def test_every_parameter_of_the_evidence_is_compared_and_named(places):
    _, shipped, out, _ = places
    clips = find_clips(shipped)
    record = json.loads((out / "light.json").read_text())
    assert record["parameters"] == {"seed": 0}

    def why(now, made, checkpoint=record["checkpoint"]):
        (out / "light.json").write_text(json.dumps(record | {"parameters": made}))
        return why_alone("light", clips, now, checkpoint, out)

    grid = {"seed": 0, "rates": [0.5, 1.0]}
    assert why({"seed": 0, "rates": (0.5, 1.0)}, grid) == ""
    assert why({"seed": 0, "rates": [1.0]}, grid) == (
        "rates is [1.0], while the committed table has [0.5, 1.0]"
    )
    assert why({"seed": 0, "steps": 3}, grid) == (
        "rates is not given, while the committed table has [0.5, 1.0]; "
        "steps is 3, while the committed table has none"
    )
    assert "another checkpoint" in why(grid, grid, "0" * 64)
    assert "holds no table of nothing" in why_alone("nothing", clips, grid, "", out)
    # Sidecars that were written before parameters were: their seed is all that there is.
    del record["parameters"]
    (out / "light.json").write_text(json.dumps(record | {"seeds": [3]}))
    assert why_alone("light", clips, {"seed": 3}, record["checkpoint"], out) == ""
    assert "seed is 0" in why_alone("light", clips, {"seed": 0}, record["checkpoint"], out)


def test_the_command_takes_each_grid_from_its_chapter(tmp_path, monkeypatch):
    from audioldm_utils.cli.main import main

    folder, taken = folder_of_clips(tmp_path / "eval", ["a"]), {}

    def write(name, *given):
        taken[name] = given[4]
        return tmp_path / name

    monkeypatch.setattr("audioldm_utils.studies.run.write_evidence", write)
    names = [name for name in study_list.STUDIES if name != "light"]
    places = ["--audio", str(folder), "--shipped", str(folder), "--out", str(tmp_path / "out")]
    assert main(["evidence", *places, "--seed", "3", "--studies", *names]) == 0
    assert list(taken) == names
    for name, grid in taken.items():
        record = json.loads((ROOT / "book" / "evidence" / f"{name}.json").read_text())
        assert grid == {**record["parameters"], "seed": 3}


def test_a_grid_that_cannot_be_is_refused():
    for name, value, said in (
        ("rates", [0.5, 0.0], "rates must be a number from 0.001 to 256, not 0.0"),
        ("strengths", [], "strengths must hold one number at least"),
        ("steps", 1, "steps must be a whole number from 2 to 1000, not 1"),
    ):
        with pytest.raises(UserError, match=said):
            check_parameter(name, name, value)


@pytest.mark.parametrize(
    ("seed", "new_clips", "sentence"),
    [
        (-1, 0, "seed must be a whole number from 0 to 268435455, not -1"),
        (2**63, 0, "seed must be"),
        (0, -1, "new_clips must be a whole number from 0 to .*, not -1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(places, tmp_path, seed, new_clips, sentence):
    _, shipped, out, checkpoint = places
    with pytest.raises(UserError, match=sentence):
        measure(
            "light",
            find_clips(shipped),
            checkpoint,
            {"seed": seed},
            tmp_path,
            out,
            new_clips=new_clips,
        )


def manifest(folder, classes):
    lines = [f"{name}.wav,{category}" for name, category in classes.items()]
    (folder / "manifest.csv").write_text("file,class\n" + "\n".join(lines) + "\n")
    return folder


@pytest.mark.processes
def test_a_study_of_a_set_sees_all_clips_of_a_folder_and_none_of_the_other(
    tmp_path, tiny_checkpoint, monkeypatch
):
    study = Study("set", "tests.light_study:study_set", {"": 1e-6},
                  clips=Clips(each=2, shipped=2, together=0))  # fmt: skip
    monkeypatch.setitem(study_list.STUDIES, "set", study)
    names = ["a1", "b1", "a2", "a3", "c1", "c2"]
    judged = manifest(folder_of_clips(tmp_path / "eval", names), {name: name[0] for name in names})
    shipped = folder_of_clips(tmp_path / "shipped", ["x", "y", "z"], first=10)
    out = tmp_path / "evidence"
    write_evidence("set", judged, shipped, out, str(tiny_checkpoint), jobs=2)
    table = pd.read_csv(out / "set.csv", keep_default_na=False)
    assert sorted(set(table["clip"])) == ["a1", "a2", "c1", "c2", "x", "z"]
    assert set(table.loc[table["clip"] == "x", "band"]) == {"", "with z"}
    clips = find_clips(shipped)
    run = run_study("set", clips, str(tiny_checkpoint), evidence_dir=out, recheck=1)
    found = findings(run, clips, "set", out)
    assert (found.n, found.compared) == (4, 1)


def test_a_study_of_samples_needs_no_clip_of_the_evidence(tmp_path, tiny_checkpoint, monkeypatch):
    study = Study("made", "tests.light_study:study_samples", {"": 1e-6},
                  clips=Clips(together=0, reference=True))  # fmt: skip
    monkeypatch.setitem(study_list.STUDIES, "made", study)
    judged = folder_of_clips(tmp_path / "eval", ["a"])
    shipped = folder_of_clips(tmp_path / "shipped", ["x"], first=10)
    out = tmp_path / "evidence"
    write_evidence("made", judged, shipped, out, str(tiny_checkpoint))
    clips = find_clips(shipped)
    run = run_study("made", clips, str(tiny_checkpoint), evidence_dir=out, recheck=1)
    found = findings(run, clips, "made", out)
    assert (len(run), found.compared, found.n) == (2, 1, 4)
    assert found.source == "4 generated samples"
    # What a set of samples has depends on their number: it is compared with no other's.
    more = run_study("made", clips, str(tiny_checkpoint), evidence_dir=out, recheck=2)
    assert findings(more, clips, "made", out).compared == 2
    other = run_study("made", clips, str(tiny_checkpoint), {"seed": 5}, evidence_dir=out, recheck=1)
    found = findings(other, clips, "made", out, {"seed": 5})
    assert (found.n, found.source) == (1, "1 generated sample of this run")
