"""Sweeps over chapters: the grid of parameters, and one chapter run as a task."""

import shutil

import jupytext
import pytest

from audioldm_utils.book import chapters
from audioldm_utils.errors import UserError
from audioldm_utils.results import summaries as results
from audioldm_utils.sweep.chapters import plan_chapters, run_chapter
from audioldm_utils.sweep.file import read_sweep
from audioldm_utils.sweep.run import Store

CHAPTER = """# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # One chapter

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # clips
checkpoint: str = "mini"  # which checkpoint
out_dir: str = "out"  # where the tables go
limit: int = 2  # clips

# %%
from pathlib import Path

from audioldm_utils.results import summaries as results

builder = results.ResultsBuilder("", 0, "vae")
for path in sorted(Path(audio_dir).iterdir())[:limit]:
    builder.add(path.stem, "log_mel", len(path.read_bytes()), "dB")
results.write(builder.table(), Path(out_dir) / "one")
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "notebooks").mkdir()
    source = tmp_path / "notebooks" / "01_one.py"
    source.write_text(CHAPTER)
    assert jupytext.read(source)
    chapters.write_pair(source)
    (tmp_path / "clips").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "clips" / f"{name}.wav").write_text(name * 5)
    (tmp_path / "sweep.yml").write_text(
        "audio: clips\nchapters: ['01']\ncheckpoints: [mini]\nparameters: {limit: [1, 3]}\n"
    )
    return tmp_path


def planned(project):
    sweep = read_sweep(project / "sweep.yml")
    return plan_chapters(sweep, project / "out", lambda name: "cd" * 32)


def test_grid_of_chapters(project):
    one, three = planned(project)
    assert (one.label, three.label) == ("limit=1", "limit=3")
    assert one.method == "01_one"
    assert one.key != three.key
    assert planned(project)[0].key == one.key
    (project / "clips" / "a.wav").write_text("other")
    assert planned(project)[0].key != one.key


@pytest.mark.processes
def test_a_sweep_that_was_moved_reuses_what_it_did(project, tmp_path):
    store = Store(project / "out" / "parts")
    for task in planned(project):
        store.write(task.key, run_chapter(task))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(project, elsewhere, ignore=shutil.ignore_patterns("elsewhere"))
    shutil.rmtree(project / "notebooks")
    moved = planned(elsewhere)
    assert {task.out for task in moved} == {str(elsewhere / "out" / "chapters")}
    kept = Store(elsewhere / "out" / "parts")
    assert [len(kept.read(task.key)) for task in moved] == [1, 3]
    # What a chapter reads from beside its clips counts, wherever it lies.
    (elsewhere / "book" / "evidence").mkdir(parents=True)
    (elsewhere / "book" / "evidence" / "01_ladder.json").write_text("{}")
    assert [kept.read(task.key) for task in planned(elsewhere)] == [None, None]


def test_unknown_chapter_or_parameter(project):
    (project / "sweep.yml").write_text("audio: clips\nchapters: ['07']\n")
    with pytest.raises(UserError, match="'07' names no chapter"):
        planned(project)
    (project / "sweep.yml").write_text("audio: clips\nchapters: ['01']\nparameters: {lim: 3}\n")
    with pytest.raises(UserError, match="no chapter has a parameter 'lim'"):
        planned(project)
    (project / "sweep.yml").write_text("audio: clips\nchapters: ['01']\nseeds: [1]\n")
    with pytest.raises(UserError, match="unknown entries seeds"):
        planned(project)


@pytest.mark.processes
def test_a_chapter_runs_as_a_task(project):
    table = run_chapter(planned(project)[1])
    assert set(table["clip"]) == {"a", "b", "c"}
    assert set(table["stage"]) == {"limit=3"}
    assert set(table["checkpoint"]) == {"cd" * 6}
    assert set(table["value"]) == {5.0}
    assert len(results.validate(table)) == 3
