"""The book's notebooks as data: what they are called, what they take, what they read.

A chapter is ``notebooks/NN_title.ipynb`` (outputs stripped) beside its source
``notebooks/NN_title.py`` (jupytext py:percent). Its parameters are those of the cell tagged
``parameters``, one typed and commented line each, as ``papermill --help-notebook`` shows them.
A chapter that reads the tables of earlier chapters names them in its notebook metadata::

    # ---
    # jupyter:
    #   audioldm_utils:
    #     after: [01_bottleneck_analysis]
    # ---
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from audioldm_utils import bounds
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write

_NAME = re.compile(r"\d\d_[a-z0-9_]+")
#: What a declared type may be made of; for float an int will do.
_TYPES = {kind.__name__: kind for kind in (str, int, float, bool, list, dict)}
_TYPES |= {"tuple": list | tuple, "Optional": Optional}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell; ``kind`` and ``default`` are source text."""

    name: str
    kind: str
    default: str
    help: str


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book; ``after`` holds the names of chapters whose tables it reads."""

    name: str
    path: Path
    title: str
    parameters: tuple[Parameter, ...]
    after: tuple[str, ...]
    cells: int

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name, or None."""
        return next((p for p in self.parameters if p.name == name), None)

    def only(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Of these values those whose parameters it declares."""
        return {name: value for name, value in given.items() if self.parameter(name)}


def read_chapter(path: str | Path) -> Chapter:
    """Read what a notebook declares; nothing of it is executed.

    Raises:
        UserError: the file is missing or is no notebook.
    """
    import nbformat
    import papermill

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such notebook.")
    try:
        notebook = nbformat.read(path, as_version=4)
    except nbformat.reader.NotJSONError as error:
        raise UserError(f"{path} is not a notebook: write it anew from its .py source.") from error
    declared = papermill.inspect_notebook(str(path))
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.*)", text, re.MULTILINE)
    return Chapter(
        name=path.stem,
        path=path,
        title=title[1].lstrip("# ").strip() if title else path.stem,
        parameters=tuple(
            Parameter(p["name"], p["inferred_type_name"], p["default"], p["help"])
            for p in declared.values()
        ),
        after=tuple(notebook.metadata.get("audioldm_utils", {}).get("after", ())),
        cells=sum(cell.cell_type == "code" for cell in notebook.cells),
    )


def find_chapters(folder: str | Path) -> list[Chapter]:
    """All chapters of a folder, in the order of their numbers."""
    paths = sorted(p for p in Path(folder).glob("*.ipynb") if _NAME.fullmatch(p.stem))
    return [read_chapter(path) for path in paths]


def select(chapters: Sequence[Chapter], wanted: Iterable[str] | None) -> list[Chapter]:
    """The wanted chapters of all, and those that they read from, each after what it reads.

    ``wanted`` are numbers (``"01"``) or names (``"01_bottleneck_analysis"``); None means all.

    Raises:
        UserError: an unknown or ambiguous name, an unknown or circular dependency.
    """
    names = {chapter.name: chapter for chapter in chapters}
    choices = ", ".join(names) or "none"
    pending = list(names) if wanted is None else []
    for word in wanted or ():
        matches = [name for name in names if name == word or name.split("_")[0] == word]
        if len(matches) != 1:
            raise UserError(f"{word!r} names no chapter; the chapters are: {choices}.")
        pending += matches
    chosen: set[str] = set()
    while pending:
        name = pending.pop()
        chosen.add(name)
        if unknown := [earlier for earlier in names[name].after if earlier not in names]:
            raise UserError(
                f"{name} says that it reads from {unknown[0]!r}, which is no chapter; "
                f"the chapters are: {choices}."
            )
        pending += set(names[name].after) - chosen
    graph = {name: names[name].after for name in names if name in chosen}
    try:
        return [names[name] for name in graphlib.TopologicalSorter(graph).static_order()]
    except graphlib.CycleError as error:
        circle = ", ".join(error.args[1])
        raise UserError(f"chapters read from each other in a circle: {circle}.") from error


def check_parameters(
    chapters: Sequence[Chapter], given: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Give each chapter those parameters that it declares, by its name.

    A string is read as the declared type (``"3"`` as int 3), as the command line gives it; any
    other value must have the declared type already.

    Raises:
        UserError: a name that no chapter declares, another type, or a number out of range.
    """
    taken: dict[str, dict[str, Any]] = {chapter.name: {} for chapter in chapters}
    for name, value in given.items():
        owners = [chapter for chapter in chapters if chapter.parameter(name)]
        if not owners:
            known = "; ".join(
                f"{c.path.name} takes {', '.join(p.name for p in c.parameters) or 'none'}"
                for c in chapters
            )
            raise UserError(f"no chapter has a parameter {name!r}: {known}.")
        for chapter in owners:
            parameter = chapter.parameter(name)
            unread = isinstance(value, str) and not fits(value, parameter.kind)
            read = _read_text(value, parameter.kind) if unread else value
            if not fits(read, parameter.kind):
                raise UserError(
                    f"{chapter.path.name}: parameter {name} must be {parameter.kind} "
                    f"(default {parameter.default}), not {bounds.shown(value)}."
                )
            bounds.check_parameter(f"{chapter.path.name}: parameter {name}", name, read)
            taken[chapter.name][name] = read
    return taken


def fits(value: Any, kind: str) -> bool:
    """Whether a value has the type that a parameters cell declares, given as source text.

    Understood are str, int, float (an int will do), bool, list, tuple, dict, ``list[T]``,
    ``dict[K, V]`` and ``Optional[T]``; papermill itself overlooks lines with other types, such
    as ``T | None``. A line without a type (papermill calls it ``None``) takes anything.
    """
    from pydantic import TypeAdapter, ValidationError

    if kind == "None":
        return True
    try:
        declared = eval(kind, {"__builtins__": {}}, _TYPES)
        TypeAdapter(declared).validate_python(value, strict=True)
    except ValidationError:
        return False
    except (NameError, TypeError, SyntaxError) as error:
        raise UserError(f"the declared type {kind!r} of a parameter is not understood.") from error
    return True


def defaults(chapters: Iterable[Chapter]) -> dict[str, dict[str, Any]]:
    """Chapter name to the values that its parameters cell gives to its parameters."""
    return {
        chapter.name: {p.name: ast.literal_eval(p.default) for p in chapter.parameters}
        for chapter in chapters
    }


def _read_text(text: str, kind: str) -> Any:
    """A command-line word as a Python value; the word itself where it is no literal."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if kind.startswith("list") and not text.startswith("["):
        inner = kind.removeprefix("list").strip("[]") or "str"
        items = [item.strip() for item in text.split(",")]
        return [item if fits(item, inner) else _read_text(item, inner) for item in items]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def is_paired(path: str | Path) -> bool:
    """Whether a notebook and its .py source have the same cells (outputs, ids and times aside)."""
    import jupytext
    from jupytext.compare import NotebookDifference, compare_notebooks

    both = [jupytext.read(Path(path).with_suffix(suffix)) for suffix in (".ipynb", ".py")]
    try:
        compare_notebooks(*both, fmt="py:percent", compare_outputs=False, compare_ids=False)
    except NotebookDifference:
        return False
    return True


def write_pair(source: str | Path) -> Path:
    """Write ``NN_title.ipynb`` from ``NN_title.py``: no outputs, the same bytes every time.

    Raises:
        UserError: the source is missing.
    """
    import jupytext
    import nbformat

    source = Path(source)
    if not source.is_file():
        raise UserError(f"{source}: there is no such notebook source.")
    notebook = jupytext.read(source)
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:03d}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    # The field by which jupytext marks who wrote the text side says nothing here.
    notebook.metadata.get("jupytext", {}).pop("text_representation", None)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata.setdefault("kernelspec", kernel)
    notebook.metadata.setdefault("language_info", {"name": "python"})
    atomic_write(source.with_suffix(".ipynb"), nbformat.writes(notebook) + "\n")
    return source.with_suffix(".ipynb")
