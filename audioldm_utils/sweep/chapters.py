"""Sweeps over chapters: every combination of parameters is a run of the notebook."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils.audio.clips import tables
from audioldm_utils.book import chapters, execution
from audioldm_utils.files import available_cores, folder_lock
from audioldm_utils.results.comparison import read_run
from audioldm_utils.results.tables import validate
from audioldm_utils.sweep.file import Sweep
from audioldm_utils.sweep.plan import Task, code_hash, grid, label

if TYPE_CHECKING:
    import pandas as pd


def plan_chapters(sweep: Sweep, out: str | Path, fingerprint: Callable[[str], str]) -> list[Task]:
    """One task for each chapter, checkpoint and combination of parameters.

    A task's notebooks and tables go to ``out/chapters``; ``fingerprint`` gives a checkpoint's by
    its name. No such chapter, or a parameter that it does not take, is a UserError.
    """
    there = chapters.find_chapters(sweep.notebooks)
    content = execution.hash_tree([sweep.audio, tables(sweep.audio)[1]])
    root, tasks = sweep.notebooks.resolve().parent, []
    for checkpoint in sweep.checkpoints:
        for word in sweep.chapters:
            chosen = chapters.select(there, [word])
            name = next(c.name for c in chosen if word in (c.name, c.name.split("_")[0]))
            for parameters in grid(sweep.parameters):
                chapters.check_parameters(chosen, parameters)
                evidence = root / parameters.get("evidence_dir", "book/evidence")
                read = execution.hash_tree([*(c.path for c in chosen), evidence])
                code = hashlib.sha256(f"{code_hash()}{read}".encode())
                tasks.append(
                    Task(
                        path=str(sweep.audio),
                        clip="",
                        content=content,
                        checkpoint=checkpoint,
                        fingerprint=fingerprint(checkpoint),
                        method=name,
                        options=json.dumps(parameters, sort_keys=True),
                        label=label(parameters),
                        code=code.hexdigest(),
                        notebooks=str(sweep.notebooks),
                        out=str(Path(out).resolve() / "chapters"),
                    )
                )
    return tasks


def run_chapter(task: Task, device: str = "cpu") -> pd.DataFrame:
    """Run a chapter, and those that it reads from, and give the tables that it wrote.

    The worker must see the notebooks and write to the sweep's folder. Each task has its own
    folder there, named by its key; what is in it already and still right is kept. In the tables
    ``stage`` is followed by the parameters swept over, and rows without a checkpoint have the
    task's. A UserError if the chapter failed, or wrote no results table.
    """
    chosen = chapters.select(chapters.find_chapters(task.notebooks), [task.method])
    layout = execution.Layout(Path(task.out) / f"{task.method}-{task.key[:12]}")
    taken = chapters.check_parameters(chosen, json.loads(task.options))
    for chapter in chosen:
        own = {"audio_dir": task.path, "checkpoint": task.checkpoint}
        own["device"] = device
        own["out_dir"] = str(layout.results(chapter.name))
        taken[chapter.name] = chapter.only(own) | taken[chapter.name]
    root = Path(task.notebooks).resolve().parent
    # A kernel gets cores / jobs threads: as many as this worker may use.
    jobs = max(1, available_cores() // int(os.environ.get("OMP_NUM_THREADS", "1")))
    with folder_lock(layout.out) as lock:
        execution.run_chapters(chosen, taken, layout, root, task.key, jobs, lambda *_: None, lock)
    table = read_run(layout.results(task.method))
    table["checkpoint"] = table["checkpoint"].replace("", task.fingerprint[:12])
    table["stage"] = [
        "; ".join(part for part in (own, task.label) if part) for own in table["stage"]
    ]
    return validate(table, task.method)
