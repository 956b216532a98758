"""``audioldm-utils decode``: ``.ddcm`` to audio, a file or a whole folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils import bounds
from audioldm_utils.cli.jobs import each, pairs, steps_bar
from audioldm_utils.cli.options import add_shared, load_networks
from audioldm_utils.errors import UserError

if TYPE_CHECKING:
    from audioldm_utils.ddcm.header import Header, Sizes

HELP = "Decode .ddcm files to audio."
EXAMPLES = """  audioldm-utils decode out.ddcm out.wav
  audioldm-utils decode out.ddcm out.flac --rate original
  audioldm-utils decode out.ddcm out.wav --edit-prompt "a cat meows" --edit-step 20
  audioldm-utils decode coded/ decoded/ --checkpoint cvssp/audioldm2"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("input", help=".ddcm file, or folder of them")
    add("output", help=".wav or .flac file; a folder if the input is one")
    add("--rate", choices=("model", "original"), default="model", help="of the output (model)")
    add("--edit-prompt", help="go on with this prompt from --edit-step on")
    add("--edit-step", type=bounds.EDIT_STEP, default=0, help="at most the file's steps")
    add_shared(parser, "checkpoint", "device", "synthesis")


def run(args: argparse.Namespace) -> int:
    """Decode a file or a folder; 2 if a file of the folder could not be decoded."""
    jobs = pairs(args.input, args.output, ".wav", audio=False)
    from audioldm_utils.audio.clips import resample, save
    from audioldm_utils.ddcm import bitstream
    from audioldm_utils.ddcm.codec import Codec

    def opened(source: Path) -> tuple[Header, Sizes]:
        header, _, sizes = bitstream.read(source)
        if args.edit_prompt is not None and args.edit_step > header.steps:
            raise UserError(
                f"{source}: --edit-step must be a whole number from 0 to its {header.steps} steps, "
                f"not {args.edit_step}."
            )
        return header, sizes

    if len(jobs) == 1:  # what is wrong with it is told before the networks are loaded
        opened(jobs[0][0])
    codec = Codec(load_networks(args))
    edit = None if args.edit_prompt is None else (args.edit_step, args.edit_prompt)

    def one(source: Path, target: Path) -> str:
        header, sizes = opened(source)
        with steps_bar(len(jobs) == 1, header.steps) as callback:
            result = codec.decode(source.read_bytes(), str(source), edit=edit, callback=callback)
        samples, rate = result.samples, result.sample_rate
        if args.rate == "original" and header.sample_rate != rate:
            samples, rate = resample(samples, rate, header.sample_rate), header.sample_rate
        save(target, samples, rate)
        return f"{target}: {sizes.seconds:.2f} s at {rate} Hz from {sizes.kbps:.3f} kbit/s"

    return each(jobs, one, "decode")
