"""Writing files so that nothing is ever half-written or lost."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Environment variable: the folder of the page that a running notebook will become.
PAGE_VARIABLE = "AUDIOLDM_UTILS_PAGE"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` if the block succeeds.

    The temporary name keeps the suffix, since writers choose their format by it. On any
    failure the temporary file is removed and what stood at ``path`` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes under a temporary name, then rename."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def package_hash(
    left_out: Collection[str], suffixes: Collection[str], package: Path | None = None
) -> str:
    """SHA-256 over names and contents of the package's files, for fingerprints of results.

    Args:
        left_out: modules and folders at the package's top that the results do not depend on.
        suffixes: of the files that count.
        package: its folder; this package's by default.
    """
    package = package or Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package)
        if path.suffix in suffixes and name.with_suffix("").parts[0] not in left_out:
            digest.update(f"{name.as_posix()}\0{sha256_file(path)}\0".encode())
    return digest.hexdigest()
