"""``audioldm-utils fit``: what is fitted to a checkpoint, on clips that are not judged."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioldm_utils import bounds

if TYPE_CHECKING:
    from torch import Tensor

    from audioldm_utils.model.networks import Stages

HELP = "fit codebooks and compensation to a checkpoint on a folder of audio"
EXAMPLES = """\
  audioldm-utils fit --checkpoint mini --audio my_train_clips
  audioldm-utils fit --audio my_train_clips --parts vq rvq --size 256 --limit 50
"""
PARTS = {
    "vq": "vector quantiser of the 8-channel latent vectors",
    "rvq": "residual vector quantiser of latent blocks, the codec without diffusion",
    "k-means": "noise directions of residual blocks (needs the UNet)",
    "linear": "the best linear denoiser, which the network is compared with",
    "placement": "where the steps lie at each rate (needs the UNet)",
    "compensation": "per-band level of what VAE and vocoder lose",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--checkpoint", default="mini", help="mini, a folder, or a hub id")
    parser.add_argument(
        "--audio", type=Path, required=True, help="folder of clips, other than those to judge on"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="default: all. " + "; ".join(f"{name}: {what}" for name, what in PARTS.items()),
    )
    parser.add_argument(
        "--limit", type=bounds.CLIPS, help="number of clips, spread over the folder"
    )
    parser.add_argument(
        "--max-seconds", type=bounds.CLIP_SECONDS, default=5.0, help="of each clip (default 5)"
    )
    parser.add_argument("--size", type=bounds.SIZE, default=1024, help="centres of vq and rvq")
    parser.add_argument("--stages", type=bounds.STAGES, default=8, help="of rvq (default 8)")
    parser.add_argument(
        "--directions", type=bounds.SIZE, default=256, help="of k-means (default 256)"
    )
    parser.add_argument(
        "--block",
        type=bounds.BLOCK,
        nargs=2,
        default=(4, 4),
        metavar=("TIME", "FREQUENCY"),
        help="latent places of an rvq vector (default 4 4)",
    )
    parser.add_argument(
        "--noise-block",
        type=bounds.BLOCK,
        nargs=2,
        default=(16, 8),
        metavar=("TIME", "FREQUENCY"),
        help="latent places of a k-means direction (default 16 8)",
    )
    parser.add_argument("--vectors", type=bounds.VECTORS, default=20_000, help="most to fit on")
    parser.add_argument(
        "--tuned-on",
        type=bounds.CLIPS,
        default=4,
        help="clips that the placement is tuned on (default 4)",
    )
    parser.add_argument("--seed", type=bounds.SEED, default=0, help="of initial centres and noise")
    parser.add_argument(
        "--device", type=bounds.device, default="cpu", help="torch device (default: cpu)"
    )


def run(args: argparse.Namespace) -> int:
    """Fit each part, store it beside the checkpoint, and say where."""
    for option, block in (("--block", args.block), ("--noise-block", args.noise_block)):
        bounds.BLOCK_FREQUENCY.check(f"FREQUENCY of {option}", block[1])
    from audioldm_utils.ddcm.codebook.fitted import fitted_path
    from audioldm_utils.model.checkpoint import load
    from audioldm_utils.model.checkpoint_files import locate
    from audioldm_utils.model.networks import Stages
    from audioldm_utils.outputs import check_place

    check_place(fitted_path(locate(args.checkpoint).path, "", "any").parent)
    checkpoint = load(args.checkpoint, device=args.device)
    stages = Stages(checkpoint)
    parts = list(args.parts)
    for name in ("k-means", "placement"):
        if name in parts and "unet" not in checkpoint.present:
            print(f"{name}: left out, since this checkpoint has no UNet")
            parts.remove(name)
    if {"vq", "rvq", "k-means", "linear"} & set(parts):
        _codebooks(args, stages, parts)
    if "placement" in parts:
        _placement(args, stages)
    if "compensation" in parts:
        _compensation(args, stages)
    return 0


def _aside(line: str) -> None:
    """A line beside the progress bar."""
    import sys

    from tqdm.auto import tqdm

    tqdm.write(line, file=sys.stderr)


def _latents(args: argparse.Namespace, stages: Stages) -> tuple[list[Tensor], list[str]]:
    """Latents (8, time, 16) of the chosen clips, and the clips' names."""
    import torch
    from tqdm.auto import tqdm

    from audioldm_utils.audio import clips as audio
    from audioldm_utils.audio.survey import loaded
    from audioldm_utils.model.networks import normalise

    found = audio.find_clips(args.audio)
    count = min(len(found), args.limit or len(found))
    latents, names = [], []
    chosen = [found[round(i * len(found) / count)] for i in range(count)]
    bar = tqdm(chosen, unit="clip", desc="latents", disable=None)
    for clip in loaded(bar, args.max_seconds, _aside):
        waveform = torch.from_numpy(audio.to_model_rate(clip))[None]
        latents.append(stages.encode(stages.to_mel(normalise(waveform)[0]))[0].cpu())
        names.append(clip.name)
    return latents, names


def _codebooks(args: argparse.Namespace, stages: Stages, parts: list[str]) -> None:
    from tqdm.auto import tqdm

    from audioldm_utils.ddcm.codebook import fitting
    from audioldm_utils.ddcm.codebook.fitted import save_kmeans, save_quantiser
    from audioldm_utils.model.schedule import Schedule, training_alphas_bar

    latents, names = _latents(args, stages)
    kept, checked = fitting.split(latents)
    checkpoint = stages.checkpoint
    common: dict[str, Any] = {"clips": names, "seed": args.seed, "max_seconds": args.max_seconds}
    options = {"seed": args.seed, "max_vectors": args.vectors, "held_out": checked}
    for name, block, count in (("vq", (1, 1), 1), ("rvq", tuple(args.block), args.stages)):
        if name in parts:
            quantiser, facts = fitting.fit_quantiser(
                kept, args.size, block=block, stages=count, **options
            )
            place = checkpoint.path, checkpoint.fingerprint, name
            path = save_quantiser(*place, quantiser, {**common, **facts})
            last = facts["held_out_relative_error"][-1]
            print(f"{name}: error {last:.3f} of the variance on held-out latents; {path}")
    if "linear" in parts:
        from audioldm_utils.ddcm.codebook.fitted import save_fitted
        from audioldm_utils.studies.rates import linear_fit

        place = checkpoint.path, checkpoint.fingerprint, "linear"
        path = save_fitted(*place, linear_fit(latents), {**common, "kind": "linear"})
        print(f"linear: {path}")
    if "k-means" in parts:
        config = checkpoint.scheduler_config
        timesteps = fitting.nearest_timesteps(training_alphas_bar(config))
        schedule = Schedule.from_config(config, placement=timesteps)
        denoise = stages.denoiser()
        block = tuple(args.noise_block)
        with tqdm(total=len(latents), unit="clip", desc="residuals", disable=None) as bar:
            sets = []
            for offset, part in ((0, kept), (1_000_000, checked)):
                sets.append(
                    fitting.residuals(
                        part, schedule, denoise, args.seed + offset, lambda *_: bar.update()
                    )
                )
        centres, facts = fitting.fit_kmeans(
            sets[0],
            args.directions,
            block,
            held_out=sets[1],
            seed=args.seed,
            max_vectors=args.vectors,
        )
        place = checkpoint.path, checkpoint.fingerprint, "k-means"
        facts = {**common, **facts, "timesteps": timesteps}
        path = save_kmeans(*place, centres, block, facts)
        print(f"k-means: cosine {facts['held_out_cosine']:.3f} on held-out residuals; {path}")


def _placement(args: argparse.Namespace, stages: Stages) -> None:
    """Tune on excerpts of equal length, so that they are denoised together."""
    import torch
    from tqdm.auto import tqdm

    from audioldm_utils.audio import clips as audio
    from audioldm_utils.audio.survey import loaded
    from audioldm_utils.ddcm.placement import save_rules, tune
    from audioldm_utils.errors import UserError
    from audioldm_utils.model.networks import normalise

    found, seconds = audio.find_clips(args.audio), min(2.56, args.max_seconds)
    length = round(seconds * stages.mel_config.sample_rate)
    mels, names = [], []
    # Evenly spread; where one is too short, its neighbour after it.
    for first in range(args.tuned_on):
        rest = [i for i in found[first * len(found) // args.tuned_on :] if i.name not in names]
        for clip in loaded(rest, seconds, _aside):
            wave = torch.from_numpy(audio.to_model_rate(clip))[None]
            if wave.shape[1] >= length:
                mels.append(stages.to_mel(normalise(wave[:, :length])[0]))
                names.append(clip.name)
                break
    if not mels:
        raise UserError(f"{args.audio} holds no clip of {seconds:g} s to tune the placement on.")
    mel = torch.cat(mels)

    def distance(latents: torch.Tensor) -> float:
        return float((stages.decode(latents) - mel).abs().mean())

    config = stages.checkpoint.scheduler_config
    with tqdm(unit="trial", desc="placement", disable=None) as bar:
        rules, trials = tune(
            stages.encode(mel), stages.denoiser(), config, distance,
            seed=args.seed, progress=bar.update,
        )  # fmt: skip
    place = stages.checkpoint.path, stages.checkpoint.fingerprint
    facts = {"clips": names, "seed": args.seed, "seconds": seconds, "trials": trials}
    path = save_rules(*place, rules, facts)
    for limit, name, power, stop in rules:
        print(f"placement: below {limit:g} bits a value {name}, power {power:g}, stop {stop:g}")
    print(f"placement: {path}")


def _compensation(args: argparse.Namespace, stages: Stages) -> None:
    from tqdm.auto import tqdm

    from audioldm_utils.methods.enhance.bands import save_compensation
    from audioldm_utils.methods.enhance.fitting import fit

    with tqdm(unit="clip", desc="compensation", disable=None) as bar:

        def step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        fitted = fit(stages, args.audio, args.limit, args.max_seconds, step, _aside)
    print(f"compensation: {save_compensation(fitted, stages.checkpoint.path)}")
