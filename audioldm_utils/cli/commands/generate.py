"""``audioldm-utils generate``: text to audio."""

from __future__ import annotations

import argparse

from audioldm_utils import bounds

HELP = "Make sound from a text, by any sampler, DDCM included."
EXAMPLES = """\
  audioldm-utils generate "rain on a roof" rain.wav
  audioldm-utils generate "a dog barks" dog.wav --sampler dpm-solver++ --steps 20 --candidates 3
  audioldm-utils generate "rain on a roof" rain.wav --sampler ddcm --codebook gaussian --size 64
  audioldm-utils generate "rain on a roof" rain.ddcm --sampler ddcm --ccfg 64
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("prompt", help="what should be heard")
    parser.add_argument("output", help="file to write, .wav or .flac; .ddcm with --sampler ddcm")
    parser.add_argument("--checkpoint", default="mini", help="mini, a folder or a hub id")
    parser.add_argument(
        "--sampler", default="ddim", help="ddim (default), ddpm, dpm-solver++ or ddcm"
    )
    parser.add_argument("--steps", type=bounds.STEPS, default=50, help="reverse steps (default 50)")
    parser.add_argument(
        "--guidance",
        type=bounds.FULL_GUIDANCE,
        default=3.5,
        help="guidance scale; 1 is none (default 3.5)",
    )
    parser.add_argument("--seconds", type=bounds.SECONDS, default=5.0, help="length (default 5)")
    parser.add_argument("--seed", type=bounds.SEED, default=0, help="of the noise (default 0)")
    parser.add_argument("--negative", help="what should not be heard")
    parser.add_argument(
        "--candidates",
        type=bounds.CANDIDATES,
        default=1,
        help="made and ranked by CLAP; the best is written",
    )
    parser.add_argument("--audio-prompt", help="a sound file to resemble, beside the text")
    parser.add_argument(
        "--eta", type=bounds.SHARE, default=0.0, help="share of noise in ddim, 0 to 1"
    )
    parser.add_argument(
        "--device", type=bounds.device, default="cpu", help="torch device (default cpu)"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "half"),
        default="float32",
        help="half: bfloat16 where the device is fast in it",
    )
    parser.add_argument("--codebook", help="of ddcm: cyclic (default) or gaussian")
    parser.add_argument(
        "--size", type=bounds.SIZE, help="of ddcm's gaussian codebook: atoms a step"
    )
    parser.add_argument("--atoms", type=bounds.ATOMS, help="of ddcm: atoms a step (default 1)")
    parser.add_argument(
        "--ccfg",
        type=bounds.SIZE,
        metavar="N",
        help="of ddcm: choose by the prompt among N random atoms a step, so that the codes decode "
        "without a prompt",
    )


def run(args: argparse.Namespace) -> int:
    """Generate, show progress on standard error, write the best candidate."""
    from audioldm_utils.outputs import AUDIO, CODES, check_outputs

    heard = [] if args.audio_prompt is None else [args.audio_prompt]
    coded = args.output.lower().endswith(CODES.suffixes)
    check_outputs([args.output], heard, CODES if coded else AUDIO)
    return _generate(args)


def _generate(args: argparse.Namespace) -> int:
    from pathlib import Path

    import torch
    from tqdm import tqdm

    from audioldm_utils.audio.clips import load_clip, save, to_model_rate
    from audioldm_utils.errors import UserError
    from audioldm_utils.model.checkpoint import fast_dtype
    from audioldm_utils.model.generation import generate

    suffix = Path(args.output).suffix.lower()
    options = {"codebook": args.codebook, "size": args.size, "atoms": args.atoms}
    options = {name: value for name, value in options.items() if value is not None}
    if args.sampler != "ddcm" and (options or args.ccfg is not None or suffix == ".ddcm"):
        raise UserError(
            "--codebook, --size, --atoms, --ccfg and .ddcm files belong to --sampler ddcm: leave "
            "them out"
        )
    if args.ccfg is not None or suffix == ".ddcm":
        return _codes(args)
    heard = None
    if args.audio_prompt is not None:
        heard = torch.from_numpy(to_model_rate(load_clip(args.audio_prompt)))[None]
    with tqdm(total=args.steps, unit="step", desc=args.sampler) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        made = generate(
            args.prompt,
            args.checkpoint,
            args.sampler,
            args.steps,
            args.guidance,
            args.seconds,
            args.seed,
            args.negative,
            args.candidates,
            heard,
            args.eta,
            progress,
            args.device,
            torch.float32 if args.precision == "float32" else fast_dtype(args.device),
            **options,
        )
    save(args.output, made.audio[0].numpy(), made.sample_rate)
    score = "" if made.scores is None else f", CLAP similarity {made.scores[0, 0]:.3f}"
    print(f"{args.output}: {args.seconds:g} s, {made.calls} UNet calls{score}")
    return 0


def _codes(args: argparse.Namespace) -> int:
    """Generate through the codec: a .ddcm file, or the sound that it decodes to."""
    from pathlib import Path

    from audioldm_utils.audio.clips import save
    from audioldm_utils.cli.jobs import steps_bar
    from audioldm_utils.ddcm.codec import Codec
    from audioldm_utils.ddcm.settings import Settings
    from audioldm_utils.errors import UserError
    from audioldm_utils.files import atomic_write
    from audioldm_utils.model.checkpoint import load
    from audioldm_utils.model.networks import Stages

    if args.audio_prompt is not None or args.candidates != 1 or args.eta != 0.0:
        raise UserError("--audio-prompt, --candidates and --eta do not go with codes: leave out")
    codec = Codec(Stages(load(args.checkpoint, (), args.device)))
    settings = Settings(
        kbps=None,
        steps=args.steps,
        atoms=args.atoms or 1,
        codebook=args.codebook or "cyclic",
        size=args.size,
        guidance=args.guidance,
        negative_prompt=args.negative,
    )
    with steps_bar(True, args.steps) as callback:
        made = codec.generate(
            args.prompt,
            args.seconds,
            settings,
            seed=args.seed,
            subset=args.ccfg,
            callback=callback,
        )
    if Path(args.output).suffix.lower() == ".ddcm":
        atomic_write(args.output, made.data)
    else:
        save(args.output, codec.decode(made.data).samples, 16000)
    print(
        f"{args.output}: {args.seconds:g} s, {made.sizes.kbps:.3f} kbit/s, {made.calls} UNet calls"
    )
    return 0
