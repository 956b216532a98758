"""Workers for a sweep: an embedded cluster of processes, or a scheduler that is there."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import dask
from distributed import Client, LocalCluster, Worker, WorkerPlugin

from audioldm_utils.errors import UserError
from audioldm_utils.files import available_cores, thread_limits

#: For computers that are busy with numerical work, where an answer and the restart of a
#: worker take their time; and one task at a worker, so that none is suspected when another
#: kills it.
_SETTINGS = {
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "300s",
    "distributed.deploy.lost-worker-timeout": "300s",
    "distributed.scheduler.worker-saturation": 1.0,
}


class ThreadLimit(WorkerPlugin):
    """Gives every worker, also one that joins later, so many threads for numerical work.

    Without it each of n workers on a machine starts as many threads as there are cores.
    """

    name = "audioldm-utils-threads"

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def setup(self, worker: Worker) -> None:
        """Limit the libraries that are loaded, and by environment those that are not yet."""
        import threadpoolctl

        os.environ.update(thread_limits(self.threads))
        threadpoolctl.threadpool_limits(self.threads)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(self.threads)


@contextmanager
def connect(
    scheduler: str | None, workers: int | None, threads: int, patience: float = 60.0
) -> Iterator[Client]:
    """A client of the cluster, which is closed at the end if it was started here.

    A UserError if the address is malformed, nothing answers there, or it has no worker.

    Args:
        scheduler: address of an existing one, such as ``tcp://127.0.0.1:8786``; None starts
            worker processes on this machine.
        workers: how many to start; None means cores / threads. Not for an existing scheduler.
        threads: numerical threads a worker.
        patience: seconds to wait for the scheduler and for its first worker.
    """
    with dask.config.set(_SETTINGS), ExitStack() as stack:
        if scheduler is None:
            cluster = LocalCluster(
                n_workers=workers or max(1, available_cores() // threads),
                threads_per_worker=1,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
                env=thread_limits(threads),
            )
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        else:
            client = _joined(scheduler, workers, patience, stack)
        client.register_plugin(ThreadLimit(threads))
        yield client


def _joined(scheduler: str, workers: int | None, patience: float, stack: ExitStack) -> Client:
    if not re.fullmatch(r"(tcp|tls|ucx|ws|wss)://.+:\d+/?", scheduler):
        raise UserError(f"{scheduler!r} is no scheduler address; it looks like tcp://host:8786")
    if workers is not None:
        raise UserError("--workers is for the embedded cluster; the scheduler has its own workers")
    start = f"`dask worker {scheduler} --nthreads 1`"
    try:
        client = stack.enter_context(Client(scheduler, timeout=patience))
    except OSError:
        said = f"no scheduler answers at {scheduler}; start one with `dask scheduler` and workers"
        raise UserError(f"{said} with {start}") from None
    try:
        client.wait_for_workers(1, timeout=patience)
    except TimeoutError:
        said = f"the scheduler at {scheduler} has no worker; start some with {start}"
        raise UserError(said) from None
    return client
