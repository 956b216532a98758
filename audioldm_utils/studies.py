"""Measurements that chapters and committed evidence share: one function a study.

A study maps clips and a checkpoint to a results table. A chapter runs it on the audio it is
given; ``audioldm-utils evidence`` runs the very same function on an eval folder and on the
shipped clips and commits the table. The chapter then checks its own rows against the
committed ones, so that evidence cannot go stale, and takes its findings from the larger set.

Most studies measure one clip after another. One of scope ``set`` is given all clips at once,
since it compares them with each other; its rows about one clip, or about two, must not depend
on which others are there. One of scope ``samples`` makes sounds of its own and takes clips
for nothing but a reference.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from audioldm_utils.audio import ClipInfo, find_clips
from audioldm_utils.errors import UserError
from audioldm_utils.files import sha256_file

if TYPE_CHECKING:
    import pandas as pd

    from audioldm_utils.audio import Clip
    from audioldm_utils.stages import Stages
    from audioldm_utils.tables import ResultsBuilder

#: Measures one clip and adds its rows.
Measure = Callable[["Clip", "Stages", "ResultsBuilder", int], None]


@dataclass(frozen=True)
class Study:
    """One measurement.

    Attributes:
        name: of its table, such as ``01_ladder``.
        module, function: where its :data:`Measure` is found; named, so that worker
            processes import it themselves.
        tolerance: metric name to the largest difference between two runs, in its unit;
            ``""`` for all others.
        relative: allowed besides, as a share of the value.
        every: evidence is made of every so many clips of a folder, from the first on.
        each: of every so many classes instead, and of each the first so many clips; classes
            that have fewer are passed over. 0: classes do not matter.
        shipped: of every so many shipped clips; 0: as ``every``.
        scope: ``clip``: ``function(clip, stages, rows, seed)``; ``set``: the same with a list
            of clips; ``samples``: ``function(clips, stages, rows, seed, most)``, at most so
            many samples of a kind.
    """

    name: str
    module: str
    function: str
    tolerance: dict[str, float]
    relative: float = 0.0
    every: int = 1
    each: int = 0
    shipped: int = 0
    scope: Literal["clip", "set", "samples"] = "clip"

    def measure(self) -> Callable[..., None]:
        """The function itself; a :data:`Measure` where the scope is ``clip``."""
        import importlib

        return getattr(importlib.import_module(self.module), self.function)

    def chosen(self, clips: Sequence[ClipInfo]) -> list[ClipInfo]:
        """The clips of a folder that evidence is made of."""
        if not self.each:
            return list(clips[:: self.every])
        classes: dict[str | None, list[ClipInfo]] = {}
        for info in clips:
            classes.setdefault(info.category, []).append(info)
        full = [members for members in classes.values() if len(members) >= self.each]
        return [info for members in full[:: self.every] for info in members[: self.each]]


STUDIES = {
    study.name: study
    for study in (
        # Griffin-Lim and the vocoder make up phase: rounding on another machine moves
        # waveform metrics a little, spectral ones hardly.
        Study("01_ladder", "audioldm_utils.ladder", "study", {"": 0.05}, 0.02, 2),
        Study("01_refined", "audioldm_utils.ladder", "study_refined", {"": 0.02}, 0.02, 8),
        Study("01_mistakes", "audioldm_utils.ladder", "study_mistakes", {"": 0.05}, 0.02, 8),
        Study("01_attacks", "audioldm_utils.ladder", "study_attacks", {"": 0.05}, 0.02, 8),
        # One flipped choice moves all that follow, so single clips may differ by more.
        Study("05_rates", "audioldm_utils.ddcm.study", "study", {"": 0.1}, 0.1, 5),
        Study("06_samples", "audioldm_utils.sampling_study", "study", {"": 0.1}, scope="samples"),
        Study("06_editing", "audioldm_utils.editing_study", "study", {"": 0.1}, 0.1, 10, shipped=8),
        Study(
            "07_correlation",
            "audioldm_utils.verification",
            "study",
            {"": 0.1},
            0.05,
            every=2,
            each=2,
            shipped=8,
            scope="set",
        ),
    )
}

#: Clip name of rows about all samples of a method together.
WHOLE = "all samples"

_WORKER: dict[str, Stages] = {}


def _prepare(checkpoint: str, threads: int | None = None) -> None:
    import torch

    from audioldm_utils.checkpoint import load
    from audioldm_utils.stages import Stages

    if threads:
        torch.set_num_threads(threads)
    _WORKER["stages"] = Stages(load(checkpoint))


def _one(study: Study, info: ClipInfo, seed: int) -> list[dict[str, object]]:
    from audioldm_utils.audio import load_clip
    from audioldm_utils.tables import ResultsBuilder

    stages = _WORKER["stages"]
    rows = ResultsBuilder(stages.checkpoint.fingerprint, seed)
    study.measure()(load_clip(info), stages, rows, seed)
    return rows.rows


def _together(
    study: Study, clips: Sequence[ClipInfo], seed: int, most: int | None
) -> list[dict[str, object]]:
    from audioldm_utils.audio import load_clip
    from audioldm_utils.tables import ResultsBuilder

    stages = _WORKER["stages"]
    rows = ResultsBuilder(stages.checkpoint.fingerprint, seed)
    loaded = [load_clip(info) for info in clips]
    more = (most,) if study.scope == "samples" else ()
    study.measure()(loaded, stages, rows, seed, *more)
    return rows.rows


def run_study(
    name: str,
    clips: Sequence[ClipInfo],
    checkpoint: str | Path = "mini",
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
    evidence_dir: str | Path = "book/evidence",
    most: int | None = None,
) -> pd.DataFrame:
    """As :func:`measure_clips`, on those of the clips that the committed evidence holds.

    Where it holds none of them they are a reader's own, and all of them are measured.

    Args:
        name, clips, checkpoint, seed, jobs, progress: as in :func:`measure_clips`.
        evidence_dir: where the committed table lies.
        most: recompute at most so many of the evidence's clips; None for all of them. Of a
            study of samples: at most so many of a kind.
    """
    if name not in STUDIES:
        raise UserError(f"unknown study {name!r}; there are {', '.join(STUDIES)}")
    if STUDIES[name].scope == "samples":
        return measure_clips(name, clips, checkpoint, seed, progress=progress, most=most)
    chosen = _committed(name, clips, evidence_dir)[:most] or clips
    return measure_clips(name, chosen, checkpoint, seed, jobs, progress)


def _committed(
    name: str, clips: Sequence[ClipInfo], evidence_dir: str | Path
) -> Sequence[ClipInfo]:
    """The clips that the evidence was made from: same file name, same SHA-256."""
    path = Path(evidence_dir) / f"{name}.json"
    if not path.exists():
        return []
    inputs = json.loads(path.read_text())["inputs"]
    return [info for info in clips if inputs.get(info.path.name) == sha256_file(info.path)]


def measure_clips(
    name: str,
    clips: Sequence[ClipInfo],
    checkpoint: str | Path = "mini",
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
    most: int | None = None,
) -> pd.DataFrame:
    """The study's table for these clips.

    Args:
        name: a key of :data:`STUDIES`.
        clips: as ``find_clips`` gives them.
        checkpoint: name, folder or hub id.
        seed: of every random draw.
        jobs: worker processes, each with its share of the cores; 1 stays in this process, as
            do studies that are not of single clips.
        most: samples of a kind, for studies of samples.

    Raises:
        UserError: no clips, an unknown study, or an unusable clip (the message names it).
    """
    import pandas as pd
    from tqdm.auto import tqdm

    from audioldm_utils.tables import COLUMNS, validate

    if not clips:
        raise UserError("there are no clips to measure")
    study = STUDIES[name]
    if study.scope != "clip":
        _prepare(str(checkpoint))
        rows = _together(study, clips, seed, most)
        return validate(pd.DataFrame(rows, columns=list(COLUMNS)))
    rows: list[dict[str, object]] = []
    bar = tqdm(total=len(clips), desc=name, unit="clip", disable=not progress)
    if jobs == 1:
        # The report gives each chapter its share of the cores; that is left as it is.
        _prepare(str(checkpoint))
        for info in clips:
            rows += _one(study, info, seed)
            bar.update()
    else:
        with ProcessPoolExecutor(
            jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare,
            initargs=(str(checkpoint), max(1, len(os.sched_getaffinity(0)) // jobs)),
        ) as pool:
            for future in [pool.submit(_one, study, info, seed) for info in clips]:
                rows += future.result()
                bar.update()
    bar.close()
    return validate(pd.DataFrame(rows, columns=list(COLUMNS)))


@dataclass(frozen=True)
class Findings:
    """What a chapter's sentences rest on.

    Attributes:
        table: rows of the judged clips.
        n: how many clips they are.
        source: says which, for captions.
        compared: rows of this run that were checked against the evidence; 0 if there is none.
    """

    table: pd.DataFrame
    n: int
    source: str
    compared: int


def findings(
    run: pd.DataFrame, clips: Sequence[ClipInfo], name: str, evidence_dir: str | Path
) -> Findings:
    """Committed evidence if it holds these very clips and this checkpoint; else this run.

    Clips are the same if file name and SHA-256 are. The rows of this run are checked
    against the committed ones before those are used.

    Args:
        run: this run's table of the study.
        clips: what it was run on.
        name: of the study.
        evidence_dir: where ``<name>.csv`` and its sidecar ``<name>.json`` lie.

    Raises:
        StaleEvidenceError: this run's rows disagree with the committed ones.
    """
    from audioldm_utils.evidence import compare_evidence
    from audioldm_utils.tables import read

    count = run["clip"].nunique()
    alone = Findings(run, count, f"{count} clips of this run", 0)
    path = Path(evidence_dir) / f"{name}.csv"
    if not path.exists():
        return alone
    record = json.loads(path.with_suffix(".json").read_text())
    committed = read(path)
    same = set(run["checkpoint"]) <= set(committed["checkpoint"])
    study = STUDIES[name]
    if not same or not (study.scope == "samples" or _committed(name, clips, evidence_dir)):
        return alone
    compared = compare_evidence(run, committed, study.tolerance, study.relative)
    if study.scope == "samples":
        made = committed[committed["clip"] != WHOLE]
        n = len(made[["clip", "method", "stage"]].drop_duplicates())
        return Findings(committed, n, f"{n} generated samples", compared)
    judged = committed[~committed["clip"].isin(record["shipped"])]
    n = judged["clip"].nunique()
    return Findings(judged, n, f"{n} real recordings never trained on", compared)


def write_evidence(
    name: str,
    audio_dir: str | Path,
    shipped_dir: str | Path,
    out: str | Path,
    checkpoint: str = "mini",
    seed: int = 0,
    jobs: int = 1,
    limit: int | None = None,
) -> Path:
    """Run a study on an eval folder and on the shipped clips; write table and sidecar."""
    from audioldm_utils.checkpoint import load
    from audioldm_utils.evidence import provenance
    from audioldm_utils.tables import concat, write

    judged = find_clips(audio_dir)[:limit]
    shipped = find_clips(shipped_dir)
    study = STUDIES[name]
    judged = study.chosen(judged)
    shipped = [] if study.scope == "samples" else shipped[:: study.shipped or study.every]
    names = {info.name for info in judged} & {info.name for info in shipped}
    if names:
        raise UserError(f"clips of both folders are called {', '.join(sorted(names))}: rename them")
    if study.scope == "clip":
        table = measure_clips(name, [*judged, *shipped], checkpoint, seed, jobs)
    else:
        # Clips of one folder are never compared with those of the other.
        table = concat(
            measure_clips(name, part, checkpoint, seed) for part in (judged, shipped) if part
        )
    record = provenance(
        f"audioldm-utils evidence --audio EVAL --checkpoint {checkpoint} --studies {name}",
        inputs=[info.path for info in [*judged, *shipped]],
        seeds=[seed],
        checkpoint=load(checkpoint).fingerprint,
        n=len(judged),
        shipped=sorted(info.name for info in shipped),
    )
    path = Path(out) / f"{name}.csv"
    write(table, path, record)
    return path
