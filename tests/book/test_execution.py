"""Running chapters: only what changed, nothing half-written, failures that are named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

import nbformat
import pytest

from audioldm_utils.book import chapters as chapters_module
from audioldm_utils.book import execution
from audioldm_utils.book.chapters import find_chapters, select
from audioldm_utils.book.execution import ChapterError, Layout, hash_tree, run_chapters
from audioldm_utils.book.layout import recover, replacing, tidy
from audioldm_utils.book.worker import failed_line
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write, folder_lock
from tests.demo_project import write_notebook


class Log:
    """Collects the events of a run, from any thread."""

    def __init__(self):
        self.lock, self.events = threading.Lock(), []

    def __call__(self, event, chapter, details):
        with self.lock:
            self.events.append((event, chapter))

    def of(self, event):
        return [chapter for name, chapter in self.events if name == event]


def run(folder: Path, out: Path, inputs: str = "x", **parameters):
    chosen = select(find_chapters(folder), None)
    given = {c.name: {"out_dir": str(Layout(out).results(c.name)), **parameters} for c in chosen}
    log = Log()
    stamps = run_chapters(chosen, given, Layout(out), folder, inputs, 2, log)
    return stamps, log


WRITES = """
# %% tags=["parameters"]
out_dir: str = ""  # there

# %%
from pathlib import Path
Path(out_dir, "table.csv").write_text("a\\n1\\n")
"""


@pytest.mark.processes
def test_only_what_changed_is_run_again(tmp_path):
    write_notebook(tmp_path / "n", "01_a", WRITES)
    write_notebook(tmp_path / "n", "02_b", WRITES, after="[01_a]")
    out = tmp_path / "out"
    stamps, log = run(tmp_path / "n", out)
    assert log.of("finished") == ["01_a", "02_b"]
    assert 10 < stamps["01_a"].peak_mb < 2000
    assert stamps["01_a"].seconds > 0
    assert set(stamps["01_a"].files) == {"notebooks/01_a.ipynb", "results/01_a/table.csv"}
    assert sorted(p.name for p in out.iterdir()) == ["logs", "notebooks", "results", "stamps"]

    again, log = run(tmp_path / "n", out)
    assert log.of("reused") == ["01_a", "02_b"]
    assert again["02_b"].key == stamps["02_b"].key

    # A result that is gone is made again; its reader need not run, since nothing that it was
    # made from differs.
    (out / "results" / "02_b" / "table.csv").unlink()
    _, log = run(tmp_path / "n", out)
    assert (log.of("reused"), log.of("finished")) == (["01_a"], ["02_b"])


def test_keys_follow_every_input(tmp_path):
    path = write_notebook(tmp_path, "01_a", WRITES)
    chapter = chapters_module.read_chapter(path)
    keys = {
        execution.chapter_key(chapter, {"seed": 1}, "inputs", {}),
        execution.chapter_key(chapter, {"seed": 2}, "inputs", {}),
        execution.chapter_key(chapter, {"seed": 1}, "others", {}),
        execution.chapter_key(chapter, {"seed": 1}, "inputs", {"00_x": "k"}),
    }
    write_notebook(tmp_path, "01_a", WRITES + "\n# %%\n2\n")
    keys.add(execution.chapter_key(chapter, {"seed": 1}, "inputs", {}))
    assert len(keys) == 5


def test_tree_hash_is_of_contents_and_names(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "f.txt").write_text("x")
    first = hash_tree([tmp_path / "a"])
    assert hash_tree([tmp_path / "b"]) == first
    (tmp_path / "b" / ".hidden").write_text("y")
    assert hash_tree([tmp_path / "b", tmp_path / "missing"]) == first
    (tmp_path / "b" / "sub" / "f.txt").rename(tmp_path / "b" / "sub" / "g.txt")
    assert hash_tree([tmp_path / "b"]) != first


@pytest.mark.processes
def test_failed_cell_is_named_and_leaves_the_earlier_results(tmp_path):
    folder, out = tmp_path / "n", tmp_path / "out"
    write_notebook(folder, "01_a", WRITES)
    run(folder, out)
    fails = WRITES + (
        "\n# %%\nPath(out_dir, 'half.csv').write_text('')\nraise ValueError('first\\nthe reason')\n"
    )
    write_notebook(folder, "01_a", fails)
    write_notebook(folder, "02_b", WRITES, after="[01_a]")
    with pytest.raises(ChapterError) as caught:
        run(folder, out)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(
        "01_a.ipynb, cell 4 (`raise ValueError('first\\nthe reason')`) failed: the reason"
    )
    assert lines[1] == "02_b was not run, since 01_a failed"
    assert [p.name for p in (out / "results" / "01_a").iterdir()] == ["table.csv"]
    kept = nbformat.read(out / "notebooks" / "01_a.ipynb", as_version=4)
    assert not any("reason" in cell.source for cell in kept.cells)
    seen = nbformat.read(out / "logs" / "01_a.ipynb", as_version=4)
    assert any("ValueError" in str(cell.get("outputs", "")) for cell in seen.cells)
    assert not (out / "results" / "02_b").exists()


FAILING = {
    "b = a / 0": "a = 1\n\nb = a / 0\nc = 2",
    "return x / 0": "def f(x):\n    return x / 0\n\n\nf(1)",
    "json.loads(": "import json\njson.loads(\n    '{',\n)",
    "b = = 2": "a = 1\nb = = 2",
    "1 / i": "# said first\nfor i in (1, 0):\n    1 / i",
}


def test_the_line_that_failed_is_named(tmp_path):
    """By what a kernel says about it; all cells run in one."""
    import papermill

    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": ["raises-exception"]})
        for source in ("'before'", *FAILING.values())
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "in.ipynb")
    places = (tmp_path / "in.ipynb", tmp_path / "out.ipynb")
    with pytest.raises(papermill.PapermillExecutionError):
        papermill.execute_notebook(*places, kernel_name="python3", progress_bar=False)
    executed = nbformat.read(places[1], as_version=4).cells
    ran = [cell for cell in executed if "raises-exception" in cell.metadata.get("tags", ())]
    for line, cell in zip(FAILING, ran[1:], strict=True):
        sent = cell.outputs[-1].traceback
        assert failed_line(cell.source, cell.execution_count, sent) == line
        assert failed_line(cell.source, cell.execution_count, []) == cell.source.splitlines()[0]
    assert failed_line("", None, sent) == ""


@pytest.mark.processes
def test_dead_kernel_is_told(tmp_path):
    write_notebook(tmp_path / "n", "01_a", "# %%\nimport os\nos._exit(3)\n")
    with pytest.raises(ChapterError, match=r"01_a.ipynb: its kernel died.*01_a.log"):
        run(tmp_path / "n", tmp_path / "out")


def test_interrupted_run_is_put_right(tmp_path):
    """What an earlier version left, whose aside had no record beside it."""
    layout = Layout(tmp_path)
    aside = tmp_path / ".previous" / "01_a"
    aside.mkdir(parents=True)
    (aside / "whole.csv").write_text("1")
    layout.results("01_a").mkdir(parents=True)
    (layout.results("01_a") / "half.csv").write_text("")

    def fail_again():
        recover(layout)
        with replacing(layout, "01_a"):
            (layout.results("01_a") / "new.csv").write_text("")
            raise RuntimeError("again")

    with pytest.raises(RuntimeError, match="again"):
        fail_again()
    assert [p.name for p in layout.results("01_a").iterdir()] == ["whole.csv"]
    assert not aside.exists()


class Killed(BaseException):
    """Stands for the end of the process: nothing that would run afterwards does."""


@pytest.mark.parametrize("before", [True, False], ids=["earlier results", "no results"])
@pytest.mark.parametrize("moment", range(12))
def test_a_run_killed_between_any_two_steps_is_put_right(tmp_path, monkeypatch, moment, before):
    """Results, stamp and executed notebook are all old or all new, whichever step was the last."""
    layout, name = Layout(tmp_path), "01_a"

    def write(text):
        (layout.results(name) / "table.csv").write_text(text)
        layout.running(name).parent.mkdir(exist_ok=True)
        layout.running(name).write_text(text)
        atomic_write(layout.stamp(name), text)

    if before:
        with replacing(layout, name):
            write("old")
    steps = count()
    for module, step in ((os, "replace"), (os, "mkdir"), (os, "unlink"), (shutil, "rmtree")):

        def done_or_killed(*arguments, _step=getattr(module, step), **options):
            if next(steps) >= moment:
                raise Killed
            return _step(*arguments, **options)

        monkeypatch.setattr(module, step, done_or_killed)
    killed = False
    try:
        with replacing(layout, name):
            write("new")
    except Killed:
        killed = True
    assert killed or moment > 6
    monkeypatch.undo()
    recover(layout)
    found = [
        p.read_text() if p.is_file() else None
        for p in (
            layout.results(name) / "table.csv",
            layout.stamp(name),
            layout.executed(name),
        )
    ]
    assert found in ([["old"] * 3, ["new"] * 3] if before else [[None] * 3, ["new"] * 3])
    assert killed or found == ["new"] * 3
    assert not [p for p in tmp_path.rglob(".*") if p.name not in (".lock",)]


def test_what_cannot_be_put_back_now_is_not_thrown_away(tmp_path, monkeypatch):
    layout = Layout(tmp_path)
    layout.results("01_a").mkdir(parents=True)
    (layout.results("01_a") / "old.csv").write_text("1")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    def fail():
        with replacing(layout, "01_a"):
            monkeypatch.setattr(shutil, "rmtree", refuse)
            raise RuntimeError("the chapter")

    with pytest.raises(PermissionError):
        fail()
    monkeypatch.undo()
    tidy(layout)
    recover(layout)
    assert [p.name for p in layout.results("01_a").iterdir()] == ["old.csv"]
    assert not (tmp_path / ".previous").exists()


def test_a_book_that_was_being_replaced_is_put_back(tmp_path):
    layout = Layout(tmp_path)
    layout.html_before.mkdir()
    (layout.html_before / "index.html").write_text("earlier")
    recover(layout)
    assert (layout.html / "index.html").read_text() == "earlier"
    layout.html_before.mkdir()
    recover(layout)
    assert [p.name for p in tmp_path.iterdir()] == ["html"]


def test_interruption_ends_what_runs_and_starts_nothing_more():
    begun = threading.Event()

    def interrupt():
        with ThreadPoolExecutor(1) as pool, execution._stop_on_failure(pool, {sleeper}):
            running = pool.submit(lambda: (begun.set(), sleeper.wait()))
            waiting.append(pool.submit(pytest.fail, "this must not start"))
            assert begun.wait(10)
            assert running.running()
            raise KeyboardInterrupt

    waiting: list[Future] = []
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert sleeper.returncode != 0
    assert waiting[0].cancelled()


def test_damaged_stamp_means_running_again(tmp_path):
    layout = Layout(tmp_path)
    layout.stamp("01_a").parent.mkdir()
    layout.stamp("01_a").write_text('{"chapter": "01')
    assert execution.read_stamp(layout, "01_a") is None
    layout.stamp("01_a").write_text(json.dumps({"of": "another version"}))
    assert execution.read_stamp(layout, "01_a") is None


def test_two_runs_in_one_folder_are_refused(tmp_path):
    pytest.importorskip("fcntl", reason="no such lock on this system")
    with (
        folder_lock(tmp_path),
        pytest.raises(UserError, match="in use by another run"),
        folder_lock(tmp_path),
    ):
        pass
    with folder_lock(tmp_path):
        pass
