"""``audioldm-utils generate``: text to audio."""

from __future__ import annotations

import argparse

from audioldm_utils import bounds
from audioldm_utils.cli.jobs import steps_bar
from audioldm_utils.cli.options import add_shared, load_networks
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write
from audioldm_utils.outputs import AUDIO, CODES, check_outputs

HELP = "Make sound from a text, by any sampler, DDCM included."
EXAMPLES = """\
  audioldm-utils generate "rain on a roof" rain.wav
  audioldm-utils generate "a dog barks" dog.wav --sampler dpm-solver++ --steps 20 --candidates 3
  audioldm-utils generate "rain on a roof" rain.wav --sampler ddcm --codebook gaussian --size 64
  audioldm-utils generate "rain on a roof" rain.ddcm --sampler ddcm --ccfg 64
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("prompt", help="what should be heard")
    add("output", help="file to write, .wav or .flac; .ddcm with --sampler ddcm")
    add("--sampler", default="ddim", help="ddim (default), ddpm, dpm-solver++ or ddcm")
    add("--steps", type=bounds.STEPS, default=50, help="reverse steps")
    add("--guidance", type=bounds.FULL_GUIDANCE, default=3.5, help="guidance scale; 1 is none")
    add("--seconds", type=bounds.SECONDS, default=5.0, help="length")
    add("--negative", help="what should not be heard")
    add("--candidates", type=bounds.CANDIDATES, default=1, help="CLAP chooses the best of them")
    add("--audio-prompt", help="a sound file to resemble, beside the text")
    add("--eta", type=bounds.SHARE, default=0.0, help="share of noise in ddim")
    precision = {"choices": ("float32", "half"), "default": "float32"}
    add("--precision", help="half: bfloat16 where the device is fast in it", **precision)
    add("--codebook", help="of ddcm: cyclic (default) or gaussian")
    add("--size", type=bounds.SIZE, help="of ddcm's gaussian codebook: atoms a step")
    add("--atoms", type=bounds.ATOMS, help="of ddcm: atoms a step (default 1)")
    chosen = "of ddcm: the prompt chooses among N random atoms a step; codes decode without it"
    add("--ccfg", type=bounds.SIZE, metavar="N", help=chosen)
    add_shared(parser, "checkpoint", "device", "synthesis", "seed")


def run(args: argparse.Namespace) -> int:
    """Generate, show progress on standard error, write the best candidate."""
    heard = [] if args.audio_prompt is None else [args.audio_prompt]
    stored = args.output.lower().endswith(CODES.suffixes)
    check_outputs([args.output], heard, CODES if stored else AUDIO)
    options = {"codebook": args.codebook, "size": args.size, "atoms": args.atoms}
    options = {name: value for name, value in options.items() if value is not None}
    coded = args.ccfg is not None or stored
    if args.sampler != "ddcm" and (options or coded):
        raise UserError(
            "--codebook, --size, --atoms, --ccfg and .ddcm files belong to --sampler ddcm: leave "
            "them out"
        )
    return _codes(args, stored) if coded else _sound(args, options)


def _sound(args: argparse.Namespace, options: dict[str, object]) -> int:
    """Generate by a sampler of diffusers' interface."""
    import torch

    from audioldm_utils.audio.clips import load_clip, save, to_model_rate
    from audioldm_utils.model.checkpoint import fast_dtype
    from audioldm_utils.model.generation import generate

    heard = None
    if args.audio_prompt is not None:
        heard = torch.from_numpy(to_model_rate(load_clip(args.audio_prompt)))[None]
    given = ("checkpoint", "sampler", "steps", "guidance", "seconds", "seed", "negative")
    given += ("candidates", "eta", "device", "synthesis")
    with steps_bar(True, args.steps, args.sampler) as progress:
        made = generate(
            args.prompt,
            audio_prompt=heard,
            progress=progress,
            dtype=torch.float32 if args.precision == "float32" else fast_dtype(args.device),
            **{name: getattr(args, name) for name in given},
            **options,
        )
    save(args.output, made.audio[0].numpy(), made.sample_rate)
    score = "" if made.scores is None else f", CLAP similarity {made.scores[0, 0]:.3f}"
    print(f"{args.output}: {args.seconds:g} s, {made.calls} UNet calls{score}")
    return 0


def _codes(args: argparse.Namespace, stored: bool) -> int:
    """Generate through the codec: a .ddcm file, or the sound that it decodes to."""
    if args.audio_prompt is not None or args.candidates != 1 or args.eta != 0.0:
        raise UserError("--audio-prompt, --candidates and --eta do not go with codes: leave out")
    from audioldm_utils.audio.clips import save
    from audioldm_utils.ddcm.codec import Codec
    from audioldm_utils.ddcm.settings import Settings

    codec = Codec(load_networks(args))
    settings = Settings(
        kbps=None, steps=args.steps, atoms=args.atoms or 1, codebook=args.codebook or "cyclic",
        size=args.size, guidance=args.guidance, negative_prompt=args.negative,
    )  # fmt: skip
    with steps_bar(True, args.steps) as step:
        given = {"seed": args.seed, "subset": args.ccfg, "callback": step}
        made = codec.generate(args.prompt, args.seconds, settings, **given)
    if stored:
        atomic_write(args.output, made.data)
    else:
        sound = codec.decode(made.data)
        save(args.output, sound.samples, sound.sample_rate)
    size = f"{made.sizes.kbps:.3f} kbit/s"
    print(f"{args.output}: {args.seconds:g} s, {size}, {made.calls} UNet calls")
    return 0
