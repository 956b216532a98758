"""Findings on unfinished weights: which keep their sign over training, which grow, which vanish.

``python data/checkpoints/recipe snapshots --data DIR --work W --checkpoint mini --out OUT``
takes the averages that training kept (``W/snapshots``), puts those of a sixteenth and of a quarter
of each training into copies of the checkpoint, and runs the chapters' own studies on both.
The tables go to ``OUT/snapshots_16.csv`` and ``OUT/snapshots_4.csv``; the whole training's are the
evidence itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from audioldm_utils.audio.clips import find_clips
from audioldm_utils.book.chapters import defaults, find_chapters
from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint_files import locate
from audioldm_utils.results.tables import concat, write
from audioldm_utils.studies.registry import STUDIES
from audioldm_utils.studies.run import measure_clips

#: Parts of a training, by the number that divides it.
PARTS = (16, 4)
#: What is asked of unfinished weights: the ladder, repairs, rates, placement.
ASKED = ("01_ladder", "02_repair", "05_rates", "05_placement")
#: One of so many clips of eval.
EVERY = 8
#: Trainings, and the component that each of their modules is.
TRAININGS: Mapping[str, Mapping[str, str]] = {
    "vae": {"vae": "vae"},
    "vocoder": {"vocoder": "vocoder"},
    "unet": {
        name: name for name in ("unet", "text_encoder_2", "language_model", "projection_model")
    },
}


def nearest(folder: Path, training: str, seconds: float) -> Path:
    """The snapshot of a training whose mark is nearest to so many seconds, by their ratio.

    Raises:
        UserError: the training kept none.
    """
    found = {int(path.stem.rpartition("-")[2]): path for path in folder.glob(f"{training}-*.pt")}
    if not found:
        raise UserError(
            f"{folder} holds no snapshot of {training}: train it again with this recipe"
        )
    return found[min(found, key=lambda mark: max(mark / seconds, seconds / mark))]


def assemble(whole: Path, work: Path, part: int, out: Path) -> dict[str, float]:
    """A copy of the checkpoint with the weights of one ``part`` of each training.

    Returns:
        Seconds of training that each component has had.
    """
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("fitted", ".*"), dirs_exist_ok=True)
    had = {}
    for training, modules in TRAININGS.items():
        state = torch.load(work / f"{training}.pt", map_location="cpu", weights_only=False)
        path = nearest(work / "snapshots", training, state["elapsed"] / part)
        kept = torch.load(path, weights_only=True)
        for module, component in modules.items():
            save_component(out / component, kept["average"][module])
        had[training] = kept["elapsed"]
    return had


def save_component(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Put weights into a component's folder, through the class that its configuration names."""
    from audioldm_utils.model.checkpoint_files import component_class
    from recipe.vocoder import fold_weight_norm

    kind = component_class(folder.name, folder)
    network = kind.from_pretrained(folder, torch_dtype=torch.float32)
    if folder.name == "vocoder":
        network.apply_weight_norm()  # as training has it
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    if folder.name == "vocoder":
        fold_weight_norm(network)
    config = (folder / "config.json").read_text()
    network.half().save_pretrained(folder, safe_serialization=True)
    (folder / "config.json").write_text(config)


def snapshots(data: str | Path, work: str | Path, checkpoint: str, out: str | Path) -> list[Path]:
    """Write a table for each of `PARTS`."""
    clips = find_clips(Path(data) / "eval.csv")[::EVERY]
    notebooks = Path(__file__).resolve().parents[3] / "notebooks"
    grids = {name[:2]: given for name, given in defaults(find_chapters(notebooks)).items()}
    written = []
    for part in PARTS:
        folder = Path(work) / f"checkpoint_{part}"
        had = assemble(locate(checkpoint).path, Path(work), part, folder)
        tables = []
        for name in ASKED:
            grid: dict[str, Any] = STUDIES[name].parameters(grids[name[:2]])
            table = measure_clips(name, clips, folder, grid)
            tables.append(table.assign(stage=name + ": " + table["stage"]))
        path = Path(out) / f"snapshots_{part}.csv"
        write(concat(tables), path, {"part": part, "seconds": had, "clips": len(clips)})
        written.append(path)
        print(path, json.dumps(had))
    return written
