"""Measurements that chapters and committed evidence share: one function a study.

A chapter runs a study on the audio it is given, ``audioldm-utils evidence`` on an eval folder and
on the shipped clips. The chapter checks its rows against the committed ones, so that evidence
cannot go stale, and takes its findings from the larger set.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from audioldm_utils import bounds
from audioldm_utils.audio.clips import ClipInfo, find_clips, load_clip
from audioldm_utils.audio.survey import LONGEST, survey
from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint import device_of_worker, load
from audioldm_utils.model.networks import Networks
from audioldm_utils.model.synthesis import check_synthesis
from audioldm_utils.results.evidence import provenance
from audioldm_utils.results.tables import COLUMNS, ResultsBuilder, concat, read, validate, write
from audioldm_utils.studies import findings as found_by
from audioldm_utils.studies.findings import DEFAULTS, Findings, as_recorded
from audioldm_utils.studies.registry import STUDIES, Study, find_study

_WORKER: dict[str, Networks] = {}


def _prepare(
    checkpoint: str,
    synthesis: str,
    device: str = "cpu",
    threads: int | None = None,
    numbers: Queue[int] | None = None,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    if numbers:
        device = device_of_worker(device, numbers.get())
    _WORKER["networks"] = Networks(load(checkpoint, (), device), synthesis=synthesis)


def _measure(
    study: Study, infos: Sequence[ClipInfo], parameters: Mapping[str, Any]
) -> list[dict[str, object]]:
    """Rows of one clip, or of the clips that the study takes at once."""
    networks = _WORKER["networks"]
    rows = ResultsBuilder(networks.checkpoint.fingerprint_of(study.parts), parameters["seed"])
    clips = [load_clip(info, LONGEST) for info in infos]
    grid = {name: value for name, value in parameters.items() if name != "synthesis"}
    study.function()(clips[0] if study.clips.together == 1 else clips, networks, rows, **grid)
    return rows.rows


def measure(
    name: str,
    clips: Sequence[ClipInfo],
    checkpoint: str | Path,
    parameters: Mapping[str, Any],
    out_dir: str | Path,
    evidence_dir: str | Path,
    recheck: int | None = None,
    new_clips: int = 0,
    device: str = "cpu",
) -> Findings:
    """Run a study for a chapter, keep its table, and say what findings rest on.

    Args:
        parameters: seed and grid, all that the study takes; and ``synthesis``, what makes
            sound (default: auto).
        out_dir: gets ``<name>.csv``, ``.parquet`` and a sidecar with the parameters.
        evidence_dir, recheck, new_clips, device: as in :func:`run_study`.

    Raises:
        UserError: a number that cannot be, or as in :func:`measure_clips`.
        StaleEvidenceError: the rows of this run disagree with the committed ones.
    """
    how = {"recheck": recheck, "new_clips": new_clips, "device": device}
    run = run_study(name, clips, checkpoint, parameters, evidence_dir, **how)
    write(run, Path(out_dir) / name, {"parameters": as_recorded(parameters)})
    found = found_by.findings(run, clips, name, evidence_dir, parameters, recheck != 0)
    print(f"{name}: {found.rests}")
    return found


def run_study(
    name: str,
    clips: Sequence[ClipInfo],
    checkpoint: str | Path = "mini",
    parameters: Mapping[str, Any] = DEFAULTS,
    evidence_dir: str | Path = "book/evidence",
    recheck: int | None = None,
    new_clips: int = 0,
    device: str = "cpu",
) -> pd.DataFrame:
    """As :func:`measure_clips`, on those of the clips that the committed evidence holds.

    Where it does not serve this run (see :func:`~audioldm_utils.studies.findings.why_alone`),
    as many of the clips are measured as ``new_clips`` says, spread over them.

    Args:
        evidence_dir: where the committed table lies.
        recheck: measure at most so many of the evidence's clips again, or groups of them; None
            for all. With 0 the committed rows stand in. Of a study of samples: at most so many
            of a kind.
        new_clips: most of the clips, or groups of them, that no evidence serves; 0 for all.
        device: where the networks run: cpu, cuda or mps.
    """
    study = find_study(name)
    for parameter, value in {**parameters, "new_clips": new_clips, "recheck": recheck or 0}.items():
        bounds.check_parameter(parameter, parameter, value)
    check_synthesis(parameters.get("synthesis", "auto"))
    if study.clips.reference:
        given = {**parameters, "of_each": recheck}
        return measure_clips(name, clips, checkpoint, given, progress=False, device=device)
    size = max(study.clips.together, 1)
    fingerprint = load(checkpoint).fingerprint_of(study.parts)
    if found_by.why_alone(name, clips, parameters, fingerprint, evidence_dir):
        count = min(new_clips * size or len(clips), len(clips))
        chosen = [clips[i * len(clips) // count] for i in range(count)]
    else:
        chosen = found_by.evidence_clips(name, clips, evidence_dir)
        if recheck == 0:
            table = read(Path(evidence_dir) / f"{name}.csv")
            return table[table["clip"].isin([i.name for i in chosen])].reset_index(drop=True)
        chosen = chosen[: None if recheck is None else recheck * size]
    return measure_clips(name, chosen, checkpoint, parameters, progress=False, device=device)


def measure_clips(
    name: str,
    clips: Sequence[ClipInfo],
    checkpoint: str | Path = "mini",
    parameters: Mapping[str, Any] = DEFAULTS,
    jobs: int = 1,
    progress: bool = True,
    device: str = "cpu",
) -> pd.DataFrame:
    """The study's table for these clips.

    Args:
        checkpoint: name, folder or hub id.
        parameters: given to the study by name; ``seed`` is among them. ``synthesis`` is for
            the networks.
        jobs: worker processes, each with its share of the cores; 1 stays in this process.
        progress: a bar on the screen, never on the page of a running notebook.
        device: where the networks run. ``cuda`` with several GPUs: each worker has its own.

    Raises:
        UserError: no clips, or an unusable clip (the message names it).
    """
    if not clips:
        raise UserError("there are no clips to measure")
    study, synthesis = STUDIES[name], parameters.get("synthesis", "auto")
    rows: list[dict[str, object]] = []
    groups = study.clips.groups(clips)
    bar = _screen_bar(len(groups), name, progress)
    if jobs == 1 or len(groups) == 1:
        # The report gives each chapter its share of the cores; that is left as it is.
        _prepare(str(checkpoint), synthesis, device)
        for infos in groups:
            rows += _measure(study, infos, parameters)
            bar.update()
    else:
        context = multiprocessing.get_context("spawn")
        numbers, threads = context.Queue(), max(1, len(os.sched_getaffinity(0)) // jobs)
        for number in range(jobs):
            numbers.put(number)
        with ProcessPoolExecutor(
            jobs,
            mp_context=context,
            initializer=_prepare,
            initargs=(str(checkpoint), synthesis, device, threads, numbers),
        ) as pool:
            for future in [pool.submit(_measure, study, infos, parameters) for infos in groups]:
                rows += future.result()
                bar.update()
    bar.close()
    return validate(pd.DataFrame(rows, columns=list(COLUMNS)))


def write_evidence(
    name: str,
    audio_dir: str | Path,
    shipped_dir: str | Path,
    out: str | Path,
    checkpoint: str = "mini",
    parameters: Mapping[str, Any] = DEFAULTS,
    jobs: int = 1,
    limit: int | None = None,
    device: str = "cpu",
) -> Path:
    """Run a study on an eval folder and on the shipped clips; write table and sidecar."""
    found = survey(audio_dir, limit or 0)
    for line in found.sentences():
        print(line, file=sys.stderr)
    study = STUDIES[name]
    judged = study.clips.of_folder(found.usable)
    shipped = study.clips.of_shipped(find_clips(shipped_dir))
    names = {info.name for info in judged} & {info.name for info in shipped}
    if names:
        raise UserError(f"clips of both folders are called {', '.join(sorted(names))}: rename them")
    # Clips of one folder are never measured together with those of the other.
    parts = [part for part in (judged, shipped) if part] or [judged]
    how = {"jobs": jobs, "device": device}
    table = concat(measure_clips(name, part, checkpoint, parameters, **how) for part in parts)
    seed = parameters["seed"]
    record = provenance(
        f"audioldm-utils evidence --audio EVAL --checkpoint {checkpoint} --studies {name}"
        + (f" --seed {seed}" if seed else ""),
        inputs=[info.path for info in [*judged, *shipped]],
        seeds=[seed],
        parameters=as_recorded(parameters),
        checkpoint=load(checkpoint).fingerprint_of(study.parts),
        parts=list(study.parts),
        n=len(judged),
        recordings=len({info.recording for info in judged}),
        shipped=sorted(info.name for info in shipped),
    )
    path = Path(out) / f"{name}.csv"
    write(table, path, record)
    return path


def _screen_bar(total: int, name: str, shown: bool) -> tqdm:
    """A bar with the time that is left, for the person at the screen, also out of a notebook.

    There it is written to the kernel's own standard error, which papermill's caller sees, and
    seldom; what a cell prints would stay on the page.
    """
    said = {"total": total, "desc": name, "unit": "clip", "disable": not shown}
    if not ("ipykernel" in sys.modules and type(sys.stderr).__module__.startswith("ipykernel")):
        return tqdm(**said)
    try:
        # A kernel puts a pipe into the page in place of descriptor 2 and keeps the first one.
        stream = os.fdopen(os.dup(sys.stderr.fileno()), "w")
    except (OSError, ValueError):
        return tqdm(total=total, disable=True)
    stream.write("\n")
    return tqdm(**said, file=stream, mininterval=5, ncols=78)
