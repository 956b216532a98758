"""What chapters keep for sentences, from their own cells on the committed tables.

A statement is left out where it draws, plays or asks a network, and so is all that follows from
it. What is left measures nothing and takes seconds.
"""

from __future__ import annotations

import ast
import atexit
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jupytext
import pytest

from audioldm_utils.book import plotting
from audioldm_utils.book.plotting import captions
from audioldm_utils.studies import run as studies
from audioldm_utils.studies.registry import STUDIES
from tests.demo_project import ROOT
from tests.replay import EVIDENCE, committed

CHAPTERS = {path.stem[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))}
#: What draws, plays, or calls a network; attributes among them begin with a dot.
LEFT_OUT = {
    *("abx", "players", "plt", "figure_caption", "heatmap", "points_with_intervals", "curves"),
    *("spectrogram_pair", "summary_table", "plain_table", "rate_quality", "trade_off"),
    *("load_clip", "codes_entropy", "display", "make", "edits", ".clip_figures", ".samples"),
}


def names(node: ast.AST, kind: type[ast.expr_context]) -> set[str]:
    """Names that are read (``ast.Load``), attributes with a dot among them, or set."""
    found, inner = set(), set()
    for n in ast.walk(node):
        if isinstance(n, ast.Subscript) and isinstance(n.ctx, kind):  # sets a part of its value
            n = n.value if kind is ast.Store else n
            found |= {n.id} if isinstance(n, ast.Name) else set()
        elif isinstance(n, ast.Name | ast.Attribute) and isinstance(n.ctx, kind):
            found.add(n.id if isinstance(n, ast.Name) else f".{n.attr}")
        elif isinstance(n, ast.comprehension | ast.For):
            inner |= names(n.target, ast.Store)
        elif isinstance(n, ast.arg):
            inner.add(n.arg)
    return found - inner


def runnable(source: str, left_out: set[str]) -> Iterator[ast.stmt]:
    """Statements that need nothing of ``left_out``, which grows by what the others would set."""
    for statement in ast.parse(source).body:
        if names(statement, ast.Load) & left_out:
            left_out |= names(statement, ast.Store)
        else:
            left_out -= names(statement, ast.Store)
            yield statement


def _committed_rows(name, *_args, **_options):
    """In place of measuring: the rows of the shipped clips, or of the first samples."""
    record, table = json.loads((EVIDENCE / f"{name}.json").read_text()), committed(name)
    if STUDIES[name].clips.reference:
        return table[table["clip"].str.endswith(" 00")]
    return table[table["clip"].isin(record["shipped"])]


@cache
def _results() -> Path:
    """Where chapters write, so that the summary finds what they wrote; gone with the process."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return folder


@cache
def glued(chapter: str) -> dict[str, str]:
    """The texts that a chapter, by its number, keeps for sentences, by their keys."""
    found: dict[str, str] = {}
    glue, path = plotting.glue_value, CHAPTERS[chapter]

    def kept(name, *args):
        found[name] = glue(name, *args)
        return found[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr("myst_nb.glue", lambda *_, **__: None)
        for module in (plotting, captions):
            patch.setattr(module, "glue_value", kept)
        patch.setattr(studies, "run_study", _committed_rows)
        space: dict[str, object] = {}
        left_out = set(LEFT_OUT)
        for cell in (cell for cell in jupytext.read(path).cells if cell.cell_type == "code"):
            for statement in runnable(cell.source, left_out):
                exec(compile(ast.Module([statement], []), path.name, "exec"), space)
            if "parameters" in cell.metadata.get("tags", []):
                space["out_dir"] = str(_results() / path.stem)
    return found


def filled(text: str, own: str = "") -> str:
    """A page with its values in place; what is no value (a figure, a player) becomes a dash."""
    text = re.sub(
        r"\{\{(\d\d)[a-z0-9_]*:([^}]+)\}\}", lambda m: glued(m[1]).get(m[2], "\N{EN DASH}"), text
    )
    return re.sub(r"\{glue:text\}`([^`]+)`", lambda m: glued(own).get(m[1], "\N{EN DASH}"), text)
