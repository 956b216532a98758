"""Full disks, read-only folders, interruptions: nothing lost, nothing half-written.

Where the tests run as root on Linux, the disk is a real one of 64 kB; the same faults are
also put in by hand (here and beside each module's own tests), so that they are covered
everywhere.
"""

import os
import subprocess

import numpy as np
import pytest

from audioldm_utils.audio import clips as audio
from audioldm_utils.cli.commands import stream
from audioldm_utils.errors import UserError
from audioldm_utils.files import folder_lock
from audioldm_utils.results import comparison
from audioldm_utils.results import summaries as results
from audioldm_utils.sweep import run
from audioldm_utils.sweep.run import Store
from tests import sweep_tasks
from tests.demo_sweep import in_process, make_tasks, without_timings  # noqa: F401


def table(clips, seed=0):
    builder = results.ResultsBuilder(seed=seed, method="vae")
    for i in range(clips):
        builder.add(f"clip {i:05d}", "log_mel", i / 7, "dB")
    return builder.table()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB, and a function that makes it read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*arguments):
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode

    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    if mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)) != 0:
        pytest.skip("this system lets nobody mount a small disk")
    try:
        yield folder, lambda: mount("-o", "remount,ro", str(folder))
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


def test_disk_full(small_disk):
    folder, _ = small_disk
    results.write(table(20), folder / "t")
    store = Store(folder / "parts")
    store.write("a" * 64, table(20))
    before = contents(folder / "parts")
    with pytest.raises(UserError, match=r"t: the results could not be written: No space left"):
        results.write(table(3000), folder / "t")
    assert len(results.read(folder / "t.csv")) == len(results.read(folder / "t.parquet")) == 20
    with pytest.raises(UserError, match=r"cannot be kept \(No space left on device\)"):
        store.write("b" * 64, table(3000))
    assert contents(folder / "parts") == before
    differences = comparison.compare_runs(table(20), table(20))
    with pytest.raises(UserError, match=r"d\.csv could not be written: No space left"):
        comparison.write_differences(differences.loc[[0] * 3000], folder / "d.csv")
    assert sorted(p.name for p in folder.iterdir()) == ["parts", "t.csv", "t.parquet"]
    # Room again: the same calls go through.
    results.write(table(40), folder / "t")
    store.write("b" * 64, table(40))
    assert len(store.read("b" * 64)) == 40


def test_sound_on_a_full_disk_says_what_is_full(small_disk, capsys):
    """libsndfile says «System error.», and names the hidden temporary file."""
    folder, _ = small_disk
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 100_000).astype(np.float32)
    for suffix in ("wav", "flac"):
        with pytest.raises(UserError) as caught:
            audio.save(folder / f"a.{suffix}", noise, 16000)
        assert f"a.{suffix}: cannot be written (No space left on device)" in str(caught.value)
        with pytest.raises(UserError, match=rf"disk/b\.{suffix}: cannot be written \(is the disk"):
            stream._write(str(folder / f"b.{suffix}"), iter(np.split(noise, 50)), "-")
    assert not list(folder.iterdir())


def test_read_only_disk(small_disk):
    folder, make_read_only = small_disk
    results.write(table(20), folder / "t")
    assert make_read_only() == 0
    with pytest.raises(UserError, match=r"could not be written: Read-only file system"):
        results.write(table(30), folder / "t")
    with (
        pytest.raises(UserError, match=r"cannot be written to \(Read-only file system\)"),
        folder_lock(folder / "out"),
    ):
        pass
    with pytest.raises(UserError, match=r"cannot be kept \(Read-only file system\)"):
        Store(folder / "parts").write("a" * 64, table(3))
    assert len(results.read(folder / "t.csv")) == 20


@pytest.mark.usefixtures("in_process")
def test_a_clip_removed_while_the_sweep_runs(tmp_path, monkeypatch):
    """Its tasks fail by name; the others are done; with the clip back, the next run goes on."""
    sweep, tasks, _ = make_tasks(tmp_path, 2)
    clip, away = tmp_path / "clips" / "clip1.wav", tmp_path / "clip1.wav"
    out, write, calls = tmp_path / "out", Store.write, []

    def remove_then_write(self, key, rows):
        if not calls:
            clip.rename(away)
        calls.append(key)
        write(self, key, rows)

    def interrupt(self, key, rows):
        raise KeyboardInterrupt

    alone = [task for task in tasks if task.clip == "clip0"][:1]
    later = [task for task in tasks if task.clip == "clip1"]
    monkeypatch.setattr(Store, "write", remove_then_write)
    # One worker takes tasks in order, so that the clip is away before its turn.
    ordered = alone + [t for t in tasks if t not in alone and t not in later] + later
    found = run.run_sweep(sweep, ordered, out, sweep_tasks.slow, workers=1, progress=False)
    assert found.computed >= 6
    assert set(found.failures) <= {str(task) for task in later}
    assert found.failures
    assert all("No such file" in reason for reason in found.failures.values())

    away.rename(clip)
    monkeypatch.setattr(Store, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.run_sweep(sweep, tasks, out, sweep_tasks.measure, workers=1, progress=False)
    assert len(list((out / "parts").iterdir())) == found.computed
    assert not list(out.rglob(".*tmp*"))

    monkeypatch.setattr(Store, "write", write)
    again = run.run_sweep(sweep, tasks, out, sweep_tasks.measure, workers=1, progress=False)
    assert (again.reused, again.computed) == (found.computed, len(tasks) - found.computed)
    assert not again.failures
    assert len(without_timings(again.paths["parquet"])) == len(tasks)


def test_temporary_files_of_a_dead_run_are_no_results(tmp_path):
    results.write(table(3), tmp_path / "t")
    (tmp_path / ".t.123.tmp.csv").write_text("clip,cl")
    (tmp_path / ".t.123.tmp.parquet").write_bytes(b"PAR1")
    assert len(comparison.read_run(tmp_path)) == 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device."),
        (PermissionError(13, "Permission denied", "a.wav"), "a.wav: Permission denied."),
        (OSError("two\n  lines"), "two lines."),
    ],
)
def test_what_the_system_refuses_is_one_sentence(error, said, monkeypatch, capsys):
    from audioldm_utils.cli import main as cli
    from audioldm_utils.cli.commands import inspect

    def refuse(args):
        raise error

    monkeypatch.setattr(inspect, "run", refuse)
    assert cli.main(["inspect", "a.ddcm"]) == 2
    assert capsys.readouterr().err == f"audioldm-utils: error: {said}\n"


def test_whoever_reads_may_stop_reading(monkeypatch, capfd):
    from audioldm_utils.cli import main as cli
    from audioldm_utils.cli.commands import inspect

    def refuse(args):
        raise BrokenPipeError

    monkeypatch.setattr(inspect, "run", refuse)
    monkeypatch.setattr(cli.os, "dup2", lambda *_: None)
    assert cli.main(["inspect", "a.ddcm"]) == 1
    assert capfd.readouterr().err == ""
