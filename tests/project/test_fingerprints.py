"""Which code a result's fingerprint holds: all that it depends on, and nothing else."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import audioldm_utils
from audioldm_utils.book.execution import NOT_IN_CHAPTERS
from audioldm_utils.files import package_hash
from audioldm_utils.sweep.plan import NOT_IN_RESULTS

PACKAGE = Path(audioldm_utils.__file__).parent
ROOT = PACKAGE.parent
NAME = PACKAGE.name


def file_of(name: str) -> Path | None:
    """The file of a module of this package."""
    base = ROOT.joinpath(*name.split("."))
    files = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in files if path.is_file()), None)


@cache
def named_in(path: Path) -> frozenset[str]:
    """Modules of this package that a file imports anywhere, or names in a text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value}
    return frozenset(name for name in found if name.startswith(f"{NAME}.") and file_of(name))


def reached(start: list[Path]) -> set[str]:
    """Modules and folders of the package that files reach, one through another."""
    seen: set[str] = set()
    waiting = {name for path in start for name in named_in(path)}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= named_in(file_of(name)) - seen
    parts = [name.split(".")[1:] for name in seen]
    return {"/".join(names[:depth]) for names in parts for depth in range(1, len(names) + 1)}


def test_what_is_left_out_is_there():
    for name in NOT_IN_CHAPTERS | NOT_IN_RESULTS:
        assert (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file(), name


def test_no_chapter_reaches_what_its_fingerprint_leaves_out():
    there = reached(sorted((ROOT / "notebooks").glob("*.py")))
    assert "studies/bottleneck" in there
    assert not there & NOT_IN_CHAPTERS


@pytest.mark.parametrize("left_out", [NOT_IN_CHAPTERS, NOT_IN_RESULTS])
def test_the_command_line_is_in_no_fingerprint_and_networks_are(left_out, tmp_path):
    package = tmp_path / NAME
    for name in (
        *("model/networks.py", "ddcm/codebook/base.py", "audio/recordings.csv"),
        *("cli/main.py", "sweep/run.py", "book/report.py"),
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("1")
    first = package_hash(left_out, {".py"}, package)
    for name in ("cli/main.py", "sweep/run.py", "book/report.py", "audio/recordings.csv"):
        (package / name).write_text("2")
    assert package_hash(left_out, {".py"}, package) == first
    assert package_hash(left_out, {".py", ".csv"}, package) != first
    for name in ("model/networks.py", "ddcm/codebook/base.py"):
        (package / name).write_text("2")
        second = package_hash(left_out, {".py"}, package)
        assert second != first
        first = second
    assert len({first, package_hash(left_out, {".py"}), package_hash((), {".py"})}) == 3
