"""Codecs to stand beside: coloured noise, Ogg Opus and MP3, and for speech Codec2 and Speex.

A container adds pages and tags that a stream need not carry: ``payload_bits`` are those of the
codec's own packets. Codec2 and Speex are programs of their own (Debian packages ``codec2`` and
``speex``) and stand beside the others where they are installed; both code 8 kHz.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile as sf

from audioldm_utils.audio.clips import fit_length
from audioldm_utils.audio.signals import lag, resample, shift
from audioldm_utils.metrics.correlations import OCTAVES

#: Compression levels of libsndfile: its lowest Opus rate (6 kbit/s) and three above it.
OPUS_LEVELS = (1.0, 0.98, 0.96, 0.92)
#: Constant rates of 8 and 16 kbit/s, the lowest of MPEG-2 Layer III at 16 kHz.
MP3_LEVELS = (0.99, 0.95)
#: Samples that LAME's encoder and decoder delay by, where no tag tells the reader.
MP3_LAG = 1105
#: Modes of Codec2: bits of a frame, and its seconds.
CODEC2_MODES = {"700C": (28, 0.04), "1200": (48, 0.04), "2400": (48, 0.02)}
#: Qualities of Speex's narrow band: 2.15, 3.95 and 8 kbit/s.
SPEEX_QUALITIES = (0, 1, 4)
#: What Codec2 and Speex code, Hz, and the longest delay that is looked for, seconds.
NARROW, LONGEST_DELAY = 8000, 0.12
#: Programs of each codec of speech.
PROGRAMS = {"codec2": ("c2enc", "c2dec"), "speex": ("speexenc", "speexdec")}
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
    """Ogg Opus {cite}`valin2012opus` of ``(n,)`` at 8, 12, 16, 24 or 48 kHz.

    The compression ``level`` 1 is libsndfile's lowest rate, 6 kbit/s; 0 is the highest.
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
    dB. ``kind`` is of `NOISES`: one band every 50 ms, or seven octaves every 100 ms.
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


def missing(codec: str) -> list[str]:
    """Programs of ``codec2`` or ``speex`` that are not installed here."""
    return [program for program in PROGRAMS[codec] if shutil.which(program) is None]


def codec2(samples: np.ndarray, sample_rate: int, mode: str = "1200") -> Coded:
    """Codec2 (Rowe), a codec of speech at 8 kHz; ``mode`` of `CODEC2_MODES`."""
    data, decoded = _spoken(samples, sample_rate, ("c2enc", mode), ("c2dec", mode))
    bits = CODEC2_MODES[mode][0]
    return Coded(decoded, 8 * len(data), len(data) // -(-bits // 8) * bits)


def speex(samples: np.ndarray, sample_rate: int, quality: int = 0) -> Coded:
    """Speex, narrow band at 8 kHz, ten frames of 20 ms a packet, in an Ogg container."""
    given = ("--rate", NARROW, "--le", "--16bit", "--narrowband", "--nframes", 10)
    coder = ("speexenc", *given, "--quality", quality)
    data, decoded = _spoken(samples, sample_rate, coder, ("speexdec",))
    return Coded(decoded, 8 * len(data), 8 * sum(ogg_packets(data)[2:]))


def _spoken(
    samples: np.ndarray, sample_rate: int, coder: Sequence[object], decoder: Sequence[object]
) -> tuple[bytes, np.ndarray]:
    """What a program codes at 8 kHz, and what another makes of it, without the codec's delay."""
    narrow = np.round(np.clip(resample(samples, sample_rate, NARROW), -1, 1) * 32767)
    with TemporaryDirectory() as folder:
        raw, coded, back = (Path(folder) / name for name in ("in.raw", "coded", "out.raw"))
        narrow.astype("<i2").tofile(raw)
        for command in ((*coder, raw, coded), (*decoder, coded, back)):
            subprocess.run([str(part) for part in command], check=True, capture_output=True)
        data, found = coded.read_bytes(), np.fromfile(back, "<i2")
    wide = fit_length(resample(found / 32768, NARROW, sample_rate), len(samples))
    longest = round(LONGEST_DELAY * sample_rate)
    return data, shift(wide, lag(samples, wide, longest, on="envelope"))


#: Codecs of speech: name, function, levels.
SPEECH: Sequence[tuple[str, object, Sequence[object]]] = (
    ("codec2", codec2, tuple(CODEC2_MODES)),
    ("speex", speex, SPEEX_QUALITIES),
)
