"""The small tables that a checkpoint brings for its model card: sources, classes, curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from audioldm_utils.files import atomic_path

#: Points of each curve that are kept.
POINTS = 60


def write_tables(work: Path, out: Path, data: Path) -> None:
    """Write ``card/sources.csv``, ``card/classes.csv`` and ``card/curves.csv`` under ``out``.

    Args:
        work: where training left its logs, ``NAME.csv`` of step, seconds, key and value.
        out: the checkpoint folder.
        data: folder with ``train.csv``.
    """
    table = pd.read_csv(data / "train.csv")
    folder = out / "card"
    folder.mkdir(parents=True, exist_ok=True)
    minutes = table.assign(minutes=table["seconds"] / 60)
    sources = minutes.groupby(["source_repo", "licence"], sort=True)
    classes = minutes.groupby("class", sort=True)
    _write(
        folder / "sources.csv",
        sources.agg(clips=("file", "size"), minutes=("minutes", "sum")).round(2).reset_index(),
    )
    caption = classes["caption"].agg(lambda captions: captions.value_counts().index[0])
    counts = classes.agg(clips=("file", "size"), minutes=("minutes", "sum")).round(2)
    _write(folder / "classes.csv", counts.assign(caption=caption).reset_index())
    logs = [thinned(log) for log in sorted(work.glob("*.csv"))]
    if logs:
        curves, path = pd.concat(logs), folder / "curves.csv"
        if path.exists():
            # Training may have begun from the weights that are there.
            earlier = pd.read_csv(path)
            curves = pd.concat([earlier[~earlier["component"].isin(curves["component"])], curves])
        _write(path, curves)


def thinned(log: Path) -> pd.DataFrame:
    """A training log with at most `POINTS` points of each key."""
    rows = pd.read_csv(log, names=["step", "seconds", "key", "value"])
    kept = []
    for _, part in rows.groupby("key", sort=True):
        places = np.unique(np.linspace(0, len(part) - 1, POINTS).round().astype(int))
        kept.append(part.iloc[places])
    return pd.concat(kept).round(4).assign(component=log.stem)


def _write(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
