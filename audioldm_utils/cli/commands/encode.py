"""``audioldm-utils encode``: audio to ``.ddcm``, a file or a whole folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audioldm_utils.cli.jobs import Job

from audioldm_utils import bounds

HELP = "Compress audio to .ddcm files."
EXAMPLES = """  audioldm-utils encode in.wav out.ddcm --kbps 0.5
  audioldm-utils encode in.wav out.ddcm --kbps 0.5 --prompt "rain on a roof" --guidance 1.5
  audioldm-utils encode recordings/ coded/ --kbps 1 --prompt caption
  audioldm-utils encode in.wav out.ddcm --mel-error 0.4
  audioldm-utils encode in.wav out.ddcm --atoms 2 --steps 30 --placement alpha-bar --stop 0.9
  audioldm-utils encode in.wav out.ddcm --codebook gaussian --size 256 --atoms 1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument("input", help="audio file, or folder of audio files")
    parser.add_argument("output", help=".ddcm file; a folder if the input is one")
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--kbps", type=bounds.KBPS, help="rate in kbit/s, every byte counted (default 0.5)"
    )
    rate.add_argument(
        "--mel-error",
        type=bounds.MEL_ERROR,
        metavar="NAT",
        help="quality instead of a rate: the smallest file whose decoded log-mel is on average "
        "this near to that of the VAE alone, in nat (encodes several times)",
    )
    rate.add_argument("--atoms", type=bounds.ATOMS, help="atoms a step instead of a rate")
    parser.add_argument("--checkpoint", default="mini", help="mini, a folder, or a hub id")
    parser.add_argument(
        "--steps",
        type=bounds.STEPS,
        default=50,
        help="network calls; with a rate, the most (default 50)",
    )
    parser.add_argument(
        "--prompt",
        help="what the sound is; stored in the file and counted. The word «caption» takes each "
        "clip's own from the folder's manifest",
    )
    parser.add_argument("--negative-prompt", help="what the sound is not; stored and counted")
    parser.add_argument(
        "--guidance",
        type=bounds.GUIDANCE,
        default=1.0,
        help="guidance scale of the prompt (default 1)",
    )
    parser.add_argument(
        "--codebook",
        default="cyclic",
        choices=("cyclic", "gaussian", "turbo", "matching-pursuit", "k-means"),
        help="where the noise comes from (default cyclic)",
    )
    parser.add_argument(
        "--size", type=bounds.SIZE, help="bases of the cyclic codebook, atoms of another"
    )
    parser.add_argument(
        "--placement",
        choices=("uniform", "trailing", "linspace", "alpha-bar", "log-snr"),
        help="where the steps lie (default: by the rate)",
    )
    parser.add_argument("--stop", type=bounds.STOP, help="alpha-bar of the last step, below 1")
    parser.add_argument(
        "--power", type=bounds.POWER, help="exponent of alpha-bar between the steps"
    )
    parser.add_argument(
        "--eta", type=bounds.SHARE, default=1.0, help="share of the noise (default 1)"
    )
    parser.add_argument(
        "--temperature",
        type=bounds.TEMPERATURE,
        default=0.0,
        help="softness of the choices: 0 the best atom, inf a random one (default 0)",
    )
    parser.add_argument("--seed", type=bounds.SEED, default=0, help="of the codebook (default 0)")
    parser.add_argument(
        "--device", type=bounds.device, default="cpu", help="torch device (default cpu)"
    )


def run(args: argparse.Namespace) -> int:
    """Encode a file or a folder; 2 if a file of the folder could not be encoded."""
    from audioldm_utils.cli.jobs import pairs

    return _encode(args, pairs(args.input, args.output, ".ddcm", audio=True))


def _encode(args: argparse.Namespace, jobs: Sequence[Job]) -> int:
    from dataclasses import replace
    from pathlib import Path

    from audioldm_utils.audio.clips import find_clips, load_clip, to_model_rate
    from audioldm_utils.cli.jobs import each, steps_bar
    from audioldm_utils.ddcm.codec import Codec
    from audioldm_utils.ddcm.quality import encode_to_quality
    from audioldm_utils.ddcm.settings import Settings
    from audioldm_utils.errors import UserError
    from audioldm_utils.files import atomic_write
    from audioldm_utils.model import checkpoint as checkpoints
    from audioldm_utils.model.networks import Stages

    selection = {} if args.temperature == 0 else {"temperature": args.temperature}
    settings = Settings(
        kbps=(0.5 if args.kbps is None else args.kbps) if args.atoms is None else None,
        steps=args.steps,
        atoms=1 if args.atoms is None else args.atoms,
        codebook=args.codebook,
        size=args.size,
        placement=args.placement,
        stop=args.stop,
        power=args.power,
        eta=args.eta,
        prompt=args.prompt,
        negative_prompt=args.negative_prompt,
        guidance=args.guidance,
        seed=args.seed,
        selection=selection,
    )
    captions: dict[Path, str | None] = {}
    if args.prompt == "caption":
        folder = Path(args.input)
        folder = folder if folder.is_dir() else folder.parent
        captions = {info.path.resolve(): info.caption for info in find_clips(folder)}
    codec = Codec(Stages(checkpoints.load(args.checkpoint, (), args.device)))

    def one(source: Path, target: Path) -> str:
        clip = load_clip(source)
        chosen = settings
        if args.prompt == "caption":
            caption = captions.get(source.resolve())
            if not caption:
                raise UserError(
                    f"{source} has no caption: list it in the folder's manifest.csv with the "
                    "columns file and caption, or give another --prompt"
                )
            chosen = replace(settings, prompt=caption)
        with steps_bar(len(jobs) == 1) as callback:
            given = {
                "original": (len(clip.samples), clip.sample_rate),
                "callback": callback,
            }
            wave = to_model_rate(clip)
            if args.mel_error is None:
                result = codec.encode(wave, chosen, **given)
            else:
                result = encode_to_quality(codec, wave, chosen, args.mel_error, **given)
        atomic_write(target, result.data)
        sizes, header = result.sizes, result.header
        return (
            f"{target}: {sizes.file} bytes for {sizes.seconds:.2f} s, {sizes.kbps:.3f} kbit/s "
            f"({sizes.payload_kbps:.3f} of codes); {header.steps} steps, "
            f"{header.atoms} atoms of the {header.codebook} codebook"
        )

    return each(jobs, one, "encode")
