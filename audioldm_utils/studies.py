"""Measurements that chapters and committed evidence share: one function a study.

A study maps clips and a checkpoint to a results table. A chapter runs it on the audio it is
given; ``audioldm-utils evidence`` runs the very same function on an eval folder and on the
shipped clips and commits the table. The chapter then checks its own rows against the
committed ones, so that evidence cannot go stale, and takes its findings from the larger set.

What studies there are is declared in :mod:`audioldm_utils.study_list`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils import bounds
from audioldm_utils.audio import ClipInfo, find_clips
from audioldm_utils.clips import LONGEST, survey
from audioldm_utils.errors import UserError
from audioldm_utils.files import sha256_file
from audioldm_utils.study_list import STUDIES, WHOLE, Study

if TYPE_CHECKING:
    import pandas as pd

    from audioldm_utils.stages import Stages

_WORKER: dict[str, Stages] = {}


def _prepare(checkpoint: str, threads: int | None = None) -> None:
    import torch

    from audioldm_utils.checkpoint import load
    from audioldm_utils.stages import Stages

    if threads:
        torch.set_num_threads(threads)
    _WORKER["stages"] = Stages(load(checkpoint))


def _measure(
    study: Study, infos: Sequence[ClipInfo], seed: int, most: int | None = None
) -> list[dict[str, object]]:
    """Rows of one clip, of one group of clips or of all clips, as the study takes them."""
    from audioldm_utils.audio import load_clip
    from audioldm_utils.tables import ResultsBuilder

    stages = _WORKER["stages"]
    rows = ResultsBuilder(stages.checkpoint.fingerprint_of(study.parts), seed)
    clips = [load_clip(info, LONGEST) for info in infos]
    alone = study.scope == "clip" and study.group == 1
    more = (most,) if study.scope == "samples" else ()
    study.measure()(clips[0] if alone else clips, stages, rows, seed, *more)
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
    own: int = 0,
) -> pd.DataFrame:
    """As :func:`measure_clips`, on those of the clips that the committed evidence holds.

    Where it holds none of them they are a reader's own, and as many of these are measured as
    ``own`` says, spread over them.

    Args:
        name, clips, checkpoint, seed, jobs, progress: as in :func:`measure_clips`.
        evidence_dir: where the committed table lies.
        most: recompute at most so many of the evidence's clips, or groups of them; None for
            all. With 0 the committed rows stand in, if they are of this checkpoint: for a
            study that another one of the same code is checked for. Of a study of samples: at
            most so many of a kind.
        own: most of a reader's own clips, or groups of them; 0 for all.
    """
    if name not in STUDIES:
        raise UserError(f"unknown study {name!r}; there are {', '.join(STUDIES)}")
    bounds.SEED.check("seed", seed)
    bounds.CLIPS_OR_ALL.check("own", own)
    if most is not None:
        bounds.CLIPS_OR_ALL.check("most", most)
    study = STUDIES[name]
    if study.scope == "samples":
        return measure_clips(name, clips, checkpoint, seed, progress=progress, most=most)
    held = evidence_clips(name, clips, evidence_dir)
    if most == 0 and held:
        from audioldm_utils.checkpoint import load
        from audioldm_utils.tables import read

        table = read(Path(evidence_dir) / f"{name}.csv")
        table = table[table["clip"].isin([info.name for info in held])]
        if set(table["checkpoint"]) == {load(checkpoint).fingerprint_of(study.parts)[:12]}:
            return table.reset_index(drop=True)
        most = 1
    chosen = held[: None if most is None else most * study.group]
    if not chosen:
        count = min(own * study.group or len(clips), len(clips))
        chosen = [clips[i * len(clips) // count] for i in range(count)]
    return measure_clips(name, chosen, checkpoint, seed, jobs, progress)


def evidence_clips(
    name: str, clips: Sequence[ClipInfo], evidence_dir: str | Path
) -> Sequence[ClipInfo]:
    """Those of the clips that a study's evidence was made from: same file name, same SHA-256.

    Of a study of groups only all clips of one folder count: with some of them missing, the
    others would fall into other groups than the evidence's.
    """
    path = Path(evidence_dir) / f"{name}.json"
    if not path.exists():
        return []
    record = json.loads(path.read_text())
    inputs = record["inputs"]
    named = [info for info in clips if info.path.name in inputs]  # no other is worth a hash
    held = [info for info in named if inputs[info.path.name] == sha256_file(info.path)]
    if STUDIES[name].group == 1:
        return held
    shipped = {file for file in inputs if Path(file).stem in record["shipped"]}
    there = {info.path.name for info in held}
    whole = [part for part in (shipped, set(inputs) - shipped) if part <= there]
    return [info for info in held if any(info.path.name in part for part in whole)]


def rests_on_evidence(name: str, clips: Sequence[ClipInfo], evidence_dir: str | Path) -> bool:
    """Whether :func:`findings` on these clips are the evidence's, if it is of the checkpoint."""
    if name not in STUDIES:
        return False
    made = STUDIES[name].scope == "samples"  # of no clips; those are a reference only
    return made or bool(evidence_clips(name, clips, evidence_dir))


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
        progress: a bar with the time that is left, on the screen and never on the page of a
            running notebook.
        most: samples of a kind, for studies of samples.

    Raises:
        UserError: no clips, an unknown study, or an unusable clip (the message names it).
    """
    import pandas as pd

    from audioldm_utils.progress import screen_bar
    from audioldm_utils.tables import COLUMNS, validate

    if not clips:
        raise UserError("there are no clips to measure")
    study = STUDIES[name]
    if study.scope != "clip":
        _prepare(str(checkpoint))
        rows = _measure(study, clips, seed, most)
        return validate(pd.DataFrame(rows, columns=list(COLUMNS)))
    rows: list[dict[str, object]] = []
    groups = [clips[i : i + study.group] for i in range(0, len(clips), study.group)]
    bar = screen_bar(len(groups), name, "clip", progress)
    if jobs == 1:
        # The report gives each chapter its share of the cores; that is left as it is.
        _prepare(str(checkpoint))
        for infos in groups:
            rows += _measure(study, infos, seed)
            bar.update()
    else:
        with ProcessPoolExecutor(
            jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare,
            initargs=(str(checkpoint), max(1, len(os.sched_getaffinity(0)) // jobs)),
        ) as pool:
            for future in [pool.submit(_measure, study, infos, seed) for infos in groups]:
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
        at_hand: rows of the clips that can be played here: this run's, and the committed ones
            of the same clips.
    """

    table: pd.DataFrame
    n: int
    source: str
    compared: int
    at_hand: pd.DataFrame


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
    clip_or_clips = "clip" if count == 1 else "clips"
    alone = Findings(run, count, f"{count} {clip_or_clips} of this run", 0, run)
    path = Path(evidence_dir) / f"{name}.csv"
    if not path.exists():
        return alone
    record = json.loads(path.with_suffix(".json").read_text())
    committed = read(path)
    same = set(run["checkpoint"]) <= set(committed["checkpoint"])
    shared = {info.name for info in evidence_clips(name, clips, evidence_dir)}
    study = STUDIES[name]
    if not same or not (study.scope == "samples" or shared):
        return alone
    compared = compare_evidence(run, committed, study.tolerance, study.relative)
    if study.scope == "samples":
        made = committed[committed["clip"] != WHOLE]
        n = len(made[["clip", "method", "stage"]].drop_duplicates())
        return Findings(committed, n, f"{n} generated samples", compared, run)
    judged = committed[~committed["clip"].isin(record["shipped"])]
    n = judged["clip"].nunique()
    at_hand = committed[committed["clip"].isin(shared)]
    return Findings(judged, n, f"{n} real recordings never trained on", compared, at_hand)


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

    found = survey(audio_dir, limit or 0)
    for line in found.sentences():
        print(line, file=sys.stderr)
    judged = found.usable
    shipped = find_clips(shipped_dir)
    study = STUDIES[name]
    judged = study.chosen(judged)
    shipped = (
        [] if study.scope == "samples" else shipped[study.first :: study.shipped or study.every]
    )
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
        checkpoint=load(checkpoint).fingerprint_of(study.parts),
        parts=list(study.parts),
        n=len(judged),
        shipped=sorted(info.name for info in shipped),
    )
    path = Path(out) / f"{name}.csv"
    write(table, path, record)
    return path
