"""Scripts of ``benchmarks`` as modules, since they are no package."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from tests.demo_project import ROOT


def benchmark_script(name: str) -> ModuleType:
    """The script of that name, run as an import runs it."""
    path = ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
