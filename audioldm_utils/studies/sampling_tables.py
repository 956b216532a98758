"""What chapter 06 reads from the rows of studies ``06_samples`` and ``06_editing``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from audioldm_utils.results.summaries import select, summarise
from audioldm_utils.studies.sampling import equivalence

if TYPE_CHECKING:
    import pandas as pd


def sample_scores(table: pd.DataFrame, order: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """CLAP score of each sampler, mean over samples with interval; ``label`` names it.

    Args:
        order: of (method, stage), as ``sampling.methods`` gives them.
    """
    summary = summarise(select(table, metric="clap_score"), by=("method", "stage"))
    names = [method.removesuffix("-random").upper() for method in summary["method"]]
    summary["label"] = [f"{a}, {b}" for a, b in zip(names, summary["stage"], strict=True)]
    places = {key: place for place, key in enumerate(order)}
    place = [places[key] for key in zip(summary["method"], summary["stage"], strict=True)]
    return summary.assign(place=place).sort_values("place", ignore_index=True)


def equivalences(
    table: pd.DataFrame, sizes: Sequence[int], judged_size: int, margin: float
) -> pd.DataFrame:
    """Each codebook size, and all that are judged (from ``judged_size`` on), against DDPM.

    Returns:
        ``stage``, ``difference, deviations`` with the 90 % interval ``low`` to ``high``, all in
        standard deviations of DDPM's scores, ``equivalent`` within ``margin``, and counts.
    """
    import pandas as pd

    scores = select(table, metric="clap_score")
    # A row a starting noise, a column a method.
    wide = scores.pivot(index=["class", "clip"], columns=["method", "stage"], values="value")
    reference = wide["ddpm", "CFG"]
    spread, count = float(reference.std()), int(reference.count())
    groups = {f"K = {size}": [f"K = {size}"] for size in sizes}
    groups["all judged"] = [f"K = {size}" for size in sizes if size >= judged_size]
    rows = []
    for name, stages in groups.items():
        if not stages:
            continue
        against = wide["ddcm-random"][stages].sub(reference, axis=0)
        found = equivalence(
            [part.to_numpy() for _, part in against.groupby("class", observed=True)]
        )
        low, high = found.low / spread, found.high / spread
        # One sample a prompt has no spread to draw from, and shows nothing.
        equivalent = bool(-margin < low < high < margin)
        rows.append((name, found.mean / spread, low, high, equivalent, found.n, count))
    columns = ["stage", "difference, deviations", "low", "high", "equivalent", "n", "n, DDPM"]
    return pd.DataFrame(rows, columns=columns)


def set_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Fréchet distance and diversity, one row a sampler; no rows where too few were made."""
    names = {"frechet_clap": "Fréchet distance ↓", "diversity": "diversity ↑"}
    rows = table[table["metric"].isin(names)]
    wide = rows.pivot(index=["method", "stage"], columns="metric", values="value")
    wide = wide.reindex(columns=list(names)).rename(columns=names).reset_index()
    wide.columns.name = None
    return wide


def edit_curve(table: pd.DataFrame) -> pd.DataFrame:
    """Target score over likeness to the source, one point a step of change."""
    rows = table[table["stage"].str.startswith("change")]
    target = summarise(select(rows, metric="target_score"), by=("method", "stage"))
    source = summarise(select(rows, metric="source_correlation"), by=("method", "stage"))
    return target.merge(
        source[["stage", "mean"]].rename(columns={"mean": "source_correlation"}), on="stage"
    )
