"""``audioldm-utils evidence``: the committed tables behind the book's findings."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = (
    "Write the eval-scale tables of book/evidence: every study on a folder and the shipped clips."
)
EXAMPLES = """\
  audioldm-utils evidence --audio my_recordings
  audioldm-utils evidence --audio my_recordings --studies 01_ladder --out build/evidence"""


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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--limit", type=int, help="first so many clips only")


def run(args: argparse.Namespace) -> int:
    """Run the studies one after another."""
    from audioldm_utils.studies import write_evidence
    from audioldm_utils.study_list import STUDIES

    for name in args.studies or STUDIES:
        path = write_evidence(
            name, args.audio, args.shipped, args.out, args.checkpoint, {"seed": args.seed},
            args.jobs, args.limit,
        )  # fmt: skip
        print(path)
    return 0
