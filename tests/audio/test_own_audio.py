"""A reader's own folder, whatever is in it: by report, by chapter, by plain papermill."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from audioldm_utils.audio import survey as clips
from audioldm_utils.audio.clips import find_clips
from audioldm_utils.book.chapters import find_chapters
from audioldm_utils.cli import main as cli
from audioldm_utils.errors import UserError
from tests.demo_project import ROOT
from tests.mixed_folder import BAD, make_mixed, sound

NOTEBOOKS = ROOT / "notebooks"
TONE = 0.3 * np.sin(np.arange(16000) / 8)


def corrupt(path):
    sf.write(path, TONE, 16000)
    path.write_bytes(path.read_bytes()[:300])


#: File name, what writes it, what the sentence says.
BROKEN = {
    "missing": (None, None, "no such"),
    "nothing": (None, lambda path: None, "no audio files here"),
    "empty": ("a.wav", lambda path: path.touch(), "empty"),
    "zero length": ("a.wav", lambda path: sf.write(path, TONE[:0], 16000), "zero length"),
    "silent": ("a.wav", lambda path: sf.write(path, 0 * TONE, 16000), "silent"),
    "nan": ("a.wav", lambda p: sf.write(p, TONE * np.nan, 16000, subtype="FLOAT"), "NaN"),
    "corrupt": ("a.flac", corrupt, "cannot be read|cut short"),
    "text": ("a.wav", lambda path: path.write_text("Dear diary"), "cannot be read as audio"),
    "one sample": ("a.wav", lambda path: sf.write(path, TONE[:1] + 0.1, 16000), "too short"),
    "100 channels": (
        "a.wav",
        lambda path: sf.write(path, np.tile(TONE[:2000, None], 100), 16000),
        "100 channels",
    ),
}


@pytest.fixture(params=BROKEN)
def broken(request, tmp_path):
    """A folder with one thing wrong, and what the sentence about it says."""
    name, write, sentence = BROKEN[request.param]
    folder = tmp_path / "own"
    if write:
        folder.mkdir()
        write(folder / (name or "nothing"))
    return folder, sentence


def test_bad_audio_is_named(broken):
    folder, sentence = broken
    with pytest.raises(UserError, match=sentence):
        clips.survey(folder)


#: What the report and a chapter say comes from the survey: one of its cases each.
one_of_them = pytest.mark.parametrize("broken", ["corrupt"], indirect=True)


@one_of_them
def test_bad_audio_by_the_report(broken, tmp_path, capsys):
    folder, _ = broken
    status = cli.main(["report", "--audio", str(folder), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err.splitlines()
    assert status == 2
    assert len(said) == 1
    assert said[0].startswith(f"audioldm-utils: error: {folder}")
    assert not (tmp_path / "out").exists()


@one_of_them
def test_bad_audio_by_a_chapter(broken, tmp_path):
    """The cells of the first chapter up to the one that takes the clips."""
    import nbformat

    folder, sentence = broken
    notebook = nbformat.read(NOTEBOOKS / "01_bottleneck_analysis.ipynb", as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    last = next(n for n, cell in enumerate(cells) if "usable_clips(" in cell)
    given = f"audio_dir, out_dir = {str(folder)!r}, {str(tmp_path)!r}"
    with pytest.raises(UserError, match=sentence):
        exec("\n".join([cells[0], given, *cells[1 : last + 1]]), {})


@pytest.mark.parametrize("chapter", find_chapters(NOTEBOOKS), ids=lambda chapter: chapter.name)
def test_each_chapter_takes_its_clips_from_one_place(chapter):
    """Else one broken clip of a folder would stop it, or vanish from it unsaid."""
    source = chapter.path.with_suffix(".py").read_text()
    if chapter.parameter("audio_dir"):
        assert "usable_clips(audio_dir, limit)" in source
        assert "find_clips(" not in source


@pytest.mark.processes
def test_plain_papermill_ends_with_the_sentence(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "diary.wav").write_text("Dear diary")
    notebook = NOTEBOOKS / "01_bottleneck_analysis.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), str(tmp_path / "out.ipynb")]
    command += ["-p", "audio_dir", str(folder), "-p", "out_dir", str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f"UserError: {folder / 'diary.wav'}: cannot be read as audio (Format not recognised); "
        "convert it to WAV or FLAC."
    )


def test_a_mixed_folder_is_sorted_out(tmp_path):
    made = make_mixed(tmp_path / "mixed", seconds=12)
    begin = time.process_time()
    found = clips.survey(tmp_path / "mixed")
    assert time.process_time() - begin < 5
    assert len(made) == 30
    assert len(found.usable) == 27
    assert len(found.refused) == len(BAD) == 3
    for name, sentence in zip(sorted(BAD), found.refused, strict=True):
        assert name in sentence
    assert found.longer == ["clip_00"]
    assert [info.name for info in clips.survey(tmp_path / "mixed", limit=2).usable] == [
        "clip_00",
        "clip_01",
    ]
    (tmp_path / "mixed" / "notes.txt").write_text("of the session")
    (tmp_path / "mixed" / "README.md").write_text("of the folder")
    lines: list[str] = []
    assert clips.usable_clips(tmp_path / "mixed", say=lines.append) == found.usable
    assert lines[-1] == "not audio by their names, passed over: notes.txt"
    assert len(lines) == 5
    for name in set(made) - set(BAD):
        Path(tmp_path / "mixed" / name).unlink()
    with pytest.raises(UserError, match=r"none of its 3 clips can be used, the first since .*bad_"):
        clips.survey(tmp_path / "mixed")
    with pytest.raises(UserError, match="limit must be a whole number from 0"):
        clips.survey(tmp_path, limit=-1)


@pytest.mark.parametrize(
    ("command", "status", "left"),
    [
        (["reconstruct", "IN", "OUT"], 1, ["a.flac", "c.flac", "reconstruction.csv"]),
        (["encode", "IN", "OUT", "--steps", "2"], 2, ["a.ddcm", "c.ddcm"]),
        (["evaluate", "IN", "IN", "--out", "OUT/t.csv"], 1, ["t.csv", "t.parquet"]),
        (["fit", "--audio", "IN", "--parts", "vq", "--size", "4"], 0, ["vq.safetensors"]),
    ],
)  # fmt: skip
def test_one_bad_file_of_a_folder_is_named_and_stops_no_other(
    command, status, left, tiny_checkpoint, tmp_path, monkeypatch, capsys
):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for index, name in enumerate("abc"):
        sf.write(folder / f"{name}.wav", sound(index, 1, 16000, 1), 16000)
    whole = (folder / "b.wav").read_bytes()
    (folder / "b.wav").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setenv("AUDIOLDM_UTILS_FITS", str(out))
    words = [word.replace("IN", str(folder)).replace("OUT", str(out)) for word in command]
    words += ["--metrics", "snr"] if command[0] == "evaluate" else []
    words += ["--checkpoint", str(tiny_checkpoint)] if command[0] != "evaluate" else []
    assert cli.main(words) == status
    said = capsys.readouterr().err
    assert f"{folder / 'b.wav'}: the file is cut short or corrupt" in said
    assert "Traceback" not in said
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == left


def test_of_several_clips_those_that_load_are_taken(tmp_path):
    sf.write(tmp_path / "a.wav", sound(0, 1, 16000, 1), 16000)
    (tmp_path / "b.wav").touch()
    lines: list[str] = []
    found = [clip.name for clip in clips.loaded(find_clips(tmp_path), None, lines.append)]
    assert found == ["a"]
    assert [line.startswith(f"left out: {tmp_path / 'b.wav'}: the file") for line in lines] == [
        True
    ]
    (tmp_path / "a.wav").unlink()
    with pytest.raises(UserError, match=r"b\.wav: the file is empty"):
        list(clips.loaded(find_clips(tmp_path), None, lines.append))
