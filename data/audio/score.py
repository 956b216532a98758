"""Phrases for sampled instruments: notes, a standard MIDI file, and FluidSynth's rendering."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
TICKS = 480  # to a quarter note
DRUMS = 9  # the channel that General MIDI keeps for percussion
EXPRESSION, MODULATION, PAN = 11, 1, 10


@dataclass(frozen=True)
class Note:
    """A note: start and length in beats, MIDI pitch (60 = C4) and velocity 1 to 127."""

    start: float
    length: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Part:
    """One instrument's notes; ``swells`` are (beat, controller, value) triples."""

    program: int
    notes: list[Note]
    swells: list[tuple[float, int, int]] = field(default_factory=list)
    drums: bool = False
    volume: int = 100


def _variable_length(value: int) -> bytes:
    """A number in MIDI's seven-bit groups, the last without its top bit."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def _track(events: Iterable[tuple[int, int, bytes]]) -> bytes:
    """A track chunk of (tick, order within the tick, message) events."""
    body, now = b"", 0
    for tick, _, message in sorted(events):
        body += _variable_length(tick - now) + message
        now = tick
    body += b"\x00\xff\x2f\x00"
    return b"MTrk" + struct.pack(">I", len(body)) + body


def _part_events(part: Part, channel: int) -> list[tuple[int, int, bytes]]:
    """Programme, volume, swells and notes of a part; note-offs come before note-ons."""
    events = [
        (0, 0, bytes([0xC0 | channel, part.program])),
        (0, 1, bytes([0xB0 | channel, 7, part.volume])),
    ]
    for beat, controller, value in part.swells:
        events.append((round(beat * TICKS), 2, bytes([0xB0 | channel, controller, value])))
    for note in part.notes:
        on, off = round(note.start * TICKS), round((note.start + note.length) * TICKS)
        events.append((off, 3, bytes([0x80 | channel, note.pitch, 0])))
        events.append((on, 4, bytes([0x90 | channel, note.pitch, note.velocity])))
    return events


def midi_file(parts: list[Part], beats_a_minute: float) -> bytes:
    """A standard MIDI file, format 1: a tempo track, then a track a part."""
    tempo = struct.pack(">I", round(60e6 / beats_a_minute))[1:]
    tracks = [_track([(0, 0, b"\xff\x51\x03" + tempo)])]
    free = (channel for channel in range(16) if channel != DRUMS)
    for part in parts:
        tracks.append(_track(_part_events(part, DRUMS if part.drums else next(free))))
    return struct.pack(">4sIHHH", b"MThd", 6, 1, len(tracks), TICKS) + b"".join(tracks)


def available() -> bool:
    """Whether FluidSynth and the soundfont are on this machine."""
    return shutil.which("fluidsynth") is not None and SOUNDFONT.exists()


def render(parts: list[Part], beats_a_minute: float, rate: int, gain: float = 0.5) -> np.ndarray:
    """Play the parts; mono, float64, shape (samples,).

    FluidSynth renders in floating point with its hall reverberation at a fixed small level,
    so that the same version gives the same samples.
    """
    with tempfile.TemporaryDirectory() as folder:
        score, wave = Path(folder, "score.mid"), Path(folder, "score.wav")
        score.write_bytes(midi_file(parts, beats_a_minute))
        settings = {
            "synth.sample-rate": rate,
            "synth.gain": gain,
            "synth.chorus.active": 0,
            "synth.reverb.active": 1,
            "synth.reverb.room-size": 0.4,
            "synth.reverb.damp": 0.3,
            "synth.reverb.width": 0.5,
            "synth.reverb.level": 0.25,
            "synth.cpu-cores": 1,
        }
        options = [item for key, value in settings.items() for item in ("-o", f"{key}={value}")]
        output = ["-F", wave, "-T", "wav", "-O", "float"]
        subprocess.run(
            ["fluidsynth", "-n", "-i", "-q", *options, *output, SOUNDFONT, score],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return soundfile.read(wave)[0].mean(axis=1)


def played(sequence: str, length: float, velocity: int, start: float = 0.0) -> list[Note]:
    """Notes one after another, from names such as "C4 E4 - G#4": "-" prolongs, "." rests.

    Args:
        sequence: Names with octaves, separated by blanks; "+" joins the notes of a chord.
        length: Beats each entry takes.
        velocity: Of every note; the first of each four entries is played a little harder.
        start: Beat of the first entry.
    """
    semitones = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
    entries = sequence.split()
    notes: list[Note] = []
    for index, entry in enumerate(entries):
        if entry in {"-", "."}:
            continue
        held = 1
        while index + held < len(entries) and entries[index + held] == "-":
            held += 1
        accent = 8 if index % 4 == 0 else 0
        for name in entry.split("+"):
            pitch = 12 * (int(name[-1]) + 1) + semitones[name[0]] + name.count("#")
            # The smallest gap between neighbours, so that a repeated note is struck again.
            notes.append(
                Note(start + index * length, held * length * 0.97, pitch, velocity + accent)
            )
    return notes


def humanised(notes: list[Note], seed: int, spread: float = 0.012) -> list[Note]:
    """Notes moved by up to ``spread`` beats and struck up to 7 steps softer or harder."""
    draw = np.random.Generator(np.random.PCG64(seed))
    moved = []
    for note in notes:
        shift, force = draw.uniform(-spread, spread), int(draw.integers(-7, 8))
        moved.append(
            Note(
                max(0.0, note.start + float(shift)),
                note.length,
                note.pitch,
                int(np.clip(note.velocity + force, 1, 127)),
            )
        )
    return moved
