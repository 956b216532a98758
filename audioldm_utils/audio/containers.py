"""What the header of an audio file promises, beside what the file holds.

libsndfile takes an uncompressed file that was cut short for a whole one that is shorter. The
size of the chunk that holds the samples says otherwise: Microsoft's and EBU Tech 3306's
descriptions of RIFF and RF64, Apple's of AIFF and CAF, Sonic Foundry's of Wave64, Sun's of AU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from audioldm_utils.errors import UserError

#: Most channels of a file (7.1 surround has eight).
MAX_CHANNELS = 8
#: Size of a stream whose end was not known when its header was written.
_UNKNOWN = 0xFFFFFFFF
# A file of sound has a handful of chunks; a hostile one could have millions.
_MOST_CHUNKS = 4096


def check_header(path: Path, rate: int, channels: int, frames: int) -> None:
    """Refuse what no clip can be, by what the header says.

    Raises:
        UserError: too many channels, no samples, a rate below 1000 Hz, or fewer bytes than
            the header promises.
    """
    if channels > MAX_CHANNELS:
        raise UserError(
            f"{path}: {channels} channels; at most {MAX_CHANNELS} are read, mix it down first."
        )
    if frames == 0:
        raise UserError(f"{path}: the file holds no samples (zero length); export it again.")
    if rate < 1000:
        raise UserError(f"{path}: a sample rate of {rate} Hz is too low; 1000 Hz or more needed.")
    missing = missing_bytes(path)
    if missing:
        raise UserError(
            f"{path}: the file is cut short or corrupt ({missing} bytes of the samples that its "
            "header promises are missing); export it again."
        )


def missing_bytes(path: str | Path) -> int:
    """Bytes of samples that the header promises and that lie beyond the file's end.

    0 where the header leaves the size open (``0xFFFFFFFF``, -1 in CAF), and for other formats
    than WAV, RF64, Wave64, AIFF, AU and CAF.
    """
    with Path(path).open("rb") as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(0)
        promised = _sound(handle)
    return 0 if promised is None else max(0, sum(promised) - size)


def _sound(handle: BinaryIO) -> tuple[int, int] | None:
    """First byte and number of bytes of the samples; None if the header leaves it open."""
    head = handle.read(16)
    name = head[:4]
    if name in (b".snd", b"dns."):
        order = "big" if name == b".snd" else "little"
        start, length = (int.from_bytes(head[i : i + 4], order) for i in (4, 8))
        return None if length == _UNKNOWN else (start, length)
    if name in (b"RIFF", b"RIFX", b"RF64"):
        return _riff(handle, "big" if name == b"RIFX" else "little")
    if name == b"FORM":
        found = (c for c in _chunks(handle, 12, "big") if c[0] == b"SSND")
    elif name == b"caff":
        found = (c for c in _chunks(handle, 8, "big", 4, 8, 1) if c[0] == b"data")
    elif name == b"riff":  # Wave64: names are GUIDs, sizes count their own 24 bytes
        found = (
            (identity[:4], start, length - 24)
            for identity, start, length in _chunks(handle, 40, "little", 16, 8, 8, 24)
            if identity[:4] == b"data"
        )
    else:
        return None
    chunk = next(found, None)
    # A size of -1, open in CAF, is more than any file has.
    return None if chunk is None or chunk[2] >= 1 << 62 else chunk[1:]


def _riff(handle: BinaryIO, order: str) -> tuple[int, int] | None:
    long = None
    for name, start, length in _chunks(handle, 12, order):
        if name == b"ds64":  # RF64's own sizes: of the file, then of the samples
            handle.seek(start + 8)
            long = int.from_bytes(handle.read(8), "little")
        elif name == b"data":
            length = long if length == _UNKNOWN else length
            return None if length is None else (start, length)
    return None


def _chunks(
    handle: BinaryIO,
    position: int,
    order: str,
    name_bytes: int = 4,
    size_bytes: int = 4,
    align: int = 2,
    counted: int = 0,
) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and size of each chunk; ``counted`` bytes of a size are its header."""
    for _ in range(_MOST_CHUNKS):
        handle.seek(position)
        head = handle.read(name_bytes + size_bytes)
        if len(head) < name_bytes + size_bytes:
            return
        size = int.from_bytes(head[name_bytes:], order)
        yield head[:name_bytes], position + len(head), size
        end = position + len(head) + max(0, size - counted)
        if end >= 1 << 62:
            return
        position = end + -end % align
