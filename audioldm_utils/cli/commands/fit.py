"""``audioldm-utils fit``: what is fitted to a checkpoint, on clips that are not judged."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioldm_utils import bounds
from audioldm_utils.cli.jobs import steps_bar
from audioldm_utils.cli.options import add_shared, load_networks
from audioldm_utils.errors import UserError
from audioldm_utils.outputs import check_place

if TYPE_CHECKING:
    from torch import Tensor

    from audioldm_utils.audio.clips import Clip
    from audioldm_utils.model.networks import Networks

HELP = "fit codebooks and compensation to a checkpoint on a folder of audio"
EXAMPLES = """\
  audioldm-utils fit --checkpoint mini --audio my_train_clips
  audioldm-utils fit --audio my_train_clips --parts vq rvq --size 256 --limit 50
"""
PARTS = {
    "vq": "vector quantiser of the 8-channel latent vectors",
    "rvq": "residual vector quantisers of latent blocks, the codec without diffusion",
    "k-means": "noise directions of residual blocks (needs the UNet)",
    "linear": "the best linear denoiser, which the network is compared with",
    "placement": "where the steps lie at each rate (needs the UNet)",
    "synthesis": "which synthesis `auto` stands for with this checkpoint",
    "compensation": "per-band level of what VAE and synthesis lose",
}
#: Added to the seed for the noise of the clips that are held out.
HELD_OUT = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add, what = parser.add_argument, "; ".join(f"{name}: {text}" for name, text in PARTS.items())
    block = {"type": bounds.BLOCK, "nargs": 2, "metavar": ("TIME", "FREQUENCY")}
    add("--audio", type=Path, required=True, help="folder of clips, other than those to judge on")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help=f"default: all. {what}")
    add("--size", type=bounds.SIZE, default=1024, help="centres of vq and rvq")
    add("--stages", type=bounds.STAGES, default=8, help="of rvq")
    add("--directions", type=bounds.SIZE, default=256, help="of k-means")
    add("--block", default=(4, 4), help="latent places of an rvq vector", **block)
    add("--noise-block", default=(16, 8), help="latent places of a k-means direction", **block)
    add("--vectors", type=bounds.VECTORS, default=20_000, help="most to fit on")
    add("--tuned-on", type=bounds.CLIPS, default=4, help="clips that the placement is tuned on")
    shared = ("checkpoint", "device", "synthesis", "seed", "limit", "max-seconds")
    add_shared(parser, *shared, max_seconds=5.0)


def run(args: argparse.Namespace) -> int:
    """Fit each part, store it beside the checkpoint, and say where."""
    for option, block in (("--block", args.block), ("--noise-block", args.noise_block)):
        bounds.BLOCK_FREQUENCY.check(f"FREQUENCY of {option}", block[1])
    from audioldm_utils.model.checkpoint_files import locate
    from audioldm_utils.model.fits import fitted_path

    check_place(fitted_path(locate(args.checkpoint).path, "", "any").parent)
    networks = load_networks(args)
    parts = list(args.parts)
    for name in ("k-means", "placement"):
        if name in parts and "unet" not in networks.checkpoint.present:
            print(f"{name}: left out, since this checkpoint has no UNet")
            parts.remove(name)
    if {"vq", "rvq", "k-means", "linear"} & set(parts):
        _codebooks(args, networks, parts)
    if "placement" in parts:
        _placement(args, networks)
    if "synthesis" in parts:
        networks = _synthesis(args, networks)
    if "compensation" in parts:
        _compensation(args, networks)
    return 0


def _aside(line: str) -> None:
    """A line beside the progress bar."""
    from tqdm.auto import tqdm

    tqdm.write(line, file=sys.stderr)


def _mel(networks: Networks, clip: Clip, samples: int | None = None) -> Tensor:
    """Log-mel (1, frames, 64) of a clip's first samples at 16 kHz; all of them by default."""
    import torch

    from audioldm_utils.audio.clips import to_model_rate
    from audioldm_utils.model.networks import normalise

    return networks.to_mel(normalise(torch.from_numpy(to_model_rate(clip))[None, :samples])[0])


def _codebooks(args: argparse.Namespace, networks: Networks, parts: list[str]) -> None:
    from audioldm_utils.audio.survey import loaded, spread_clips
    from audioldm_utils.studies import codebook_fits as fitting
    from audioldm_utils.studies.rates import linear_fit

    spread = spread_clips(args.audio, args.limit)
    latents, names = [], []
    with steps_bar(True, len(spread), "latents", "clip") as step:
        for clip in loaded(spread, args.max_seconds, _aside):
            latents.append(networks.encode(_mel(networks, clip))[0].cpu())
            names.append(clip.name)
            step()
    kept, checked = fitting.split(latents)
    place = networks.checkpoint.path, networks.checkpoint.fingerprint
    common: dict[str, Any] = {"clips": names, "seed": args.seed, "max_seconds": args.max_seconds}
    options = {"seed": args.seed, "max_vectors": args.vectors, "held_out": checked}
    quantisers = {
        "vq": (args.size, (1, 1), 1),
        "rvq": (args.size, tuple(args.block), args.stages),
        # A quarter of the vectors, so at most a quarter of the centres.
        "rvq-coarse": (min(fitting.COARSE[0], max(args.size // 4, 2)), *fitting.COARSE[1:]),
    }
    for name, (size, block, count) in quantisers.items():
        if name.removesuffix("-coarse") in parts:
            quantiser, facts = fitting.fit_quantiser(
                kept, size, block=block, stages=count, **options
            )
            path = fitting.save_quantiser(*place, name, quantiser, {**common, **facts})
            last = facts["held_out_relative_error"][-1]
            print(f"{name}: error {last:.3f} of the variance on held-out latents; {path}")
    if "linear" in parts:
        facts = {**common, "kind": "linear"}
        print(f"linear: {fitting.save_fitted(*place, 'linear', linear_fit(latents), facts)}")
    if "k-means" in parts:
        timesteps, residuals = _residuals(args, networks, (kept, checked))
        block = tuple(args.noise_block)
        options["held_out"] = residuals[1]
        centres, facts = fitting.fit_kmeans(residuals[0], args.directions, block, **options)
        facts = {**common, **facts, "timesteps": timesteps}
        path = fitting.save_kmeans(*place, "k-means", centres, block, facts)
        print(f"k-means: cosine {facts['held_out_cosine']:.3f} on held-out residuals; {path}")


def _residuals(
    args: argparse.Namespace, networks: Networks, sets: tuple[list[Tensor], list[Tensor]]
) -> tuple[list[int], list[list[Tensor]]]:
    """Timesteps, and the residuals there of the latents to fit on and of those held out."""
    from audioldm_utils.model.schedule import Schedule, training_alphas_bar
    from audioldm_utils.studies import codebook_fits as fitting

    config = networks.checkpoint.scheduler_config
    timesteps = fitting.nearest_timesteps(training_alphas_bar(config))
    schedule = Schedule.from_config(config, placement=timesteps)
    with steps_bar(True, sum(map(len, sets)), "residuals", "clip") as step:
        return timesteps, [
            fitting.residuals(part, schedule, networks.denoiser(), seed, step)
            for part, seed in zip(sets, (args.seed, args.seed + HELD_OUT), strict=True)
        ]


def _placement(args: argparse.Namespace, networks: Networks) -> None:
    """Tune on excerpts of equal length, so that they are denoised together."""
    import torch

    from audioldm_utils.audio.clips import find_clips, to_model_rate
    from audioldm_utils.audio.survey import loaded
    from audioldm_utils.studies.placement_tuning import save_rules, tune

    found, seconds = find_clips(args.audio), min(2.56, args.max_seconds)
    samples = round(seconds * networks.mel_config.sample_rate)
    mels, names = [], []
    # Evenly spread; where one is too short, its neighbour after it.
    for first in range(args.tuned_on):
        rest = [i for i in found[first * len(found) // args.tuned_on :] if i.name not in names]
        for clip in loaded(rest, seconds, _aside):
            if len(to_model_rate(clip)) >= samples:
                mels.append(_mel(networks, clip, samples))
                names.append(clip.name)
                break
    if not mels:
        raise UserError(f"{args.audio} holds no clip of {seconds:g} s to tune the placement on.")
    mel = torch.cat(mels)

    def distance(latents: Tensor) -> float:
        return float((networks.decode(latents) - mel).abs().mean())

    config, place = networks.checkpoint.scheduler_config, networks.checkpoint
    with steps_bar(True, None, "placement", "trial") as step:
        given = (networks.encode(mel), networks.denoiser(), config, distance)
        rules, trials = tune(*given, seed=args.seed, progress=step)
    facts = {"clips": names, "seed": args.seed, "seconds": seconds, "trials": trials}
    path = save_rules(place.path, place.fingerprint, rules, facts)
    for limit, name, power, stop in rules:
        print(f"placement: below {limit:g} bits a value {name}, power {power:g}, stop {stop:g}")
    print(f"placement: {path}")


def _synthesis(args: argparse.Namespace, networks: Networks) -> Networks:
    """Measure and store the choice; what is fitted after it is fitted to it."""
    from audioldm_utils.model.networks import Networks
    from audioldm_utils.studies.synthesis_choice import fit

    with steps_bar(True, None, "synthesis", "clip") as step:
        choice = fit(networks, args.audio, args.limit, args.max_seconds, step, _aside)
    for line in choice.sentences:
        print(f"synthesis: {line}")
    return Networks(networks.checkpoint, synthesis=args.synthesis)


def _compensation(args: argparse.Namespace, networks: Networks) -> None:
    from audioldm_utils.methods.enhance.bands import save_compensation
    from audioldm_utils.studies.compensation import fit

    with steps_bar(True, None, "compensation", "clip") as step:
        fitted = fit(networks, args.audio, args.limit, args.max_seconds, step, _aside)
    path = save_compensation(fitted, networks.checkpoint.path, networks.synthesis)
    print(f"compensation: {path}")
