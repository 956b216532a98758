"""Sweeps: the file, the grid, the store, and runs on real worker processes over TCP."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client, LocalCluster

from audioldm_utils import comparison, results
from audioldm_utils.errors import UserError
from audioldm_utils.locks import folder_lock
from audioldm_utils.sweep import plan, run
from audioldm_utils.sweep.store import Store
from tests import sweep_tasks

FINGERPRINT = "ab" * 32
HERE = Path(__file__).parent


@dataclass(frozen=True)
class FoundClip:
    path: Path
    name: str
    caption: str | None = None
    category: str | None = None


def make_clips(folder, count=3, **special):
    folder.mkdir(exist_ok=True)
    clips = []
    for i in range(count):
        path = folder / f"clip{i}.wav"
        path.write_bytes(special.get(f"clip{i}", f"sound {i}").encode())
        clips.append(FoundClip(path, path.stem, category="rain"))
    return clips


def make_sweep(folder, text="methods: [vae, {ddcm: {steps: [30, 50], atoms: 8}}]\nseeds: [0, 1]\n"):
    path = folder / "sweep.yml"
    path.write_text(f"audio: clips\n{text}")
    return plan.read_sweep(path)


def make_tasks(folder, count=3, **special):
    sweep = make_sweep(folder)
    clips = make_clips(folder / "clips", count, **special)
    tasks, broken = plan.plan_methods(sweep, clips, lambda name: FINGERPRINT, ["vae", "ddcm"])
    return sweep, tasks, broken


def without_timings(path):
    table = results.read(path)
    return table[table["unit"] != "s"].reset_index(drop=True)


@pytest.fixture
def in_process(monkeypatch):
    """The embedded cluster's worker as a thread of this process, which starts at once."""

    @contextmanager
    def connect(*_):
        options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
        with LocalCluster(processes=False, **options) as cluster, Client(cluster) as client:
            yield client

    monkeypatch.setattr(run, "connect", connect)


# --- the file and the grid ---


def test_sweep_file_is_read(tmp_path):
    (tmp_path / "weights").mkdir()
    sweep = make_sweep(
        tmp_path, "methods: [vae]\ncheckpoints: [mini, weights, cvssp/audioldm2]\nlimit: 2\n"
    )
    assert sweep.audio == tmp_path / "clips"
    assert sweep.checkpoints == ("mini", str(tmp_path / "weights"), "cvssp/audioldm2")
    assert (sweep.limit, sweep.seeds, sweep.metrics) == (2, (0,), None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("audio: clips\n", "must have either `methods` or `chapters`"),
        ("audio: a\nmethods: [vae]\nchapters: ['01']\n", "either `methods` or `chapters`"),
        ("methods: [vae]\n", "must name a folder of clips under `audio`"),
        ("audio: a\nmethods: [vae]\nsteps: 3\n", "unknown entries steps; known: audio"),
        ("audio: a\nmethods: vae\n", "methods must be list, got 'vae'"),
        ("audio: a\nmethods: []\n", "methods must be a list"),
        ("audio: a\nmethods: [{vae: 3}]\n", "a method is a name"),
        ("audio: a\nmethods: [vae]\nseeds: [x]\n", "seeds must be a list of int"),
        ("audio: a\nmethods: [vae]\nseeds: [-1]\n", "seeds must not be negative"),
        ("audio: a\nmethods: [vae]\nlimit: 0\n", "limit must be positive"),
        ("audio: a\nmethods: [vae]\nlimit: true\n", "limit must be int, got True"),
        ("- vae\n", "must hold entries"),
        ("audio: [\n", "is no YAML"),
    ],
)
def test_sweep_file_errors_name_the_entry(tmp_path, text, sentence):
    path = tmp_path / "s.yml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"s\.yml") as caught:
        plan.read_sweep(path)
    assert sentence in str(caught.value)


def test_missing_sweep_file(tmp_path):
    with pytest.raises(UserError, match="no such sweep file"):
        plan.read_sweep(tmp_path / "none.yml")


def test_grid_and_label():
    assert plan.grid({"b": [1, 2], "a": "x"}) == [{"a": "x", "b": 1}, {"a": "x", "b": 2}]
    assert plan.grid({}) == [{}]
    assert plan.label({"steps": 30, "atoms": 8}) == "atoms=8, steps=30"


def test_plan_covers_the_grid_and_refuses_unknown_methods(tmp_path):
    sweep, tasks, broken = make_tasks(tmp_path)
    assert len(tasks) == 3 * (1 + 2) * 2
    assert not broken
    assert len({task.key for task in tasks}) == len(tasks)
    assert {task.label for task in tasks} == {"", "atoms=8, steps=30", "atoms=8, steps=50"}
    with pytest.raises(UserError, match="no method 'ddcm'; there are vae"):
        plan.plan_methods(sweep, [], lambda name: FINGERPRINT, ["vae"])


def test_key_follows_content_not_place(tmp_path):
    _, tasks, _ = make_tasks(tmp_path)
    task = tasks[0]
    assert replace(task, path="/elsewhere/x.wav").key == task.key
    changes = {"content": "0", "fingerprint": "0", "options": "{}x", "seed": 7, "code": "0"}
    for name, value in changes.items():
        assert replace(task, **{name: value}).key != task.key


def test_a_clip_that_is_gone_is_named_and_the_rest_planned(tmp_path):
    sweep = make_sweep(tmp_path)
    clips = make_clips(tmp_path / "clips")
    clips[1].path.unlink()
    tasks, broken = plan.plan_methods(sweep, clips, lambda name: FINGERPRINT)
    assert len(tasks) == 12
    assert list(broken) == ["clip1"]
    assert "No such file" in broken["clip1"]


# --- finished tasks ---


def part(tmp_path):
    _, tasks, _ = make_tasks(tmp_path, 1)
    table = sweep_tasks.measure(tasks[0])
    store = Store(tmp_path / "parts")
    store.write(tasks[0].key, table)
    return store, tasks[0].key, table


def test_store_gives_back_what_it_got(tmp_path):
    store, key, table = part(tmp_path)
    pd.testing.assert_frame_equal(results.validate(store.read(key)), table)
    assert store.read("0" * 64) is None


def test_a_damaged_part_is_not_done(tmp_path):
    store, key, _ = part(tmp_path)
    path = store.path(key)
    good = path.read_bytes()
    for position in range(0, len(good), 37):
        path.write_bytes(good[:position])
        assert store.read(key) is None
    other = "f" * 64
    store.path(other).write_bytes(good)
    assert store.read(other) is None
    for position in range(0, len(good), 7):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        assert store.read(key) is None


def test_store_says_when_it_cannot_keep(tmp_path, monkeypatch):
    store, key, table = part(tmp_path)

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match=r"cannot be kept \(No space left on device\).*again"):
        store.write("e" * 64, table)
    assert [p.name for p in store.folder.iterdir()] == [store.path(key).name]


# --- runs on an embedded cluster ---


def test_sweep_resumes_and_reports_broken_clips(tmp_path, monkeypatch, in_process):
    """One run after another; each part of the story needs the one before."""
    sweep, tasks, _ = make_tasks(tmp_path, 4, clip1="broken", clip2="bug")
    out = tmp_path / "out"
    first = run.run_sweep(sweep, tasks, out, sweep_tasks.mark, workers=1, progress=False)
    assert (first.computed, first.reused, len(first.failures)) == (12, 0, 12)
    reasons = set(first.failures.values())
    assert "ZeroDivisionError: not the clip's fault" in reasons
    assert any("clip1.wav is no audio" in reason for reason in reasons)
    assert "ddcm (atoms=8, steps=30) of clip1 with mini, seed 1" in first.failures
    assert len(pd.read_csv(out / "failures.csv")) == 12
    table = without_timings(first.paths["parquet"])
    assert set(table["clip"]) == {"clip0", "clip3"}
    assert len(table) == 12

    # The clip is mended: only its tasks run; a damaged part is computed again.
    (tmp_path / "clips" / "clip1.wav").write_text("mended")
    store = Store(out / "parts")
    store.path(next(t.key for t in tasks if t.clip == "clip0")).write_bytes(b"PAR1")
    (tmp_path / "clips" / "computed.txt").unlink()
    clips = [
        FoundClip(p, p.stem, category="rain") for p in sorted((tmp_path / "clips").glob("*.wav"))
    ]
    mended, _ = plan.plan_methods(sweep, clips[:2] + clips[3:], lambda name: FINGERPRINT)
    second = run.run_sweep(sweep, mended, out, sweep_tasks.mark, workers=1, progress=False)
    assert (second.computed, second.reused, dict(second.failures)) == (7, 11, {})
    lines = (tmp_path / "clips" / "computed.txt").read_text().splitlines()
    assert sorted(line.split()[0] for line in lines) == ["clip0"] + 6 * ["clip1"]
    assert not (out / "failures.csv").exists()

    # Nothing to do: no cluster, the same bytes.
    before = second.paths["parquet"].read_bytes()
    monkeypatch.setattr(run, "connect", None)
    third = run.run_sweep(sweep, mended, out, sweep_tasks.mark, workers=1, progress=False)
    assert (third.computed, third.reused) == (0, 18)
    assert third.paths["parquet"].read_bytes() == before
    assert len(comparison.read_run(out)) == len(results.read(out / "results.csv"))


def test_an_embedded_cluster_limits_threads_and_outlives_a_deadly_task(tmp_path):
    import dask

    sweep, tasks, _ = make_tasks(tmp_path, 2, clip1="deadly")
    two = [next(t for t in tasks if t.clip == name) for name in ("clip0", "clip1")]
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        found = run.run_sweep(
            sweep, two, tmp_path / "out", sweep_tasks.deadly, workers=1, progress=False
        )
    assert list(found.failures) == ["vae of clip1 with mini, seed 0"]
    assert "died" in next(iter(found.failures.values()))
    table = results.read(found.paths["csv"])
    assert set(table["clip"]) == {"clip0"}
    assert dict(table.set_index("metric")["value"]) == {"threads": 1.0, "variable": 1.0}


def test_two_sweeps_in_one_folder(tmp_path):
    sweep, tasks, _ = make_tasks(tmp_path, 1)
    with (
        folder_lock(tmp_path / "out"),
        pytest.raises(UserError, match=r"out is in use by another run \(process \d+ on"),
    ):
        run.run_sweep(sweep, tasks, tmp_path / "out", sweep_tasks.measure, progress=False)


def test_lock_of_a_dead_process_does_not_stand(tmp_path):
    script = (
        "import os, signal; from audioldm_utils.locks import folder_lock\n"
        f"with folder_lock({str(tmp_path)!r}): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False, cwd=HERE.parent)
    assert "process" in (tmp_path / ".lock").read_text()
    with folder_lock(tmp_path):
        pass


def test_read_only_folder(tmp_path, monkeypatch):
    sweep, tasks, _ = make_tasks(tmp_path, 1)

    def refuse(self, *_, **__):
        raise PermissionError(13, os.strerror(13))

    # Root may write anywhere, so the refusal is put in by hand.
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"out cannot be written to \(Permission denied\)"):
        run.run_sweep(sweep, tasks, tmp_path / "out", sweep_tasks.measure, progress=False)


# --- an existing scheduler, workers as separate processes ---


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def scheduler_and_workers(count, folder):
    """A ``dask scheduler`` and worker processes without nannies, joined over TCP.

    What they print is in ``folder/dask.log``.
    """
    address = f"tcp://127.0.0.1:{free_port()}"
    patient = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "300s"}
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)} | patient
    log = (folder / "dask.log").open("w")
    quiet = {"stdout": log, "stderr": log, "env": environment, "cwd": folder}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    host, port = address.removeprefix("tcp://").split(":")
    processes = [
        subprocess.Popen([*command, "--host", host, "--port", port, "--no-dashboard"], **quiet)
    ]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address]
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
    processes += [subprocess.Popen([*worker, *options], **quiet) for _ in range(count)]
    try:
        with Client(address, timeout=300) as client:
            client.wait_for_workers(count, timeout=300)
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        log.close()


def test_two_workers_over_tcp_one_killed_in_the_middle(tmp_path, monkeypatch):
    sweep, tasks, _ = make_tasks(tmp_path, 5)
    whole = tmp_path / "whole"
    for task in tasks:
        Store(whole / "parts").write(task.key, sweep_tasks.measure(task))
    expected = run.run_sweep(sweep, tasks, whole, sweep_tasks.measure, progress=False)
    assert expected.computed == 0

    kept = []
    write = Store.write

    with scheduler_and_workers(2, tmp_path) as (address, workers):

        def write_and_kill(self, key, table):
            write(self, key, table)
            kept.append(key)
            if len(kept) == 8:
                workers[0].send_signal(signal.SIGKILL)

        monkeypatch.setattr(Store, "write", write_and_kill)
        found = run.run_sweep(
            sweep, tasks, tmp_path / "out", sweep_tasks.slow, scheduler=address, progress=False
        )
        assert workers[0].wait(timeout=5) == -signal.SIGKILL
        assert workers[1].poll() is None
    assert (found.computed, dict(found.failures)) == (30, {})
    # No task was kept twice, and but for timings the tables are equal.
    assert len(kept) == len(set(kept)) == 30
    pd.testing.assert_frame_equal(
        without_timings(found.paths["parquet"]), without_timings(expected.paths["parquet"])
    )


def test_the_last_worker_is_killed_and_the_next_sweep_goes_on(tmp_path, monkeypatch, request):
    sweep, tasks, _ = make_tasks(tmp_path, 2)
    write, kept = Store.write, []
    with scheduler_and_workers(1, tmp_path) as (address, workers):

        def write_and_kill(self, key, table):
            write(self, key, table)
            kept.append(key)
            workers[0].kill()

        monkeypatch.setattr(Store, "write", write_and_kill)
        with pytest.raises(UserError, match="no worker for 10 s; what was done is kept"):
            run.run_sweep(
                sweep,
                tasks,
                tmp_path / "out",
                sweep_tasks.slow,
                scheduler=address,
                progress=False,
                patience=10,
            )
    assert kept
    monkeypatch.setattr(Store, "write", write)
    request.getfixturevalue("in_process")
    found = run.run_sweep(
        sweep, tasks, tmp_path / "out", sweep_tasks.measure, workers=1, progress=False
    )
    assert found.reused == len(set(kept))
    assert found.computed == len(tasks) - found.reused


def test_no_scheduler_there(tmp_path):
    sweep, tasks, _ = make_tasks(tmp_path, 1)
    address = f"tcp://127.0.0.1:{free_port()}"
    for given, sentence in (
        (address, f"no scheduler answers at {address}; start one with `dask scheduler`"),
        ("localhost", "'localhost' is no scheduler address; it looks like tcp://host:8786"),
    ):
        with pytest.raises(UserError) as caught:
            list(
                run.run_sweep(
                    sweep,
                    tasks,
                    tmp_path / "out",
                    sweep_tasks.measure,
                    scheduler=given,
                    progress=False,
                    patience=1,
                ).failures
            )
        assert sentence in str(caught.value)
