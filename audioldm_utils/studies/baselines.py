"""Codecs to stand beside: coloured noise, and Ogg Opus and MP3, with bits told apart.

A container adds pages and tags that a stream need not carry: ``payload_bits`` are those of the
codec's own packets.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from audioldm_utils.audio.clips import fit_length
from audioldm_utils.metrics.correlations import OCTAVES

#: Compression levels of libsndfile: its lowest Opus rate (6 kbit/s) and three above it.
OPUS_LEVELS = (1.0, 0.98, 0.96, 0.92)
#: Constant rates of 8 and 16 kbit/s, the lowest of MPEG-2 Layer III at 16 kHz.
MP3_LEVELS = (0.99, 0.95)
#: Samples that LAME's encoder and decoder delay by, where no tag tells the reader.
MP3_LAG = 1105
#: Coloured noise: edges of the bands, Hz, and seconds from one level to the next.
NOISES = {
    "broadband": ((0.0, OCTAVES[-1]), 0.05),
    "seven bands": ((0.0, *OCTAVES[1:]), 0.1),
}
#: A level's step and floor, dB re full scale, and bits of a band's first level.
LEVEL_STEP, LEVEL_FLOOR, FIRST_BITS = 3.0, -96.0, 6


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


def envelope_noise(samples: np.ndarray, sample_rate: int, kind: str, seed: int = 0) -> Coded:
    """White noise in the clip's own envelope: the plainest codec, which keeps levels alone.

    Levels of each band (RMS, in steps of 3 dB) are sent as differences in time by a Rice code,
    whose bits are counted; the decoder makes noise of those levels, joined by straight lines in
    dB.

    Args:
        kind: of `NOISES`: one band every 50 ms, or seven octaves every 100 ms.
        seed: of the noise.
    """
    edges, hop = NOISES[kind]
    size, count = round(hop * sample_rate), len(samples)
    starts = np.arange(0, count, size)
    noise = np.random.default_rng(seed).standard_normal(count)
    out, bits = np.zeros(count), 0
    for low, high in pairwise(edges):
        band = _band(samples, sample_rate, low, high)
        power = np.add.reduceat(band**2, starts) / np.diff([*starts, count])
        decibels = 10 * np.log10(np.maximum(power, 10 ** (LEVEL_FLOOR / 10)))
        steps = np.round((decibels - LEVEL_FLOOR) / LEVEL_STEP).astype(int)
        bits += FIRST_BITS + rice_bits(np.diff(steps))
        told = np.interp(np.arange(count), starts + size / 2, LEVEL_FLOOR + LEVEL_STEP * steps)
        carrier = _band(noise, sample_rate, low, high)
        out += carrier / max(float(np.sqrt((carrier**2).mean())), 1e-12) * 10 ** (told / 20)
    bits = 8 * -(-bits // 8)
    return Coded(out.astype(np.float32), bits, bits)


def _band(samples: np.ndarray, sample_rate: int, low: float, high: float) -> np.ndarray:
    spectrum = np.fft.rfft(samples)
    frequency = np.fft.rfftfreq(len(samples), 1 / sample_rate)
    last = high >= sample_rate / 2
    return np.fft.irfft(spectrum * ((frequency >= low) & ((frequency < high) | last)), len(samples))


def rice_bits(values: np.ndarray) -> int:
    """Bits of a Rice code of whole numbers, its parameter (2 bits) the best of four."""
    folded = np.where(values > 0, 2 * values - 1, -2 * values)
    return 2 + min(int((folded >> k).sum()) + len(folded) * (1 + k) for k in range(4))
