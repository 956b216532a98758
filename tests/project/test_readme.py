"""What the README says exists, and its commands are commands."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from audioldm_utils.cli.main import build_parser
from audioldm_utils.files import sha256_file
from audioldm_utils.methods.registry import METHODS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```sh\n(.*?)```", README, re.DOTALL) + re.findall(r"`([^`\n]+)`", README)
LINES = [part.strip() for block in CODE for line in block.splitlines() for part in line.split("&&")]
TABLE = re.findall(r"^\| `([a-z-]+)` \| (.+) \| `([a-z_.]+)` \| (.+) \|$", README, re.MULTILINE)


@pytest.mark.parametrize(
    "line", [line for line in LINES if line.startswith("audioldm-utils ") and "COMMAND" not in line]
)
def test_commands_are_understood(line):
    arguments = shlex.split(line, comments=True)[1:]
    if arguments == ["--help"]:
        with pytest.raises(SystemExit) as left:
            build_parser().parse_args(arguments)
        assert left.value.code == 0
    else:
        assert callable(build_parser().parse_args(arguments).run)


def test_make_targets_exist():
    targets = {line.split()[1] for line in LINES if line.startswith("make ")}
    assert {"report", "test", "lint"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_method_table_is_the_registry():
    assert [row[0] for row in TABLE] == list(METHODS)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_each_method_names_its_function_and_its_papers(row):
    name, _, function, papers = row
    module, _, defined = function.rpartition(".")
    assert (METHODS[name].module, name.replace("-", "_")) == (module.rpartition(".")[2], defined)
    source = ROOT / "audioldm_utils" / f"{module.replace('.', '/')}.py"
    names = {node.name for node in ast.parse(source.read_text()).body if hasattr(node, "name")}
    assert defined in names
    for number in re.findall(r"arXiv (\d{4}\.\d{5})", METHODS[name].paper):
        assert f"https://arxiv.org/abs/{number}" in papers


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)]+)\)", README))
def test_links_into_the_repository(target):
    assert (ROOT / target).exists()


def test_the_figure_belongs_to_the_evidence():
    shown = (ROOT / "book" / "assets" / "ladder.svg").read_text(encoding="utf-8")
    evidence = ROOT / "book" / "evidence" / "01_ladder.csv"
    assert sha256_file(evidence) in shown, "draw it again: python book/assets/make_ladder.py"


def test_first_screen():
    """One sentence, at most one figure, two commands, where the book is."""
    first = README.split("## Methods")[0]
    assert first.count("```") == 2
    assert len(re.findall(r"^make ", first, re.MULTILINE)) == 2
    assert first.count("![") <= 1
    assert {line.split()[1] for line in first.splitlines() if line.startswith("make ")} == {
        "report",
        "test",
    }
    assert "build/html/index.html" in first
    assert len(first.splitlines()) < 20
