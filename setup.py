"""What pyproject.toml cannot say: the wheel carries the shipped checkpoint inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MINI = Path("data/checkpoints/mini")


class BuildWithMini(build_py):
    """In a clone the checkpoint lies beside the package, so an editable install needs no copy."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            place = Path(self.build_lib) / "audioldm_utils" / "model" / MINI.name
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(MINI, place, ignore=shutil.ignore_patterns(".*"))


setup(cmdclass={"build_py": BuildWithMini})
