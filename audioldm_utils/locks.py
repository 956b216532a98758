"""One writer a folder: a lock that the system frees even if its holder is killed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audioldm_utils.errors import UserError


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """Hold ``folder/.lock`` while the block runs; the folder is made if need be.

    The file stays, empty; only the system's lock on it counts, so that there is no stale
    lock to remove by hand. It holds between processes of one machine, and between machines
    where the file system passes locks on.

    Raises:
        UserError: another run holds the folder, or it cannot be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("a+")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{folder} cannot be written to ({reason}); name another folder") from error
    with handle:
        try:
            import fcntl
        except ImportError:  # Windows has no such lock
            yield
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise UserError(
                f"{folder} is in use by another run ({holder}); wait for it or name another folder"
            ) from error
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        try:
            yield
        finally:
            handle.truncate(0)
