"""``audioldm-utils report``: run the chapters and build the book."""

from __future__ import annotations

import argparse
import sys

from audioldm_utils.cli.options import add_shared, check_device

HELP = "run the chapters on a folder of audio and build the book"
EXAMPLES = """  audioldm-utils report
  audioldm-utils report --audio my_clips --checkpoint cvssp/audioldm2 --out build/mine
  audioldm-utils report --chapters 01,02 -p limit 3 -p seed 7
  audioldm-utils report --list"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add, pair = parser.add_argument, {"nargs": 2, "action": "append", "metavar": ("NAME", "VALUE")}
    add("--audio", default="data/audio", metavar="DIR", help="folder of clips")
    add("--out", default="build", metavar="DIR", help="folder: new, empty, or a report's own")
    add("--chapters", metavar="LIST", help="numbers or names, comma-separated (default: all)")
    add("-p", "--parameter", default=[], help="for every chapter that declares it", **pair)
    add("--list", action="store_true", help="list chapters and parameters, and end")
    add("--write-pairs", action="store_true", help="only write each notebook from its .py source")
    add("--pdf", action="store_true", help="print the whole book as OUT/book.pdf (by Chromium)")
    add_shared(parser, "checkpoint", "device", "jobs")


def run(args: argparse.Namespace) -> int:
    """Run the report; its first page, or the PDF, is the only line on stdout."""
    from audioldm_utils.book.chapters import find_chapters, write_pair
    from audioldm_utils.book.printing import find_chromium, print_book
    from audioldm_utils.book.report import find_root, run_report

    if args.pdf:
        find_chromium()  # before hours of work
    if args.write_pairs:
        for source in sorted((find_root() / "notebooks").glob("[0-9][0-9]_*.py")):
            print(write_pair(source))
    elif args.list:
        for chapter in find_chapters(find_root() / "notebooks"):
            print(f"{chapter.name}: {chapter.title}")
            for p in chapter.parameters:
                print(f"    {p.name}: {p.kind} = {p.default}  {p.help}".rstrip())
    else:
        chapters = [word for word in args.chapters.split(",") if word] if args.chapters else None
        parameters = dict(args.parameter)
        if args.device != "cpu":
            check_device(args.device)
            parameters["device"] = args.device
        given = {"parameters": parameters, "jobs": args.jobs, "progress": sys.stderr}
        page = run_report(args.audio, args.checkpoint, args.out, chapters=chapters, **given)
        print(print_book(args.out) if args.pdf else page)
    return 0
