"""A folder as people have it: 30 files of all formats, rates, channels and lengths, 3 broken.

By hand, with clips up to 3 minutes long:

    python -m tests.mixed_folder build/mixed 180
    audioldm-utils report --audio build/mixed --out build/mixed-report
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile as sf

BAD = ("bad_corrupt.flac", "bad_empty.wav", "bad_text.mp3")
#: Suffix and the rates that it is written at, Hz.
FORMATS = {
    "wav": (8000, 11025, 16000, 22050, 44100, 48000, 96000),
    "flac": (8000, 16000, 44100, 48000, 96000),
    "mp3": (16000, 22050, 44100, 48000),
    "ogg": (8000, 16000, 44100, 48000),
}
CHANNELS = (1, 2, 6)


def sound(index: int, seconds: float, rate: int, channels: int) -> np.ndarray:
    """A note with overtones and hiss, ``(n, channels)``, each channel a little different."""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(index)
    note = sum(np.sin(2 * np.pi * 110 * (1 + index % 12 / 12) * k * time) / k for k in range(1, 9))
    note = note * np.exp(-2 * (time % 1.0)) + 0.05 * rng.standard_normal(len(time))
    return np.stack([0.15 * note * (1 - 0.1 * c) for c in range(channels)], axis=1)


def make_mixed(folder: Path, seconds: float = 180) -> list[str]:
    """Write 27 good clips of 0.2 s up to ``seconds`` and 3 bad ones; return all names."""
    folder.mkdir(parents=True)
    lengths = (seconds, 0.2, 0.5, 1.0, 2.3, 1.5, 0.9, 3.1)
    names = []
    for index in range(27):
        suffix = list(FORMATS)[index % 4]
        rate = FORMATS[suffix][index // 4 % len(FORMATS[suffix])]
        # MP3 holds two channels at most.
        channels = min(CHANNELS[index % 3], 2 if suffix == "mp3" else 6)
        # Only the first clip is the long one.
        length = lengths[0] if index == 0 else lengths[1 + index % 7]
        names.append(f"clip_{index:02d}.{suffix}")
        sf.write(folder / names[-1], sound(index, length, rate, channels), rate)
    sf.write(folder / BAD[0], sound(0, 2, 16000, 1), 16000)
    whole = (folder / BAD[0]).read_bytes()
    (folder / BAD[0]).write_bytes(whole[: len(whole) // 2])
    (folder / BAD[1]).touch()
    (folder / BAD[2]).write_text("Not a song but a text.\n")
    return [*names, *BAD]


if __name__ == "__main__":
    make_mixed(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 180)
