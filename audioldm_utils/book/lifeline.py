"""Processes that end with the one that started them, whatever ended it.

``python -m audioldm_utils.book.lifeline MODULE ARGUMENTS`` runs a module as ``python -m`` does, and
``MODULE:FUNCTION`` calls a function, but tied: the process holds the reading end of a pipe whose
writing end only its parent holds. When the parent is gone, even by ``kill -9``, the system
closes that end, and the process ends at once. A tied process also inherits the parent's lock
(``files.folder_lock``), which is held until the last is gone, and ties those that it starts.

Only POSIX systems pass descriptors on; elsewhere the module is run as it is.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

VARIABLE = "AUDIOLDM_UTILS_LIFELINE"
"""Environment variable: the descriptors that a process inherits, ``pipe`` or ``pipe,lock``."""

#: The lock that this process inherited when it was tied.
_lock: int | None = None


@contextmanager
def lifeline(lock: int | None = None) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """What processes must be started with to be tied to this one while the block runs.

    Gives variables for their environment and descriptors to pass on (``pass_fds`` of ``Popen``);
    :func:`command` starts them. ``lock`` is the descriptor of one that they shall hold too; None
    means the inherited one.
    """
    if os.name != "posix":
        yield {}, ()
        return
    lock = _lock if lock is None else lock
    reading, writing = os.pipe()
    passed = (reading,) if lock is None else (reading, lock)
    try:
        yield {VARIABLE: ",".join(map(str, passed))}, passed
    finally:
        os.close(writing)
        os.close(reading)


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module, or ``MODULE:FUNCTION``, tied."""
    return [sys.executable, "-m", "audioldm_utils.book.lifeline", module, *arguments]


def tie() -> None:
    """End this process, and the group that it leads, when the parent that tied it is gone."""
    global _lock
    # Taken out, since what this process starts has these descriptors only if they are passed on.
    passed = [int(number) for number in os.environ.pop(VARIABLE, "").split(",") if number]
    if not passed:
        return
    for descriptor in passed:
        os.set_inheritable(descriptor, False)
    _lock = passed[1] if len(passed) > 1 else None

    def watch() -> None:
        os.read(passed[0], 1)  # nobody writes: it returns when the last writing end is closed
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def main(arguments: Sequence[str]) -> None:
    """Tie this process, then run a module as its main one, or call a function."""
    tie()
    sys.argv = list(arguments)
    module, _, function = arguments[0].partition(":")
    if function:
        getattr(importlib.import_module(module), function)()
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    # By its name, so that what it runs finds this same module.
    importlib.import_module("audioldm_utils.book.lifeline").main(sys.argv[1:])
