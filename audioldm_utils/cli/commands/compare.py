"""``audioldm-utils compare``: what changed between two runs, with intervals."""

from __future__ import annotations

import argparse
from pathlib import Path

from audioldm_utils import bounds
from audioldm_utils.cli.options import add_shared
from audioldm_utils.outputs import DIFFERENCES, check_outputs

HELP = "paired differences with intervals between two runs' results"
EXAMPLES = """\
  audioldm-utils compare build/mine build/theirs
  audioldm-utils compare before.csv after.csv --metric log_mel --out difference.csv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("run_a", metavar="RUN_A", help="results folder or table (.csv, .parquet)")
    add("run_b", metavar="RUN_B", help="the run that it is compared with")
    add("--metric", action="append", help="only this metric (may be repeated)")
    add("--method", nargs=2, metavar=("A", "B"), help="method of run A against one of run B")
    add("--level", type=bounds.LEVEL, default=0.95, help="of the intervals")
    add("--out", metavar="FILE.csv", help="also write the differences here")
    add_shared(parser, "seed")


def run(args: argparse.Namespace) -> int:
    """Print the differences; 0 when there was something to compare."""
    from audioldm_utils.results import comparison

    if args.out:
        tables = [table for run in (args.run_a, args.run_b) for table in comparison.tables_of(run)]
        check_outputs([args.out], tables, DIFFERENCES)
    runs = [comparison.read_run(path) for path in (args.run_a, args.run_b)]
    given = {"metrics": args.metric, "methods": args.method, "seed": args.seed}
    found = comparison.compare_runs(*runs, level=args.level, **given)
    if args.out:
        comparison.write_differences(found, Path(args.out))
    print(f"A = {args.run_a}, B = {args.run_b}; difference A - B, mean over clips")
    print(comparison.format_differences(found, args.level))
    return 0
