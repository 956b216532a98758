"""Players side by side, matched in loudness, and a blind ABX test, for pages without a server.

Audio and spectrograms are files beside the page, addressed relatively: by default relative to
the kernel's working folder, in a report relative to the page's place in the book. They read
from ``file://`` and ask no network for anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import numpy as np

from audioldm_utils.book.plotting import level_db, look, spectrogram_tile
from audioldm_utils.files import PAGE_VARIABLE, atomic_path, atomic_write
from audioldm_utils.text import markup

if TYPE_CHECKING:
    from IPython.display import HTML


@dataclass(frozen=True)
class Take:
    """One thing to hear: a method's name (or any other), samples (n,) and their rate in Hz."""

    method: str
    samples: np.ndarray
    sample_rate: int
    label: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        """What stands over the player."""
        return self.label or look(self.method).label


@dataclass(frozen=True)
class Row:
    """One clip in several takes; the first is what the others are matched to in loudness."""

    clip: str
    takes: Sequence[Take]
    caption: str = ""


def players(
    rows: Sequence[Row],
    folder: str | Path,
    caption: str = "",
    audio_format: Literal["flac", "mp3"] = "flac",
) -> HTML:
    """Write the takes beside the page and return the grid of players.

    The players of a row are coupled: one plays at a time, and starting another goes on at the
    same place; a click in a spectrogram goes there in all of them. Spectrograms of a row share
    their frequency axis and 0 dB (the first take's peak after matching). Each take is brought
    to the loudness of the first one's common band (ITU-R BS.1770 weighting, ungated); where a
    row would clip, all of it is made softer.

    Args:
        folder: for the files, usually ``Path(out_dir) / "listening"``.
        caption: what to notice.
        audio_format: 16-bit FLAC, or MP3 for many or long takes.

    Raises:
        ValueError: nothing to play, or a take that is empty or silent.
    """
    from IPython.display import HTML

    if not rows or any(not row.takes for row in rows):
        raise ValueError("players need at least one row with at least one take")
    folder = Path(folder)
    parts = []
    for row in rows:
        matched = match(row.takes)
        top = max(take.sample_rate for take in row.takes) / 2
        first = level_db(matched[0], row.takes[0].sample_rate, peak=1.0)[0]
        peak = float(10 ** (first.max() / 20))
        parts.append(
            f'<div class="au-row"><p class="au-clip"><strong>{markup(row.clip)}</strong> '
            f'{markup(row.caption)}</p><div class="au-grid">'
        )
        for take, samples in zip(row.takes, matched, strict=True):
            name = _file_name(row.clip, take, samples)
            sound, picture = folder / f"{name}.{audio_format}", folder / f"{name}.webp"
            write_audio(sound, samples, take.sample_rate)
            atomic_write(picture, spectrogram_tile(samples, take.sample_rate, top, peak))
            label = ", ".join(filter(None, (row.clip, take.title)))
            alt = (
                f"Spectrogram of {label}: 0 to {top / 1000:g} kHz over "
                f"{len(samples) / take.sample_rate:.1f} s, 0 to -80 dB re the peak of "
                f"{row.takes[0].title}."
            )
            seconds = len(samples) / take.sample_rate
            parts.append(_cell(label, take, link(sound), link(picture), alt, seconds))
        parts.append("</div></div>")
    note = "Spectrograms of a row share their scales: 0 to −80 dB re the first one's peak, mel-like"
    note += " frequency axis in Hz, time in s across the whole width."
    return HTML(_component("players", "".join(parts), f"{markup(caption)} <small>{note}</small>"))


def match(takes: Sequence[Take]) -> list[np.ndarray]:
    """Samples of all takes at the first one's loudness and below full scale.

    A take of a lower rate is compared with the first take limited to the same band.
    """
    from audioldm_utils.audio.clips import match_loudness, resample

    first = np.asarray(takes[0].samples, np.float32)
    matched = [first]
    for take in takes[1:]:
        samples = np.asarray(take.samples, np.float32)
        rate = min(take.sample_rate, takes[0].sample_rate)
        ours = resample(samples, take.sample_rate, rate)
        theirs = resample(first, takes[0].sample_rate, rate)
        scale = float(np.max(np.abs(match_loudness(ours, theirs, rate)))) / _peak(ours)
        matched.append(samples * np.float32(scale))
    loudest = max(_peak(samples) for samples in matched)
    if loudest > 0.99:
        matched = [samples * np.float32(0.99 / loudest) for samples in matched]
    return matched


def _peak(samples: np.ndarray) -> float:
    peak = float(np.max(np.abs(samples))) if samples.size else 0.0
    if peak == 0.0:
        raise ValueError("a take is empty or silent")
    return peak


def write_audio(path: str | Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write FLAC (16 bit) or MP3, by the suffix; the same samples give the same bytes."""
    import soundfile as sf

    with atomic_path(path) as temporary:
        sf.write(temporary, np.asarray(samples, np.float32), sample_rate)


def link(path: str | Path) -> str:
    """The address of a file from the page that the running notebook will become."""
    page = os.environ.get(PAGE_VARIABLE, os.getcwd())
    return quote(Path(os.path.relpath(path, page)).as_posix())


def _file_name(clip: str, take: Take, samples: np.ndarray) -> str:
    """Readable, and different where the sound is."""
    digest = hashlib.sha256(np.ascontiguousarray(samples).tobytes()).hexdigest()[:8]
    words = re.sub(r"[^\w.-]+", "-", f"{clip}-{take.method}").strip("-")
    words = words.encode()[:160].decode(errors="ignore")  # a file's name has room for 255 bytes
    return f"{words}-{digest}"


def _cell(label: str, take: Take, sound: str, picture: str, alt: str, seconds: float) -> str:
    note = f'<span class="au-note">{markup(take.note)}</span>' if take.note else ""
    return (
        f'<div class="au-cell" style="--au-colour:{look(take.method).colour}">'
        f'<p class="au-title">{markup(take.title)}{note}</p>'
        f'<div class="au-picture"><img src="{picture}" alt="{markup(alt)}" '
        'width="480" height="240"><i class="au-head"></i></div>'
        f'<audio controls controlslist="nodownload noplaybackrate" preload="none" '
        f'data-seconds="{seconds:.3f}" src="{sound}" aria-label="{markup(label)}"></audio></div>'
    )


def abx(pairs: Sequence[tuple[str, Take, Take]], folder: str | Path, trials: int = 10) -> HTML:
    """A blind ABX test that runs in the page: is X the same as A, or as B?

    Every trial draws a pair and hides A or B behind X, by the browser's own random numbers.
    After the last trial the page shows the hits, the probability of at least so many by
    guessing (binomial, one-sided), and the answers as CSV. Nothing leaves the page.

    Args:
        pairs: clip name and the two takes; the second is matched to the first in loudness.
        trials: how many make a test, 1 to 100.

    Raises:
        ValueError: no pair, or another number of trials.
    """
    from IPython.display import HTML

    if not pairs:
        raise ValueError("an ABX test needs at least one pair")
    if not 1 <= trials <= 100:
        raise ValueError(f"trials must be 1 to 100, not {trials}")
    listed = []
    for clip, a, b in pairs:
        entry = {"clip": clip, "a": a.title, "b": b.title}
        for key, take, samples in zip(("A", "B"), (a, b), match([a, b]), strict=True):
            sound = Path(folder) / f"abx-{_file_name(clip, take, samples)}.flac"
            write_audio(sound, samples, take.sample_rate)
            entry[key] = link(sound)
        listed.append(entry)
    data = json.dumps({"trials": trials, "pairs": listed}).replace("<", "\\u003c")
    first = {**listed[0], "X": listed[0]["A"]}
    sounds = "".join(
        f'<label class="au-abx-sound"><b>{name}</b><audio controls preload="none" '
        f'src="{first[name]}" aria-label="sound {name}" data-name="{name}"></audio></label>'
        for name in "ABX"
    )
    body = (
        f'<script type="application/json" class="au-data">{data}</script>'
        f'<p class="au-abx-trial" aria-live="polite"></p><div class="au-abx-sounds">{sounds}</div>'
        '<p><button type="button" data-answer="A">X is A</button> '
        '<button type="button" data-answer="B">X is B</button> '
        '<button type="button" data-answer="" class="au-abx-again">start again</button></p>'
        '<p class="au-abx-result" aria-live="polite"></p>'
    )
    return HTML(_component("abx", body, "A blind test: nothing that you answer leaves this page."))


def _component(kind: Literal["players", "abx"], body: str, caption: str) -> str:
    """A component with its own style and script, so that it works in Jupyter and the book."""
    identity = f"au-{kind}-{hashlib.sha256(body.encode()).hexdigest()[:10]}"
    files = resources.files("audioldm_utils.book") / "templates"
    css = (files / "listening.css").read_text(encoding="utf-8")
    script = (files / f"{kind}.js").read_text(encoding="utf-8").replace("IDENTITY", identity)
    return (
        f'<figure class="au-component au-{kind}" id="{identity}"><style>{css}</style>{body}'
        f"<figcaption>{caption}</figcaption></figure><script>{script}</script>"
    )
