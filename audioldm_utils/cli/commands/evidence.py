"""``audioldm-utils evidence``: the committed tables behind the book's findings."""

from __future__ import annotations

import argparse
from pathlib import Path

from audioldm_utils.cli.options import add_shared, check_device
from audioldm_utils.outputs import check_outputs

HELP = "write the tables of book/evidence: every study on a folder and the shipped clips"
EXAMPLES = """\
  audioldm-utils evidence --audio my_recordings
  audioldm-utils evidence --audio my_recordings --studies 01_ladder --out build/evidence"""

#: Suffixes of what a study leaves.
WRITTEN = ("csv", "parquet", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add, shipped, out = parser.add_argument, Path("data/audio"), Path("book/evidence")
    add("--audio", required=True, type=Path, help="folder of clips never trained on")
    add("--shipped", type=Path, default=shipped, help="the project's own")
    add("--studies", nargs="*", help="default: all")
    add("--out", type=Path, default=out, help="folder of the tables (default book/evidence)")
    add_shared(parser, "checkpoint", "device", "seed", "jobs", "limit", jobs=2)


def run(args: argparse.Namespace) -> int:
    """Run the studies one after another."""
    from audioldm_utils.audio.clips import clip_files, find_clips
    from audioldm_utils.book.chapters import defaults, find_chapters
    from audioldm_utils.book.report import find_root
    from audioldm_utils.studies.registry import STUDIES, find_study

    check_device(args.device)
    names = args.studies or STUDIES
    clips = [clip_files(f, find_clips(f)) for f in (args.audio, args.shipped)]
    tables = [args.out / f"{name}.{suffix}" for name in names for suffix in WRITTEN]
    check_outputs(tables, [path for files in clips for path in files])
    # A study's grid stands in its chapter's parameters; the seed may be another one.
    chapters = defaults(find_chapters(find_root() / "notebooks"))
    grids = {name[:2]: grid for name, grid in chapters.items()}
    given = {
        name: find_study(name).parameters({**grids[name[:2]], "seed": args.seed}) for name in names
    }
    from audioldm_utils.studies.run import write_evidence  # which loads the networks' library

    place = args.audio, args.shipped, args.out, args.checkpoint
    for name, parameters in given.items():
        path = write_evidence(name, *place, parameters, args.jobs, args.limit, args.device)
        print(path)
    return 0
