"""The ``.ddcm`` file: header, codes packed to the bit, checksum.

Layout, version 1.0 (``v`` is an unsigned LEB128 integer, ``z`` a zigzag-coded signed one,
both 7 bits a byte; integers of fixed width are little-endian):

===================  ==========  =====================================================
field                bytes       meaning
===================  ==========  =====================================================
magic                4           ``DDCM``
version              1           major in the high four bits, minor in the low four
checkpoint           6           first 48 bits of the checkpoint's SHA-256 fingerprint
codebook             1           index into ``CODEBOOKS``
size                 v, 1 to 3   bases of the codebook, or atoms in it
placement            1           index into ``PLACEMENTS``
parameters           z, 0 to 6   of the placement, in thousandths
steps                v, 1 to 2   reverse steps, T
atoms                v, 1 to 3   over all noisy steps, spread evenly unless given
seed                 v, 1 to 4   of the codebook and of the starting noise
samples              v, 1 to 5   of the original
sample rate          v, 1 to 3   of the original, Hz
mean                 2           of the original, half-precision float
scale                2           log2 of the original's gain, in 1/1024
optional length      v, 1 to 2   bytes of the optional fields
===================  ==========  =====================================================

then the optional fields (each: tag ``v``, length ``v``, content), the payload (mixed-radix
integers, see ``packing.pack``) and CRC-32 of all before it (4 bytes; it starts from the
length, so appended bytes are noticed too). Fixed part and checksum take 28 to 48 bytes.

An optional field is written only if it differs from its default. A reader skips tags it
does not know, so a newer minor version may add fields; a newer major one is refused.
"""

from __future__ import annotations

import itertools
import math
import operator
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audioldm_utils.ddcm.header import (
    CODEBOOKS,
    FINGERPRINT_BYTES,
    PLACEMENTS,
    Header,
    Sizes,
    check,
    check_paid,
)
from audioldm_utils.ddcm.packing import Reader, varint, zigzag
from audioldm_utils.errors import UserError

MAGIC = b"DDCM"
MAJOR, MINOR = 1, 0
OPTIONAL_LIMIT = 2**14 - 1  # bytes of the optional fields
FILE_LIMIT = 2**26  # bytes; no header's codes take as many


def _falling(values: tuple[int, ...]) -> bytes:
    return _many([values[0], *(a - b for a, b in itertools.pairwise(values))])


def _two(reader: Reader) -> tuple[int, ...]:
    values = tuple(reader.rest())
    if len(values) != 2:
        raise ValueError("field window does not hold two numbers")
    return values


_many = lambda values: b"".join(map(varint, values))  # noqa: E731
_text = str.encode, lambda reader: reader.data.decode("utf-8")
#: Optional fields: tag, how one is written, how it is read.
_OPTIONAL: dict[str, tuple[int, Callable[[Any], bytes], Callable[[Reader], Any]]] = {
    "eta": (1, zigzag, Reader.thousandths),
    "guidance": (2, zigzag, Reader.thousandths),
    "prompt": (3, *_text),
    "negative_prompt": (4, *_text),
    "timesteps": (5, _falling, lambda r: tuple(itertools.accumulate(r.rest(), operator.sub))),
    "atoms_per_step": (6, _many, lambda reader: tuple(reader.rest())),
    "segment": (7, varint, Reader.varint),
    "window": (8, _many, _two),
    "codebook_digest": (9, bytes, lambda reader: reader.data),
    "coefficient_bits": (10, varint, Reader.varint),
}
_NUMBERS = ("steps", "atoms", "seed", "samples", "sample_rate")


def stored(header: Header) -> Header:
    """The header as a reader will see it: mean and scale rounded to what is stored."""
    return _parse_header(Reader(b"".join(_header_bytes(header))), MINOR)[0]


def _header_bytes(header: Header) -> tuple[bytes, bytes]:
    """Fixed part without checksum, and optional fields."""
    check(header)
    optional = b""
    for name, (tag, write_field, _) in _OPTIONAL.items():
        value = getattr(header, name)
        if value != Header.__dataclass_fields__[name].default:
            content = write_field(value)
            optional += varint(tag) + varint(len(content)) + content
    if len(optional) > OPTIONAL_LIMIT:
        raise UserError(
            f"prompt and schedule take {len(optional)} bytes, but a .ddcm file has room for "
            f"{OPTIONAL_LIMIT}; shorten the prompt"
        )
    fixed = (
        MAGIC,
        bytes([MAJOR << 4 | MINOR]),
        header.fingerprint,
        bytes([list(CODEBOOKS).index(header.codebook)]),
        varint(header.size),
        bytes([list(PLACEMENTS).index(header.placement)]),
        *map(zigzag, header.parameters),
        *(varint(getattr(header, name)) for name in _NUMBERS),
        struct.pack("<eh", header.mean, round(math.log2(header.scale) * 1024)),
        varint(len(optional)),
    )
    return b"".join(fixed), optional


def _parse_optional(data: bytes) -> dict[str, object]:
    known = {tag: (name, read_field) for name, (tag, _, read_field) in _OPTIONAL.items()}
    reader = Reader(data)
    found: dict[str, object] = {}
    while reader.position < len(data):
        tag, content = reader.varint(), reader.take(reader.varint())
        if tag not in known:
            continue  # written by a newer minor version
        name, read_field = known[tag]
        if name in found:
            raise ValueError(f"field {name} occurs twice")
        found[name] = read_field(Reader(content))
    return found


def _parse_header(reader: Reader, minor: int) -> tuple[Header, int]:
    """Header and the bytes of its optional fields, unknown ones included."""
    reader.take(len(MAGIC) + 1)
    fingerprint = reader.take(FINGERPRINT_BYTES)
    codebook, size = reader.take(1)[0], reader.varint()
    placement = reader.take(1)[0]
    if codebook >= len(CODEBOOKS) or placement >= len(PLACEMENTS):
        newer = " (the file is of a newer version)" if minor > MINOR else ""
        raise ValueError(f"its codebook or placement is unknown{newer}")
    name = list(PLACEMENTS)[placement]
    parameters = tuple(reader.thousandths() for _ in PLACEMENTS[name])
    numbers = {field: reader.varint() for field in _NUMBERS}
    mean, scale = struct.unpack("<eh", reader.take(4))
    length = reader.varint()
    if length > OPTIONAL_LIMIT:
        raise ValueError(f"its optional fields take {length} bytes; a file holds {OPTIONAL_LIMIT}")
    header = Header(
        fingerprint=fingerprint,
        codebook=list(CODEBOOKS)[codebook],
        size=size,
        placement=name,
        parameters=parameters,
        mean=mean,
        scale=2.0 ** (scale / 1024),
        **numbers,
        **_parse_optional(reader.take(length)),
    )
    check(header)
    return header, length


def to_bytes(header: Header, payload: bytes) -> bytes:
    """The whole file as bytes: fixed part, optional fields, payload, CRC-32."""
    body = b"".join(_header_bytes(header)) + payload
    return body + struct.pack("<I", zlib.crc32(body, len(body)))


def from_bytes(data: bytes, name: str = "the data") -> tuple[Header, bytes, Sizes]:
    """Header, payload and sizes of a whole file, called ``name`` in an error.

    Raises:
        UserError: not a ``.ddcm`` file, a newer major version, damaged, or asking for more
            than its codes can mean.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise UserError(f"{name} is not a .ddcm file; give one that `encode` wrote")
    damaged = f"{name} is damaged or incomplete"
    if len(data) < len(MAGIC) + 5:
        raise UserError(f"{damaged}; copy or encode it again")
    major, minor = data[len(MAGIC)] >> 4, data[len(MAGIC)] & 0x0F
    if major > MAJOR:
        raise UserError(
            f"{name} is of format version {major}.{minor}, newer than the {MAJOR}.x that this "
            "version of audioldm-utils reads, or damaged; update audioldm-utils"
        )
    body = data[:-4]
    if struct.unpack("<I", data[-4:])[0] != zlib.crc32(body, len(body)):
        raise UserError(f"{damaged} (its checksum does not match); copy or encode it again")
    reader = Reader(body)
    try:
        header, optional = _parse_header(reader, minor)
        payload = body[reader.position :]
        check_paid(header, len(payload))
    except (ValueError, IndexError) as error:
        raise UserError(f"{name} cannot be read: {error}; encode it again") from error
    fixed = len(data) - len(payload) - optional
    return header, payload, Sizes(fixed, optional, len(payload), header.seconds)


def read(path: str | Path) -> tuple[Header, bytes, Sizes]:
    """Header, payload and sizes of a file; UserError as ``from_bytes``, or if it is missing."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file; give a .ddcm file that `encode` wrote")
    if path.stat().st_size > FILE_LIMIT:
        raise UserError(f"{path} is too large for a .ddcm file; give one that `encode` wrote")
    return from_bytes(path.read_bytes(), str(path))


def check_checkpoint(header: Header, fingerprint: str, name: str, checkpoint: str) -> None:
    """Refuse the file ``name`` unless ``fingerprint`` (hexadecimal SHA-256) begins as its own.

    ``checkpoint``: what the user called the checkpoint at hand, for the UserError.
    """
    if bytes.fromhex(fingerprint)[:FINGERPRINT_BYTES] != header.fingerprint:
        raise UserError(
            f"{name} was encoded with a checkpoint whose fingerprint begins with "
            f"{header.fingerprint.hex()}, but {checkpoint}'s begins with "
            f"{fingerprint[: 2 * FINGERPRINT_BYTES]}; give --checkpoint the one it was encoded with"
        )


def describe(header: Header) -> dict[str, object]:
    """The header as plain values, for printing."""
    texts = {name: getattr(header, name).hex() for name in ("fingerprint", "codebook_digest")}
    return vars(header) | texts
