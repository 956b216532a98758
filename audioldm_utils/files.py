"""Writing files so that nothing is ever half-written or lost; one writer a folder."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from audioldm_utils.errors import UserError

#: Environment variable: the folder of the page that a running notebook will become.
PAGE_VARIABLE = "AUDIOLDM_UTILS_PAGE"
#: Seconds that a lock is waited for: what a killed run left behind is gone by then.
PATIENCE = 2.0


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``, with its suffix; rename it if the block succeeds.

    An OSError names ``path``, never the temporary file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Cut, so that any name that fits the file system fits with what is added.
    temporary = path.with_name(f".{path.stem[:40]}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _named(error, temporary, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def _named(error: OSError, temporary: Path, path: Path) -> OSError:
    """The same error, of the file that the user knows."""
    if error.errno == errno.EPIPE or error.filename not in (None, str(temporary)):
        return error  # of a pipe, or of another file
    if error.errno is None or not error.strerror:  # a library's own words
        return OSError(str(error).replace(str(temporary), str(path)))
    return OSError(error.errno, error.strerror, str(path))


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes under a temporary name, then rename."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def user_cache() -> Path:
    """Folder of what this package keeps for the user: downloads, digests, fits."""
    import pooch

    return Path(pooch.os_cache("audioldm-utils"))


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[int]:
    """Hold ``folder/.lock`` while the block runs; the folder is made if need be.

    The file stays, empty; only the system's lock on it counts. A process that inherits the
    descriptor that is given holds the lock as long as it lives. A UserError if another run holds
    the folder, or it cannot be written to.
    """
    folder, held = Path(folder), []
    lock = FileLock(folder / ".lock", timeout=PATIENCE, on_acquired=held.append)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        holder = (folder / ".lock").read_text(errors="replace").strip() or "another process"
        raise UserError(
            f"{folder} is in use by another run ({holder}); wait for it or name another folder"
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{folder} cannot be written to ({reason}); name another folder") from error
    try:
        os.ftruncate(held[0], 0)
        os.write(held[0], f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield held[0]
    finally:
        os.ftruncate(held[0], 0)
        lock.release()


def package_hash(
    left_out: Collection[str], suffixes: Collection[str], package: Path | None = None
) -> str:
    """SHA-256 over names and contents of the package's files, for fingerprints of results.

    ``suffixes`` are those of the files that count; modules (without suffix) and folders that are
    ``left_out`` do not.
    """
    package = package or Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package)
        places = {place.as_posix() for place in (name.with_suffix(""), *name.parents)}
        if path.suffix in suffixes and places.isdisjoint(left_out):
            digest.update(f"{name.as_posix()}\0{sha256_file(path)}\0".encode())
    return digest.hexdigest()


def available_cores() -> int:
    """Cores this process may use (its affinity counts, not the machine)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_limits(threads: int) -> dict[str, str]:
    """Variables by which numerical libraries, when they are loaded, take so many threads."""
    names = ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "NUMEXPR_NUM", "VECLIB_MAXIMUM")
    return {f"{name}_THREADS": str(threads) for name in names}
