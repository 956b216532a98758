"""Side information as real bits: an arithmetic coder and a transform coder of fields.

Every bit that a decoder would need is written and counted, never estimated. A *field* is a real
matrix ``(frames, bands)`` of natural logarithms. It is coded in blocks of frames by an
orthonormal two-dimensional cosine transform, a uniform quantiser with a dead zone, and an
arithmetic coder whose probabilities follow a Laplacian of known scale per coefficient.
Writing and reading are one function, so that neither can differ from the other.

Sources: Witten, Neal and Cleary 1987 (arithmetic coding, in the carry-less 32-bit form);
Sullivan 1996 (dead-zone quantisation of Laplacian sources).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import scipy.fft

#: Probabilities are integers out of this total, so that every machine rounds alike.
PROBABILITY_TOTAL = 1 << 12
#: Bits of a step's index; see :func:`_step`.
STEP_BITS = 6
#: Rounding offset; 0.5 is plain rounding, smaller spends fewer bits on noise.
DEAD_ZONE = 0.36
#: Bytes and bits of a single zero, which lies in the upper half of the coder's interval.
NOTHING = (b"\x80", 1)
_TOP, _HALF, _QUARTER = (1 << 32) - 1, 1 << 31, 1 << 30


class BitCoder:
    """Binary arithmetic coder: writes, or given ``data`` reads what was written.

    Both make the same calls in the same order. A reader does not look at the values that it is
    given, and gets those that were written.
    """

    def __init__(self, data: bytes | None = None) -> None:
        self._low, self._high, self._pending = 0, _TOP, 0
        self._bits: list[int] = []
        self._reads = data is not None
        if data is not None:
            # The last symbols reach a little past what was written.
            bits = np.unpackbits(np.frombuffer(data, np.uint8)).tolist()
            self._source = chain(bits, repeat(0))
            self._code = sum(next(self._source) << shift for shift in range(31, -1, -1))

    def bit(self, value: int = 0, one: int = PROBABILITY_TOTAL // 2) -> int:
        """Code a bit whose probability of being 1 is ``one / PROBABILITY_TOTAL``."""
        split = self._low + (self._high - self._low) * one // PROBABILITY_TOTAL
        if self._reads:
            value = self._code <= split
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
                return int(value)
            self._low = 2 * (self._low - offset)
            self._high = 2 * (self._high - offset) + 1
            if self._reads:
                self._code = 2 * (self._code - offset) + next(self._source)
            elif offset == _QUARTER:
                self._pending += 1
            else:
                self._emit(int(offset == _HALF))

    def _emit(self, bit: int) -> None:
        self._bits += [bit, *[1 - bit] * self._pending]
        self._pending = 0

    def number(self, value: int = 0, width: int = 1) -> int:
        """Code an unsigned integer in ``width`` bits."""
        return sum(self.bit(value >> shift & 1) << shift for shift in range(width - 1, -1, -1))

    def finish(self) -> tuple[bytes, int]:
        """The bytes written (zero-padded) and the exact number of bits in them."""
        # Two bits place any continuation inside the interval: the code delimits itself, given
        # the number of symbols, and other data may follow it.
        self._pending += 1
        self._emit(int(self._low >= _QUARTER))
        return np.packbits(np.array(self._bits, np.uint8)).tobytes(), len(self._bits)


@dataclass(frozen=True)
class FieldCoder:
    """Transform coder of ``(frames, bands)`` fields.

    Attributes:
        scale: ``(block, bands)``, expected mean absolute value of each cosine coefficient.
        predict_mean: code each block's mean as a difference from the block before.
    """

    scale: np.ndarray
    predict_mean: bool = False

    def transform(self, field: np.ndarray) -> np.ndarray:
        """Cosine coefficients ``(blocks, block, bands)``; the last frame fills up a block."""
        block, bands = self.scale.shape
        if field.ndim != 2 or field.shape[1] != bands or not len(field):
            raise ValueError(f"field must be (frames, {bands}), got shape {field.shape}")
        padded = np.pad(field, ((0, -len(field) % block), (0, 0)), mode="edge")
        return scipy.fft.dctn(padded.reshape(-1, block, bands), axes=(1, 2), norm="ortho")

    def code(self, coder: BitCoder, field: np.ndarray, index: int = 0) -> np.ndarray:
        """Code ``field`` with the step of an index, or read one of its shape; as it is decoded."""
        step = _step(coder.number(index, STEP_BITS))
        chances = self._chances(step)
        mean = 0.0
        blocks = []
        for coefficients in self.transform(field):
            coefficients[0, 0] -= mean
            block = _code_block(coder, _quantise(coefficients, step), *chances) * step
            block[0, 0] += mean
            mean = block[0, 0] if self.predict_mean else 0.0
            blocks.append(block)
        decoded = scipy.fft.idctn(np.stack(blocks), axes=(1, 2), norm="ortho")
        return decoded.reshape(-1, field.shape[1])[: len(field)]

    def _chances(self, step: float) -> tuple[np.ndarray, ...]:
        """Probabilities of a value other than 0, and of a larger one than the last, as integers."""
        ratio = step / np.maximum(self.scale, 1e-3)
        # Laplacian of mean absolute value s: P(|c| > a) = exp(-a / s).
        return tuple(
            np.rint(chance * PROBABILITY_TOTAL).clip(8, PROBABILITY_TOTAL - 8).astype(np.int64)
            for chance in (np.exp(-(1 - DEAD_ZONE) * ratio), np.exp(-ratio))
        )

    def _estimate(self, coefficients: np.ndarray, step: float) -> float:
        """About how many bits a step takes, all blocks at once."""
        nonzero, more = (table / PROBABILITY_TOTAL for table in self._chances(step))
        size = np.abs(_quantise(coefficients, step))
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
        coefficients = self.transform(field)
        if self.predict_mean:
            coefficients[1:, 0, 0] = np.diff(coefficients[:, 0, 0])
        steps = range(1 << STEP_BITS)
        first = next((i for i in steps if self._estimate(coefficients, _step(i)) < budget), 0)
        for index in steps[first:]:
            writer = BitCoder()
            self.code(writer, field, index)
            if writer.finish()[1] <= budget:
                return index
        return None

    def encode(self, field: np.ndarray, budget: float) -> tuple[bytes, int]:
        """Code within ``budget`` bits; returns the bytes and their exact number of bits.

        The first bit says whether anything follows: where even the coarsest step is over the
        budget, that single bit is all.
        """
        field = np.asarray(field, np.float64)
        step = self.finest_step(field, budget - 1)
        if step is None:
            return NOTHING
        writer = BitCoder()
        writer.bit(1)
        self.code(writer, field, step)
        return writer.finish()

    def decode(self, data: bytes, frames: int) -> np.ndarray:
        """The field ``(frames, bands)`` that :meth:`encode` coded."""
        reader, nothing = BitCoder(data), np.zeros((frames, self.scale.shape[1]))
        return self.code(reader, nothing) if reader.bit() else nothing


def _step(index: int) -> float:
    """Quantiser step in the field's unit, nat."""
    return 2.0 ** (index / 4 - 4)


def _quantise(coefficients: np.ndarray, step: float) -> np.ndarray:
    size = np.floor(np.abs(coefficients) / step + DEAD_ZONE)
    return (np.sign(coefficients) * size).astype(np.int64)


def _code_block(
    coder: BitCoder, values: np.ndarray, nonzero: np.ndarray, more: np.ndarray
) -> np.ndarray:
    """Code quantised values ``(block, bands)``."""
    # The last nonzero row in time bounds the block; most of a block is zero.
    last = int(max(np.flatnonzero(values.any(1)) + 1, default=0))
    coded = np.zeros_like(values)
    for place in np.ndindex(coder.number(last, len(values).bit_length()), values.shape[1]):
        value = int(values[place])
        if coder.bit(value != 0, int(nonzero[place])):
            sign = -1 if coder.bit(value < 0) else 1
            size = 1
            while coder.bit(abs(value) > size, int(more[place])):
                size += 1
            coded[place] = sign * size
    return coded


def smooth_scale(block: int, bands: int, amplitude: float, time: float, band: float) -> np.ndarray:
    """A plausible coefficient scale ``(block, bands)`` where none was fitted.

    ``amplitude``: standard deviation of the field, nat. The scale falls along both frequencies
    and has halved at index ``time`` and ``band``.
    """
    shape = 1.0 / (1.0 + np.arange(block)[:, None] / time + np.arange(bands)[None] / band)
    return amplitude * (np.sqrt(block * bands) / np.sqrt((shape**2).sum())) * shape
