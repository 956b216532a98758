"""Small sweeps for the tests, and a cluster of one thread to run them on."""

from contextlib import contextmanager

import pytest
from distributed import Client, LocalCluster

from audioldm_utils.audio.clips import ClipInfo
from audioldm_utils.results import summaries as results
from audioldm_utils.sweep import plan, run
from audioldm_utils.sweep.file import read_sweep

FINGERPRINT = "ab" * 32


def make_clips(folder, count=3, **special):
    folder.mkdir(exist_ok=True)
    clips = []
    for i in range(count):
        path = folder / f"clip{i}.wav"
        path.write_bytes(special.get(f"clip{i}", f"sound {i}").encode())
        clips.append(ClipInfo(path, path.stem, category="rain"))
    return clips


def make_sweep(folder, text="methods: [vae, {ddcm: {steps: [30, 50], atoms: 8}}]\nseeds: [0, 1]\n"):
    path = folder / "sweep.yml"
    path.write_text(f"audio: clips\n{text}")
    return read_sweep(path)


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
