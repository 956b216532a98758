"""Processor time until the first sound: each command on one clip, in a fresh process.

For two checkouts, which take turns, so that a busy machine slows both alike. The first run of
each is not counted: it writes caches (compiled modules, a checkpoint's passed checks). ``decode``
is given the file that the same checkout's ``encode`` made. Steps and seconds are the same on
both sides, and few: most of a first sound is the start.

    python benchmarks/first_sound.py CHECKOUT_BEFORE CHECKOUT_AFTER --runs 3 --out TABLE.csv
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MAIN = "import sys; from audioldm_utils.cli.main import main; sys.exit(main(sys.argv[1:]))"
#: What is asked of each command: CLIP is an audio file, DIR the checkout's own output folder.
COMMANDS = {
    "reconstruct": "reconstruct CLIP DIR/vae.wav --max-seconds 2.56",
    "encode": "encode CLIP DIR/a.ddcm --kbps 0.5 --steps 10",
    "decode": "decode DIR/a.ddcm DIR/a.wav",
    "generate": "generate rain DIR/rain.wav --seconds 2.56 --steps 10",
}


def seconds(checkout: Path, words: list[str]) -> float:
    """Processor seconds, user's and system's, of one command."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    result = subprocess.run(
        [sys.executable, "-c", MAIN, *words],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise SystemExit(f"{checkout}: {' '.join(words)}\n{result.stderr}")
    return spent() - before


def main() -> None:
    """Print and write the medians of each checkout and command, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--clip", default="piano")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=COMMANDS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    checkouts = {"before": args.before.resolve(), "after": args.after.resolve()}
    clip = checkouts["after"] / "data" / "audio" / f"{args.clip}.flac"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for command in args.commands:
            found: dict[str, list[float]] = {name: [] for name in checkouts}
            for _ in range(args.runs + 1):
                for name, checkout in checkouts.items():
                    own = Path(folder) / name
                    own.mkdir(exist_ok=True)
                    words = COMMANDS[command].replace("DIR", str(own)).replace("CLIP", str(clip))
                    found[name].append(seconds(checkout, words.split(" ")))
            before, after = (statistics.median(times[1:]) for times in found.values())
            rows.append((command, f"{before:.2f}", f"{after:.2f}", f"{after / before:.2f}"))
            for name, times in found.items():
                print(f"{command}, {name}: first {times[0]:.2f}", *(f"{t:.2f}" for t in times[1:]))
            print(f"{command}: after / before {after / before:.2f}", flush=True)
    if args.out:
        with args.out.open("w", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(("command", "before CPU s", "after CPU s", "ratio"))
            writer.writerows(rows)


if __name__ == "__main__":
    main()
