"""DDCM in real time: every block of a stream is a small ``.ddcm`` file of its own.

A long clip's ordinary ``.ddcm`` file cannot be decoded as it comes: at each step the network
sees windows that overlap, so that each of them depends on all. Here a block depends on
nothing but itself. Blocks overlap and their latents are cross-faded, as the VAE's encoder
windows are; what overlaps is sent twice, and each block pays for its own header.

A stream is: ``DDCS``, a byte for the version, window and overlap in mel frames (uint16 each),
the peak (float32); then records of size (uint32), first frame (uint32) and bytes; at the end a
record of size 0 whose second number is the count of samples at 16 kHz. Little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from audioldm_utils import bounds
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.settings import SEGMENT, Settings
from audioldm_utils.errors import UserError
from audioldm_utils.stages import DOWNSAMPLING, PEAK, Stages
from audioldm_utils.streaming import Crossfade, Decoder, ToMel, Windows

if TYPE_CHECKING:
    from torch import Tensor

MAGIC = b"DDCS"
VERSION = 1
_HEAD, _RECORD = struct.Struct("<4sBHHf"), struct.Struct("<II")


class Encoder:
    """Samples as they come to the bytes of a stream."""

    def __init__(self, stages: Stages, settings: Settings = Settings(), peak: float = 1.0) -> None:
        """Take the blocks of ``stages`` (:func:`~audioldm_utils.streaming.block_stages`).

        Raises:
            UserError: the blocks are longer than what is coded together.
        """
        assert stages.window is not None
        if stages.window > SEGMENT * DOWNSAMPLING:
            longest = SEGMENT * DOWNSAMPLING / 100
            raise UserError(f"blocks of DDCM are at most {longest:g} s long.")
        self.codec, self.settings = Codec(stages), settings
        self.peak = bounds.PEAK.check("peak", peak)
        self.taken = 0
        self._mel, self._windows = ToMel(stages), Windows(stages.window, stages.overlap, 1)
        self._head = _HEAD.pack(MAGIC, VERSION, stages.window, stages.overlap, peak)

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
        return self._out(windows + self._windows.finish()) + _RECORD.pack(0, self.taken)

    def _out(self, windows: list[tuple[int, Tensor]]) -> bytes:
        data, self._head = self._head, b""
        for start, mel in windows:
            latents = self.codec.stages.encode(mel)
            block = self.codec.encode_latents(latents, self.settings).data
            data += _RECORD.pack(len(block), start) + block
        return data


def decode_stream(
    read: Callable[[int], bytes], stages: Stages, name: str = "the stream"
) -> Iterator[np.ndarray]:
    """Samples ``(n,)`` at 16 kHz, as soon as the blocks that they need have come.

    Args:
        read: gives as many bytes as asked for, fewer only at the end.
        stages: of the checkpoint that encoded; its own window does not matter.
        name: what to call the stream in an error.

    Raises:
        UserError: not such a stream, cut short, or of another checkpoint.
    """
    head = read(_HEAD.size)
    if len(head) < _HEAD.size or head[:4] != MAGIC:
        raise UserError(f"{name} is not a DDCM stream; make one by `audioldm-utils stream`.")
    _, version, window, overlap, peak = _HEAD.unpack(head)
    if version != VERSION or not 0 <= overlap < window or not 0 < peak < np.inf:
        raise UserError(f"{name} is damaged, or of a newer version of this program.")
    blocks = Stages(stages.checkpoint, window, overlap)
    codec, latents = Codec(blocks), Crossfade(overlap // DOWNSAMPLING, 2)
    decoder, given = Decoder(blocks), 0
    held: list[np.ndarray] = []
    for start, data in _records(read, name):
        if data is None:  # the end, and how many samples there are
            done = latents.take(1 << 62)
            pieces = [] if done is None else decoder.push(done)
            held += _samples([*pieces, *decoder.finish()], peak)
            rest = np.concatenate([*held, np.zeros(0, np.float32)])[: max(0, start - given)]
            if len(rest):
                yield rest
            return
        # Whatever lies before the newest block is settled.
        done = latents.take(start // DOWNSAMPLING)
        latents.add(start // DOWNSAMPLING, codec.decode_latents(data, f"a block of {name}"))
        if done is not None:
            for piece in _samples(decoder.push(done), peak):
                given += len(piece)
                yield piece


def _samples(pieces: Iterable[Tensor], peak: float) -> list[np.ndarray]:
    return [piece[0].cpu().numpy() * np.float32(peak / PEAK) for piece in pieces]


def _records(read: Callable[[int], bytes], name: str) -> Iterator[tuple[int, bytes | None]]:
    while True:
        head = read(_RECORD.size)
        size, start = _RECORD.unpack(head) if len(head) == _RECORD.size else (1, 0)
        data = read(size) if size else None
        if len(head) < _RECORD.size or (data is not None and len(data) < size):
            raise UserError(f"{name} is cut short; what came before has been decoded.")
        yield start, data
        if data is None:
            return


@torch.no_grad()
def offline(
    stages: Stages, samples: np.ndarray, settings: Settings = Settings(), peak: float = 1.0
) -> np.ndarray:
    """What encoder and decoder of the stream give together, from a whole clip at once."""
    from audioldm_utils.ddcm.windows import starts

    assert stages.window is not None
    codec, wave = Codec(stages), torch.from_numpy(np.asarray(samples, np.float32))[None]
    mel = stages.to_mel(wave * (PEAK / peak))
    frames = mel.shape[1]
    latents = Crossfade(stages.overlap // DOWNSAMPLING, 2)
    for start in starts(frames, stages.window, stages.overlap):
        coded = codec.encode_latents(stages.encode(mel[:, start : start + stages.window]), settings)
        latents.add(start // DOWNSAMPLING, coded.codes.latents)
    joined = latents.take(frames // DOWNSAMPLING)
    assert joined is not None
    waveform = stages.vocode(stages.decode(joined))[0, : len(samples)]
    return (waveform * (peak / PEAK)).cpu().numpy()
