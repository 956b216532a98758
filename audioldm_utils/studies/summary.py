"""The main means that the chapters measured, a row a method and stage, for chapter 08."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from audioldm_utils.errors import UserError
from audioldm_utils.results.summaries import directions, read, summarise
from audioldm_utils.studies.findings import DEFAULTS, made_with

#: Metrics of the summary and what their columns are called; the rest is in the chapters.
METRICS = {
    "rate": "rate, kbit/s",
    "network_calls": "network calls",
    "log_mel_distance": "log-mel distance, dB ↓",
    "mel_error": "log-mel error, nat ↓",
    "multi_resolution_stft": "multi-resolution STFT ↓",
    "visqol": "ViSQOL, MOS ↑",
    "hf_retention": "high-frequency retention → 1",
    "latent_correlation": "latent correlation ↑",
    "latent_correlation_centred": "the same, means removed ↑",
    "log_mel_correlation_centred": "log-mel correlation, means removed ↑",
    "clap_score": "CLAP score ↑",
}


def studies_of(
    results_dir: Path,
    evidence_dir: Path,
    fingerprint_of: Callable[[Sequence[str]], str],
    rests_on_evidence: Callable[[str, Mapping[str, Any]], bool],
) -> tuple[dict[str, pd.DataFrame], str]:
    """The rows that each chapter's findings rest on.

    A table of this run goes first, unless the findings rest on committed evidence of this
    checkpoint; evidence also stands in for what this run has not measured.

    Args:
        results_dir: folder of the chapters' output folders.
        fingerprint_of: of the checkpoint (``Checkpoint.fingerprint_of``).
        rests_on_evidence: of a study's name and a run's parameters: whether findings are the
            evidence's.

    Returns:
        Judged rows by study, and a sentence that says what they rest on.
    """
    found: dict[str, pd.DataFrame] = {}
    given: dict[str, Mapping[str, Any]] = {}
    for path, table in _tables(results_dir, "[0-9][0-9]_*/[0-9][0-9]_*.csv"):
        found[path.stem], sidecar = table, path.with_suffix(".json")
        made = made_with(json.loads(sidecar.read_text())) if sidecar.is_file() else DEFAULTS
        given[path.stem] = made
    of_run = set(found)
    for path, table in _tables(evidence_dir, "[0-9][0-9]_*.csv"):
        if path.stem in found and not rests_on_evidence(path.stem, given[path.stem]):
            continue
        record = json.loads(path.with_suffix(".json").read_text())
        own = fingerprint_of(record.get("parts", ()))[:12]
        if set(table["checkpoint"]) <= {own, ""}:
            found[path.stem] = table[~table["clip"].isin(record.get("shipped", ()))]
            of_run.discard(path.stem)
    alone = sorted(of_run)
    stored = "All" if found and not alone else f"{len(found) - len(alone)} of {len(found)}"
    rests = f"{stored} studies rest on tables stored in the repository"
    rests += f", and on this run alone: {', '.join(alone)}." if alone else "."
    return dict(sorted(found.items())), rests


def _tables(folder: Path, pattern: str) -> Iterator[tuple[Path, pd.DataFrame]]:
    """Results tables among the files; others are passed over."""
    for path in sorted(folder.glob(pattern)):
        try:
            yield path, read(path)
        except UserError:
            continue


def overview(tables: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Means over clips of (study, rows): one row a study, method and stage, one column a metric.

    Returns:
        Columns ``chapter``, ``method``, ``stage``, those of `METRICS` that were measured, and
        ``n``, how many clips are behind a row: ``49–52`` where its numbers differ in that.
    """
    columns, known = ["chapter", "method", "stage"], directions()
    parts = [pd.DataFrame(columns=[*columns, "metric", "mean", "n"])]
    for name, table in tables:
        rows = table[(table["band"] == "") & table["metric"].isin(METRICS)]
        if len(rows):
            summary = summarise(rows, by=("method", "stage", "metric"), draws=2, better=known)
            parts.append(summary.assign(chapter=name[:2]))
    every = pd.concat(parts[1:] or parts)
    wide = every.pivot_table(index=columns, columns="metric", values="mean").reset_index()
    counts = every.groupby(columns)["n"].agg(lambda n: "–".join(map(str, sorted({min(n), max(n)}))))
    count = counts.reset_index()
    kept = [metric for metric in METRICS if metric in wide]
    return wide.merge(count, on=columns)[[*columns, *kept, "n"]].rename(columns=METRICS)


def by_chapter(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Caption and rows of each chapter of an overview, with those columns that it filled."""
    return [
        (
            f"Chapter {chapter}, means over clips",
            part.drop(columns="chapter").dropna(axis="columns", how="all"),
        )
        for chapter, part in table.groupby("chapter", sort=True)
    ]
