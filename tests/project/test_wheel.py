"""The wheel's route: built, installed elsewhere, used from an empty folder without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

ROOT = Path(__file__).resolve().parents[2]
MOST_MB = 60
KEPT = (
    "audioldm_utils",
    "data",
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
)


def pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Where the wheel is installed; what it depends on comes from this environment."""
    base = tmp_path_factory.mktemp("wheel")
    source = base / "source"
    source.mkdir()
    for name in KEPT:  # a build leaves files beside its source
        path = ROOT / name
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, source / name)
    offline = ("--no-index", "--no-deps")
    pip("wheel", *offline, "--no-build-isolation", "--wheel-dir", str(base), str(source))
    (wheel,) = base.glob("*.whl")
    assert wheel.stat().st_size < MOST_MB * 2**20
    pip("install", *offline, "--target", str(base / "site"), str(wheel))
    shutil.rmtree(source)
    return base / "site"


@pytest.mark.processes
def test_the_wheel_works_outside_a_clone(site, tmp_path):
    noise = np.random.default_rng(0).standard_normal(16000)
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    (tmp_path / "in").mkdir()
    sf.write(tmp_path / "in" / "clip.wav", 0.2 * tone + 0.02 * noise, 16000)
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(site),
        "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore",
    }  # fmt: skip

    def run(*words: str, status: int = 0) -> str:
        command = [sys.executable, *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def command(line: str, status: int = 0) -> str:
        return run(str(site / "bin" / "audioldm-utils"), *line.split(), status=status)

    where = "from audioldm_utils import load; c = load('mini'); print(c.path, c.fingerprint)"
    assert run("-c", where).startswith(str(site))
    typed = site / "audioldm_utils" / "py.typed"
    assert typed.is_file()
    command("reconstruct in out --method vae-restored")
    command("reconstruct in/clip.wav inverse.wav --synthesis inverse")
    command("encode in/clip.wav clip.ddcm --kbps 2 --steps 6")
    command("decode clip.ddcm again.wav")
    command("generate dog dog.wav --steps 2 --seconds 0.64")
    command("stream in/clip.wav stream.wav")
    assert "log_mel_distance" in command("evaluate in out --metrics log_mel_distance,snr")
    for name in ("out/clip.flac", "inverse.wav", "again.wav", "stream.wav"):
        assert sf.info(tmp_path / name).frames == 16000
    assert sf.info(tmp_path / "dog.wav").frames == 10240
    said = command("report", status=2)
    assert "notebooks" in said
    assert len(said.strip().splitlines()) == 1
