"""pyproject.toml, requirements.lock and environment.yml say the same."""

import importlib.metadata
import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if not line.startswith("#")
]
PINS = {requirement.name: requirement for requirement in LOCK}


def direct_requirements():
    project = PYPROJECT["project"]
    return [
        Requirement(line)
        for line in [
            *project["dependencies"],
            *project["optional-dependencies"]["dev"],
            *PYPROJECT["build-system"]["requires"],
        ]
    ]


def version_of(requirement):
    (specifier,) = requirement.specifier
    return specifier.version


def test_every_line_of_the_lock_is_one_exact_pin():
    for requirement in LOCK:
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        assert "*" not in specifier.version, requirement
        assert requirement.name == canonicalize_name(requirement.name), requirement
    assert len(PINS) == len(LOCK)


@pytest.mark.parametrize("requirement", direct_requirements(), ids=lambda r: r.name)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(requirement):
    pin = PINS[canonicalize_name(requirement.name)]
    assert pin.marker is None
    assert requirement.specifier.contains(version_of(pin)), (str(requirement), str(pin))


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_the_lock_is_complete_for_what_is_installed(python, system):
    """Each locked package's own needs are locked too, under every Python and system."""
    left_out = runpy.run_path(str(ROOT / ".ci" / "lock.py"))["LEFT_OUT"]
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.2",
        "sys_platform": system,
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}[system],
        "os_name": "posix",
        "extra": "",
    }
    installed = {canonicalize_name(d.name): d for d in importlib.metadata.distributions()}
    checked = 0
    for pin in LOCK:
        if pin.name not in installed:
            assert pin.marker is not None, f"{pin} is not installed"
            continue
        for line in installed[pin.name].requires or []:
            needed = Requirement(line)
            if needed.marker and not needed.marker.evaluate(environment):
                continue
            name = canonicalize_name(needed.name)
            if name in left_out:
                continue
            locked = PINS[name]
            assert locked.marker is None or locked.marker.evaluate(environment), (pin, locked)
            assert needed.specifier.contains(version_of(locked)), (str(pin), str(needed))
            checked += 1
    assert checked > 300


def test_markers_name_only_pythons_and_systems():
    for pin in LOCK:
        if pin.marker is not None:
            assert isinstance(pin.marker, Marker)
            assert re.fullmatch(
                r'(python_version (==|>=) "3\.1[23]"|sys_platform == "darwin")', str(pin.marker)
            )


def test_the_conda_environment_installs_the_lock_and_nothing_else():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PYPROJECT["project"]["name"]
    plain = [line for line in environment["dependencies"] if isinstance(line, str)]
    (from_pip,) = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    assert plain == ["python=3.12", "pip", "make", "cxx-compiler"]
    assert from_pip[1:] == [
        "--requirement requirements.lock",
        "libsvm-official==3.37.0",
        "--editable .",
    ]
    python = plain[0].removeprefix("python=")
    allowed = Requirement(f"python{PYPROJECT['project']['requires-python']}").specifier
    assert allowed.contains(f"{python}.0")


def test_what_needs_a_compiler_is_an_extra_and_not_locked():
    assert [
        Requirement(line).name for line in PYPROJECT["project"]["optional-dependencies"]["speech"]
    ] == ["pesq"]
    assert not {"pesq", "libsvm-official"} & PINS.keys()


def test_torch_index_is_documented_and_the_same_everywhere():
    index = runpy.run_path(str(ROOT / ".ci" / "install.py"))["CPU_INDEX"]
    assert f"TORCH_INDEX ?= {index}\n" in (ROOT / "Makefile").read_text()
    assert f"--extra-index-url {index}\n" in (ROOT / "environment.yml").read_text()
