"""Audio files to arrays and back.

Samples are float32, mono, one-dimensional, full scale ±1, at the rate given beside them; the
average of all channels is the mono mix.
"""

from __future__ import annotations

import csv
import io
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile as sf

from audioldm_utils import bounds
from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.origins import caption_from_name, collection, recordings
from audioldm_utils.audio.signals import (  # noqa: F401 - users find them here
    SILENCE,
    Gain,
    fit_length,
    lag,
    match_loudness,
    normalise,
    resample,
    shift,
)
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write
from audioldm_utils.outputs import AUDIO

# The last eight are audio that libsndfile does not read: found, so that its owner is told.
_AUDIO_SUFFIXES = {
    f".{name}"
    for name in (
        *("wav", "wave", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "snd"),
        *("caf", "w64", "rf64", "voc", "m4a", "aac", "mp4", "wma", "ape", "wv", "amr", "ac3"),
    )
}
_BLOCK = 1 << 20
#: Most channels of a file (7.1 surround has eight).
_MAX_CHANNELS = 8
# What libsndfile notes when the samples, or in RF64 and Wave64 the whole file, end too early.
_CUT = re.compile(r"^ *(?:data|SSND|Data Size|Riff size|riff) *: (\d+) \(should be (\d+)\)", re.M)


@dataclass(frozen=True)
class ClipInfo:
    """A clip that was found but not read; see :mod:`~audioldm_utils.audio.origins`."""

    path: Path
    name: str  # unique among the clips found together; the stem unless two files share it
    caption: str | None = None  # from the manifest, else the words of the file's name
    category: str | None = None  # the manifest's ``class``
    named: bool = False  # whether the caption is no more than the file's name
    recording: str = ""  # name of its first clip; this one's own unless a manifest tells more
    collection: str = ""  # whose collection it comes from, if a manifest tells

    def __post_init__(self) -> None:
        if not self.recording:
            object.__setattr__(self, "recording", self.name)

    @property
    def labels(self) -> dict[str, str | None]:
        """What a row of results tells about the clip besides its name."""
        return {name: getattr(self, name) for name in ("category", "recording", "collection")}


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip in memory: ``samples`` is float32 ``(n,)``, mono, at ``sample_rate`` Hz.

    Its other attributes are as in :class:`ClipInfo`.
    """

    name: str
    samples: np.ndarray
    sample_rate: int
    path: Path
    caption: str | None = None
    category: str | None = None
    recording: str = ""
    collection: str = ""

    __post_init__, labels = ClipInfo.__post_init__, ClipInfo.labels

    @property
    def seconds(self) -> float:
        """Duration, seconds."""
        return len(self.samples) / self.sample_rate


def find_clips(folder: str | Path) -> list[ClipInfo]:
    """List the clips of a folder, or the one clip that ``folder`` names.

    In this order: the rows of ``folder/manifest.csv``; those of ``folder.csv`` beside the
    folder if it has the column ``file``; every file with an audio suffix, by name. In a table
    ``file`` is relative to the table's own folder, the rest is optional: ``caption`` (without that
    column it is what the file's name says), ``class``, and what tells the recording
    (:func:`~audioldm_utils.audio.origins.recordings`). A row whose file is gone is kept, and
    :func:`load_clip` names it.

    Raises:
        UserError: no such folder, no audio in it, or a manifest without the column ``file``.
    """
    folder = Path(folder)
    if folder.is_file():
        return [_named(folder)]
    if not folder.is_dir():
        raise UserError(f"{folder}: no such file or folder; give a folder of audio files.")
    table = next((table for table in tables(folder) if table.is_file()), None)
    # One beside the folder may be about something else, such as its results.
    rows = table and _read_table(table, required=table.parent == folder)
    if rows:
        return rows
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in _AUDIO_SUFFIXES
        and path.is_file()
        and not path.name.startswith(".")
    ]
    if not files:
        raise UserError(f"{folder}: no audio files here; put WAV, FLAC, Ogg or MP3 files in it.")
    return _told_apart([_named(path) for path in files], range(len(files)))


def _told_apart(found: Sequence[ClipInfo], first: Sequence[int]) -> list[ClipInfo]:
    """Clips under names of their own; ``first`` is the first clip of each one's recording."""
    stems = [info.name for info in found]
    # Two files of one stem (a.wav, a.flac) are told apart by their suffix.
    names = [info.name if stems.count(info.name) == 1 else info.path.name for info in found]
    return [
        replace(info, name=name, recording=names[place])
        for info, name, place in zip(found, names, first, strict=True)
    ]


def _named(path: Path, category: str | None = None) -> ClipInfo:
    """A clip whose file name alone says what it is."""
    caption = caption_from_name(path.stem)
    return ClipInfo(path, path.stem, caption, category, named=caption is not None)


def _read_table(table: Path, required: bool) -> list[ClipInfo] | None:
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            columns, rows = reader.fieldnames or [], [row for row in reader if row.get("file")]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: not a CSV table in UTF-8 ({error}); save it again.") from error
    if "file" not in columns:
        if not required:
            return None
        raise UserError(
            f"{table}: the table has no column 'file' (it has {', '.join(columns) or 'none'}); "
            "name the column of file names 'file'."
        )
    if not rows:
        raise UserError(f"{table}: the table lists no files; add rows or remove the table.")
    found = [
        replace(
            _named(table.parent / row["file"], row.get("class") or None),
            collection=collection(row),
            **({"caption": row["caption"] or None, "named": False} if "caption" in columns else {}),
        )
        for row in rows
    ]
    return _told_apart(found, recordings(rows))


def clip_files(folder: str | Path, clips: Sequence[ClipInfo]) -> list[Path]:
    """What is read of a folder of clips: the files, and the tables that may list them."""
    listing = tables(Path(folder)) if Path(folder).is_dir() else ()
    return [*(info.path for info in clips), *listing]


def tables(folder: Path) -> tuple[Path, Path]:
    """Tables that may list a folder's clips: ``manifest.csv`` in it, ``NAME.csv`` beside it."""
    here = folder.resolve()
    return folder / "manifest.csv", here.with_name(f"{here.name}.csv")


def load_clip(source: str | Path | ClipInfo, max_seconds: float | None = None) -> Clip:
    """Read a file of any format that libsndfile knows, any rate, 1 to 8 channels, any length.

    Samples are kept as stored: no gain, no clipping, no resampling. Of what :func:`find_clips`
    gave, caption and class are kept. No more than ``max_seconds`` from the start are read.

    Raises:
        UserError: missing, a folder, empty, not audio, corrupt or cut short, shorter than
            0.1 s, more than 8 channels, NaN or infinite, silent, or ``max_seconds`` is out of
            range.
    """
    info = source if isinstance(source, ClipInfo) else _named(Path(source))
    path = info.path
    if max_seconds is not None:
        bounds.CLIP_SECONDS.check("max_seconds", max_seconds)
    if path.is_dir():
        raise UserError(f"{path}: this is a folder; give a file, or use the folder commands.")
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path.")
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty (0 bytes); export it again.")
        with path.open("rb") as handle, sf.SoundFile(handle) as file:
            _check_header(path, file)
            rate = file.samplerate
            limit = sys.maxsize if max_seconds is None else round(max_seconds * rate)
            samples, loudest = _read_mono(file, limit)
            expected = min(limit, file.frames)
            # MP3 headers may only estimate the length; others may leave it open.
            if file.format == "MP3" or expected >= 1 << 62:
                expected = 0
    except sf.LibsndfileError as error:
        raise UserError(
            f"{path}: cannot be read as audio ({error.error_string.rstrip('.')}); "
            "convert it to WAV or FLAC."
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: no permission to read the file.") from error
    _check_samples(path, samples, rate, expected, loudest)
    about = info.caption, info.category, info.recording, info.collection
    return Clip(info.name, samples, rate, path, *about)


def _check_header(path: Path, file: sf.SoundFile) -> None:
    """Refuse what no clip can be, and fewer bytes of samples than the header promises."""
    found = _CUT.search(file.extra_info)
    promised, there = map(int, found.groups()) if found else (0, 0)
    there += 12 * (file.format == "CAF")  # bytes that libsndfile leaves out
    if file.channels > _MAX_CHANNELS:
        wrong = f"{file.channels} channels; at most {_MAX_CHANNELS} are read, mix it down first."
    elif file.frames == 0:
        wrong = "the file holds no samples (zero length); export it again."
    elif file.samplerate < 1000:
        wrong = f"a sample rate of {file.samplerate} Hz is too low; 1000 Hz or more needed."
    elif promised > there and promised != 0xFFFFFFFF:  # which leaves the size open
        wrong = f"the file is cut short or corrupt ({promised - there} bytes of the samples that"
        wrong += " its header promises are missing); export it again."
    else:
        return
    raise UserError(f"{path}: {wrong}")


def _check_samples(
    path: Path, samples: np.ndarray, rate: int, expected: int, loudest: float
) -> None:
    """Refuse what nothing can be made of, and fewer samples than expected."""
    bad = len(samples) - int(np.isfinite(samples).sum())
    least = bounds.CLIP_SECONDS.low
    if len(samples) < expected:
        wrong = f"the file is cut short or corrupt ({len(samples)} of {expected} samples could be"
        wrong += " read); export it again."
    elif len(samples) < least * rate:
        wrong = f"too short ({len(samples)} samples, {len(samples) / rate:.4f} s); at least"
        wrong += f" {least} s are needed."
    elif bad:
        wrong = f"{bad} samples are NaN or infinite; export it again."
    elif loudest < 2 * SILENCE:
        wrong = "the clip is silent; give one with sound in it."
    # Rounding to 16 bits leaves about -90 dB of two channels that cancel.
    elif np.ptp(samples) < max(2 * SILENCE, 1e-4 * loudest):
        wrong = "silent as mono, its channels cancel each other; invert the polarity of one"
        wrong += " channel."
    else:
        return
    raise UserError(f"{path}: {wrong}")


def _read_mono(file: sf.SoundFile, limit: int) -> tuple[np.ndarray, float]:
    """The mean of the channels, and the largest swing of any; a block is in memory at a time."""
    blocks, low, high = [np.zeros(0, np.float32)], np.inf, -np.inf
    while len(block := file.read(min(_BLOCK, limit), dtype="float32", always_2d=True)):
        limit -= len(block)
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        blocks.append(block.mean(axis=1))
    return np.concatenate(blocks), float(np.max(high - low))


def to_model_rate(clip: Clip) -> np.ndarray:
    """The clip's samples at 16 kHz, float32 ``(n,)``."""
    return resample(clip.samples, clip.sample_rate, MODEL_RATE)


def save(path: str | Path, x: np.ndarray, rate: int, bits: Literal[16, 24] = 16) -> float:
    """Write a WAV or FLAC file, whole or not at all; integer PCM, no dither; never clip.

    ``x`` is ``(n,)`` or ``(n, channels)``, full scale ±1, at ``rate`` Hz. If its peak exceeds
    full scale, the whole clip is scaled to it, with a warning; the gain is returned, else 1.0.

    Raises:
        UserError: another suffix, or the file cannot be written.
        ValueError: wrong shape, no samples, or samples that are not finite.
    """
    path = Path(path)
    AUDIO.check(path)
    x = np.asarray(x, np.float64)
    if x.ndim not in (1, 2) or not x.size or not np.isfinite(x).all():
        raise ValueError(f"save wants finite samples (n,) or (n, channels), got shape {x.shape}")
    if bits not in (16, 24):
        raise ValueError(f"bits must be 16 or 24, got {bits}")
    peak = float(np.abs(x).max())
    gain = 1.0 if peak <= 1.0 else 1.0 / peak
    if gain < 1.0:
        warnings.warn(
            f"{path}: the peak was {20 * np.log10(peak):.2f} dB over full scale; the clip was "
            "scaled down by that much.",
            stacklevel=2,
        )
    full = 1 << (bits - 1)
    # Rounded here with the reader's own scale, so that reading returns the same samples.
    steps = np.clip(np.rint(x * gain * full), -full, full - 1)
    samples = steps.astype(np.int16) if bits == 16 else steps.astype(np.int32) << 8
    # Through memory, since libsndfile does not say why a file cannot be written.
    whole = io.BytesIO()
    try:
        sf.write(whole, samples, rate, subtype=f"PCM_{bits}", format=path.suffix[1:])
        atomic_write(path, whole.getvalue())
    except (OSError, sf.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be written ({reason}); name another place.") from error
    return gain
