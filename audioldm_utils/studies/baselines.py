"""Codecs to stand beside: Ogg Opus and MP3 as libsndfile writes them, with bits told apart.

A container adds pages and tags that a stream need not carry: ``payload_bits`` are those of the
codec's own packets.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from audioldm_utils.audio.clips import fit_length

#: Compression levels of libsndfile: its lowest Opus rate (6 kbit/s) and three above it.
OPUS_LEVELS = (1.0, 0.98, 0.96, 0.92)
#: Constant rates of 8 and 16 kbit/s, the lowest of MPEG-2 Layer III at 16 kHz.
MP3_LEVELS = (0.99, 0.95)
#: Samples that LAME's encoder and decoder delay by, where no tag tells the reader.
MP3_LAG = 1105


@dataclass(frozen=True)
class Coded:
    """A clip that went through a codec: float32 ``(n,)``, as long as the input and aligned."""

    samples: np.ndarray
    file_bits: int
    payload_bits: int


def opus(samples: np.ndarray, sample_rate: int, level: float = 1.0) -> Coded:
    """Ogg Opus {cite}`valin2012opus`; ``level`` 1 is libsndfile's lowest rate, 6 kbit/s.

    Args:
        samples: float ``(n,)``.
        sample_rate: 8, 12, 16, 24 or 48 kHz.
        level: compression level, 0 to 1.
    """
    data, decoded = _through(samples, sample_rate, level, format="OGG", subtype="OPUS")
    # The first two packets are the identification and the comment header.
    payload = 8 * sum(ogg_packets(data)[2:])
    return Coded(fit_length(decoded, len(samples)), 8 * len(data), payload)


def mp3(samples: np.ndarray, sample_rate: int, level: float = 0.99) -> Coded:
    """MP3 at a constant rate, arguments as of :func:`opus`; its untold delay is cut."""
    kind = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT"}
    data, decoded = _through(samples, sample_rate, level, **kind)
    if len(decoded) > len(samples):
        decoded = decoded[MP3_LAG:]
    # Every frame of an MP3 is a packet with its own header, so all of it is the stream.
    return Coded(fit_length(decoded, len(samples)), 8 * len(data), 8 * len(data))


def _through(
    samples: np.ndarray, sample_rate: int, level: float, **options: str
) -> tuple[bytes, np.ndarray]:
    import soundfile as sf

    buffer = io.BytesIO()
    sf.write(buffer, samples, sample_rate, compression_level=level, **options)
    decoded, rate = sf.read(io.BytesIO(buffer.getvalue()), dtype="float32")
    if rate != sample_rate:
        raise RuntimeError(f"the codec gave {rate} Hz for {sample_rate} Hz")
    return buffer.getvalue(), decoded


def ogg_packets(data: bytes) -> list[int]:
    """Bytes of each packet in an Ogg stream (RFC 3533): lacing values below 255 end one.

    Raises:
        ValueError: no Ogg page where one should begin.
    """
    packets, current, at = [], 0, 0
    while at < len(data):
        if data[at : at + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {at}")
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        for value in lacing:
            current += value
            if value < 255:
                packets.append(current)
                current = 0
        at += 27 + len(lacing) + sum(lacing)
    return packets
