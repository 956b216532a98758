"""How much faster a sweep is on two workers than on one, and whether the results agree.

    python benchmarks/sweep.py --audio data/audio --tasks 60

Each worker has one numerical thread. The clusters are started before the clock, since
starting them takes the same time however long the sweep is. Prints one line a worker count
and the ratio; exits with 1 if the tables differ other than in timings.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from audioldm_utils.cli.commands.sweep import prepare
from audioldm_utils.results import summaries as results
from audioldm_utils.results.evidence import TIMINGS
from audioldm_utils.sweep import run
from audioldm_utils.sweep.cluster import connect
from audioldm_utils.sweep.file import read_sweep


def main() -> int:
    """Time the same tasks on one worker and on two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", default="data/audio")
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--method", default="vae")
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=2.56, help="of each clip")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    seconds, tables = {}, []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.yml"
        checkpoint = Path(args.checkpoint)
        entries = {
            "audio": str(Path(args.audio).resolve()),
            "checkpoints": [str(checkpoint.resolve()) if checkpoint.is_dir() else args.checkpoint],
            "methods": [args.method],
            "max_seconds": args.seconds,
            "metrics": ["log_mel_distance", "multi_resolution_stft"],
            "seeds": list(range(args.tasks)),
        }
        path.write_text(json.dumps(entries))  # JSON is YAML
        sweep = read_sweep(path)
        for count in args.workers:
            out = Path(folder) / str(count)
            tasks, _, function = prepare(sweep, str(out))
            # Seed by seed, so that fewer tasks still cover all clips.
            tasks = sorted(tasks, key=lambda task: task.seed)[: args.tasks]
            with connect(None, count, threads=1) as client:
                client.wait_for_workers(count)
                # Each worker loads the checkpoint once, outside the clock.
                for worker in client.scheduler_info(n_workers=-1)["workers"]:
                    client.submit(function, tasks[0], workers=worker, pure=False).result()
                start = time.monotonic()
                outcome = run.run_sweep(
                    sweep,
                    tasks,
                    out,
                    function,
                    scheduler=client.scheduler.address,
                    progress=False,
                )
                seconds[count] = time.monotonic() - start
            table = results.read(outcome.paths["parquet"])
            tables.append(table[~table["unit"].isin(TIMINGS)].reset_index(drop=True))
            print(
                f"{count} worker(s): {outcome.computed} tasks, {len(outcome.failures)} failed, "
                f"{seconds[count]:.1f} s"
            )
    first, last = args.workers[0], args.workers[-1]
    print(f"{last} workers are {seconds[first] / seconds[last]:.2f} times as fast as {first}")
    same = all(table.equals(tables[0]) for table in tables)
    print(f"tables but for timings: {'identical' if same else 'different'}")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
