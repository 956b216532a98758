"""Reports that are killed: nothing that was there is lost, no process is left, the next goes on.

Real processes throughout, so these are marked ``processes``.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import nbformat
import pytest

from audioldm_utils.book import execution
from audioldm_utils.book.layout import Layout, recover
from audioldm_utils.book.report import run_report
from audioldm_utils.errors import UserError
from audioldm_utils.files import folder_lock
from tests.demo_project import write_audio, write_notebook

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.name != "posix", reason="signals and descriptors of POSIX"),
]

CHAPTER = """
# %% [markdown]
# # Chapter

# %% tags=["parameters"]
out_dir: str = ""  # there
seed: int = 0  # written into every file

# %%
import time
from pathlib import Path

for i in range(4):
    Path(out_dir, f"{i}.csv").write_text(f"{seed}\\n" * 100)
    time.sleep(0.05)
print(seed)
"""
NAMES = ("01_a", "02_b")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two chapters of a moment each, and a book that builds fast."""
    root = tmp_path_factory.mktemp("project").resolve()
    for name in NAMES:
        write_notebook(root / "notebooks", name, CHAPTER)
    write_audio(root / "data" / "audio")
    (root / "data" / "checkpoints" / "mini").mkdir(parents=True)
    (root / "book").mkdir()
    (root / "book" / "_config.yml").write_text("title: x\nexecute: {execute_notebooks: 'off'}\n")
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n- chapters:\n  - glob: notebooks/*\n"
    )
    (root / "book" / "index.md").write_text("# X\n\nText.\n")
    return root


def report(root, token, seed):
    """In a process of its own: a report whose workers, kernels and build carry a token."""
    os.environ["TOKEN_OF_THIS_TEST"] = token
    try:
        run_report("data/audio", "mini", root / "build", parameters={"seed": seed}, root=root)
    except BaseException:
        (root / "traceback.txt").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def start(root, token, seed):
    process = multiprocessing.get_context("fork").Process(target=report, args=(root, token, seed))
    process.start()
    return process


def descendants(token):
    """Processes that were started with the token in their environment (on Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if token.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # gone, or another user's
    return found


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def seeds(root):
    """The seed of each chapter's results, all of whose files and notebook must agree."""
    layout, found = Layout(root / "build"), []
    for name in NAMES:
        assert execution.read_stamp(layout, name) is not None, name
        texts = {path.read_text() for path in layout.results(name).iterdir()}
        assert len(list(layout.results(name).iterdir())) == 4
        (text,) = texts
        notebook = nbformat.read(layout.executed(name), as_version=4)
        printed = notebook.cells[-1].outputs[0].text.strip()
        assert text == f"{printed}\n" * 100
        found.append(int(printed))
    return found


def finish(root, token, seed):
    """Seconds that a whole report takes; it must succeed."""
    begin = time.monotonic()
    process = start(root, token, seed)
    process.join()
    assert process.exitcode == 0, (root / "traceback.txt").read_text()
    return time.monotonic() - begin


def test_killed_at_random_moments(project, tmp_path, monkeypatch):
    """20 reports, half of which run the chapters anew and half of which only build the book."""
    # A grammar that checks addresses and that nothing here needs: half the time of a start.
    (tmp_path / "rfc3987_syntax.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    draw, token, out = random.Random(20), f"token-{os.getpid()}", project / "build"
    seconds = finish(project, token, 0)
    (out / "mine.txt").write_text("of the user")
    before, killed = seeds(project), 0
    for turn in range(20):
        seed = turn if turn % 2 else before[0]
        process = start(project, token, seed)
        # Chapters take about two thirds of the time, the book the rest.
        time.sleep(draw.uniform(0.02, seconds * (0.7 if turn % 2 else 0.3)))
        killed += process.is_alive()
        (process.terminate if turn % 5 == 0 else process.kill)()
        process.join()
        assert wait_until(lambda: not descendants(token)), "a process is left"
        with folder_lock(out):
            recover(Layout(out))
        found = seeds(project)
        assert all(new in (old, seed) for new, old in zip(found, before, strict=True))
        assert (out / "html" / "index.html").is_file()
        assert (out / "mine.txt").read_text() == "of the user"
        before = found
    assert killed > 15
    finish(project, token, 99)
    assert seeds(project) == [99, 99]


def test_what_outlives_a_killed_run_holds_its_lock(tmp_path):
    """A worker that cannot end at once keeps a second run out for as long as it lives."""
    script = (
        "import os, subprocess, sys, time\n"
        "from audioldm_utils.files import folder_lock\n"
        "from audioldm_utils.book.lifeline import command, lifeline\n"
        "with folder_lock(sys.argv[1]) as lock, lifeline(lock) as (variables, passed):\n"
        "    sleep = ['-n1', '-r1', '-s', 'print(1, flush=True)', 'import time; time.sleep(600)']\n"
        "    child = subprocess.Popen(command('timeit', *sleep),\n"
        "        env={**os.environ, **variables}, pass_fds=passed, stdout=subprocess.PIPE)\n"
        "    child.stdout.readline()\n"
        "    print(child.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    child = int(run.stdout.readline())
    os.kill(child, signal.SIGSTOP)
    time.sleep(0.5)  # until all its threads have stopped
    run.kill()
    run.wait()
    with (
        pytest.raises(UserError, match=rf"in use by another run \(process {run.pid} on"),
        folder_lock(tmp_path),
    ):
        pass
    os.kill(child, signal.SIGCONT)
    with folder_lock(tmp_path):
        pass
