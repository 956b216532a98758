"""``audioldm-utils reconstruct``: a file or a folder through a named method."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils import bounds
from audioldm_utils.text import visible

if TYPE_CHECKING:
    from audioldm_utils.audio.clips import ClipInfo

#: What a folder's results are listed in.
TABLE = "reconstruction.csv"
HELP = "reconstruct a file or a folder by a named method"
EXAMPLES = """\
  audioldm-utils reconstruct --list
  audioldm-utils reconstruct clip.wav out.wav --method vae
  audioldm-utils reconstruct data/audio out/ --method vae-highfreq
  audioldm-utils reconstruct data/audio out/ --method sdedit -o strength=0.4 -o prompt=none
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("input", type=Path, nargs="?", help="audio file, or folder of them")
    parser.add_argument(
        "output", type=Path, nargs="?", help="file (.wav or .flac), or folder for a folder"
    )
    parser.add_argument("--method", default="vae", help="see --list (default: vae)")
    parser.add_argument("--list", action="store_true", help="list methods, options and papers")
    parser.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the method; may be repeated",
    )
    parser.add_argument("--checkpoint", default="mini", help="mini, a folder, or a hub id")
    parser.add_argument(
        "--device", type=bounds.device, default="cpu", help="torch device (default: cpu)"
    )
    parser.add_argument("--seed", type=bounds.SEED, default=0, help="of all noise (default: 0)")
    parser.add_argument(
        "--limit", type=bounds.CLIPS, default=None, help="first clips of a folder only"
    )
    parser.add_argument(
        "--max-seconds", type=bounds.CLIP_SECONDS, default=None, help="of each clip"
    )


def list_methods() -> str:
    """Every method with its options and paper, for people."""
    from audioldm_utils.methods.registry import METHODS

    lines = []
    for method in METHODS.values():
        lines.append(f"{method.name}: {method.summary} [{method.paper}]")
        for option in method.options.values():
            default = str(option.default).lower() if option.type is bool else option.default
            bound = f" [{option.bound}]" if option.bound else ""
            lines.append(f"    -o {option.name}={default}  {option.help}{bound}")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """Reconstruct; writes the audio and, for a folder, ``reconstruction.csv`` beside it."""
    from audioldm_utils.errors import UserError

    if args.list:
        print(list_methods())
        return 0
    if args.input is None or args.output is None:
        raise UserError("reconstruct needs IN and OUT: a file and a file, or a folder and one")
    options = {}
    for text in args.option:
        name, sign, value = text.partition("=")
        if not sign:
            raise UserError(f"option {text!r} has no value; write -o {text}=VALUE")
        options[name] = value
    from audioldm_utils.methods.registry import find_method

    method = find_method(args.method)
    if options:  # to know a method's options is to import it, and torch with it
        method.parse(options)
    return _reconstruct(args, options, _jobs(args))


def _jobs(args: argparse.Namespace) -> list[tuple[ClipInfo, Path]]:
    """Each clip with its output, which has passed the gate."""
    from audioldm_utils.audio import clips as audio
    from audioldm_utils.audio.clips import clip_files
    from audioldm_utils.outputs import AUDIO, check_outputs

    found = audio.find_clips(args.input)[: args.limit]
    if args.input.is_dir():
        from audioldm_utils.cli.jobs import check_target

        check_target(args.input, args.output)
    folder = args.input.is_dir() or args.output.is_dir()
    jobs = [(info, args.output / f"{info.name}.flac" if folder else args.output) for info in found]
    inputs = clip_files(args.input, found)
    check_outputs([path for _, path in jobs], inputs, AUDIO)
    if args.input.is_dir():
        check_outputs([args.output / TABLE], inputs)
    return jobs


def _reconstruct(
    args: argparse.Namespace, options: dict[str, str], jobs: list[tuple[ClipInfo, Path]]
) -> int:
    import sys

    from tqdm.auto import tqdm

    from audioldm_utils.audio import clips as audio
    from audioldm_utils.cli.jobs import sentence
    from audioldm_utils.errors import UserError
    from audioldm_utils.methods.registry import reconstruct
    from audioldm_utils.model.checkpoint import load
    from audioldm_utils.model.networks import Stages

    stages = Stages(load(args.checkpoint, (), args.device))
    # What is wrong with method or options is wrong for all, and said before the first.
    reconstruct((), args.method, stages, seed=args.seed, **options)
    broken: list[str] = []
    rows = []
    with tqdm(total=len(jobs), unit="clip", desc=args.method, disable=None) as bar:

        def step(name: str, done: int, total: int) -> None:
            bar.set_postfix_str(f"{visible(name)} {done}/{total}", refresh=True)

        for info, path in jobs:
            try:
                clip = audio.load_clip(info, args.max_seconds)
                (result,) = reconstruct(
                    clip, args.method, stages, seed=args.seed, progress=step, **options
                )
                audio.save(path, result.audio, result.sample_rate)
                rows.append(_row(result, path))
            except Exception as error:
                if not args.input.is_dir():
                    raise
                broken.append(sentence(error, info.path))
            bar.update()
    if args.input.is_dir():
        _write_rows(args.output / TABLE, rows)
    for said in broken:
        print(f"audioldm-utils: skipped: {visible(said)}", file=sys.stderr)
    if not rows:
        raise UserError(f"{args.input}: none of its clips could be used")
    return 1 if broken else 0


def _row(result: object, path: Path) -> dict[str, object]:
    cost = result.cost
    row: dict[str, object] = {
        "clip": result.clip,
        "file": path.name,
        "method": result.label,
        "options": " ".join(f"{key}={value}" for key, value in result.options.items()),
        "seed": result.seed,
        "checkpoint": result.checkpoint,
        "sample_rate": result.sample_rate,
        "side_bits": result.side_bits,
        "side_kbps": f"{result.kbps:.5f}",
        "seconds": f"{cost.seconds:.3f}",
        "peak_memory_mib": f"{cost.peak_memory:.1f}",
        "memory_growth_mib": f"{cost.memory_growth:.1f}",
    }
    for name, count in cost.forward.items():
        row[f"{name}_forward"] = count
        row[f"{name}_backward"] = cost.backward[name]
    return row


def _write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    import csv
    import io

    from audioldm_utils.files import atomic_write

    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue())
