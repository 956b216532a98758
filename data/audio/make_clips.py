"""Make the clips of this folder and manifest.csv.

    python data/audio/make_clips.py [--out DIR] [NAME ...]

Needs the project's packages; the played clips also need FluidSynth with the soundfont
FluidR3_GM, the spoken ones espeak-ng (Debian: fluidsynth fluid-soundfont-gm espeak-ng).
Without names, everything is made and the manifest written.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import instruments
import numpy as np
import score
import soundfile
import soxr
import synthesis
from scipy import signal

FOLDER = Path(__file__).resolve().parent
RATE = 48000
LONGEST = 8.0  # seconds; what rings on longer is faded out
SOUNDFONT = "FluidSynth, soundfont FluidR3 GM"
ESPEAK = "espeak-ng {}, 22.05 kHz, resampled: nothing above 11 kHz"
SYNTHESIS = "synthesised with NumPy and SciPy"
ENGLISH = "The quick brown fox jumps over the lazy dog, and the judge asks: which scent is fresh?"
CHINESE = "今天天气很好，我们去公园听音乐。"


def speak(text: str, voice: str, rate: int) -> np.ndarray:
    """A sentence by espeak-ng, resampled from its 22.05 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder, "speech.wav")
        subprocess.run(["espeak-ng", "-v", voice, "-s", "150", "-w", wave, text], check=True)
        spoken, own_rate = soundfile.read(wave)
    return soxr.resample(spoken, own_rate, rate, quality="VHQ")


@dataclass(frozen=True)
class Recipe:
    """A clip: how its samples are made and what the manifest says of it.

    ``peak_db`` is the peak in dB re full scale, at most -1.
    """

    make: Callable[[int], np.ndarray]
    category: str
    caption: str
    how: str
    peak_db: float = -3.0
    tool: str | None = None


RECIPES = {
    "piano": Recipe(
        instruments.piano,
        "piano",
        "a grand piano playing a slow minor melody over broken chords",
        SOUNDFONT,
        tool="fluidsynth",
    ),
    "acoustic_guitar": Recipe(
        instruments.acoustic_guitar,
        "acoustic_guitar",
        "a steel-string acoustic guitar picking four chords",
        SOUNDFONT,
        tool="fluidsynth",
    ),
    "strings": Recipe(
        instruments.strings,
        "strings",
        "a string ensemble playing slow chords that swell and fade",
        SOUNDFONT,
        tool="fluidsynth",
    ),
    "flute": Recipe(
        instruments.flute,
        "flute",
        "a solo flute playing a quick melody with a trill",
        SOUNDFONT,
        tool="fluidsynth",
    ),
    "drum_groove": Recipe(
        instruments.drum_groove,
        "drums",
        "a drum kit playing a rock groove with a fill",
        SOUNDFONT,
        tool="fluidsynth",
    ),
    "dense_mixture": Recipe(
        instruments.mixture,
        "mixture",
        "a full band with drums, bass, piano, strings, brass, distorted guitar and saxophone",
        SOUNDFONT,
        tool="fluidsynth",
    ),
    "speech_english": Recipe(
        partial(speak, ENGLISH, "en-gb"),
        "speech_english",
        "a synthetic male voice speaking an English sentence",
        ESPEAK.format("voice en-gb"),
        tool="espeak-ng",
    ),
    "speech_chinese": Recipe(
        partial(speak, CHINESE, "cmn"),
        "speech_chinese",
        "a synthetic male voice speaking a Chinese sentence",
        ESPEAK.format("voice cmn"),
        tool="espeak-ng",
    ),
    "rain": Recipe(synthesis.rain, "rain", "steady rain falling on leaves and puddles", SYNTHESIS),
    "wind": Recipe(
        synthesis.wind, "weather", "wind gusting and whistling through trees", SYNTHESIS
    ),
    "clock": Recipe(synthesis.clock, "clock", "a mantel clock ticking in a quiet room", SYNTHESIS),
    "footsteps": Recipe(synthesis.footsteps, "footsteps", "footsteps walking on gravel", SYNTHESIS),
    "log_sweep": Recipe(
        synthesis.log_sweep,
        "test_signal",
        "a sine sweep from 20 Hz to 24 kHz",
        SYNTHESIS,
        peak_db=-6.0,
    ),
    "white_noise": Recipe(
        synthesis.white_noise, "test_signal", "white noise", SYNTHESIS, peak_db=-12.0
    ),
    "click_train": Recipe(
        synthesis.click_train, "test_signal", "ten clicks a second", SYNTHESIS, peak_db=-1.0
    ),
    "sine_chord": Recipe(
        synthesis.sine_chord,
        "test_signal",
        "a chord of six sine tones from 220 Hz to 12 kHz",
        SYNTHESIS,
        peak_db=-6.0,
    ),
}


def can_make(name: str) -> bool:
    """Whether what a clip needs is on this machine."""
    tool = RECIPES[name].tool
    if tool == "fluidsynth":
        return score.available()
    return tool is None or shutil.which(tool) is not None


def faded(clip: np.ndarray, first: float, last: float) -> np.ndarray:
    """A clip that rises over ``first`` seconds and falls over ``last``."""
    up, down = (np.sin(np.linspace(0, np.pi / 2, int(t * RATE))) ** 2 for t in (first, last))
    gain = np.ones(len(clip))
    gain[: len(up)], gain[len(gain) - len(down) :] = up, down[::-1]
    return clip * gain


def make(name: str) -> np.ndarray:
    """A clip's samples, int16: no constant part, ends cut and faded, peak set."""
    recipe = RECIPES[name]
    clip = recipe.make(RATE)
    if recipe.category != "test_signal":
        # Some sampled notes stand on a constant, which no microphone would pass on.
        clip = signal.sosfilt(signal.butter(2, 20, "highpass", fs=RATE, output="sos"), clip)
    heard = np.flatnonzero(np.abs(clip) > 1e-3 * np.abs(clip).max())
    clip = clip[max(0, heard[0] - RATE // 50) : heard[-1] + RATE // 50]
    cut = len(clip) > LONGEST * RATE
    clip = faded(clip[: int(LONGEST * RATE)], 0.005, 0.5 if cut else 0.005)
    clip = clip * (10 ** (recipe.peak_db / 20) / np.abs(clip).max())
    return np.round(clip * 32767).astype(np.int16)


def share_above(clip: np.ndarray, hertz: float) -> float:
    """Energy above a frequency, in dB re the clip's whole energy."""
    power = np.abs(np.fft.rfft(clip.astype(np.float64))) ** 2
    above = power[np.fft.rfftfreq(len(clip), 1 / RATE) >= hertz].sum()
    return 10 * np.log10(above / power.sum())


def band_limit(clip: np.ndarray) -> float:
    """Highest frequency in Hz where the mean spectrum is within 80 dB of its largest value."""
    axis, density = signal.welch(clip.astype(np.float64), RATE, nperseg=2048)
    return float(axis[np.flatnonzero(density > 1e-8 * density.max())[-1]])


def manifest_row(name: str, path: Path) -> dict[str, object]:
    """What manifest.csv says of a finished file."""
    clip, recipe = soundfile.read(path, dtype="int16")[0], RECIPES[name]
    return {
        "file": path.name,
        "caption": recipe.caption,
        "class": recipe.category,
        "seconds": f"{len(clip) / RATE:.3f}",
        "sample_rate": RATE,
        "band_limit_hz": round(band_limit(clip)),
        "energy_above_8k_db": f"{share_above(clip, 8000):.1f}",
        "how_made": recipe.how,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def main() -> None:
    """Make the clips named on the command line, or all of them and the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *RECIPES], help="clips (default: all)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in args.names or RECIPES:
        path = args.out / f"{name}.flac"
        soundfile.write(path, make(name), RATE, subtype="PCM_16")
        rows.append(manifest_row(name, path))
        print(*list(rows[-1].values())[:-1], sep=" | ")
    if not args.names:
        with (args.out / "manifest.csv").open("w", newline="") as handle:
            writer = csv.DictWriter(handle, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
