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
atoms                v, 1 to 2   atoms a step
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
import struct
import zlib
from dataclasses import dataclass, fields
from pathlib import Path

from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write
from audioldm_utils.packing import Reader, varint, zigzag

MAGIC = b"DDCM"
MAJOR, MINOR = 1, 0
FINGERPRINT_BYTES = 6
FIXED_LIMIT = 48  # bytes of everything but optional fields and payload

CODEBOOKS = {  # name: what the field `size` means
    "gaussian": "size",
    "cyclic": "bases",
    "turbo": "size",
    "matching-pursuit": "size",
    "k-means": "size",
}
PLACEMENTS = {  # name: its parameters, in the order in which they are stored
    "uniform": (),
    "trailing": (),
    "linspace": (),
    "alpha-bar": ("stop", "power"),
    "log-snr": ("stop",),
    "given": (),
}

_TAGS = {
    "eta": 1,
    "guidance": 2,
    "prompt": 3,
    "negative_prompt": 4,
    "timesteps": 5,
    "atoms_per_step": 6,
    "segment": 7,
    "window": 8,
    "codebook_digest": 9,
    "codebook_block": 10,
    "coefficient_bits": 11,
}


@dataclass(frozen=True)
class Header:
    """What a decoder has to know beside the codes.

    Attributes:
        fingerprint: checkpoint, ``FINGERPRINT_BYTES`` first bytes of its SHA-256.
        samples: of the original, 1 to 2^35 - 1.
        sample_rate: of the original, Hz, 1 to 2^21 - 1.
        codebook: name, a key of ``CODEBOOKS``.
        size: bases or atoms of the codebook, 1 to 2^21 - 1.
        placement: where the steps lie, a key of ``PLACEMENTS``.
        parameters: of the placement, as ``PLACEMENTS`` names them, multiples of 1/1000
            between -1000 and 1000.
        steps: reverse steps T, 1 to 2^14 - 1.
        atoms: atoms a step, 0 to 2^14 - 1.
        seed: of codebook and starting noise, 0 to 2^28 - 1.
        mean: of the original waveform; stored to 11 bits.
        scale: gain of the original, > 0; stored to 0.07 %.
        eta: share of the DDPM noise, multiple of 1/1000.
        guidance: classifier-free guidance scale, multiple of 1/1000.
        prompt: text that the denoiser was given, or None.
        negative_prompt: text that guidance leads away from, or None.
        timesteps: explicit schedule, strictly falling, placement "given" only.
        atoms_per_step: atoms of each noisy step (``steps - 1`` of them) where they differ.
        segment: latent frames that share one choice; 0: all of the clip.
        window: latent frames that the denoiser sees at once, and their overlap;
            (0, 0): all of the clip.
        codebook_digest: first bytes of the SHA-256 of a fitted codebook.
        codebook_block: rows and columns of a fitted codebook's blocks; (0, 0): none.
        coefficient_bits: of matching pursuit; 0: none.
    """

    fingerprint: bytes
    samples: int
    sample_rate: int
    codebook: str = "cyclic"
    size: int = 1
    placement: str = "uniform"
    parameters: tuple[float, ...] = ()
    steps: int = 50
    atoms: int = 1
    seed: int = 0
    mean: float = 0.0
    scale: float = 1.0
    eta: float = 1.0
    guidance: float = 1.0
    prompt: str | None = None
    negative_prompt: str | None = None
    timesteps: tuple[int, ...] | None = None
    atoms_per_step: tuple[int, ...] | None = None
    segment: int = 0
    window: tuple[int, int] = (0, 0)
    codebook_digest: bytes = b""
    codebook_block: tuple[int, int] = (0, 0)
    coefficient_bits: int = 0

    @property
    def seconds(self) -> float:
        """Duration of the original, s."""
        return self.samples / self.sample_rate


@dataclass(frozen=True)
class Sizes:
    """Where a file's bytes went; ``fixed + optional + payload`` is the file.

    Attributes:
        fixed: magic to gain, and checksum.
        optional: optional fields.
        payload: codes.
        seconds: duration of the original.
    """

    fixed: int
    optional: int
    payload: int
    seconds: float

    @property
    def file(self) -> int:
        """Bytes of the whole file."""
        return self.fixed + self.optional + self.payload

    @property
    def kbps(self) -> float:
        """True rate: every bit of the file, kbit/s."""
        return 8 * self.file / self.seconds / 1000

    @property
    def payload_kbps(self) -> float:
        """Rate of the codes alone, kbit/s."""
        return 8 * self.payload / self.seconds / 1000


# --- header -----------------------------------------------------------------------------

_LIMITS = {
    "samples": (1, 2**35 - 1),
    "sample_rate": (1, 2**21 - 1),
    "size": (1, 2**21 - 1),
    "steps": (1, 2**14 - 1),
    "atoms": (0, 2**14 - 1),
    "seed": (0, 2**28 - 1),
}


def _check(header: Header) -> None:
    for name, (low, high) in _LIMITS.items():
        if not low <= getattr(header, name) <= high:
            raise ValueError(f"{name} is {getattr(header, name)}; the file holds {low} to {high}")
    if len(header.fingerprint) != FINGERPRINT_BYTES:
        raise ValueError(f"the fingerprint has {len(header.fingerprint)} bytes, not 6")
    if header.codebook not in CODEBOOKS:
        raise ValueError(f"codebook {header.codebook!r} is none of {', '.join(CODEBOOKS)}")
    if header.placement not in PLACEMENTS:
        raise ValueError(f"placement {header.placement!r} is none of {', '.join(PLACEMENTS)}")
    if len(header.parameters) != len(PLACEMENTS[header.placement]):
        raise ValueError(
            f"placement {header.placement!r} has {len(PLACEMENTS[header.placement])} parameters, "
            f"not {len(header.parameters)}"
        )
    if any(abs(value) > 1000 for value in header.parameters):
        raise ValueError("a parameter of the placement is beyond 1000")
    if (header.placement == "given") != (header.timesteps is not None):
        raise ValueError("explicit timesteps and placement 'given' belong together")
    if header.timesteps is not None:
        steps = header.timesteps
        falling = all(a > b for a, b in itertools.pairwise(steps))
        if len(steps) != header.steps or not falling or steps[-1] < 0:
            raise ValueError("explicit timesteps are not `steps` strictly falling numbers")
    if header.atoms_per_step is not None and (
        len(header.atoms_per_step) != header.steps - 1
        or any(not 0 <= a < 2**14 for a in header.atoms_per_step)
    ):
        raise ValueError("atoms_per_step does not hold one number for each of steps - 1")
    if not math.isfinite(header.mean) or not abs(header.mean) < 65504:
        raise ValueError(f"mean is {header.mean}")
    if not (math.isfinite(header.scale) and 2.0**-31 < header.scale < 2.0**31):
        raise ValueError(f"scale is {header.scale}")


def stored(header: Header) -> Header:
    """The header as a reader will see it: mean and scale rounded to what is stored."""
    return _parse_header(Reader(b"".join(_header_bytes(header))), MINOR)[0]


def _header_bytes(header: Header) -> tuple[bytes, bytes]:
    """Fixed part without checksum, and optional fields."""
    _check(header)
    optional = b""
    for name, tag in _TAGS.items():
        value = getattr(header, name)
        if value == Header.__dataclass_fields__[name].default:
            continue
        if name in ("eta", "guidance"):
            content = zigzag(value)
        elif isinstance(value, str):
            content = value.encode()
        elif isinstance(value, bytes):
            content = value
        elif name == "timesteps":
            drops = [a - b for a, b in itertools.pairwise(value)]
            content = b"".join(map(varint, [value[0], *drops]))
        else:
            values = value if isinstance(value, tuple) else (value,)
            content = b"".join(map(varint, values))
        optional += varint(tag) + varint(len(content)) + content
    if len(optional) >= 2**14:
        raise UserError(
            f"prompt and schedule take {len(optional)} bytes, but a .ddcm file has room for "
            f"{2**14 - 1}; shorten the prompt"
        )
    fixed = (
        MAGIC
        + bytes([MAJOR << 4 | MINOR])
        + header.fingerprint
        + bytes([list(CODEBOOKS).index(header.codebook)])
        + varint(header.size)
        + bytes([list(PLACEMENTS).index(header.placement)])
        + b"".join(map(zigzag, header.parameters))
        + varint(header.steps)
        + varint(header.atoms)
        + varint(header.seed)
        + varint(header.samples)
        + varint(header.sample_rate)
        + struct.pack("<eh", header.mean, round(math.log2(header.scale) * 1024))
        + varint(len(optional))
    )
    return fixed, optional


def _parse_optional(data: bytes) -> dict[str, object]:
    names = {tag: name for name, tag in _TAGS.items()}
    reader = Reader(data)
    found: dict[str, object] = {}
    while reader.position < len(data):
        name = names.get(reader.varint())
        field = Reader(reader.take(reader.varint()))
        if name is None:
            continue  # written by a newer minor version
        if name in found:
            raise ValueError(f"field {name} occurs twice")
        if name in ("eta", "guidance"):
            found[name] = field.thousandths()
        elif name in ("prompt", "negative_prompt"):
            found[name] = field.data.decode("utf-8")
        elif name == "codebook_digest":
            found[name] = field.data
        elif name in ("segment", "coefficient_bits"):
            found[name] = field.varint()
        else:
            values = list(field.rest())
            if name == "timesteps":
                values = [values[0] - sum(values[1 : i + 1]) for i in range(len(values))]
            if name in ("window", "codebook_block") and len(values) != 2:
                raise ValueError(f"field {name} does not hold two numbers")
            found[name] = tuple(values)
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
    numbers = [reader.varint() for _ in range(5)]
    mean, scale = struct.unpack("<eh", reader.take(4))
    optional = reader.take(reader.varint())
    header = Header(
        fingerprint=fingerprint,
        codebook=list(CODEBOOKS)[codebook],
        size=size,
        placement=name,
        parameters=parameters,
        steps=numbers[0],
        atoms=numbers[1],
        seed=numbers[2],
        samples=numbers[3],
        sample_rate=numbers[4],
        mean=mean,
        scale=2.0 ** (scale / 1024),
        **_parse_optional(optional),
    )
    _check(header)
    return header, len(optional)


# --- files ------------------------------------------------------------------------------


def to_bytes(header: Header, payload: bytes) -> bytes:
    """The whole file as bytes: fixed part, optional fields, payload, CRC-32."""
    fixed, optional = _header_bytes(header)
    body = fixed + optional + payload
    return body + struct.pack("<I", zlib.crc32(body, len(body)))


def from_bytes(data: bytes, name: str = "the data") -> tuple[Header, bytes, Sizes]:
    """Read a file's bytes.

    Args:
        data: the whole file.
        name: what to call it in an error.

    Returns:
        Header, payload, and where the bytes went.

    Raises:
        UserError: not a ``.ddcm`` file, a newer major version, or damaged.
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
    except (ValueError, IndexError) as error:
        raise UserError(f"{name} cannot be read: {error}; encode it again") from error
    payload = body[reader.position :]
    fixed = len(data) - len(payload) - optional
    return header, payload, Sizes(fixed, optional, len(payload), header.seconds)


def write(path: str | Path, header: Header, payload: bytes) -> Sizes:
    """Write a ``.ddcm`` file atomically; returns where its bytes went."""
    data = to_bytes(header, payload)
    atomic_write(path, data)
    return from_bytes(data)[2]


def read(path: str | Path) -> tuple[Header, bytes, Sizes]:
    """Read a ``.ddcm`` file: header, payload, sizes.

    Raises:
        UserError: the file is missing, foreign, damaged, or of a newer major version.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file; give a .ddcm file that `encode` wrote")
    return from_bytes(path.read_bytes(), str(path))


def check_checkpoint(header: Header, fingerprint: str, name: str, checkpoint: str) -> None:
    """Refuse a file that another checkpoint wrote.

    Args:
        header: of the file.
        fingerprint: of the checkpoint at hand, hexadecimal SHA-256.
        name: of the file, for the error.
        checkpoint: what the user called the checkpoint, for the error.

    Raises:
        UserError: the fingerprints differ in their first 48 bits.
    """
    if bytes.fromhex(fingerprint)[:FINGERPRINT_BYTES] != header.fingerprint:
        raise UserError(
            f"{name} was encoded with a checkpoint whose fingerprint begins with "
            f"{header.fingerprint.hex()}, but {checkpoint}'s begins with "
            f"{fingerprint[: 2 * FINGERPRINT_BYTES]}; give --checkpoint the one it was encoded with"
        )


def describe(header: Header) -> dict[str, object]:
    """The header as plain values, for printing."""
    values = {field.name: getattr(header, field.name) for field in fields(header)}
    values["fingerprint"] = header.fingerprint.hex()
    values["codebook_digest"] = header.codebook_digest.hex()
    return values
