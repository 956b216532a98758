"""The gate for outputs: every command that writes, every way in which an input can be named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from audioldm_utils.cli import commands
from audioldm_utils.cli import main as cli
from audioldm_utils.cli.jobs import each, pairs, sentence
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_path, atomic_write
from audioldm_utils.outputs import (
    AUDIO,
    TABLE,
    check_folder,
    check_outputs,
    mark_folder,
)
from audioldm_utils.results import summaries as results

ROOT = Path(__file__).resolve().parents[2]

#: Each command that writes, with {in} for what it reads and {out} for what it writes, and the
#: suffix of both where one file can be named as either.
WRITERS = {
    "reconstruct": (["{in}", "{out}"], ".wav"),
    "stream": (["{in}", "{out}"], ".wav"),
    "decode": (["{in}", "{out}"], ".wav"),
    "encode": (["{in}", "{out}"], ".ddcm"),
    "generate": (["rain", "{out}", "--audio-prompt", "{in}"], ".wav"),
    "compare": (["{in}", "{in}", "--out", "{out}"], ".csv"),
    "evaluate": (["clips", "clips", "--out", "{out}"], ".csv"),
    "evidence": (["--audio", "clips", "--shipped", "clips", "--out", "{folder}"], ".csv"),
}
#: They fill a folder, or the folder of a checkpoint's fits; their own tests are below.
FILLERS = {"report", "sweep", "recordings", "fit"}
READERS = {"inspect"}

# All in one process, which must not have loaded the networks' library by the end.
SCRIPT = """
import contextlib, io, json, sys
from audioldm_utils.cli.main import main
told = []
for arguments in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    told.append([code, said.getvalue()])
print(json.dumps([told, "torch" in sys.modules]))
"""


def run_all(calls, folder):
    """Exit status and standard error of each call; nothing heavy may have been loaded."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(calls),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    told, loaded = json.loads(done.stdout.splitlines()[-1])
    assert not loaded
    return told


def tone(path, seconds=0.2):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.1 * np.sin(np.arange(round(16000 * seconds)) / 10), 16000)
    return path


@pytest.fixture
def place(tmp_path):
    """A folder with something to read for every command."""
    tone(tmp_path / "x.wav")
    tone(tmp_path / "clips" / "x.wav")
    (tmp_path / "clips" / "manifest.csv").write_text("file,caption\nx.wav,a tone\n")
    builder = results.ResultsBuilder(seed=0, method="vae")
    for i in range(3):
        builder.add(f"clip {i}", "log_mel", i / 7, "dB")
    results.write(builder.table(), tmp_path / "x.csv")
    (tmp_path / "x.ddcm").write_bytes(b"codes")
    return tmp_path


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_command_is_in_one_of_the_lists():
    there = {path.stem for path in Path(commands.__file__).parent.glob("[a-z]*.py")}
    assert there == WRITERS.keys() | FILLERS | READERS


def test_no_command_overwrites_what_it_reads(place):
    """By the same path, a longer one, a symbolic and a hard link."""
    calls = []
    for name, (words, suffix) in WRITERS.items():
        source = {"evaluate": "clips/manifest.csv"}.get(name, f"x{suffix}")
        links = [f"{name}-soft{suffix}", f"{name}-hard{suffix}"]
        (place / links[0]).symlink_to(place / source)
        os.link(place / source, place / links[1])
        if name == "evidence":  # it names its files itself
            (place / "out").mkdir()
            os.link(place / "clips" / "x.wav", place / "out" / "01_ladder.csv")
        for output in (source, f"clips/../{source}", str(place / source), *links):
            where = {"in": source, "out": output, "folder": "out"}
            calls.append([name, *(word.format(**where) for word in words)])
    before = contents(place)
    for call, (code, said) in zip(calls, run_all(calls, place), strict=True):
        assert code == 2, call
        assert said.startswith("audioldm-utils: error: "), call
        assert said.count("\n") == 1, call
        assert "is an input of this run" in said, call
    assert contents(place) == before


def test_an_input_in_a_folder_that_is_the_output(place):
    calls = [
        ["reconstruct", "clips/x.wav", "clips/x.wav"],
        ["reconstruct", "clips", "clips"],
        ["decode", "coded", "coded"],
    ]
    tone(place / "one" / "a.flac")
    calls.append(["reconstruct", "one/a.flac", "one"])
    (place / "coded").mkdir()
    (place / "coded" / "a.ddcm").write_bytes(b"codes")
    before = contents(place)
    for call, (code, said) in zip(calls, run_all(calls, place), strict=True):
        assert code == 2, call
        assert "is an input of this run" in said or "is the input" in said, call
    assert contents(place) == before


def test_suffixes_folders_and_places_that_cannot_be_written(place):
    (place / "file").write_text("no folder")
    (place / "sounds.wav").mkdir()
    (place / "tables.csv").mkdir()
    os.mkfifo(place / "pipe.wav")
    calls, parts = [], []
    for name, (words, suffix) in WRITERS.items():
        for output, part in (
            (f"o{'.wav' if suffix == '.ddcm' else '.xyz'}", "change the suffix"),
            (f"file/o{suffix}", "is a file"),
            (f"{'n' * 300}{suffix}", "name too long"),
        ):
            if name != "evidence":
                where = {"in": f"x{suffix}", "out": output}
                calls.append([name, *(word.format(**where) for word in words)])
                parts.append(part)
    for call, part in (
        (["stream", "x.wav", "pipe.wav"], "no ordinary file"),
        (["stream", "x.wav", "sounds.wav"], "is a folder"),
        (["compare", "x.csv", "x.csv", "--out", "tables.csv"], "is a folder"),
        (["compare", "x.csv", "x.csv", "--out", "/dev/null"], "change the suffix"),
        (["encode", "clips", "x.wav"], "is a file"),
        (["reconstruct", "clips", "file"], "is a file"),
        (["evidence", "--audio", "clips", "--shipped", "clips", "--out", "file"], "is a file"),
    ):
        calls.append(call)
        parts.append(part)
    before = contents(place)
    for call, part, (code, said) in zip(calls, parts, run_all(calls, place), strict=True):
        assert code == 2, call
        assert said.count("\n") == 1, (call, said)
        assert part.lower() in said.lower(), (call, said)
    assert contents(place) == before


def test_places_that_let_nothing_be_made(tmp_path, monkeypatch):
    """Root may write anywhere, so the refusal is put in by hand."""
    (tmp_path / "there.wav").write_bytes(b"")
    denied = {tmp_path}
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in denied)
    with pytest.raises(UserError, match="cannot be written to; name another place"):
        check_outputs([tmp_path / "new" / "a.wav"], kind=AUDIO)
    with pytest.raises(UserError, match="cannot be written to; name another place"):
        check_folder(tmp_path / "out", "report")
    denied = {tmp_path / "there.wav"}
    with pytest.raises(UserError, match=r"there\.wav is write-protected"):
        check_outputs([tmp_path / "there.wav"], kind=AUDIO)


def test_two_clips_that_would_become_one_file(place):
    tone(place / "clips" / "a" / "x.wav")
    tone(place / "clips" / "b" / "x.wav")
    (place / "clips" / "manifest.csv").write_text("file\na/x.wav\nb/x.wav\n")
    with pytest.raises(UserError, match="would be written twice"):
        pairs(place / "clips", place / "out", ".ddcm", audio=True)


def test_what_the_gate_lets_through(place):
    check_outputs([place / "new" / "deep" / "o.WAV", place / "x.wav"], [place / "gone"], AUDIO)
    check_outputs([place / "o.csv", place / "o.parquet"], [place / "x.csv"], TABLE)
    check_outputs(["o.wav"])
    assert not (place / "new").exists()


# --- folders -------------------------------------------------------------------------------------


def test_a_folder_belongs_to_what_filled_it(tmp_path):
    out = tmp_path / "out"
    check_folder(out, "report")
    assert not out.exists()
    mark_folder(out, "report")
    (out / "html").mkdir()
    check_folder(out, "report")
    with pytest.raises(UserError, match="was not written by `audioldm-utils sweep`"):
        check_folder(out, "sweep")
    other = tmp_path / "other"
    other.mkdir()
    (other / "..audioldm-utils.123.tmp").write_text("rep")
    (other / ".lock").write_text("")
    check_folder(other, "report")
    (other / "stage").mkdir()
    with pytest.raises(UserError, match="other is not empty and was not written by"):
        check_folder(other, "report")
    check_folder(other, "report", only=frozenset({"html"}))
    with pytest.raises(UserError, match="not empty"):
        check_folder(other, "report", only=frozenset({"stage"}))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file"):
        check_folder(tmp_path / "file", "report")


def test_a_report_touches_no_folder_that_is_not_its_own(tmp_path):
    from audioldm_utils.book.report import run_report
    from tests.demo_project import write_notebook

    root = tmp_path.resolve() / "clone"
    write_notebook(root / "notebooks", "01_a", '# %% tags=["parameters"]\nseed: int = 0  # x\n')
    (root / "book").mkdir()
    tone(root / "data" / "audio" / "a.wav")
    tone(root / "build" / "results" / "recordings" / "a.wav")
    for folder in ("stage", "html"):
        (root / "mine" / folder).mkdir(parents=True)
        (root / "mine" / folder / "photo.jpg").write_bytes(b"photo")
    before = contents(root)
    for out, part in (
        ("mine", "is not empty"),
        (".", "is not empty"),
        ("notebooks", "is not empty"),
        ("notebooks/new", "which the book is made of"),
        ("book/new", "which the book is made of"),
        ("data/audio", "is not empty"),
        ("build", "is not empty"),  # the clone's own, but something lies where reports write
    ):
        with pytest.raises(UserError, match=part):
            run_report(root / "data" / "audio", "tiny/hub", root / out, root=root, progress=None)
    mark_folder(root / "build", "report")
    with pytest.raises(UserError, match="lies where the report writes"):
        run_report(root / "build" / "results" / "recordings", "tiny/hub", root / "build", root=root)
    (root / "build" / ".audioldm-utils").unlink()
    assert contents(root) == before


def test_a_sweep_touches_no_folder_that_is_not_its_own(place):
    (place / "clips" / "results.csv").write_text("mine")
    (place / "sweep.yml").write_text("audio: clips\n")
    before = contents(place)
    (call,) = run_all([["sweep", "sweep.yml", "--out", "clips"]], place)
    assert call[0] == 2
    assert "is not empty and was not written by `audioldm-utils sweep`" in call[1]
    assert contents(place) == before


def test_a_fit_that_could_not_be_kept_is_not_begun(place, monkeypatch, capsys):
    (place / "fits").write_text("a file")
    monkeypatch.setenv("AUDIOLDM_UTILS_FITS", str(place / "fits"))
    load = "audioldm_utils.model.checkpoint.load"
    monkeypatch.setattr(load, lambda *_, **__: pytest.fail("loaded"))
    assert cli.main(["fit", "--audio", str(place / "clips"), "--parts", "vq"]) == 2
    assert "fits is a file" in capsys.readouterr().err


# --- what could not be written, and one bad file of many -----------------------------------------


def test_the_hidden_temporary_file_is_never_named(tmp_path):
    def full(temporary):
        raise OSError(28, "No space left on device")

    def denied(temporary):
        raise PermissionError(13, "Permission denied", str(temporary))

    def library(temporary):
        raise OSError(f"[Errno 28] Error writing bytes to file {temporary}")

    def another(temporary):
        raise FileNotFoundError(2, "No such file or directory", "in.wav")

    def pipe(temporary):
        raise BrokenPipeError(32, "Broken pipe")

    path = tmp_path / "out.wav"
    path.write_text("old")
    for fault, named in ((full, True), (denied, True), (library, True), (another, False)):
        with pytest.raises(OSError) as caught, atomic_path(path) as temporary:  # noqa: PT011
            fault(temporary)
        assert (str(path) in str(caught.value)) is named
        assert ".tmp" not in str(caught.value)
        assert type(caught.value) is not OSError or fault is not denied
    with pytest.raises(BrokenPipeError) as broken, atomic_path(path) as temporary:
        pipe(temporary)
    assert broken.value.filename is None
    assert [p.name for p in tmp_path.iterdir()] == ["out.wav"]
    assert path.read_text() == "old"


def test_a_name_as_long_as_the_system_takes_can_be_written(tmp_path):
    path = tmp_path / f"{'n' * 250}.csv"
    atomic_write(path, "x")
    assert path.read_text() == "x"


def test_one_bad_file_stops_no_other(capsys):
    faults = {
        "a": UserError("the prompt is too long"),
        "b": OSError(28, "No space left on device", "out/b.wav"),
        "c": OSError(28, "No space left on device"),
        "d": RuntimeError("not enough\n memory"),
        "e": UserError("clips/e.wav: silent"),
    }

    def one(source, target):
        if source.stem in faults:
            raise faults[source.stem]
        return f"{target}: done"

    jobs = [(Path(f"clips/{name}.wav"), Path(f"out/{name}.wav")) for name in "abcdefg"]
    assert each(jobs, one, "encode") == 2
    out, err = capsys.readouterr()
    assert out.splitlines() == ["out/f.wav: done", "out/g.wav: done"]
    assert [line for line in err.splitlines() if "error:" in line] == [
        "audioldm-utils: error: clips/a.wav: the prompt is too long",
        "audioldm-utils: error: out/b.wav: No space left on device",
        "audioldm-utils: error: clips/c.wav: No space left on device",
        "audioldm-utils: error: clips/d.wav: RuntimeError: not enough memory",
        "audioldm-utils: error: clips/e.wav: silent",
    ]
    assert "5 of 7 files failed" in err
    assert sentence(ValueError(""), Path("a.wav")) == "a.wav: ValueError"
