"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from audioldm_utils.files import available_cores

# Workers that run beside each other share the cores, and what they start inherits the limit:
# more threads than cores wait for each other and are several times as slow.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // _WORKERS)))

# Decided before anything imports huggingface_hub: no test reaches the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of a tiny, untrained AudioLDM2 of the published layout. Do not change it."""
    from tests import tiny

    folder = tiny.build_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")
    yield folder
    # Found in another test's result only, and only in one order of the tests.
    assert not (folder / "fitted").exists(), "a test stored fits in the checkpoint of all tests"


@pytest.fixture(scope="session")
def tiny_codec(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same VAE and vocoder alone: a folder without text side, UNet or index."""
    import shutil

    folder = tmp_path_factory.mktemp("checkpoint") / "codec"
    for component in ("vae", "vocoder"):
        shutil.copytree(tiny_checkpoint / component, folder / component)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _shipped_fits_stay() -> Iterator[None]:
    """The evidence rests on what is fitted to mini: no test may write over it."""
    folder = Path(__file__).resolve().parents[1] / "data" / "checkpoints" / "mini" / "fitted"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    yield
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}, (
        "a test wrote into the fits of the shipped checkpoint"
    )
