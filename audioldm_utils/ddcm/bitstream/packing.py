"""Integers as bytes: variable-length fields, and codes packed to the bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

BLOCK = 1024  # codes that share one mixed-radix integer


def payload_bits(radices: Sequence[int]) -> int:
    """Bits that ``pack`` needs: each block's product of radices, rounded up to a bit."""
    return sum(
        (math.prod(radices[start : start + BLOCK]) - 1).bit_length()
        for start in range(0, len(radices), BLOCK)
    )


def pack(codes: Sequence[int], radices: Sequence[int]) -> bytes:
    """Pack integers ``0 <= code < radix``: ``ceil(payload_bits(radices) / 8)`` bytes.

    Up to ``BLOCK`` codes form one mixed-radix integer, the first code its most significant
    digit, so that K = 1000 costs 9.97 bits a code and not 10. Blocks follow each other bit by
    bit; the last byte is filled with zeros. A radix may be arbitrarily large.
    """
    if len(codes) != len(radices):
        raise ValueError(f"{len(codes)} codes for {len(radices)} radices")
    stream, length = 0, 0
    for start in range(0, len(codes), BLOCK):
        value = 0
        part = slice(start, start + BLOCK)
        for code, radix in zip(codes[part], radices[part], strict=True):
            if not 0 <= code < radix:
                raise ValueError(f"code {code} is not below its radix {radix}")
            value = value * int(radix) + int(code)
        bits = payload_bits(radices[part])
        stream = stream << bits | value
        length += bits
    return (stream << -length % 8).to_bytes((length + 7) // 8, "big")


def unpack(payload: bytes, radices: Sequence[int]) -> list[int]:
    """Undo ``pack``.

    Raises:
        ValueError: another length than the radices need, or what ``pack`` never writes.
    """
    length = payload_bits(radices)
    if len(payload) != (length + 7) // 8:
        raise ValueError(
            f"the codes take {len(payload)} bytes where {(length + 7) // 8} are expected"
        )
    stream = int.from_bytes(payload, "big")
    if stream & (1 << -length % 8) - 1:
        raise ValueError("the padding after the codes is not zero")
    stream >>= -length % 8
    codes: list[int] = []
    for start in range(0, len(radices), BLOCK):
        block = radices[start : start + BLOCK]
        bits = payload_bits(block)
        length -= bits
        value = stream >> length & (1 << bits) - 1
        digits = []
        for radix in reversed(block):
            value, digit = divmod(value, int(radix))
            digits.append(digit)
        if value:
            raise ValueError("a code exceeds its codebook")
        codes.extend(reversed(digits))
    return codes


def varint(value: int) -> bytes:
    """An unsigned integer as LEB128: 7 bits a byte, least significant first."""
    if value < 0:
        raise ValueError(f"an unsigned field is {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def thousandths(value: float) -> int:
    """A multiple of 0.001 between -1000 and 1000 as an integer; ValueError for any other."""
    whole = round(value * 1000)
    if abs(value * 1000 - whole) > 1e-6 or abs(whole) > 1_000_000:
        raise ValueError(f"{value} is no multiple of 0.001 between -1000 and 1000")
    return whole


def zigzag(value: float) -> bytes:
    """A signed multiple of 0.001 as LEB128 of its zigzag code: 0, -1, 1, -2 as 0, 1, 2, 3."""
    whole = thousandths(value)
    return varint(2 * whole if whole >= 0 else -2 * whole - 1)


class Reader:
    """Takes fields off a byte string; running out raises ValueError."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if self.position + count > len(self.data):
            raise ValueError("it ends inside a field")
        self.position += count
        return self.data[self.position - count : self.position]

    def varint(self) -> int:
        """The next LEB128 integer."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("an integer is too long")

    def thousandths(self) -> float:
        """The next zigzag-coded multiple of 0.001."""
        value = self.varint()
        return (value // 2 if value % 2 == 0 else -(value + 1) // 2) / 1000

    def rest(self) -> Iterator[int]:
        """All LEB128 integers that are left."""
        while self.position < len(self.data):
            yield self.varint()
