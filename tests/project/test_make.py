"""The Makefile and the installer behind it, without installing anything."""

import functools
import http.server
import re
import runpy
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLER = str(ROOT / ".ci" / "install.py")

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="there is no make")


def make(*arguments, folder=ROOT):
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def copy_set_up(folder):
    for name in ("Makefile", "requirements.lock", "pyproject.toml", ".ci/install.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


@pytest.fixture
def reachable():
    """The installer's function, with half a second of patience."""
    function = runpy.run_path(INSTALLER)["reachable"]
    function.__globals__["PROBE_SECONDS"] = 0.5
    return function


def test_help_lists_every_target():
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    said = make()
    for target in phony.split():
        assert f"make {target} " in said
    assert "TORCH_INDEX=URL" in said
    assert "AUDIO=DIR CHECKPOINT=C" in said


def test_report_hands_over_its_variables():
    said = make("-n", "report", "AUDIO=my clips", "CHECKPOINT=cvssp/audioldm2", "OUT=build/mine")
    assert '--audio "my clips" --checkpoint "cvssp/audioldm2" --out "build/mine"' in said
    assert '--audio "data/audio" --checkpoint "mini" --out "build"' in make("-n", "report")


@pytest.mark.parametrize("python", ["/nowhere/python3", "false"])
def test_a_missing_python_is_one_sentence(tmp_path, python):
    copy_set_up(tmp_path)
    done = subprocess.run(
        ["make", "test", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("make: no Python 3.11 to 3.13 found; say which with PYTHON=")
    assert not (tmp_path / ".venv").exists()


def test_a_changed_lock_asks_for_a_new_installation(tmp_path):
    copy_set_up(tmp_path)

    def stamp():
        (found,) = set(re.findall(r"touch (\S+)", make("-n", "setup", folder=tmp_path)))
        return tmp_path / found

    first = stamp()
    (tmp_path / ".venv").mkdir()
    first.touch()
    assert "touch" not in make("-n", "setup", folder=tmp_path)
    with (tmp_path / "requirements.lock").open("a") as handle:
        handle.write("another==1.0\n")
    assert stamp() != first


def test_an_index_that_refuses_is_not_waited_for(reachable):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not reachable(f"http://127.0.0.1:{unused.getsockname()[1]}")


def test_an_index_that_never_answers_is_given_up(reachable):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begin = time.monotonic()
        assert not reachable(f"http://127.0.0.1:{silent.getsockname()[1]}/whl")
        assert time.monotonic() - begin < 30


def test_an_index_that_lists_torch_is_used(tmp_path):
    reachable = runpy.run_path(INSTALLER)["reachable"]
    reachable.__globals__["PROBE_SECONDS"] = 60
    (tmp_path / "cpu" / "torch").mkdir(parents=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert reachable(f"{address}/cpu")
        assert reachable(f"{address}/cpu/")
        assert not reachable(f"{address}/cu128")
        server.shutdown()


def test_the_torch_pin_is_read_from_the_lock():
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", runpy.run_path(INSTALLER)["torch_pin"]())


def test_ci_runs_the_same_targets():
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert re.findall(r"^step ([\w-]+)", script, re.MULTILINE)[:5] == [
        "setup",
        "lint",
        "test",
        "test-processes",
        "report",
    ]
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_no_set_up_step_may_compile():
    assert '"--only-binary", ":all:"' in Path(INSTALLER).read_text()


def installs(commands):
    """The calls of pip; after them librosa is imported once, alone."""
    *calls, last = commands
    assert "import librosa" in last[-1]
    assert all("install" in command for command in calls)
    return calls


@pytest.mark.parametrize("index", ["", "http://127.0.0.1:9/cpu"])
def test_torch_from_elsewhere_brings_its_own_libraries(monkeypatch, capsys, index):
    script = runpy.run_path(INSTALLER)
    commands = []
    answer = type("Done", (), {"returncode": 0})
    script["main"].__globals__["reachable"] = lambda index: False
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command) or answer)
    monkeypatch.setenv("TORCH_INDEX", index)
    assert script["main"]() == 0
    (whole,) = [command for command in installs(commands) if "--no-deps" not in command]
    assert whole[-1] == script["torch_pin"]()
    assert "--constraint" in whole
    assert ("does not answer" in capsys.readouterr().out) == bool(index)


def test_torch_from_its_index_needs_nothing_more(monkeypatch):
    script = runpy.run_path(INSTALLER)
    commands = []
    answer = type("Done", (), {"returncode": 0})
    script["main"].__globals__["reachable"] = lambda index: True
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command) or answer)
    monkeypatch.setenv("TORCH_INDEX", "http://127.0.0.1:9/cpu")
    assert script["main"]() == 0
    assert all("--no-deps" in command for command in installs(commands))
