"""The package stays small enough to be read: no long module, no long function, few rooms."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "audioldm_utils"
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_no_module_is_over_350_lines_and_no_function_over_80():
    long = []
    for path in MODULES:
        text = path.read_text()
        if len(text.splitlines()) > 350:
            long.append(path.name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 80:
                long.append(f"{path.name}: {node.name}")
    assert not long


def test_there_are_18_rooms_at_most():
    assert len({path.parent for path in MODULES}) <= 18
