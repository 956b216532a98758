"""Side information as real bits: an arithmetic coder and a transform coder of fields.

Every bit that a decoder would need is written and counted, never estimated. A *field* is a real
matrix ``(frames, bands)`` of natural logarithms. It is coded in blocks of frames by an
orthonormal two-dimensional cosine transform, a uniform quantiser with a dead zone, and an
arithmetic coder whose probabilities follow a Laplacian of known scale per coefficient.

Sources: Witten, Neal and Cleary 1987 (arithmetic coding, in the carry-less 32-bit form);
Sullivan 1996 (dead-zone quantisation of Laplacian sources).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft

#: Probabilities are integers out of this total, so that every machine rounds alike.
PROBABILITY_TOTAL = 1 << 12
_TOP, _HALF, _QUARTER = (1 << 32) - 1, 1 << 31, 1 << 30


class BitWriter:
    """Binary arithmetic encoder plus raw bits; ``finish`` gives the bytes."""

    def __init__(self) -> None:
        self._low, self._high, self._pending = 0, _TOP, 0
        self._bits: list[int] = []

    def _emit(self, bit: int) -> None:
        self._bits += [bit, *[1 - bit] * self._pending]
        self._pending = 0

    def bit(self, value: int, one: int = PROBABILITY_TOTAL // 2) -> None:
        """Code a bit whose probability of being 1 is ``one / PROBABILITY_TOTAL``."""
        split = self._low + (self._high - self._low) * one // PROBABILITY_TOTAL
        if value:
            self._high = split
        else:
            self._low = split + 1
        while True:
            if self._high < _HALF:
                self._emit(0)
            elif self._low >= _HALF:
                self._emit(1)
                self._low -= _HALF
                self._high -= _HALF
            elif self._low >= _QUARTER and self._high < 3 * _QUARTER:
                self._pending += 1
                self._low -= _QUARTER
                self._high -= _QUARTER
            else:
                return
            self._low = 2 * self._low
            self._high = 2 * self._high + 1

    def number(self, value: int, width: int) -> None:
        """Write an unsigned integer in ``width`` bits."""
        if not 0 <= value < 1 << width:
            raise ValueError(f"{value} does not fit in {width} bits")
        for shift in range(width - 1, -1, -1):
            self.bit(value >> shift & 1)

    def finish(self) -> tuple[bytes, int]:
        """The coded bytes (zero-padded) and the exact number of bits in them."""
        # Two bits place any continuation inside the interval: the code delimits itself, given
        # the number of symbols, and other data may follow it.
        self._pending += 1
        self._emit(0 if self._low < _QUARTER else 1)
        return np.packbits(np.array(self._bits, np.uint8)).tobytes(), len(self._bits)


class BitReader:
    """The decoder of :class:`BitWriter`; past the end it reads zeros."""

    def __init__(self, data: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8))
        self._position = 0
        self._low, self._high, self._code = 0, _TOP, 0
        for _ in range(32):
            self._code = 2 * self._code + self._next()

    def _next(self) -> int:
        # The last symbols reach a little past what was written; corrupt data goes on for ever.
        if self._position > len(self._bits) + 64:
            raise ValueError("the side information is cut short or corrupt")
        bit = int(self._bits[self._position]) if self._position < len(self._bits) else 0
        self._position += 1
        return bit

    def bit(self, one: int = PROBABILITY_TOTAL // 2) -> int:
        """Read a bit coded with the same probability."""
        split = self._low + (self._high - self._low) * one // PROBABILITY_TOTAL
        value = int(self._code <= split)
        if value:
            self._high = split
        else:
            self._low = split + 1
        while True:
            if self._high < _HALF:
                offset = 0
            elif self._low >= _HALF:
                offset = _HALF
            elif self._low >= _QUARTER and self._high < 3 * _QUARTER:
                offset = _QUARTER
            else:
                return value
            self._low = 2 * (self._low - offset)
            self._high = 2 * (self._high - offset) + 1
            self._code = 2 * (self._code - offset) + self._next()

    def number(self, width: int) -> int:
        """Read an unsigned integer of ``width`` bits."""
        value = 0
        for _ in range(width):
            value = 2 * value + self.bit()
        return value


@dataclass(frozen=True)
class FieldCoder:
    """Transform coder of ``(frames, bands)`` fields.

    Attributes:
        scale: ``(block, bands)``, expected mean absolute value of each cosine coefficient.
        predict_mean: code each block's mean as a difference from the block before.
        dead_zone: rounding offset; 0.5 is plain rounding, smaller spends fewer bits on noise.
    """

    scale: np.ndarray
    predict_mean: bool = False
    dead_zone: float = 0.36

    #: Step sizes are ``2 ** (index / 4 - 4)``, index in 6 bits.
    STEP_BITS = 6

    @staticmethod
    def step(index: int) -> float:
        """Quantiser step of an index, in the field's unit (nat)."""
        return 2.0 ** (index / 4 - 4)

    def _tables(self, step: float) -> tuple[np.ndarray, np.ndarray]:
        ratio = step / np.maximum(self.scale, 1e-3)
        # Laplacian of mean absolute value s: P(|c| > a) = exp(-a / s).
        chances = np.exp(-(1 - self.dead_zone) * ratio), np.exp(-ratio)
        # NumPy and Python round halves alike, to even.
        nonzero, more = (
            np.rint(chance * PROBABILITY_TOTAL).clip(8, PROBABILITY_TOTAL - 8).astype(np.int64)
            for chance in chances
        )
        return nonzero, more

    def _code_block(self, writer: BitWriter, values: np.ndarray, tables: tuple) -> None:
        nonzero, more = tables
        # The last nonzero row in time bounds the block; most of a block is zero.
        rows = np.flatnonzero(values.any(1))
        last = int(rows[-1]) + 1 if len(rows) else 0
        writer.number(last, len(values).bit_length())
        for i in range(last):
            for j in range(values.shape[1]):
                value = int(values[i, j])
                writer.bit(int(value != 0), int(nonzero[i, j]))
                if value:
                    writer.bit(int(value < 0))
                    for _ in range(abs(value) - 1):
                        writer.bit(1, int(more[i, j]))
                    writer.bit(0, int(more[i, j]))

    def _read_block(self, reader: BitReader, tables: tuple) -> np.ndarray:
        nonzero, more = tables
        values = np.zeros(self.scale.shape, np.int64)
        for i in range(reader.number(len(values).bit_length())):
            for j in range(values.shape[1]):
                if reader.bit(int(nonzero[i, j])):
                    negative = reader.bit()
                    size = 1
                    while reader.bit(int(more[i, j])):
                        size += 1
                    values[i, j] = -size if negative else size
        return values

    def _quantise(self, coefficients: np.ndarray, step: float) -> np.ndarray:
        scaled = np.abs(coefficients) / step
        return (np.sign(coefficients) * np.floor(scaled + self.dead_zone)).astype(np.int64)

    def transform(self, field: np.ndarray) -> np.ndarray:
        """Cosine coefficients ``(blocks, block, bands)``; the last frame fills up a block."""
        block, bands = self.scale.shape
        if field.ndim != 2 or field.shape[1] != bands or not len(field):
            raise ValueError(f"field must be (frames, {bands}), got shape {field.shape}")
        padded = np.pad(field, ((0, -len(field) % block), (0, 0)), mode="edge")
        return scipy.fft.dctn(padded.reshape(-1, block, bands), axes=(1, 2), norm="ortho")

    def write(self, writer: BitWriter, field: np.ndarray, step_index: int) -> np.ndarray:
        """Code ``field`` ``(frames, bands)`` with one step; returns what a decoder will see."""
        step = self.step(step_index)
        writer.number(step_index, self.STEP_BITS)
        tables = self._tables(step)
        previous = 0.0
        decoded = []
        for coefficients in self.transform(np.asarray(field, np.float64)):
            shifted = coefficients.copy()
            shifted[0, 0] -= previous
            values = self._quantise(shifted, step)
            self._code_block(writer, values, tables)
            out = values * step
            out[0, 0] += previous
            previous = out[0, 0] if self.predict_mean else 0.0
            decoded.append(out)
        return self._inverse(np.stack(decoded), len(field))

    def read(self, reader: BitReader, frames: int) -> np.ndarray:
        """Decode a field of ``frames`` rows."""
        step = self.step(reader.number(self.STEP_BITS))
        tables = self._tables(step)
        previous = 0.0
        decoded = []
        for _ in range(-(-frames // len(self.scale))):
            out = self._read_block(reader, tables) * step
            out[0, 0] += previous
            previous = out[0, 0] if self.predict_mean else 0.0
            decoded.append(out)
        return self._inverse(np.stack(decoded), frames)

    def _inverse(self, coefficients: np.ndarray, frames: int) -> np.ndarray:
        field = scipy.fft.idctn(coefficients, axes=(1, 2), norm="ortho")
        return field.reshape(-1, field.shape[2])[:frames]

    def _estimate(self, coefficients: np.ndarray, step: float) -> float:
        """About how many bits a step takes, all blocks at once."""
        nonzero, more = (table / PROBABILITY_TOTAL for table in self._tables(step))
        shifted = coefficients.copy()
        if self.predict_mean:
            shifted[1:, 0, 0] -= coefficients[:-1, 0, 0]
        size = np.abs(self._quantise(shifted, step))
        bits = np.where(
            size > 0,
            1 - np.log2(nonzero) - (size - 1) * np.log2(more) - np.log2(1 - more),
            -np.log2(1 - nonzero),
        )
        # Rows after a block's last nonzero one cost nothing.
        used = np.flip(np.maximum.accumulate(np.flip(size.any(2), 1), axis=1), 1)
        width = len(self.scale).bit_length()
        return float((bits * used[:, :, None]).sum()) + len(coefficients) * width

    def finest_step(self, field: np.ndarray, budget: float) -> int | None:
        """Index of the finest step that keeps within ``budget`` bits; None if none does."""
        coefficients = self.transform(np.asarray(field, np.float64))
        steps = range(1 << self.STEP_BITS)
        first = next((i for i in steps if self._estimate(coefficients, self.step(i)) < budget), 0)
        for index in steps[first:]:
            writer = BitWriter()
            self.write(writer, field, index)
            if writer.finish()[1] <= budget:
                return index
        return None

    def encode(self, field: np.ndarray, budget: float) -> tuple[bytes, int]:
        """Code within ``budget`` bits; returns the bytes and their exact number of bits.

        The first bit says whether anything follows: where even the coarsest step is over the
        budget, that single bit is all.
        """
        step = self.finest_step(field, budget - 1)
        if step is None:
            # A zero lies in the upper half of the coder's interval: one bit, set.
            return b"\x80", 1
        writer = BitWriter()
        writer.bit(1)
        self.write(writer, field, step)
        return writer.finish()

    def decode(self, data: bytes, frames: int) -> np.ndarray:
        """The field ``(frames, bands)`` that :meth:`encode` coded."""
        reader = BitReader(data)
        if not reader.bit():
            return np.zeros((frames, self.scale.shape[1]))
        return self.read(reader, frames)


def smooth_scale(block: int, bands: int, amplitude: float, time: float, band: float) -> np.ndarray:
    """A plausible coefficient scale ``(block, bands)`` where none was fitted.

    ``amplitude``: standard deviation of the field, nat. The scale falls along both frequencies
    and has halved at index ``time`` and ``band``.
    """
    shape = 1.0 / (1.0 + np.arange(block)[:, None] / time + np.arange(bands)[None] / band)
    energy = math.sqrt(block * bands) / np.sqrt((shape**2).sum())
    return amplitude * energy * shape
