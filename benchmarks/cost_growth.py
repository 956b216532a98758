"""How time and memory of DDCM grow with seconds, steps and atoms, as log-log slopes.

    python benchmarks/cost_growth.py [--checkpoint mini] [--out book/evidence]

One thing grows while the rest stays. Each point is a fresh process with one thread: processor
seconds of one encoding and one decoding after a short one has warmed up, and the largest resident
set of each (Linux: /proc/self/clear_refs). A slope is the least-squares one of logarithms. Writes
``cost_growth.csv``, with keys and texts for the execution page, and ``cost_growth.json``. About
five processor minutes; other work on the machine changes it little.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SECONDS, STEPS, LATENT_FRAMES = 2.56, 10, 64
#: What grows: its values, and the slope that time should have. A cyclic codebook has 2 N atoms a
#: base, N latent values, and independent ones are drawn one by one, to be compared.
GROWTH: dict[str, tuple[tuple[float, ...], dict[str, str]]] = {
    "seconds": ((2.56, 10.24, 40.96, 160), {"encode": "1", "decode": "1"}),
    "steps": ((10, 25, 50, 100, 200), {"encode": "1", "decode": "1"}),
    "cyclic": ((2**14, 2**16, 2**18, 2**20), {"encode": "0", "decode": "0"}),
    "independent": ((2**6, 2**8, 2**10), {"encode": "at most 1", "decode": "0"}),
}


def settings_of(what: str, value: float) -> tuple[float, dict[str, object]]:
    """Seconds of audio, and options of ``Settings``, of one point."""
    options: dict[str, object] = {"kbps": None, "steps": STEPS}
    if what == "steps":
        options["steps"] = int(value)
    elif what == "cyclic":
        options["size"] = int(value) // (2 * 8 * LATENT_FRAMES * 16)
    elif what == "independent":
        options |= {"codebook": "gaussian", "size": int(value)}
    return value if what == "seconds" else SECONDS, options


def costs(action: Callable[[], object]) -> tuple[object, float, float]:
    """What ``action`` gives, its processor seconds, and the largest resident set, MB."""
    Path("/proc/self/clear_refs").write_text("5")
    start = time.process_time()
    found = action()
    spent = time.process_time() - start
    status = Path("/proc/self/status").read_text()
    return found, spent, int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def point(what: str, value: float, checkpoint: str, audio: str) -> dict[str, float]:
    """Measure in this process."""
    from audioldm_utils.audio.clips import find_clips, load_clip, to_model_rate
    from audioldm_utils.ddcm.codec import Codec
    from audioldm_utils.ddcm.settings import Settings
    from audioldm_utils.model.networks import Networks

    seconds, options = settings_of(what, value)
    clips = [to_model_rate(load_clip(info)) for info in find_clips(audio)]
    samples = np.resize(np.concatenate(clips), round(seconds * 16000))
    codec, settings = Codec(Networks(checkpoint)), Settings(**options)
    codec.decode(codec.encode(samples[:16000], Settings(kbps=None, steps=2)).data)
    data, *encode = costs(lambda: codec.encode(samples, settings).data)
    _, *decode = costs(lambda: codec.decode(data))
    return {
        f"{measure}_{side}": found
        for side, pair in (("encode", encode), ("decode", decode))
        for measure, found in zip(("time", "memory"), pair, strict=True)
    }


def fresh(what: str, value: float, args: argparse.Namespace) -> dict[str, float]:
    """Measure in a process of its own."""
    words = ["--point", what, str(value), "--checkpoint", args.checkpoint, "--audio", args.audio]
    done = subprocess.run(
        [sys.executable, __file__, *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def slope(values: tuple[float, ...], found: list[float]) -> float:
    """Of log ``found`` over log ``values``."""
    return float(np.polyfit(np.log(values), np.log(found), 1)[0])


def rows_of(what: str, points: list[dict[str, float]]) -> list[tuple[object, ...]]:
    """Rows of the table for what grows: each point, then each slope."""
    values, expected = GROWTH[what]
    grid = f"{values[0]:,} to {values[-1]:,}"
    rows: list[tuple[object, ...]] = [(f"{what}_grid", len(values), "", "", grid)]
    for key in points[0]:
        measure, side = key.split("_")
        unit, form = ("s", ".2f") if measure == "time" else ("MB", ".0f")
        found = [one[key] for one in points]
        for value, one in zip(values, found, strict=True):
            rows.append((f"{what}_{value:.10g}_{key}", one, unit, "", f"{one:{form}} {unit}"))
        wanted = expected[side] if measure == "time" else "at most 1" * (what == "seconds") or "0"
        grown = slope(values, found)
        rows.append((f"{what}_{key}", grown, "", wanted, f"{grown:.2f} ({wanted})"))
        ends = f"{found[0]:{form}} to {found[-1]:{form}} {unit}"
        rows.append((f"{what}_{key}_ends", found[-1] / found[0], "", "", ends))
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--audio", default="data/audio")
    parser.add_argument("--out", type=Path, default=Path("book/evidence"))
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        what, value = args.point
        print(json.dumps(point(what, float(value), args.checkpoint, args.audio)))
        return
    from audioldm_utils.files import atomic_write
    from audioldm_utils.model.checkpoint import load
    from audioldm_utils.results.evidence import provenance

    rows = []
    for what, (values, _) in GROWTH.items():
        points = []
        for value in values:
            points.append(fresh(what, value, args))
            told = ", ".join(f"{key} {found:.2f}" for key, found in points[-1].items())
            print(f"{what} {value:g}: {told}", flush=True)
        rows += rows_of(what, points)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("key", "value", "unit", "expected", "text"))
    writer.writerows(rows)
    atomic_write(args.out / "cost_growth.csv", text.getvalue())
    fingerprint = load(args.checkpoint, ()).fingerprint
    record = provenance("python benchmarks/cost_growth.py", checkpoint=fingerprint)
    atomic_write(args.out / "cost_growth.json", json.dumps(record, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
