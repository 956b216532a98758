"""A sweep over two hosts, one of which is cut off in the middle.

The hosts are network namespaces with two workers each, joined to this one by cables of their
own; they share no address with each other. Pulling a cable tells nobody anything: no process
dies and no connection is closed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client

from audioldm_utils.sweep import run
from audioldm_utils.sweep.run import Store
from tests import sweep_tasks
from tests.demo_sweep import make_tasks, without_timings

HERE = Path(__file__).resolve().parents[1]
PORT = 8786


class Host:
    """A namespace and its cable; ``here`` is this end's address, ``there`` the other's."""

    def __init__(self, number: int) -> None:
        self.name = f"sweep{os.getpid() % 10000}h{number}"
        self.cable = f"v{os.getpid() % 10000}h{number}"
        network = f"10.{200 + number}.{os.getpid() % 250}"
        self.here, self.there = f"{network}.254", f"{network}.1"

    def plug(self) -> None:
        """Make it; CalledProcessError where that is not allowed."""
        inside = ["ip", "-n", self.name]
        for command in (
            ["ip", "netns", "add", self.name],
            ["ip", "link", "add", self.cable, "type", "veth", "peer", "eth0", "netns", self.name],
            ["ip", "addr", "add", f"{self.here}/24", "dev", self.cable],
            ["ip", "link", "set", self.cable, "up"],
            [*inside, "addr", "add", f"{self.there}/24", "dev", "eth0"],
            [*inside, "link", "set", "eth0", "up"],
            [*inside, "link", "set", "lo", "up"],
        ):
            subprocess.run(command, check=True, capture_output=True)

    def cut(self) -> None:
        """Pull the cable."""
        subprocess.run(["ip", "link", "set", self.cable, "down"], check=True)

    def remove(self) -> None:
        """Whatever of it is there."""
        for command in (["link", "del", self.cable], ["netns", "del", self.name]):
            subprocess.run(["ip", *command], check=False, capture_output=True)


@pytest.fixture
def hosts():
    made = [Host(1), Host(2)]
    try:
        for host in made:
            host.plug()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        for host in made:
            host.remove()
        pytest.skip(f"this system lets nobody make network namespaces: {error}")
    yield made
    for host in made:
        host.remove()


@pytest.fixture
def cluster(hosts, tmp_path):
    """A scheduler here, and two workers on each host."""
    environment = os.environ | {
        "PYTHONPATH": str(HERE.parent),
        # As of a cluster that must notice a lost host within a test.
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "15s",
    }
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "dask.log").open("w"))
        quiet = {"stdout": log, "stderr": log, "env": environment, "cwd": tmp_path}

        def start(*words: str) -> None:
            process = subprocess.Popen(words, **quiet)
            stack.callback(process.wait)
            stack.callback(process.kill)

        dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        start(*dask, "--host", "0.0.0.0", "--port", str(PORT), "--no-dashboard")
        for host in [*hosts, *hosts]:
            inside = ["ip", "netns", "exec", host.name]
            worker = [sys.executable, "-m", "distributed.cli.dask_worker"]
            options = ["--host", host.there, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
            start(*inside, *worker, f"tcp://{host.here}:{PORT}", *options)
        address = f"tcp://{hosts[0].here}:{PORT}"
        with Client(address, timeout=300) as client:
            client.wait_for_workers(4, timeout=300)
        yield address


@pytest.mark.processes
def test_a_host_that_is_cut_off_costs_no_result(hosts, cluster, tmp_path, monkeypatch):
    sweep, tasks, _ = make_tasks(tmp_path, 12)
    whole = tmp_path / "whole"
    for task in tasks:
        Store(whole / "parts").write(task.key, sweep_tasks.measure(task))
    expected = run.run_sweep(sweep, tasks, whole, sweep_tasks.measure, progress=False)
    write, kept = Store.write, []

    def write_and_cut(self, key, table):
        write(self, key, table)
        kept.append(key)
        if len(kept) == 8:
            hosts[1].cut()

    monkeypatch.setattr(Store, "write", write_and_cut)
    options = {"scheduler": cluster, "progress": False}
    found = run.run_sweep(sweep, tasks, tmp_path / "out", sweep_tasks.slow, **options)
    with Client(cluster, timeout=60) as client:
        left = {
            worker["host"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()
        }
    assert left == {hosts[0].there}
    assert (found.computed, dict(found.failures)) == (len(tasks), {})
    assert len(kept) == len(set(kept)) == len(tasks)
    pd.testing.assert_frame_equal(
        without_timings(found.paths["parquet"]), without_timings(expected.paths["parquet"])
    )
