"""``audioldm-utils evidence``: the committed tables behind the book's findings."""

from __future__ import annotations

import argparse
from pathlib import Path

from audioldm_utils import bounds

HELP = (
    "Write the eval-scale tables of book/evidence: every study on a folder and the shipped clips."
)
EXAMPLES = """\
  audioldm-utils evidence --audio my_recordings
  audioldm-utils evidence --audio my_recordings --studies 01_ladder --out build/evidence"""

#: Suffixes of what a study leaves.
WRITTEN = ("csv", "parquet", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "--audio", required=True, type=Path, help="folder of clips never trained on"
    )
    parser.add_argument(
        "--shipped", type=Path, default=Path("data/audio"), help="the project's own"
    )
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--studies", nargs="*", help="default: all")
    parser.add_argument("--out", type=Path, default=Path("book/evidence"))
    parser.add_argument("--seed", type=bounds.SEED, default=0)
    parser.add_argument(
        "--jobs", type=bounds.PROCESSES, default=2, help="worker processes (default 2)"
    )
    parser.add_argument("--limit", type=bounds.CLIPS, help="first so many clips only")


def run(args: argparse.Namespace) -> int:
    """Run the studies one after another."""
    from audioldm_utils.audio.clips import clip_files, find_clips
    from audioldm_utils.book.chapters import defaults, find_chapters
    from audioldm_utils.book.report import find_root
    from audioldm_utils.outputs import check_outputs
    from audioldm_utils.studies.registry import STUDIES, find_study
    from audioldm_utils.studies.run import write_evidence

    clips = [clip_files(f, find_clips(f)) for f in (args.audio, args.shipped)]
    tables = [args.out / f"{n}.{s}" for n in args.studies or STUDIES for s in WRITTEN]
    check_outputs(tables, [path for files in clips for path in files])
    # A study's grid stands in its chapter's parameters; the seed may be another one.
    chapters = defaults(find_chapters(find_root() / "notebooks"))
    grids = {name[:2]: grid for name, grid in chapters.items()}
    for name in args.studies or STUDIES:
        given = find_study(name).parameters({**grids[name[:2]], "seed": args.seed})
        path = write_evidence(
            name, args.audio, args.shipped, args.out, args.checkpoint, given, args.jobs, args.limit
        )
        print(path)
    return 0
