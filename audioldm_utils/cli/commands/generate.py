"""``audioldm-utils generate``: text to audio."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils import bounds
from audioldm_utils.cli.jobs import each, steps_bar, tell
from audioldm_utils.cli.options import add_shared, load_networks
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write
from audioldm_utils.outputs import AUDIO, CODES, check_outputs

if TYPE_CHECKING:
    import numpy as np

HELP = "Make sound from a text, by any sampler, DDCM included."
EXAMPLES = """\
  audioldm-utils generate "rain on a roof" rain.wav
  audioldm-utils generate "a dog barks" dog.wav --sampler dpm-solver++ --steps 20 --candidates 3
  audioldm-utils generate "rain on a roof" rain.wav --sampler ddcm --codebook gaussian --size 64
  audioldm-utils generate "rain on a roof" rain.ddcm --sampler ddcm --ccfg 64
  audioldm-utils generate "rain on a roof" "a dog barks" sounds/ --seeds 3
"""

#: Mean power, dBFS, below which a sound is called all but silent.
QUIET = -45.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("prompt", nargs="+", help="what should be heard; several make a folder of sounds")
    add("output", help="file to write, .wav or .flac; .ddcm with --sampler ddcm; or a folder")
    add("--seeds", type=bounds.SAMPLES, default=1, help="sounds of each prompt, from --seed on")
    level = "peak (default): at half of full scale, as the model heard its examples; or as-made"
    add("--level", choices=("peak", "as-made"), default="peak", help=level)
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
    """Generate, show progress on standard error, write the best candidate of each."""
    targets = _targets(args)
    heard = [] if args.audio_prompt is None else [args.audio_prompt]
    stored = args.output.lower().endswith(CODES.suffixes)
    check_outputs(list(targets), heard, CODES if stored else AUDIO)
    options = {"codebook": args.codebook, "size": args.size, "atoms": args.atoms}
    options = {name: value for name, value in options.items() if value is not None}
    coded = args.ccfg is not None or stored
    if args.sampler != "ddcm" and (options or coded):
        raise UserError(
            "--codebook, --size, --atoms, --ccfg and .ddcm files belong to --sampler ddcm: leave "
            "them out"
        )
    if coded and (args.audio_prompt is not None or args.candidates != 1 or args.eta != 0.0):
        raise UserError("--audio-prompt, --candidates and --eta do not go with codes: leave out")
    one = (_codec if coded else _sampler)(args, options, len(targets) > 1)
    return each(list(targets.items()), one, "generate")


def _targets(args: argparse.Namespace) -> dict[Path, tuple[str, int]]:
    """File to write, and its prompt and seed."""
    output, count = Path(args.output), len(args.prompt) * args.seeds
    if count == 1:
        return {output: (args.prompt[0], args.seed)}
    if output.suffix or output.is_file():
        raise UserError(f"{output}: {count} sounds need a folder; name one")
    bounds.SEED.check("--seed, with --seeds,", args.seed + args.seeds - 1)
    words = [re.sub(r"\W+", "-", p.lower()).strip("-")[:40] or "sound" for p in args.prompt]
    return {
        output / f"{number}-{words[number - 1]}-{seed}.wav": (prompt, seed)
        for number, prompt in enumerate(args.prompt, 1)
        for seed in range(args.seed, args.seed + args.seeds)
    }


def _sampler(
    args: argparse.Namespace, options: dict[str, object], several: bool
) -> Callable[[Path, tuple[str, int]], str]:
    """What generates a sound by a sampler of diffusers' interface."""
    import torch

    from audioldm_utils.audio.clips import load_clip, to_model_rate
    from audioldm_utils.model.checkpoint import fast_dtype, load
    from audioldm_utils.model.generation import generate
    from audioldm_utils.model.networks import Networks

    heard = None
    if args.audio_prompt is not None:
        heard = torch.from_numpy(to_model_rate(load_clip(args.audio_prompt)))[None]
    dtype = torch.float32 if args.precision == "float32" else fast_dtype(args.device)
    # A single sound gives up each part of the checkpoint as soon as it has done its work.
    checkpoint = args.checkpoint
    if several:
        checkpoint = Networks(load(checkpoint, (), args.device, dtype), synthesis=args.synthesis)
    names = ("sampler", "steps", "guidance", "seconds", "negative", "candidates", "eta")
    names += ("device", "synthesis")
    given = {name: getattr(args, name) for name in names} | options
    given |= {"audio_prompt": heard, "dtype": dtype}

    def one(target: Path, what: tuple[str, int]) -> str:
        with steps_bar(not several, args.steps, args.sampler) as progress:
            made = generate(what[0], checkpoint, seed=what[1], progress=progress, **given)
        _save(target, made.audio[0].numpy(), made.sample_rate, args.level)
        score = "" if made.scores is None else f", CLAP similarity {made.scores[0, 0]:.3f}"
        return f"{target}: {args.seconds:g} s, {made.calls} UNet calls{score}"

    return one


def _codec(
    args: argparse.Namespace, options: dict[str, object], several: bool
) -> Callable[[Path, tuple[str, int]], str]:
    """What generates through the codec: a .ddcm file, or the sound that it decodes to."""
    from audioldm_utils.ddcm.codec import Codec
    from audioldm_utils.ddcm.settings import Settings

    codec = Codec(load_networks(args))
    given = {"steps": args.steps, "guidance": args.guidance, "negative_prompt": args.negative}
    settings = Settings(**{"kbps": None, "atoms": 1, "codebook": "cyclic"} | given | options)

    def one(target: Path, what: tuple[str, int]) -> str:
        with steps_bar(not several, args.steps) as step:
            given = {"seed": what[1], "subset": args.ccfg, "callback": step}
            made = codec.generate(what[0], args.seconds, settings, **given)
        if target.suffix.lower() in CODES.suffixes:
            atomic_write(target, made.data)
        else:
            sound = codec.decode(made.data)
            _save(target, sound.samples, sound.sample_rate, args.level)
        size = f"{made.sizes.kbps:.3f} kbit/s"
        return f"{target}: {args.seconds:g} s, {size}, {made.calls} UNet calls"

    return one


def _save(target: Path, samples: np.ndarray, rate: int, level: str) -> None:
    """Write a sound at its level, and say where there is next to none."""
    import numpy as np

    from audioldm_utils.audio.clips import save
    from audioldm_utils.audio.signals import SILENCE, normalise

    power = 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20)
    if power < QUIET:
        tell([f"{target}: all but silent, {power:.0f} dBFS as made; try another seed"], "warning")
    if level == "peak" and np.ptp(samples) >= 2 * SILENCE:  # silence has no peak to scale
        samples = normalise(samples)[0]
    save(target, samples, rate)
