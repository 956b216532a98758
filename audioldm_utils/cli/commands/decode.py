"""``audioldm-utils decode``: ``.ddcm`` to audio, a file or a whole folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audioldm_utils.cli.jobs import Job

from audioldm_utils import bounds

HELP = "Decode .ddcm files to audio."
EXAMPLES = """  audioldm-utils decode out.ddcm out.wav
  audioldm-utils decode out.ddcm out.flac --rate original
  audioldm-utils decode out.ddcm out.wav --edit-prompt "a cat meows" --edit-step 20
  audioldm-utils decode coded/ decoded/ --checkpoint cvssp/audioldm2"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument("input", help=".ddcm file, or folder of them")
    parser.add_argument("output", help=".wav or .flac file; a folder if the input is one")
    parser.add_argument("--checkpoint", default="mini", help="the one it was encoded with")
    parser.add_argument(
        "--rate",
        choices=("model", "original"),
        default="model",
        help="sample rate of the output: the model's 16 kHz (default) or the original's",
    )
    parser.add_argument("--edit-prompt", help="go on with this prompt from --edit-step on")
    parser.add_argument(
        "--edit-step", type=bounds.EDIT_STEP, default=0, help="0 (default) to the steps"
    )
    parser.add_argument(
        "--device", type=bounds.device, default="cpu", help="torch device (default cpu)"
    )


def run(args: argparse.Namespace) -> int:
    """Decode a file or a folder; 2 if a file of the folder could not be decoded."""
    from audioldm_utils.cli.jobs import pairs

    return _decode(args, pairs(args.input, args.output, ".wav", audio=False))


def _decode(args: argparse.Namespace, jobs: Sequence[Job]) -> int:
    from pathlib import Path

    from audioldm_utils.audio.clips import resample, save
    from audioldm_utils.cli.jobs import each, steps_bar
    from audioldm_utils.ddcm import bitstream
    from audioldm_utils.ddcm.codec import Codec
    from audioldm_utils.errors import UserError
    from audioldm_utils.model import checkpoint as checkpoints
    from audioldm_utils.model.networks import Stages

    def opened(source: Path) -> tuple[bitstream.Header, bitstream.Sizes]:
        header, _, sizes = bitstream.read(source)
        if args.edit_prompt is not None and args.edit_step > header.steps:
            raise UserError(
                f"{source}: --edit-step must be a whole number from 0 to its {header.steps} steps, "
                f"not {args.edit_step}."
            )
        return header, sizes

    if len(jobs) == 1:
        # A damaged file, or a step that it lacks, is told before the networks are loaded.
        opened(jobs[0][0])
    codec = Codec(Stages(checkpoints.load(args.checkpoint, (), args.device)))

    edit = None if args.edit_prompt is None else (args.edit_step, args.edit_prompt)

    def one(source: Path, target: Path) -> str:
        header, sizes = opened(source)
        with steps_bar(len(jobs) == 1, header.steps) as callback:
            data = source.read_bytes()
            result = codec.decode(data, str(source), edit=edit, callback=callback)
        samples, rate = result.samples, result.sample_rate
        if args.rate == "original" and header.sample_rate != rate:
            samples = resample(samples, rate, header.sample_rate)
            rate = header.sample_rate
        save(target, samples, rate)
        return f"{target}: {sizes.seconds:.2f} s at {rate} Hz from {sizes.kbps:.3f} kbit/s"

    return each(jobs, one, "decode")
