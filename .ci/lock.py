"""Write requirements.lock from pyproject.toml and the packages installed beside this Python.

Run after changing a dependency: install what is wanted into .venv, then
``.venv/bin/python .ci/lock.py``. The lock holds the dependencies, the ``dev`` extra, the
build backend, and everything these need in turn, each pinned; it is installed with
``pip install --no-deps``, so that nothing outside it is ever fetched.
"""

from __future__ import annotations

import importlib.metadata
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"

# visqol-python needs it for one small support vector regression and it comes as C++ source
# only; audioldm_utils.metrics.visqol_svr computes that regression instead.
LEFT_OUT = {"libsvm-official"}

# Versions from 3 on need Python 3.11.5 (or are withdrawn); Debian 12 has 3.11.2.
HELD_BACK = {"soupsieve": "2.8.4"}

# Needed under other Pythons or systems than the one that writes the lock.
ELSEWHERE = {
    "aiohappyeyeballs": ("2.7.1", 'python_version == "3.12"'),
    "aiohttp": ("3.14.5", 'python_version == "3.12"'),
    "aiosignal": ("1.4.0", 'python_version == "3.12"'),
    "appnope": ("1.0.0", 'sys_platform == "darwin"'),
    "audioop-lts": ("0.2.2", 'python_version >= "3.13"'),
    "frozenlist": ("1.8.0", 'python_version == "3.12"'),
    "multidict": ("7.2.1", 'python_version == "3.12"'),
    "propcache": ("0.5.4", 'python_version == "3.12"'),
    "standard-aifc": ("3.13.0", 'python_version >= "3.13"'),
    "standard-chunk": ("3.13.0", 'python_version >= "3.13"'),
    "standard-sunau": ("3.13.0", 'python_version >= "3.13"'),
    "yarl": ("1.25.1", 'python_version == "3.12"'),
}


def direct_requirements() -> list[Requirement]:
    """Dependencies, the ``dev`` extra and the build backend, as pyproject.toml states them."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = table["project"]
    lines = [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *table["build-system"]["requires"],
    ]
    return [Requirement(line) for line in lines]


def needs(requirement: Requirement) -> Iterator[Requirement]:
    """What an installed distribution needs under this Python, its extras included."""
    for line in importlib.metadata.requires(requirement.name) or []:
        needed = Requirement(line)
        extras = ("", *requirement.extras)
        if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
            yield needed


def closure(requirements: Iterable[Requirement]) -> dict[str, str]:
    """Name to version of the given requirements and of all that they need in turn."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or name in LEFT_OUT:
            continue
        seen.add(key)
        # The local part ("+cpu") says which build it is, not which version.
        pins[name] = importlib.metadata.version(requirement.name).split("+")[0]
        waiting.extend(needs(requirement))
    return pins


def lock_text() -> str:
    """The lock file's content."""
    pins = closure(direct_requirements()) | HELD_BACK
    lines = {name: f"{name}=={version}" for name, version in pins.items()}
    for name, (version, marker) in ELSEWHERE.items():
        lines.setdefault(name, f"{name}=={version} ; {marker}")
    header = (
        "# Written by .ci/lock.py from pyproject.toml. Python 3.11 to 3.13, Linux and macOS.\n"
        "# Install with --no-deps: the list is complete (`make` does).\n"
    )
    return header + "".join(f"{lines[name]}\n" for name in sorted(lines))


if __name__ == "__main__":
    LOCK.write_text(lock_text())
