"""Runs of sweeps: on an embedded cluster, and on real worker processes over TCP."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client

from audioldm_utils.audio.clips import ClipInfo
from audioldm_utils.errors import UserError
from audioldm_utils.files import folder_lock
from audioldm_utils.results import comparison
from audioldm_utils.results import summaries as results
from audioldm_utils.sweep import plan, run
from audioldm_utils.sweep.run import Store
from tests import sweep_tasks
from tests.demo_sweep import FINGERPRINT, in_process, make_tasks, without_timings

__all__ = ["in_process"]

HERE = Path(__file__).parents[1]


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
        ClipInfo(p, p.stem, category="rain") for p in sorted((tmp_path / "clips").glob("*.wav"))
    ]
    given = clips[:2] + clips[3:], lambda name: FINGERPRINT, ["vae", "ddcm"]
    mended, _ = plan.plan_methods(sweep, *given)
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


@pytest.mark.parametrize("reader", ["pandas", "dask", "duckdb"])
def test_results_of_sweeps_are_one_parquet_data_set(reader, tmp_path):
    """Two sweeps' results read as one table of all rows."""
    tables = []
    for name in ("first", "second"):
        builder = results.ResultsBuilder(seed=len(tables), method="vae")
        for clip in ("猫", "b"):
            builder.add(clip, "snr", 10 * len(tables) + len(clip), "dB", stage=name)
        tables.append(builder.table())
        results.write(tables[-1], tmp_path / name / "results")
    paths = sorted(str(path) for path in tmp_path.glob("*/results.parquet"))
    if reader == "duckdb":
        duckdb = pytest.importorskip("duckdb", reason="DuckDB is not among the locked packages")
        read = duckdb.sql(f"SELECT * FROM read_parquet('{tmp_path}/*/results.parquet')").df()
    elif reader == "dask":
        frames = pytest.importorskip("dask.dataframe", reason="Dask lacks its data frames")
        read = frames.read_parquet(paths).compute()
    else:
        read = pd.concat(map(pd.read_parquet, paths))
    read = results.validate(read.reset_index(drop=True))
    pd.testing.assert_frame_equal(read, results.concat(tables))


@pytest.mark.processes
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
        "import os, signal; from audioldm_utils.files import folder_lock\n"
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


@pytest.mark.processes
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


@pytest.mark.processes
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
