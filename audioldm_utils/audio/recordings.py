"""Openly licensed recordings, fetched when asked for and checked against their SHA-256.

``recordings.csv`` in this package lists them. The files are the example recordings of librosa;
addresses and checksums are those of the registry that librosa 0.11 ships, licences those of the
notes beside the files. What is licensed for non-commercial use only is left out.
"""

from __future__ import annotations

import csv
import io
from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import soundfile

from audioldm_utils import bounds
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_path, atomic_write, user_cache
from audioldm_utils.outputs import check_folder, check_outputs

REGISTRY = Path(__file__).with_name("recordings.csv")
_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Recording:
    """One entry of the registry."""

    name: str  # also the excerpt's file name
    caption: str  # what is heard, as a prompt would say it
    category: str  # the class, in the words of the training corpus
    title: str
    author: str
    origin: str  # the page that it was published on
    licence: str
    licence_url: str
    url: str
    sha256: str  # of the file at that address, 64 hexadecimal digits
    start: float  # of the excerpt, seconds
    length: float  # longest excerpt, seconds

    @property
    def file(self) -> str:
        """Name under which the download is kept."""
        return unquote(Path(urlsplit(self.url).path).name)


COLUMNS = ("name", "caption", "class", "title", "author", "origin", "licence", "licence_url")
COLUMNS += ("url", "sha256", "start_s", "length_s")


def read_registry(path: str | Path = REGISTRY) -> dict[str, Recording]:
    """The registry's entries by name, in its order; a UserError where it cannot be right."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; name a registry of recordings (CSV).")
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle, restval="")
            columns, rows = reader.fieldnames or (), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV table in UTF-8 ({error}); save it again.") from error
    missing = set(COLUMNS) - set(columns)
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(sorted(missing))}; add them.")
    entries = [_entry(path, row) for row in rows]
    registry = {entry.name: entry for entry in entries}
    if len(registry) != len(entries):
        raise UserError(f"{path} names a recording twice; give each a name of its own.")
    return registry


def _entry(path: Path, row: dict[str, str]) -> Recording:
    """One row of a registry, checked."""
    texts = {field.name: row.get(field.name) or "" for field in fields(Recording)[:-2]}
    texts["category"] = row["class"] or ""
    times = {}
    for column, bound in (("start_s", bounds.START_SECONDS), ("length_s", bounds.CLIP_SECONDS)):
        try:
            times[column.removesuffix("_s")] = bound(row[column])
        except ArgumentTypeError as error:
            raise UserError(f"{path}: {texts['name']}: {column} {error}; mend it.") from None
    digits = texts["sha256"]
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise UserError(f"{path}: {row['name']}: sha256 must be 64 hexadecimal digits; mend it.")
    if not texts["name"] or not texts["name"].replace("_", "").replace("-", "").isalnum():
        raise UserError(f"{path}: the name {row['name']!r} must be letters, digits, - and _.")
    return Recording(**texts, **times)


def fetch(recording: Recording, cache: str | Path | None = None, progress: bool = False) -> Path:
    """The whole file of a recording, downloaded unless the folder ``cache`` (the user's) has it.

    A UserError if the address does not answer, or gives another file than the registry's.
    """
    import pooch
    import requests

    folder = Path(cache) if cache is not None else user_cache()
    # Named by its checksum too: a registry may hold two files of one name.
    target = folder / f"{recording.sha256[:8]}-{recording.file}"
    by_hand = f"put the file there by hand as {target} and run again"
    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT_SECONDS)
    try:
        found = pooch.retrieve(
            recording.url, f"sha256:{recording.sha256}", target.name, folder, downloader=downloader
        )
    except requests.HTTPError as error:
        answer = f"{error.response.status_code} {error.response.reason}"
        wrong = f"answers {answer} for recording {recording.name!r}; {by_hand}."
    except requests.RequestException:
        wrong = f"cannot be reached for recording {recording.name!r}; connect to the network, or"
        wrong += f" {by_hand}."
    except ValueError:  # pooch's own answer to a wrong checksum; the download is removed by then
        wrong = f"gives another file than the registry's recording {recording.name!r} (SHA-256"
        wrong += f" {recording.sha256[:12]}...); nothing was kept; {by_hand}."
    else:
        return Path(found)
    raise UserError(f"{recording.url} {wrong}")


def excerpt(recording: Recording, path: str | Path) -> tuple[np.ndarray, int]:
    """The excerpt's samples, float64 of shape (samples, channels), and the rate in Hz."""
    with soundfile.SoundFile(path) as handle:
        first = round(recording.start * handle.samplerate)
        if first >= len(handle):
            raise UserError(
                f"{path} ends after {len(handle) / handle.samplerate:.1f} s, before the excerpt "
                f"at {recording.start:g} s begins; mend start_s in the registry."
            )
        handle.seek(first)
        samples = handle.read(round(recording.length * handle.samplerate), always_2d=True)
        return samples, handle.samplerate


def make_folder(
    out: str | Path,
    names: Sequence[str] = (),
    cache: str | Path | None = None,
    registry: str | Path = REGISTRY,
    progress: bool = False,
) -> list[Path]:
    """Fetch recordings and write their excerpts with a manifest, as a folder of clips.

    Each excerpt becomes ``out/NAME.flac`` at its own rate; all files are fetched before the
    first is written. A name that is not in the registry, a file that cannot be had, or a folder
    that holds what this did not write is a UserError.

    Args:
        names: which recordings (default: all), in the registry's order.
        cache: folder of downloads (default: the user's).
    """
    entries = read_registry(registry)
    unknown = [name for name in names if name not in entries]
    if unknown:
        raise UserError(f"no recording is called {unknown[0]!r}; there are {', '.join(entries)}.")
    chosen = [entry for name, entry in entries.items() if not names or name in names]
    known = _listed(Path(out))
    sources = [fetch(entry, cache, progress) for entry in chosen]
    paths = [Path(out) / f"{entry.name}.flac" for entry in chosen]
    for entry, source, path in zip(chosen, sources, paths, strict=True):
        samples, rate = excerpt(entry, source)
        samples = samples / max(1.0, np.abs(samples).max())  # lossy sources may overshoot
        with atomic_path(path) as temporary:
            soundfile.write(temporary, samples, rate, format="FLAC", subtype="PCM_16")
    rows = {row["file"]: row for row in known}
    for entry, path in zip(chosen, paths, strict=True):
        row = {name: getattr(entry, name, "") for name in _MANIFEST}
        changes = f"excerpt from {entry.start:g} s, at most {entry.length:g} s"
        rows[path.name] = row | {"file": path.name, "class": entry.category, "changes": changes}
    text = io.StringIO()
    writer = csv.DictWriter(text, _MANIFEST, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows.values())
    atomic_write(Path(out) / "manifest.csv", text.getvalue())
    return paths


# Caption, class and all that the licences ask to be named.
_MANIFEST = ("file", "caption", "title", "author", "origin", "licence", "licence_url")
_MANIFEST += ("class", "changes")


def _listed(out: Path) -> list[dict[str, str]]:
    """The manifest's rows of an earlier run; a UserError for a folder that this did not write."""
    path = out / "manifest.csv"
    if path.is_file():
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as handle:
            reader = csv.DictReader(handle)
            if tuple(reader.fieldnames or ()) == _MANIFEST:
                check_outputs([path])
                return list(reader)
    check_folder(out, "recordings")
    return []
