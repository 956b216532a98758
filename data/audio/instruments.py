"""The played clips: short phrases for sampled General MIDI instruments."""

from __future__ import annotations

import numpy as np
from score import EXPRESSION, MODULATION, Note, Part, humanised, played, render

KICK, SNARE, CLOSED_HAT, OPEN_HAT, CRASH, RIDE, LOW_TOM, HIGH_TOM = 36, 38, 42, 46, 49, 51, 45, 50
PIANO, VIBRAPHONE, STEEL_GUITAR, DISTORTED_GUITAR, FINGERED_BASS = 0, 11, 25, 30, 33
STRING_ENSEMBLE, BRASS_SECTION, ALTO_SAXOPHONE, FLUTE = 48, 61, 65, 73


def piano(rate: int) -> np.ndarray:
    """A slow minor phrase, melody over broken chords."""
    right = played("E5 - D5 C5 B4 - C5 D5 E5 A5 - G5 F5 - E5 -", 0.5, 84)
    left = played("A2 E3 A3 C4 E2 B2 E3 G#3 F2 C3 F3 A3 G2 D3 G3 B3", 0.5, 62)
    end = [Note(8, 4, pitch, 70) for pitch in (45, 52, 57, 60, 64, 69)]
    return render([Part(PIANO, humanised(right + left, 1) + end)], 92, rate)


def acoustic_guitar(rate: int) -> np.ndarray:
    """A picked pattern over four chords, let ring, and a strummed close."""
    bass = {"C": "C3", "A": "A2", "F": "F2", "G": "G2"}
    upper = {"C": "E3 G3 C4 E4", "A": "E3 A3 C4 E4", "F": "C3 F3 A3 C4", "G": "D3 G3 B3 G4"}
    notes: list[Note] = []
    for bar, chord in enumerate("CAFG"):
        low, strings = bass[chord], upper[chord].split()
        order = [low, strings[1], strings[2], strings[0], strings[3], strings[1], strings[2]]
        for index, name in enumerate(order):
            struck = played(name, 0.5, 88 if index == 0 else 72, start=bar * 3.5 + index * 0.5)
            notes += [Note(n.start, 2.0, n.pitch, n.velocity) for n in struck]
    for index, name in enumerate(["C3", "E3", "G3", "C4", "E4", "G4"]):
        (struck,) = played(name, 3, 88, start=14 + index * 0.04)
        notes.append(struck)
    return render([Part(STEEL_GUITAR, humanised(notes, 2))], 160, rate)


def strings(rate: int) -> np.ndarray:
    """Four held chords of an ensemble, growing and dying away."""
    voices = ("C3 - G2 - A2 - F2 -", "G3 - G3 - E3 - F3 -", "E4 - D4 - C4 - A3 -")
    lines = [note for voice in (*voices, "C5 - B4 - E5 - C5 -") for note in played(voice, 1.5, 84)]
    swell = [(b / 4, EXPRESSION, int(70 + 55 * np.sin(np.pi * b / 48))) for b in range(49)]
    return render([Part(STRING_ENSEMBLE, lines, swell)], 108, rate)


def flute(rate: int) -> np.ndarray:
    """A quick solo line with a trill and a held last note with vibrato."""
    line = played("D5 F#5 A5 D6 C#6 B5 A5 G5 F#5 A5 G5 E5 F#5 D5 E5 C#5", 0.5, 92)
    trill = played("E5 F#5 E5 F#5 E5 F#5 E5 F#5", 0.125, 84, start=8)
    last = [Note(9, 2.6, 74, 92)]
    vibrato = [(0, MODULATION, 8), (9.2, MODULATION, 40), (10, MODULATION, 70)]
    return render([Part(FLUTE, humanised(line + trill, 4) + last, vibrato)], 132, rate)


def drum_notes(bars: int, seed: int) -> list[Note]:
    """A rock groove with ghost notes, a crash at the start and a fill in the last bar."""
    notes = [Note(0, 1, CRASH, 105)]
    for bar in range(bars):
        start, last = 4.0 * bar, bar == bars - 1
        notes += [Note(start + b, 0.5, KICK, 112) for b in (0, 1.5, 2.5)]
        notes += [Note(start + b, 0.5, SNARE, 108) for b in ((1,) if last else (1, 3))]
        notes += [Note(start + b, 0.2, SNARE, 38) for b in (1.75, 2.25)]
        hats = range(8) if last else range(16)
        notes += [Note(start + i / 4, 0.2, CLOSED_HAT, 92 - 30 * (i % 2)) for i in hats if i != 14]
        if not last:
            notes.append(Note(start + 3.5, 0.4, OPEN_HAT, 88))
        else:
            fill = [SNARE, SNARE, HIGH_TOM, HIGH_TOM, LOW_TOM, LOW_TOM, KICK, SNARE]
            notes += [Note(start + 2 + i / 4, 0.3, drum, 96 + i) for i, drum in enumerate(fill)]
    notes += [Note(4.0 * bars, 2, CRASH, 112), Note(4.0 * bars, 1, KICK, 118)]
    return humanised(notes, seed, spread=0.008)


def drum_groove(rate: int) -> np.ndarray:
    """Two bars of the groove."""
    return render([Part(0, drum_notes(2, 5), drums=True)], 112, rate)


def mixture(rate: int) -> np.ndarray:
    """Eight parts at once: drums, bass, piano, strings, brass, guitar, vibraphone, saxophone."""
    bass = played(". A2 A2 G2 A2 - C3 D3 . F2 F2 E2 F2 - A2 C3 " * 2, 0.5, 100)
    chords = played(
        "A3+C4+E4+G4 . . A3+C4+E4+G4 - . A3+C4+E4+G4 . F3+A3+C4+E4 . . F3+A3+C4+E4 - . . ." * 1,
        0.5,
        84,
    )
    chords += [Note(n.start + 8, n.length, n.pitch, n.velocity) for n in chords]
    pad = played("A3+E4+C5 - F3+C4+A4 - A3+E4+C5 - F3+C4+A4 -", 2, 72)
    stabs = played(". . . E4+A4+C5 . . G4+C5+E5 . . . . F4+A4+C5 . . . A4+C5+F5 " * 2, 0.5, 96)
    riff = played("A2+E3 - A2+E3 A2+E3 - C3+G3 - D3+A3 F2+C3 - F2+C3 F2+C3 - - - -", 0.5, 80)
    riff += [Note(n.start + 8, n.length, n.pitch, n.velocity) for n in riff]
    bells = played("E5 A5 C6 E6 D6 C6 A5 G5 F5 A5 C6 E6 D6 C6 B5 A5 " * 2, 0.5, 70)
    lead = played("A4 - C5 D5 E5 - - G5 E5 D5 C5 - A4 - - - ", 0.5, 104)
    lead += played("C5 D5 E5 - A5 - G5 E5 D5 - E5 C5 A4 - - -", 0.5, 108, start=8)
    parts = [
        Part(0, drum_notes(4, 7), drums=True, volume=105),
        Part(FINGERED_BASS, humanised(bass, 8), volume=105),
        Part(PIANO, humanised(chords, 9), volume=90),
        Part(STRING_ENSEMBLE, pad, volume=70),
        Part(BRASS_SECTION, humanised(stabs, 10), volume=80),
        Part(DISTORTED_GUITAR, humanised(riff, 11), volume=60),
        Part(VIBRAPHONE, humanised(bells, 12), volume=80),
        Part(ALTO_SAXOPHONE, humanised(lead, 13), volume=110),
    ]
    return render(parts, 120, rate, gain=0.3)
