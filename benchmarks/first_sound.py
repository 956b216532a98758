"""Processor time until the first sound: ``reconstruct`` of one clip in a fresh process.

For two checkouts, which take turns, so that a busy machine slows both alike. The first run of
each is not counted: it writes caches (compiled modules, a checkpoint's passed checks).

    python benchmarks/first_sound.py CHECKOUT_BEFORE CHECKOUT_AFTER --runs 5
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MAIN = "import sys; from audioldm_utils.cli.main import main; sys.exit(main(sys.argv[1:]))"


def seconds(checkout: Path, clip: Path, out: Path, options: list[str]) -> float:
    """Processor seconds, user's and system's, of one command."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    subprocess.run(
        [sys.executable, "-c", MAIN, "reconstruct", clip, out, *options],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return spent() - before


def main() -> None:
    """Print the median of each checkout, the ratio, and whether the sounds are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--clip", default="piano")
    parser.add_argument("--method", default="vae")
    args = parser.parse_args()
    checkouts = {"before": args.before.resolve(), "after": args.after.resolve()}
    clip = checkouts["after"] / "data" / "audio" / f"{args.clip}.flac"
    options = ["--method", args.method, "--max-seconds", "2.56"]
    with tempfile.TemporaryDirectory() as folder:
        outs = {name: Path(folder) / f"{name}.wav" for name in checkouts}
        found: dict[str, list[float]] = {name: [] for name in checkouts}
        for _ in range(args.runs + 1):
            for name, checkout in checkouts.items():
                found[name].append(seconds(checkout, clip, outs[name], options))
        same = outs["before"].read_bytes() == outs["after"].read_bytes()
    medians = {name: statistics.median(times[1:]) for name, times in found.items()}
    for name, times in found.items():
        listed = ", ".join(f"{time:.2f}" for time in times[1:])
        print(f"{name}: {medians[name]:.2f} CPU-s (median of {listed}; first {times[0]:.2f})")
    print(f"before / after: {medians['before'] / medians['after']:.2f}")
    print(f"the same sound: {'yes' if same else 'no'}")


if __name__ == "__main__":
    main()
