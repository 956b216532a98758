"""``audioldm-utils report``: run the chapters and build the book."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from audioldm_utils import bounds

HELP = "run the chapters on a folder of audio and build the book"
EXAMPLES = """  audioldm-utils report
  audioldm-utils report --audio my_clips --checkpoint cvssp/audioldm2 --out build/mine
  audioldm-utils report --chapters 01,02 -p limit 3 -p seed 7
  audioldm-utils report --list"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--audio", default="data/audio", metavar="DIR", help="folder of clips")
    parser.add_argument(
        "--checkpoint", default="mini", metavar="C", help="mini, a folder, or a hub id"
    )
    parser.add_argument(
        "--out", default="build", metavar="DIR", help="output folder: new, empty, or a report's own"
    )
    parser.add_argument(
        "--chapters", metavar="LIST", help="numbers or names, comma-separated (default: all)"
    )
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter for every chapter that declares it",
    )
    parser.add_argument(
        "--jobs", type=bounds.PROCESSES, help="chapters at once (default: number of cores)"
    )
    parser.add_argument("--list", action="store_true", help="list chapters and parameters")
    parser.add_argument(
        "--write-pairs",
        action="store_true",
        help="write each notebook anew from its .py source, and nothing else",
    )


def run(args: argparse.Namespace) -> int:
    """Run the report; its first page is the only line on stdout."""
    from audioldm_utils.book.chapters import find_chapters, write_pair
    from audioldm_utils.book.report import find_root, run_report

    if args.write_pairs:
        for source in sorted((find_root() / "notebooks").glob("[0-9][0-9]_*.py")):
            print(write_pair(source))
        return 0
    if args.list:
        for chapter in find_chapters(find_root() / "notebooks"):
            print(f"{chapter.name}: {chapter.title}")
            for p in chapter.parameters:
                print(f"    {p.name}: {p.kind} = {p.default}  {p.help}".rstrip())
        return 0
    page = run_report(
        args.audio,
        args.checkpoint,
        args.out,
        chapters=[word for word in args.chapters.split(",") if word] if args.chapters else None,
        parameters=dict(args.parameter),
        jobs=args.jobs,
        progress=sys.stderr,
    )
    print(Path(page))
    return 0
