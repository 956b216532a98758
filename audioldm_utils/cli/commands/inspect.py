"""``audioldm-utils inspect``: what a ``.ddcm`` file says of itself."""

from __future__ import annotations

import argparse
import json

HELP = "Show what .ddcm files hold: configuration, true rate, checkpoint."
EXAMPLES = """  audioldm-utils inspect out.ddcm
  audioldm-utils inspect coded/*.ddcm
  audioldm-utils inspect out.ddcm --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("input", nargs="+", help=".ddcm files")
    parser.add_argument("--json", action="store_true", help="one JSON object a file")


def run(args: argparse.Namespace) -> int:
    """Print header and sizes; nothing is decoded and no checkpoint is needed."""
    from audioldm_utils.ddcm import bitstream

    for path in args.input:
        header, _, sizes = bitstream.read(path)
        values = bitstream.describe(header) | {
            "seconds": round(sizes.seconds, 3),
            "bytes": sizes.file,
            "bytes_fixed": sizes.fixed,
            "bytes_optional": sizes.optional,
            "bytes_codes": sizes.payload,
            "kbps": round(sizes.kbps, 4),
            "kbps_codes": round(sizes.payload_kbps, 4),
        }
        if args.json:
            print(json.dumps({"file": str(path), **values}, ensure_ascii=False))
            continue
        print(path)
        for name, value in values.items():
            if value not in (None, "", ()):
                print(f"  {name.replace('_', ' '):<18} {value}")
    return 0
