"""Light task functions for sweeps, importable by worker processes."""

import os
import signal
import time
from pathlib import Path

from audioldm_utils.errors import UserError
from audioldm_utils.files import sha256_file
from audioldm_utils.results.summaries import ResultsBuilder


def measure(task):
    """A value that follows from the clip's bytes, the method and the seed; and a timing."""
    if sha256_file(task.path) != task.content:
        raise UserError(f"{task.path} changed while the sweep ran")
    data = Path(task.path).read_bytes()
    if b"broken" in data:
        raise UserError(f"{task.path} is no audio; save it again")
    if b"bug" in data:
        raise ZeroDivisionError("not the\nclip's fault")
    start = time.perf_counter()
    time.sleep(0.02)
    builder = ResultsBuilder(task.fingerprint, task.seed, task.method)
    value = sum(data) % 97 / 7 + 0.1 * task.seed + len(task.options)
    builder.add(task.clip, "log_mel", value, "dB", category=task.category, stage=task.label)
    seconds = time.perf_counter() - start
    builder.add(task.clip, "seconds", seconds, "s", category=task.category, stage=task.label)
    return builder.table()


def slow(task):
    """``measure``, slow enough to be killed in the middle."""
    time.sleep(0.15)
    return measure(task)


def mark(task):
    """``measure``, leaving a line for each computation in a file beside the clips."""
    with (Path(task.path).parent / "computed.txt").open("a") as handle:
        handle.write(f"{task.clip} {task.label} {task.seed}\n")
    return measure(task)


def deadly(task):
    """Numerical threads that the worker allows; kills it on one clip, once another is kept."""
    import numpy as np
    import threadpoolctl

    if b"deadly" in Path(task.path).read_bytes():
        # What has not been fetched from a worker dies with it, and is not this clip's doing.
        parts, end = Path(task.path).parents[1] / "out" / "parts", time.monotonic() + 20
        while not list(parts.glob("[!.]*")) and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    np.ones((4, 4)) @ np.ones((4, 4))
    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    builder = ResultsBuilder(task.fingerprint, task.seed, task.method)
    builder.add(task.clip, "threads", max(pools), "1")
    builder.add(task.clip, "variable", float(os.environ["OMP_NUM_THREADS"]), "1")
    return builder.table()
