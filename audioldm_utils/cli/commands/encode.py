"""``audioldm-utils encode``: audio to ``.ddcm``, a file or a whole folder."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from audioldm_utils import bounds
from audioldm_utils.cli.jobs import each, pairs, steps_bar
from audioldm_utils.cli.options import add_shared, load_networks
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write

HELP = "Compress audio to .ddcm files."
EXAMPLES = """  audioldm-utils encode in.wav out.ddcm --kbps 0.5
  audioldm-utils encode in.wav out.ddcm --kbps 0.5 --prompt "rain on a roof" --guidance 1.5
  audioldm-utils encode recordings/ coded/ --kbps 1 --prompt caption
  audioldm-utils encode in.wav out.ddcm --mel-error 0.4
  audioldm-utils encode in.wav out.ddcm --atoms 2 --steps 30 --placement alpha-bar --stop 0.9
  audioldm-utils encode in.wav out.ddcm --codebook gaussian --size 256 --atoms 1"""

CODEBOOKS = ("cyclic", "gaussian", "turbo", "matching-pursuit", "k-means")
PLACEMENTS = ("uniform", "trailing", "linspace", "alpha-bar", "log-snr")
#: Options that the codec's settings take as they are.
PASSED_ON = (
    *("steps", "codebook", "size", "placement", "stop", "power", "eta", "prompt"),
    *("negative_prompt", "guidance", "seed"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add, rate = parser.add_argument, parser.add_mutually_exclusive_group().add_argument
    add("input", help="audio file, or folder of audio files")
    add("output", help=".ddcm file; a folder if the input is one")
    rate("--kbps", type=bounds.KBPS, help="rate in kbit/s, every byte counted (default 0.5)")
    near = (
        "quality instead of a rate: decoded log-mels as near to the VAE's (encodes several times)"
    )
    rate("--mel-error", type=bounds.MEL_ERROR, metavar="NAT", help=near)
    rate("--atoms", type=bounds.ATOMS, help="atoms a step instead of a rate")
    add("--steps", type=bounds.STEPS, default=50, help="network calls; with a rate, the most")
    add("--prompt", help="what the sound is, stored and counted; «caption»: as the manifest says")
    add("--negative-prompt", help="what the sound is not; stored and counted")
    add("--guidance", type=bounds.GUIDANCE, default=1.0, help="guidance scale of the prompt")
    add("--codebook", default="cyclic", choices=CODEBOOKS, help="of the noise (default cyclic)")
    add("--size", type=bounds.SIZE, help="bases of the cyclic codebook, atoms of another")
    add("--placement", choices=PLACEMENTS, help="where the steps lie (default: by the rate)")
    add("--stop", type=bounds.STOP, help="alpha-bar of the last step, below 1")
    add("--power", type=bounds.POWER, help="exponent of alpha-bar between the steps")
    add("--eta", type=bounds.SHARE, default=1.0, help="share of the noise")
    soft = "softness of the choices: 0 the best atom, inf a random one"
    add("--temperature", type=bounds.TEMPERATURE, default=0.0, help=soft)
    add_shared(parser, "checkpoint", "device", "seed")


def run(args: argparse.Namespace) -> int:
    """Encode a file or a folder; 2 if a file of the folder could not be encoded."""
    jobs = pairs(args.input, args.output, ".ddcm", audio=True)
    from audioldm_utils.audio.clips import find_clips, load_clip, to_model_rate
    from audioldm_utils.ddcm.codec import Codec
    from audioldm_utils.ddcm.quality import encode_to_quality
    from audioldm_utils.ddcm.settings import Settings

    settings = Settings(
        kbps=None if args.atoms else args.kbps or 0.5,
        atoms=args.atoms or 1,
        selection={"temperature": args.temperature} if args.temperature else {},
        **{name: getattr(args, name) for name in PASSED_ON},
    )
    captions: dict[Path, str | None] = {}
    if args.prompt == "caption":
        folder = Path(args.input) if Path(args.input).is_dir() else Path(args.input).parent
        captions = {info.path.resolve(): info.caption for info in find_clips(folder)}
    codec = Codec(load_networks(args))

    def one(source: Path, target: Path) -> str:
        clip, chosen = load_clip(source), settings
        if args.prompt == "caption":
            caption = captions.get(source.resolve())
            if not caption:
                raise UserError(
                    f"{source} has no caption: list it in the folder's manifest.csv with the "
                    "columns file and caption, or give another --prompt"
                )
            chosen = replace(settings, prompt=caption)
        wave, original = to_model_rate(clip), (len(clip.samples), clip.sample_rate)
        encode = codec.encode
        if args.mel_error is not None:
            encode = partial(encode_to_quality, codec, mel_error=args.mel_error)
        with steps_bar(len(jobs) == 1) as callback:
            result = encode(wave, chosen, original=original, callback=callback)
        atomic_write(target, result.data)
        sizes, header = result.sizes, result.header
        return (
            f"{target}: {sizes.file} bytes for {sizes.seconds:.2f} s, {sizes.kbps:.3f} kbit/s "
            f"({sizes.payload_kbps:.3f} of codes); {header.steps} steps, "
            f"{header.atoms} atoms of the {header.codebook} codebook"
        )

    return each(jobs, one, "encode")
