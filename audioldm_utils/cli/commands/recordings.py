"""``audioldm-utils recordings``: list and fetch openly licensed recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

from audioldm_utils.errors import UserError

HELP = "list openly licensed recordings, or fetch them as a folder of clips"
EXAMPLES = """\
  audioldm-utils recordings
  audioldm-utils recordings --out build/recordings
  audioldm-utils recordings --out build/recordings brahms robin"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="recordings (default: all)")
    add("--out", type=Path, metavar="DIR", help="folder that the excerpts go to")
    add("--cache", type=Path, metavar="DIR", help="folder that keeps downloads")
    add("--registry", type=Path, metavar="CSV", help="another registry")


def run(args: argparse.Namespace) -> int:
    """List the registry, or fetch and write a folder that ``report --audio`` takes."""
    from audioldm_utils.audio import recordings

    registry = args.registry or recordings.REGISTRY
    if args.out is None:
        if args.names:
            raise UserError(f"--out is missing; say where {args.names[0]!r} shall be written.")
        for entry in recordings.read_registry(registry).values():
            print(f"{entry.name:22} {entry.category:15} {entry.licence:14} {entry.title}")
            print(f"{'':22} {entry.author}, {entry.origin}")
        return 0
    paths = recordings.make_folder(args.out, args.names, args.cache, registry, progress=True)
    print(f"{len(paths)} clips in {args.out}; their licences are in manifest.csv")
    print(f"next: audioldm-utils report --audio {args.out}")
    return 0
