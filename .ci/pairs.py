"""Check that each notebooks/NN_title.py and its .ipynb hold the same notebook, outputs stripped.

Contents are compared, never times, which mean nothing after a clone. ``--write`` makes each
.ipynb from its .py instead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jupytext
from jupytext.compare import NotebookDifference, compare_notebooks

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def fault(source: Path) -> str | None:
    """What is wrong with the pair of a py:percent source, or None."""
    paired = source.with_suffix(".ipynb")
    if not paired.exists():
        return f"{paired.name} is missing"
    notebook = jupytext.read(paired)
    try:
        compare_notebooks(notebook, jupytext.read(source), fmt="py:percent", compare_outputs=False)
    except NotebookDifference as difference:
        return f"{paired.name} differs from {source.name}: {difference}"
    if any(cell.get("outputs") for cell in notebook.cells):
        return f"{paired.name} holds outputs"
    return None


def main() -> int:
    """Print every faulty pair; 0 if there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="make each .ipynb from its .py")
    write = parser.parse_args().write
    sources = sorted(NOTEBOOKS.glob("[0-9]*.py"))
    faults = []
    for source in sources:
        if write:
            jupytext.write(jupytext.read(source), source.with_suffix(".ipynb"))
        found = fault(source)
        if found:
            faults.append(found)
    alone = {path.stem for path in NOTEBOOKS.glob("*.ipynb")} - {path.stem for path in sources}
    faults.extend(f"{stem}.ipynb has no .py source" for stem in sorted(alone))
    print(*faults, f"{len(sources)} notebook pairs, {len(faults)} at fault", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
