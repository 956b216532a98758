"""Install the locked packages and this project into the environment that runs this file.

torch comes first, from TORCH_INDEX, since the CPU build is a tenth of the default one. Where
that index cannot be reached within a few seconds, pip's own configuration decides, as it
does for all other packages. An empty TORCH_INDEX skips the attempt. What comes then may be the
build for GPUs, whose own libraries are installed with it: the lock file does not name them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_SECONDS = 5
#: numba keeps what librosa compiles when it is first imported. Here that is done by one process:
#: two that write it at once may leave what crashes every later one.
COMPILE = "import librosa; librosa.pyin; librosa.griffinlim"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def reachable(index: str) -> bool:
    """Whether the index lists torch, told within PROBE_SECONDS, name look-up included."""
    probe = (
        "import sys, urllib.request\n"
        f"urllib.request.urlopen(sys.argv[1], timeout={PROBE_SECONDS}).close()"
    )
    # A process of its own, since no time limit of Python's covers the name look-up.
    try:
        done = subprocess.run(
            [sys.executable, "-c", probe, f"{index.rstrip('/')}/torch/"],
            timeout=PROBE_SECONDS + 1,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def torch_pin() -> str:
    """The line of the lock file that pins torch."""
    return next(line for line in LOCK.read_text().splitlines() if line.startswith("torch=="))


def install(*arguments: str, dependencies: bool = False) -> bool:
    """Run ``pip install``, without dependencies (the lock is complete); True on success."""
    command = [*PIP, "install", "--quiet", *(() if dependencies else ("--no-deps",)), *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def main() -> int:
    """Install everything; the exit status says whether all of it is there."""
    index = os.environ.get("TORCH_INDEX", CPU_INDEX)
    from_index = False
    if index and not reachable(index):
        print(f"TORCH_INDEX {index} does not answer: torch comes from pip's default index.")
    elif index:
        from_index = install("--index-url", index, torch_pin())
        if not from_index:
            print(f"TORCH_INDEX {index} has no {torch_pin()}: it comes from pip's default index.")
    print("Installing the packages of requirements.lock ...", flush=True)
    # Wheels only: nothing here may need a compiler.
    if not install("--only-binary", ":all:", "--requirement", str(LOCK)):
        return 1
    # Does nothing where pip's own index holds a CPU build; the one for GPUs needs CUDA's libraries.
    needed = ("--only-binary", ":all:", "--constraint", str(LOCK), torch_pin())
    if not from_index and not install(*needed, dependencies=True):
        return 1
    if not install("--no-build-isolation", "--editable", "."):
        return 1
    print("Compiling librosa's functions ...", flush=True)
    return subprocess.run([sys.executable, "-c", COMPILE], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
