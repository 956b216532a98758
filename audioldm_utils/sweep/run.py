"""Running a sweep's tasks on workers, keeping each as soon as it is done."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write, folder_lock
from audioldm_utils.results.evidence import provenance
from audioldm_utils.results.tables import concat, from_csv, to_csv, write
from audioldm_utils.sweep.cluster import connect
from audioldm_utils.sweep.file import Sweep
from audioldm_utils.sweep.plan import Task

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client, Future

#: Computes a task's rows; it is sent to the workers by name, so they must be able to import it.
TaskFunction = Callable[[Task], "pd.DataFrame"]


class Store:
    """The folder of finished tasks, made on the first write; one file each, found by its key.

    A part is the task's key, the SHA-256 of its rows, and the rows as CSV. One that is damaged,
    truncated or misnamed counts as not there, and is computed again.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where the part of a task lies. Not ``.csv``: it is no results table to read."""
        return self.folder / f"{key[:32]}.part"

    def write(self, key: str, table: pd.DataFrame) -> None:
        """Keep a task's rows; a UserError where the folder or the disk does not take them."""
        rows = to_csv(table)
        try:
            atomic_write(self.path(key), f"{_head(key, rows)}\n{rows}")
        except OSError as error:
            raise UserError(
                f"{self.folder}: results cannot be kept ({error.strerror or error}); what was kept "
                "stays: make room or name another folder, and give the same command again"
            ) from error

    def read(self, key: str) -> pd.DataFrame | None:
        """A task's rows; None if it is not done or its part is damaged."""
        try:
            head, _, rows = self.path(key).read_bytes().decode().partition("\n")
        except (OSError, UnicodeDecodeError):
            return None
        whole = head == _head(key, rows)
        return from_csv(io.StringIO(rows), "a part of the sweep") if whole else None


def _head(key: str, rows: str) -> str:
    return f"{key} {hashlib.sha256(rows.encode()).hexdigest()}"


@dataclass(frozen=True)
class Outcome:
    """What a sweep did."""

    computed: int  # tasks
    reused: int  # tasks that were known from before
    failures: Mapping[str, str]  # what failed, with the reason
    paths: Mapping[str, Path]  # of the results, if there are any, by suffix
    seconds: float  # of wall time


def run_sweep(
    sweep: Sweep,
    tasks: Sequence[Task],
    out: str | Path,
    function: TaskFunction,
    broken: Mapping[str, str] | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    progress: bool = True,
    patience: float = 60.0,
) -> Outcome:
    """Compute the tasks that are not done yet and write the table of all of them.

    Results are sent back and written here, one file a task, the moment a task is done: the
    workers need no common folder to write to, and a killed worker, or a killed sweep, costs
    no more than the tasks that were running. A failing task stops nothing else.

    Args:
        sweep: for provenance.
        out: gets ``parts/`` (finished tasks), ``results.parquet``, ``.csv`` and ``.json``,
            and ``failures.csv`` if there are any.
        function: computes one task.
        broken: clips that could not be opened, with the reason; reported with the failures.
        scheduler, workers, threads, patience: see ``cluster.connect``.

    Raises:
        UserError: the folder is in use or cannot be written to, the cluster cannot be
            reached or is lost; what was done is kept.
    """
    start, out = time.monotonic(), Path(out)
    store = Store(out / "parts")
    failures = dict(broken or {})
    with folder_lock(out):
        tables = {task.key: table for task in tasks if (table := store.read(task.key)) is not None}
        reused = len(tables)
        if waiting := [task for task in tasks if task.key not in tables]:
            options = {"total": len(tasks), "initial": reused, "unit": "task"}
            with (
                tqdm(**options, disable=not progress) as bar,
                connect(scheduler, workers, threads, patience) as client,
            ):
                for task, result in _finished(client, waiting, function, patience):
                    bar.update()
                    if isinstance(result, str):
                        failures[str(task)] = result
                    else:
                        store.write(task.key, result)
                        tables[task.key] = result
        paths = _write_results(sweep, tasks, tables, out)
        _write_failures(failures, out / "failures.csv")
    seconds = time.monotonic() - start
    return Outcome(len(tables) - reused, reused, failures, paths, seconds)


def _finished(
    client: Client, tasks: Sequence[Task], function: TaskFunction, patience: float
) -> Iterator[tuple[Task, pd.DataFrame | str]]:
    """Each task with its rows or the reason of its failure, as they come."""
    from distributed import as_completed

    pending: dict[Future, Task] = {
        client.submit(function, task, key=f"sweep-{task.key}", pure=False): task for task in tasks
    }
    lonely_since: float | None = None
    while pending:
        try:
            # In slices, so that a cluster without workers is noticed.
            for future in as_completed(list(pending), timeout=min(5.0, patience)):
                if future.status == "cancelled":
                    raise UserError(
                        "the connection to the scheduler was lost; what was done is kept: "
                        "give the same command again"
                    )
                result = _fetch(client, future, patience)
                if result is None:
                    continue
                yield pending.pop(future), result
                future.release()
                lonely_since = None
        except TimeoutError:
            if client.nthreads():
                lonely_since = None
            elif lonely_since is None:
                lonely_since = time.monotonic()
            elif time.monotonic() - lonely_since > patience:
                raise UserError(
                    f"the scheduler has had no worker for {patience:g} s; what was done is kept: "
                    "start workers and give the same command again"
                ) from None


def _fetch(client: Client, future: Future, patience: float) -> pd.DataFrame | str | None:
    """A finished task's rows, or the reason of its failure.

    None if its worker died before it could send them, so that it is being done again; a
    TimeoutError if that takes longer than ``patience``.
    """
    if future.status == "finished":
        gather = partial(client.gather, [future], errors="skip", asynchronous=True)
        if rows := client.sync(gather, callback_timeout=patience):
            return rows[0]
    return _reason(future.exception()) if future.status == "error" else None


def _reason(error: BaseException) -> str:
    """One line about an exception that came back from a worker."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return "each worker that tried it died (perhaps for want of memory)"
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _write_results(
    sweep: Sweep, tasks: Sequence[Task], tables: Mapping[str, pd.DataFrame], out: Path
) -> dict[str, Path]:
    done = [task for task in tasks if task.key in tables]
    if not done:
        return {}
    made = provenance(
        f"audioldm-utils sweep {sweep.path.name}",
        [sweep.path],
        sorted({task.seed for task in tasks}),
        ", ".join(sorted({task.fingerprint for task in tasks})),
        clips={task.clip or Path(task.path).name: task.content for task in tasks},
        tasks=len(tasks),
        tasks_done=len(done),
    )
    return write(concat(tables[task.key] for task in done), out / "results", made)


def _write_failures(failures: Mapping[str, str], path: Path) -> None:
    """The list of what failed; none is left of an earlier run when nothing failed."""
    import pandas as pd

    if failures:
        rows = pd.DataFrame(sorted(failures.items()), columns=["what", "reason"])
        atomic_write(path, rows.to_csv(index=False, lineterminator="\n"))
    else:
        path.unlink(missing_ok=True)
