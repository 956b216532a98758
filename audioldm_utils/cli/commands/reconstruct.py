"""``audioldm-utils reconstruct``: a file or a folder through a named method."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils.cli.jobs import attempt, check_target, steps_bar, tell
from audioldm_utils.cli.options import add_shared, load_networks
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write
from audioldm_utils.outputs import AUDIO, check_outputs

if TYPE_CHECKING:
    from audioldm_utils.audio.clips import ClipInfo
    from audioldm_utils.methods.registry import Reconstruction

#: What a folder's results are listed in.
TABLE = "reconstruction.csv"
HELP = "reconstruct a file or a folder by a named method"
EXAMPLES = """\
  audioldm-utils reconstruct --list
  audioldm-utils reconstruct clip.wav out.wav --method vae
  audioldm-utils reconstruct data/audio out/ --method vae-highfreq
  audioldm-utils reconstruct clip.wav out.wav --synthesis griffin-lim
  audioldm-utils reconstruct data/audio out/ --method sdedit -o strength=0.4 -o prompt=none
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add, option = parser.add_argument, {"action": "append", "default": [], "metavar": "NAME=VALUE"}
    add("input", type=Path, nargs="?", help="audio file, or folder of them")
    add("output", type=Path, nargs="?", help="file (.wav or .flac), or folder for a folder")
    add("--method", default="vae", help="see --list (default: vae)")
    add("--list", action="store_true", help="list methods, options and papers")
    add("-o", "--option", help="option of the method; may be repeated", **option)
    add_shared(parser, "checkpoint", "device", "synthesis", "seed", "limit", "max-seconds")


def run(args: argparse.Namespace) -> int:
    """Reconstruct; writes the audio and, for a folder, ``reconstruction.csv`` beside it."""
    from audioldm_utils.methods.registry import find_method, reconstruct

    if args.list:
        print(_methods())
        return 0
    if args.input is None or args.output is None:
        raise UserError("reconstruct needs IN and OUT: a file and a file, or a folder and one")
    if lacking := [text for text in args.option if "=" not in text]:
        raise UserError(f"option {lacking[0]!r} has no value; write -o {lacking[0]}=VALUE")
    options = dict(text.split("=", 1) for text in args.option)
    method, folder = find_method(args.method), args.input.is_dir()
    if options:  # to know a method's options is to import it, and torch with it
        method.parse(options)
    jobs = _jobs(args)
    from audioldm_utils.audio.clips import load_clip, save

    networks, rows = load_networks(args), []
    # What is wrong with method or options is wrong for all, and said before the first.
    reconstruct((), args.method, networks, seed=args.seed, **options)

    def one(_: Path, job: tuple[ClipInfo, Path]) -> None:
        info, path = job
        clip = load_clip(info, args.max_seconds)
        with steps_bar(True) as step:
            (result,) = reconstruct(
                clip, args.method, networks, seed=args.seed, progress=step, **options
            )
        save(path, result.audio, result.sample_rate)
        rows.append(_row(result, path))

    if not folder:
        one(args.input, jobs[0])
        return 0
    broken = attempt([(job[0].path, job) for job in jobs], one, args.method)
    if rows:
        import pandas as pd

        table = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
        atomic_write(args.output / TABLE, table)
    tell(broken, "skipped")
    if not rows:
        raise UserError(f"{args.input}: none of its clips could be used")
    return 1 if broken else 0


def _methods() -> str:
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


def _jobs(args: argparse.Namespace) -> list[tuple[ClipInfo, Path]]:
    """Each clip with its output, which has passed the gate."""
    from audioldm_utils.audio.clips import clip_files, find_clips

    found, several = find_clips(args.input)[: args.limit], args.input.is_dir()
    inputs = clip_files(args.input, found)
    if several:
        check_target(args.input, args.output)
    folder = several or args.output.is_dir()
    jobs = [(info, args.output / f"{info.name}.flac" if folder else args.output) for info in found]
    check_outputs([path for _, path in jobs], inputs, AUDIO)
    check_outputs([args.output / TABLE] if several else [], inputs)
    return jobs


def _row(result: Reconstruction, path: Path) -> dict[str, object]:
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
