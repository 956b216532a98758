"""``audioldm-utils sweep``: a grid of work on one machine or many."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from audioldm_utils import bounds
from audioldm_utils.cli.options import add_shared, check_device
from audioldm_utils.outputs import check_folder, mark_folder
from audioldm_utils.text import visible

if TYPE_CHECKING:
    from audioldm_utils.sweep.file import Sweep
    from audioldm_utils.sweep.plan import Task

HELP = "run methods or chapters over a grid of clips, checkpoints and parameters, on Dask"
EXAMPLES = """\
  audioldm-utils sweep examples/sweep.yml
  audioldm-utils sweep examples/sweep.yml --out build/sweep --workers 2
  audioldm-utils sweep examples/sweep.yml --scheduler tcp://127.0.0.1:8786
  audioldm-utils sweep examples/sweep.yml --dry-run"""

#: Failures that are listed on the screen; all of them are in failures.csv.
SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("sweep", metavar="SWEEP.yml", help="what to run")
    add("--out", default="build/sweep", help="output folder (build/sweep)")
    add("--scheduler", metavar="ADDRESS", help="an existing Dask scheduler")
    add("--workers", type=bounds.PROCESSES, help="processes of the embedded cluster (cores)")
    add("--threads", type=bounds.PROCESSES, default=1, help="numerical threads a worker")
    add("--dry-run", action="store_true", help="say what would be run")
    add("--quiet", action="store_true", help="no progress bar")
    add_shared(parser, "device")


def run(args: argparse.Namespace) -> int:
    """Run the sweep; 1 if anything failed."""
    from audioldm_utils.sweep.file import read_sweep
    from audioldm_utils.sweep.run import Store, run_sweep

    if not args.scheduler:
        check_device(args.device)
    if not args.dry_run:
        check_folder(args.out, "sweep")
    sweep = read_sweep(args.sweep)
    tasks, broken, function = prepare(sweep, args.out)
    if args.dry_run:
        store = Store(f"{args.out}/parts")
        done = sum(store.read(task.key) is not None for task in tasks)
        print(f"{len(tasks)} tasks, {done} of them done")
        return 0
    mark_folder(args.out, "sweep")
    if args.device != "cpu":
        function = partial(function, device=args.device)
    cluster = {name: getattr(args, name) for name in ("scheduler", "workers", "threads")}
    found = run_sweep(sweep, tasks, args.out, function, broken, progress=not args.quiet, **cluster)
    print(
        f"{found.computed} tasks computed, {found.reused} known from before, "
        f"{len(found.failures)} failed, {found.seconds:.0f} s"
    )
    if found.paths:
        print(f"results: {found.paths['parquet']}")
    for what, reason in sorted(found.failures.items())[:SHOWN]:
        print(f"failed: {visible(what)}: {visible(reason)}", file=sys.stderr)
    if len(found.failures) > SHOWN:
        print(f"and {len(found.failures) - SHOWN} more in failures.csv", file=sys.stderr)
    return 1 if found.failures else 0


def prepare(sweep: Sweep, out: str) -> tuple[list[Task], dict[str, str], Callable]:
    """The sweep's tasks, the clips that cannot be opened, and the function for the workers."""
    from audioldm_utils.model.checkpoint_files import locate
    from audioldm_utils.model.checkpoint_fingerprint import fingerprint
    from audioldm_utils.model.fits import fits_digest

    fits = cache(lambda name: fits_digest(locate(name).path, prints(name)))

    def fitted(tasks: list[Task]) -> list[Task]:
        return [replace(task, fits=fits(task.checkpoint)) for task in tasks]

    prints = cache(lambda name: fingerprint(locate(name).path))
    if sweep.chapters:
        from audioldm_utils.sweep.chapters import plan_chapters, run_chapter

        return fitted(plan_chapters(sweep, out, prints)), {}, run_chapter
    from audioldm_utils.audio.clips import find_clips
    from audioldm_utils.methods.registry import METHODS
    from audioldm_utils.metrics import parse_names
    from audioldm_utils.sweep.plan import grid, plan_methods
    from audioldm_utils.sweep.tasks import measure

    clips = find_clips(sweep.audio)
    if sweep.metrics:
        parse_names(sweep.metrics)
    for method, choices in sweep.methods:
        for options in grid(choices) if method in METHODS else ():
            METHODS[method].parse(options)
    tasks, broken = plan_methods(sweep, clips, prints, METHODS)
    return fitted(tasks), broken, measure
