"""Every command and every Python example of the documentation, run as it is written.

The fenced blocks and the commands in the text of README, CONTRIBUTING, the book and its
chapters, and the examples of ``--help``, run in one folder with tiny clips and a tiny checkpoint
called mini, in this process, without a network. What does not is listed
in ``ELSEWHERE`` with what runs it.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import importlib
import io
import os
import pkgutil
import re
import shlex
import shutil
import socket
import subprocess
import sys
import types

import numpy as np
import pytest
import soundfile as sf

from audioldm_utils.cli import commands
from audioldm_utils.cli import main as cli
from audioldm_utils.model.checkpoint_files import MINI_VARIABLE
from audioldm_utils.model.denoiser import GuidedUNet
from audioldm_utils.results import summaries as results
from tests.demo_project import ROOT
from tests.demo_sweep import in_process
from tests.tiny import barely

__all__ = ["in_process"]

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "book").rglob("*.md"))]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.py"))
FENCE = re.compile(r"^```([^`\n]*)\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
SHELL = {"sh", "shell", "bash", "console"}
PROGRAMS = ("audioldm-utils ", "make ", "papermill ", "python ", "conda ", ".venv/bin/", ".ci/run")

#: What is not run here, and what runs it. ``make`` is asked for what it would do.
ELSEWHERE = {
    r"\.ci/run": "it is what runs these tests",
    r"\. \.venv/bin/activate": "sets up the shell; test_make makes the environment",
    r"conda env create|\.venv/bin/pip install": "needs a network and minutes",
    r"audioldm-utils report(?! --(list|write-pairs))": "minutes; .ci/run makes the report, and "
    "test_report one of two small chapters",
    r"audioldm-utils evidence": "hours on a real folder; test_studies runs two clips",
    r"papermill ": "minutes; test_notebooks runs every chapter so",
    r"python book/assets/make_ladder\.py": "writes into the project; see test_readme",
    r"python data/checkpoints/recipe": "hours; test_training has its loop on a toy",
    r"python benchmarks/": "minutes and an idle machine; a person runs them",
    r"audioldm-utils encode .*--mel-error": "a search; test_codec_commands has its own",
    r"audioldm-utils fit (?!.*--(size|help))": "a codebook of 1024 asks for many clips; test_fit",
    r".*--scheduler": "test_sweep starts a scheduler and workers over TCP",
}
#: Words in the text that only name a command which asks for more: its help is run.
NAMED = re.compile(
    r"audioldm-utils (encode|evaluate|fit( --parts placement)?|generate|reconstruct)"
)
#: What a command takes here where its line leaves it open: shorter, and the words are the same.
#: Decoding takes as many calls of the network as encoding did.
SHORTER = {"generate": {"seconds": 1.0, "steps": 10}, "encode": {"steps": 20}}
#: What must fail here, since it asks the network, with what it then says.
OFFLINE = {
    r".*cvssp/audioldm2": "cvssp/audioldm2",
    r"audioldm-utils recordings --out": "network",
}


def split(text: str) -> list[str]:
    """Single commands of a shell block: continued lines joined, comments off, at ``&&`` apart."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = re.sub(r"\s+#\s.*$", "", line.strip().removeprefix("$ "))
        found += [" ".join(part.split()) for part in words.split(" && ")]
    return [command for command in found if command and not command.startswith("#")]


def commands_module(name: str) -> types.ModuleType:
    return importlib.import_module(f"audioldm_utils.cli.commands.{name}")


def documented() -> list[str]:
    """All of them, each once, in the order in which they are read."""
    found = []
    for page in [*PAGES, *CHAPTERS]:
        text = page.read_text(encoding="utf-8")
        for language, block in FENCE.findall(text):
            if language in SHELL:
                found += split(block)
        for inline in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
            # Words in capitals stand for something.
            if inline.startswith(PROGRAMS) and not re.search(r"\b[A-Z]+\b", inline):
                found.append(f"{inline} --help" if NAMED.fullmatch(inline) else inline)
    for info in pkgutil.iter_modules(commands.__path__):
        examples = commands_module(info.name).EXAMPLES
        found += split("\n".join(x for x in examples.splitlines() if x.startswith("  ")))
    return list(dict.fromkeys(found))


def python_blocks() -> dict[str, list[str]]:
    """The Python examples of each page. A later one may use what an earlier one made."""
    found = {}
    for page in PAGES:
        fences = FENCE.findall(page.read_text(encoding="utf-8"))
        found[page.stem] = [block for language, block in fences if language == "python"]
    return {name: blocks for name, blocks in found.items() if blocks}


def reason(command: str) -> str | None:
    return next((why for which, why in ELSEWHERE.items() if re.match(which, command)), None)


COMMANDS = documented()
HERE = [c for c in COMMANDS if c.startswith("audioldm-utils ") and not reason(c)]


def test_every_command_is_run_or_has_its_reason():
    assert len(COMMANDS) > 40
    makes = [c for c in COMMANDS if c.startswith("make ")]
    left = [c for c in COMMANDS if c not in HERE and c not in makes and not reason(c)]
    assert left == []
    unused = [which for which in ELSEWHERE if not any(re.match(which, c) for c in COMMANDS)]
    assert unused == []
    assert len(HERE) > 30


def test_make_commands_are_understood(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "install.py", tmp_path / ".ci")
    for command in [c for c in COMMANDS if c.startswith("make ")]:
        words = shlex.split(command)
        shown = subprocess.run(
            ["make", "--dry-run", *words[1:]], cwd=tmp_path, capture_output=True, text=True,
            check=True,
        ).stdout  # fmt: skip
        for line in shown.splitlines():
            if line.startswith(".venv/bin/audioldm-utils"):
                cli.build_parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.startswith("audioldm-utils ") and reason(c)]
)
def test_what_runs_elsewhere_is_understood(command):
    assert callable(cli.build_parser().parse_args(shlex.split(command)[1:]).run)


def sound(seconds: float, rate: int, seed: int) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    hiss = np.random.default_rng(seed).standard_normal(len(time))
    tone = np.sin(2 * np.pi * 220 * (1 + seed % 3) * time)
    return 0.2 * tone * np.exp(-3 * (time % 0.5)) + 0.01 * hiss


def table(offset: float):
    builder = results.ResultsBuilder(seed=0, method="vae")
    for i in range(4):
        for metric in ("log_mel", "log_mel_distance", "snr"):
            builder.add(f"clip{i}", metric, offset + i + i * offset, "dB")
    return builder.table()


@pytest.fixture(scope="module", autouse=True)
def without_unet():
    """The commands are what is tried here; the UNet has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GuidedUNet, "_run", barely)
        yield


@pytest.fixture(scope="module")
def place(tiny_checkpoint, tmp_path_factory):
    """A folder with everything that the examples name."""
    from audioldm_utils.cli.commands.fit import run as fit

    root = tmp_path_factory.mktemp("documented")
    shutil.copytree(tiny_checkpoint, root / "mini")
    (root / "data").mkdir()
    for i, name in enumerate(("clip.wav", "in.wav", "song.wav", "my.wav", "输入.wav")):
        sf.write(root / name, sound(1.3, 16000, i), 16000)
    folders = ("my-clips", "my_clips", "recordings", "in", "data/audio", "a", "b")
    pairs = ("original", "reconstructed", "originals", "decoded")
    for i, name in enumerate((*folders, *pairs)):
        (root / name).mkdir()
        # Under a second, so that the dear metric of hearing does not apply.
        sf.write(root / name / "clip.wav", sound(0.5, 16000, i), 16000)
    (root / "my_train_clips").mkdir()
    # As `audioldm-utils recordings` leaves it: a folder of somebody else it would refuse.
    (root / "recordings" / "manifest.csv").write_text(
        "file,caption,title,author,origin,licence,licence_url,class,changes\n"
        "clip.wav,a tone that fades,,,,,,,\n"
    )
    for i in range(12):
        sf.write(root / "my_train_clips" / f"{i}.wav", sound(2.56, 16000, i), 16000)
    (root / "sound.raw").write_bytes((sound(0.5, 48000, 0) * 32767).astype("<i2").tobytes())
    shutil.copytree(ROOT / "examples", root / "examples")
    for i, name in enumerate(("build/mine", "build/theirs", "before", "after")):
        results.write(table(i % 2), root / name / "results")
    for i, name in enumerate(("before", "after")):
        results.write(table(i), root / name)
    with pytest.MonkeyPatch.context() as patch:
        # The name means the shipped one wherever one stands: its fits would be written over.
        patch.setenv(MINI_VARIABLE, str(root / "mini"))
        with contextlib.chdir(root):
            words = [
                "fit",
                "--checkpoint",
                "mini",
                "--audio",
                "my_train_clips",
                "--max-seconds",
                "1",
            ]
            words += ["--parts", "compensation", "vq", "--size", "16", "--limit", "4"]
            assert fit(cli.build_parser().parse_args(words)) == 0
            made = ["encode", "in.wav", "out.ddcm", "--checkpoint", "mini", "--steps", "20"]
            assert cli.main([*made, "--kbps", "1"]) == 0
            (root / "coded").mkdir()
            shutil.copy("out.ddcm", "coded/one.ddcm")
            for name in ("song", "输出"):
                shutil.copy("out.ddcm", f"{name}.ddcm")
            words = ["stream", "clip.wav", "clip.ddcs", "--steps", "2", "--window", "0.64"]
            assert cli.main([*words, "--overlap", "0.16"]) == 0
        yield root


@contextlib.contextmanager
def redirected(words: list[str], monkeypatch):
    """Take ``< file`` and ``> file`` off and do them."""
    for sign, name in (("<", "stdin"), (">", "stdout")):
        if sign in words:
            at = words.index(sign)
            buffer = open(words[at + 1], "rb" if sign == "<" else "wb")  # noqa: SIM115
            monkeypatch.setattr(sys, name, io.TextIOWrapper(buffer, write_through=True))
            del words[at : at + 2]
    yield


@pytest.fixture
def shorter(monkeypatch):
    add = {name: commands_module(name).add_arguments for name in SHORTER}

    def add_shorter(parser, name):
        add[name](parser)
        parser.set_defaults(**SHORTER[name])

    for name in SHORTER:
        replaced = functools.partial(add_shorter, name=name)
        monkeypatch.setattr(commands_module(name), "add_arguments", replaced)


@pytest.mark.usefixtures("in_process", "shorter")
@pytest.mark.parametrize("command", HERE)
def test_command_as_written(command, place, monkeypatch, capsys):
    def no_network(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    words = shlex.split(command)[1:]
    real = socket.socket.connect

    def connect(self, address):
        local = not isinstance(address, tuple) or address[0] in ("127.0.0.1", "localhost", "::1")
        return real(self, address) if local else no_network()

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setenv("AUDIOLDM_UTILS_CACHE", str(place / "cache"))
    monkeypatch.chdir(ROOT if words[0] == "report" else place)
    words = [x for word in words for x in (sorted(glob.glob(word)) if "*" in word else [word])]
    offline = next((said for which, said in OFFLINE.items() if re.match(which, command)), None)
    if words[-1] == "--help":
        with pytest.raises(SystemExit) as left:
            cli.main(words)
        assert left.value.code == 0
        return
    with redirected(words, monkeypatch):
        status = cli.main(words)
    if offline:
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert status == 2
        assert said.startswith("audioldm-utils: error: ")
        assert offline in said
    else:
        assert status == 0
    for word in words[1:]:
        if re.fullmatch(r"[^-/*]+\.(wav|flac|ddcm|ddcs)", word):
            assert os.path.getsize(word) > 40


@pytest.mark.parametrize("page", python_blocks())
def test_python_examples_of_a_page(page, place, monkeypatch):
    monkeypatch.chdir(place)
    names: dict[str, object] = {}
    for number, block in enumerate(python_blocks()[page]):
        lines = [line for line in block.splitlines() if line.strip()]
        assert len([line for line in lines if not line.startswith(("import ", "from "))]) <= 10
        exec(compile(block, f"example {number + 1} of {page}", "exec"), names)


def test_a_shell_block_is_taken_apart():
    text = "$ make test  # all\na b \\\n  c && d '#e'\n\n# only words\n"
    assert split(text) == ["make test", "a b c", "d '#e'"]
