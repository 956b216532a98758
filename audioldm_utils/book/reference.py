"""API pages, one a room: Sphinx' autodoc fills them from the docstrings. Also its extension."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from audioldm_utils import __version__

PACKAGE = Path(__file__).resolve().parents[1]
_AUTOMODULE = """```{{eval-rst}}
.. automodule:: audioldm_utils.{}
   :members:
   :ignore-module-all:
```"""
_MARK = re.compile(r"(``.+?``|`[^`]+`)|([*|])")


def write_reference(folder: Path) -> None:
    """Write a page for each room of the package, which names its modules."""
    folder.mkdir(parents=True, exist_ok=True)
    for room in sorted({path.parent for path in PACKAGE.glob("*/__init__.py")}):
        parts = [f"# `audioldm_utils.{room.name}`"]
        for path in sorted(room.rglob("*.py")):
            name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            name = name.removesuffix(".__init__")
            if name != room.name:
                parts.append(f"## `{name}`")
            parts.append(_AUTOMODULE.format(name))
        (folder / f"{room.name}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx for the extension of this name."""
    app.config.release = __version__
    # Before napoleon, which makes markup of its own.
    app.connect("autodoc-process-docstring", _as_it_is, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _as_it_is(app: Any, kind: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Outside code, a star or a bar of a docstring is one: (batch, *shape), |cosine|."""
    lines[:] = [_MARK.sub(lambda m: m[1] or "\\" + m[2], line) for line in lines]
    if kind in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # a comment: napoleon takes what precedes a first colon for a type
