"""DDCM in real time: every block of a stream is a small ``.ddcm`` file of its own.

The windows of an ordinary ``.ddcm`` file depend on each other, so that it cannot be decoded as
it comes. Here a block depends on nothing but itself. Blocks overlap and their latents are
cross-faded; what overlaps is sent twice, and each block pays for its own header.

A stream, version 2, is: ``DDCS``, a byte for the version, window and overlap in mel frames
(uint16 each), the peak (float32); then records of size (uint32), first frame (uint32) and bytes;
at the end a record of size 0 whose second number is the count of samples at 16 kHz, and nothing
after it. Head and records each end in the CRC-32 of all bytes of the stream so far but the
checksums, so that a missing, doubled or misplaced record is noticed too. In version 1, which is
still read, only the blocks have a checksum. Little-endian. Each block begins ``window - overlap``
frames after the one before, the last one no later than that, and ends where the samples end.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from audioldm_utils import bounds
from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.ddcm import bitstream
from audioldm_utils.ddcm.codec import Codec, finite
from audioldm_utils.ddcm.settings import SEGMENT, Settings
from audioldm_utils.errors import UserError
from audioldm_utils.model import DOWNSAMPLING, HOP
from audioldm_utils.model.networks import PEAK, Networks
from audioldm_utils.model.streaming import Decoder, ToMel, Windows
from audioldm_utils.model.windows import Crossfade, crossfade, window_starts

MAGIC = b"DDCS"
VERSION = 2
_HEAD, _RECORD, _SUM = struct.Struct("<4sBHHf"), struct.Struct("<II"), struct.Struct("<I")
_LEAST_WINDOW, _MOST_WINDOW = 16, SEGMENT * DOWNSAMPLING  # mel frames
_MOST_BYTES = 2**20  # of a block: more than any rate takes


class Encoder:
    """Samples as they come to the bytes of a stream."""

    def __init__(
        self, networks: Networks, settings: Settings = Settings(), peak: float = 1.0
    ) -> None:
        """Take the blocks of ``networks`` (:func:`~audioldm_utils.model.streaming.block_networks`).

        Raises:
            UserError: the blocks are longer than what is coded together.
        """
        assert networks.window is not None
        if networks.window > _MOST_WINDOW:
            longest = SEGMENT * DOWNSAMPLING * HOP / MODEL_RATE
            raise UserError(f"blocks of DDCM are at most {longest:g} s long.")
        self.codec, self.settings = Codec(networks), settings
        self.peak = bounds.PEAK.check("peak", peak)
        self.taken = 0
        self._mel, self._windows = ToMel(networks), Windows(networks.window, networks.overlap, 1)
        self._sum = 0
        head = _HEAD.pack(MAGIC, VERSION, networks.window, networks.overlap, peak)
        self._head = self._sealed(head)

    def push(self, samples: np.ndarray) -> bytes:
        """Samples ``(n,)`` at 16 kHz to the records that they complete."""
        self.taken += len(samples)
        wave = torch.from_numpy(np.asarray(samples, np.float32))[None] * (PEAK / self.peak)
        mel = self._mel.push(wave)
        return self._out([] if mel is None else self._windows.push(mel))

    def finish(self) -> bytes:
        """The last block and the end of the stream."""
        mel = self._mel.finish()
        windows = [] if mel is None else self._windows.push(mel)
        data = self._out(windows + self._windows.finish())
        return data + self._sealed(_RECORD.pack(0, self.taken))

    def _out(self, windows: list[tuple[int, Tensor]]) -> bytes:
        data, self._head = self._head, b""
        for start, mel in windows:
            latents = self.codec.networks.encode(mel)
            block = self.codec.encode_latents(latents, self.settings).data
            data += self._sealed(_RECORD.pack(len(block), start) + block)
        return data

    def _sealed(self, data: bytes) -> bytes:
        # Without the checksums themselves: after data and its own CRC-32, a CRC-32 is the same
        # number whatever came before.
        self._sum = zlib.crc32(data, self._sum)
        return data + _SUM.pack(self._sum)


def decode_stream(
    read: Callable[[int], bytes], networks: Networks, name: str = "the stream"
) -> Iterator[np.ndarray]:
    """Samples ``(n,)`` at 16 kHz, as soon as the blocks that they need have come.

    Args:
        read: gives as many bytes as asked for, fewer only at the end.
        networks: of the checkpoint that encoded; its own window does not matter.
        name: what to call the stream in an error.

    Raises:
        UserError: not such a stream, damaged, cut short, or of another checkpoint; what came
            before has been given.
    """
    reader = _Reader(read, name)
    window, overlap, peak = reader.head()
    blocks = Networks(networks.checkpoint, window, overlap)
    codec, latents = Codec(blocks), Crossfade(overlap // DOWNSAMPLING, 2)
    decoder, given = Decoder(blocks), 0
    for start, data in reader.records():
        # Whatever lies before the newest block is settled.
        done = latents.take(start // DOWNSAMPLING)
        latents.add(start // DOWNSAMPLING, codec.decode_latents(data, f"a block of {name}"))
        if done is not None:
            for piece in _samples(decoder.push(done), peak, name):
                given += len(piece)
                yield piece
    done = latents.take(1 << 62)
    pieces = [] if done is None else decoder.push(done)
    held = _samples([*pieces, *decoder.finish()], peak, name)
    rest = np.concatenate([*held, np.zeros(0, np.float32)])[: max(0, reader.count - given)]
    if len(rest):
        yield rest
    reader.end()


def _samples(pieces: Iterable[Tensor], peak: float, name: str) -> list[np.ndarray]:
    return [finite(piece, name)[0].cpu().numpy() * np.float32(peak / PEAK) for piece in pieces]


class _Reader:
    """Takes a stream apart and refuses, before it is decoded, what the encoder does not write.

    Attributes:
        count: samples at 16 kHz; known when :meth:`records` has ended.
    """

    def __init__(self, read: Callable[[int], bytes], name: str) -> None:
        self._read, self._name = read, name
        self._sum: int | None = None
        self.count = self._window = self._step = 0

    def head(self) -> tuple[int, int, float]:
        """Window and overlap in mel frames, and the peak."""
        head = self._read(_HEAD.size)
        if len(head) < _HEAD.size or head[:4] != MAGIC:
            raise UserError(
                f"{self._name} is not a DDCM stream; make one by `audioldm-utils stream`."
            )
        _, version, window, overlap, peak = _HEAD.unpack(head)
        if version not in (1, VERSION):
            raise self._damaged("or of a newer version of this program")
        self._sum = None if version == 1 else 0
        self._check(head)
        if not _LEAST_WINDOW <= window <= _MOST_WINDOW or window % DOWNSAMPLING:
            raise self._damaged(f"its windows have {window} frames")
        if not 0 <= overlap < window or overlap % DOWNSAMPLING:
            raise self._damaged(f"its windows of {window} frames overlap by {overlap}")
        if not 0 < peak < np.inf:
            raise self._damaged(f"its peak is {peak:g}")
        self._window, self._step = window, window - overlap
        return window, overlap, peak

    def records(self) -> Iterator[tuple[int, bytes]]:
        """First frame and bytes of each block, up to the end of the stream."""
        before, frames, last = -self._step, self._window, False
        while True:
            head = self._take(_RECORD.size)
            size, start = _RECORD.unpack(head)
            if size > _MOST_BYTES:
                raise self._damaged(f"a block has {size} bytes")
            data = self._take(size)
            self._check(head + data)
            if size == 0:
                break
            least = 0 if before < 0 else before + DOWNSAMPLING
            if last or not least <= start <= before + self._step or start % DOWNSAMPLING:
                raise self._damaged(f"a block at frame {start} follows one at frame {before}")
            frames = self._frames(data, start)
            last = start < before + self._step or frames < self._window
            before = start
            yield start, data
        end = max(math.ceil(start / HOP), 3 * bool(start))
        end += -end % DOWNSAMPLING
        if end != (0 if before < 0 else before + frames):
            raise self._damaged(f"its blocks do not hold {start} samples")
        self.count = start

    def end(self) -> None:
        """Refuse what comes after the end."""
        if self._read(1):
            raise self._damaged("something follows its end")

    def _frames(self, data: bytes, start: int) -> int:
        """Mel frames of a block, which only the first may have fewer of than a window."""
        header, _, _ = bitstream.from_bytes(data, f"a block of {self._name}")
        frames, rest = divmod(header.samples, HOP)
        least = DOWNSAMPLING if start == 0 else self._window
        if header.sample_rate != MODEL_RATE or rest or not least <= frames <= self._window:
            raise self._damaged(f"the block at frame {start} has {header.samples} samples")
        return frames

    def _take(self, size: int) -> bytes:
        data = self._read(size) if size else b""
        if len(data) < size:
            raise UserError(f"{self._name} is cut short; what came before has been decoded.")
        return data

    def _check(self, data: bytes) -> None:
        """Read the checksum that follows ``data``, and compare."""
        if self._sum is None:
            return
        self._sum = zlib.crc32(data, self._sum)
        if self._take(_SUM.size) != _SUM.pack(self._sum):
            raise self._damaged("its checksum does not match")

    def _damaged(self, how: str) -> UserError:
        return UserError(f"{self._name} is damaged ({how}); copy it or code the sound again.")


@torch.no_grad()
def offline(
    networks: Networks, samples: np.ndarray, settings: Settings = Settings(), peak: float = 1.0
) -> np.ndarray:
    """What encoder and decoder of the stream give together, from a whole clip at once."""
    assert networks.window is not None
    codec, wave = Codec(networks), torch.from_numpy(np.asarray(samples, np.float32))[None]
    mel = networks.to_mel(wave * (PEAK / peak))
    frames = mel.shape[1]
    pieces = []
    for start in window_starts(frames, networks.window, networks.overlap):
        latents = networks.encode(mel[:, start : start + networks.window])
        coded = codec.encode_latents(latents, settings)
        pieces.append((start // DOWNSAMPLING, coded.codes.latents))
    joined = crossfade(pieces, frames // DOWNSAMPLING, networks.overlap // DOWNSAMPLING, 2)
    waveform = networks.vocode(networks.decode(joined))[0, : len(samples)]
    return (waveform * (peak / PEAK)).cpu().numpy()
