"""``audioldm-utils evaluate``: every metric of a folder of estimates against its references."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils import bounds
from audioldm_utils.cli.jobs import attempt, tell
from audioldm_utils.cli.options import add_shared
from audioldm_utils.errors import UserError
from audioldm_utils.outputs import TABLE, check_outputs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from audioldm_utils.audio.clips import ClipInfo

HELP = "measure a folder of estimates against a folder of references"
EXAMPLES = """\
  audioldm-utils evaluate original/ reconstructed/
  audioldm-utils evaluate original/ reconstructed/ --out table.csv --lag 32
  audioldm-utils evaluate a/ b/ --metrics snr,log_mel_distance --rate 16000
  audioldm-utils evaluate original/ reconstructed/ --max-seconds 5
  audioldm-utils evaluate --list"""

#: Lengths may differ by this much, seconds (frames fill up to a multiple of four).
_SLACK = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("reference", metavar="REF_DIR", nargs="?", help="the originals")
    add("estimate", metavar="EST_DIR", nargs="?", help="files of the same names (any suffix)")
    add("--list", action="store_true", help="list the metrics and end")
    add("--metrics", metavar="A,B", help="only these; 'NAME@BAND' for one band (default: all)")
    add("--out", metavar="FILE", help="write the table: FILE.csv and FILE.parquet")
    add("--rate", type=bounds.RATE, metavar="HZ", help="rate of the comparison (the reference's)")
    add("--lag", type=bounds.LAG, default=0, metavar="N", help="samples the estimates come late")
    add("--speech", action="store_true", help="speech metrics for every clip, not only by class")
    add("--method", metavar="NAME", help="method in the table (EST_DIR's name)")
    add_shared(parser, "seed", "max-seconds")


def run(args: argparse.Namespace) -> int:
    """Measure, print the summary, name what failed; 1 if anything did."""
    from audioldm_utils import metrics

    if args.list:
        for name, metric in metrics.REGISTRY.items():
            print(f"{name:30}{metric.unit:5}{metric.better:8}{metric.description}")
        return 0
    if not (args.reference and args.estimate):
        raise UserError("evaluate needs two folders: REF_DIR EST_DIR.")
    names = [name.strip() for name in args.metrics.split(",")] if args.metrics else None
    if names:
        metrics.parse_names(names)
    from audioldm_utils.audio.clips import clip_files, find_clips
    from audioldm_utils.results import summaries as results

    folders = args.reference, args.estimate
    found = [find_clips(folder) for folder in folders]
    if args.out:
        inputs = [path for given in zip(folders, found, strict=True) for path in clip_files(*given)]
        TABLE.check(Path(args.out))
        check_outputs([Path(args.out).with_suffix(s) for s in TABLE.suffixes], inputs)
    references, estimates = ({info.name: info for info in clips} for clips in found)
    method = args.method or Path(args.estimate).resolve().name
    rows = results.ResultsBuilder(seed=args.seed, method=method)

    def one(_: Path, info: ClipInfo) -> None:
        pair = load_pair(info, estimates[info.name], args.rate, args.lag, args.max_seconds)
        category = "speech" if args.speech else info.category
        for score in metrics.evaluate_pair(*pair, names, category):
            given = info.name, score.metric, score.value, score.unit
            rows.add(*given, **info.labels, band=score.band)

    both = [(info.path, info) for name, info in references.items() if name in estimates]
    failed = [
        *attempt(both, one, "evaluate"),
        *(f"{references[n].path}: no estimate of this name" for n in references.keys() - estimates),
        *(f"{estimates[n].path}: no reference of this name" for n in estimates.keys() - references),
    ]
    if rows.rows:
        table = rows.table()
        if args.out:
            results.write(table, args.out)
        _print_summary(results.summarise(table, by=("metric", "band"), seed=args.seed))
    else:
        print("nothing could be measured")
    tell(sorted(failed), "not measured")
    return 1 if failed or not rows.rows else 0


def load_pair(
    reference: ClipInfo,
    estimate: ClipInfo,
    rate: int | None = None,
    lag: int = 0,
    seconds: float | None = None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Two float32 ``(samples,)`` of equal length, and their rate, Hz.

    Args:
        reference, estimate: at any rates.
        rate: to compare at; None takes the reference's.
        lag: samples at ``rate`` by which the estimate comes late.
        seconds: compare no more of the beginning.

    Raises:
        UserError: a file cannot be used, or the lengths differ by more than 0.25 s.
    """
    from audioldm_utils.audio.clips import load_clip, resample, shift

    clips = [load_clip(info, seconds) for info in (reference, estimate)]
    if abs(clips[0].seconds - clips[1].seconds) > _SLACK:
        raise UserError(
            f"{estimate.path}: lasts {clips[1].seconds:.2f} s and its reference "
            f"{clips[0].seconds:.2f} s; give estimates of the same length, or --max-seconds."
        )
    rate = rate or clips[0].sample_rate
    x, y = (resample(clip.samples, clip.sample_rate, rate) for clip in clips)
    y = shift(y, lag)
    length = min(len(x), len(y))
    return x[:length], y[:length], rate


def _print_summary(summary: pd.DataFrame) -> None:
    from audioldm_utils.results.summaries import count_text

    print(f"{'metric':30}{'band':14}{'mean':>10}  {'95 % interval':24}{'n':>4}  unit")
    for row in summary.itertuples():
        interval = f"[{row.low:.4g}, {row.high:.4g}]" if row.recordings > 1 else "-"
        measured = f"{row.metric:30}{row.band:14}{row.mean:10.4g}  {interval:24}"
        count = count_text(row.n, row.recordings)
        print(f"{measured}{count:>4}  {row.unit} {row.better}")
