"""Study ``06_samples``: random codes of DDCM against DDPM and DDIM, on generated samples.

Every method makes the same prompts from the same starting noise, so that sample i of one
belongs to sample i of another. A row's clip is a sample (``rain 03``), its class the prompt's;
real clips are a reference only, for the Fréchet distance. Scores and distances are those of
the checkpoint's own CLAP and compare within this checkpoint alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from audioldm_utils.audio.clips import Clip, to_model_rate
from audioldm_utils.ddcm import codebook as codebooks
from audioldm_utils.ddcm.core import DDCM, derived_seed
from audioldm_utils.metrics.statistics import Interval
from audioldm_utils.model.conditioning import stack
from audioldm_utils.model.generation import starting_noise
from audioldm_utils.model.schedule import Schedule
from audioldm_utils.studies.prompts import PROMPTS
from audioldm_utils.studies.registry import WHOLE

if TYPE_CHECKING:
    from audioldm_utils.model.conditioning import Conditioning
    from audioldm_utils.model.networks import Stages
    from audioldm_utils.results.tables import ResultsBuilder

SECONDS, STEPS, GUIDANCE = 1.28, 10, 3.5
#: Network calls dominate, and batches of this many cost the least of each.
BATCH = 20
#: Candidates a step of prompt-free guidance.
SUBSET = 64
#: Codebook sizes, and samples of each prompt: most where equivalence is judged. The size of
#: 65,536 is a cyclic codebook's, the others hold independent normal atoms.
SIZES = {2: 2, 64: 20, 1024: 20, 65536: 20}
EACH = {"ddpm": 20, "ddim": 2, "ccfg": 2, "unguided": 2}
#: Equivalence is judged for these sizes, at this share of the DDPM scores' deviation.
JUDGED = tuple(size for size in SIZES if size >= 64)
MARGIN = 0.1
#: Directions of the embeddings in which the Fréchet distance is taken.
DIMENSIONS = 8


def methods() -> dict[tuple[str, str], int]:
    """(method, stage) to samples of each prompt."""
    found = {("ddpm", "CFG"): EACH["ddpm"], ("ddim", "CFG"): EACH["ddim"]}
    found[("ddpm", "no guidance")] = EACH["unguided"]
    found |= {("ddcm-random", f"K = {size}"): each for size, each in SIZES.items()}
    found[("ddcm-random", "prompt-free CCFG")] = EACH["ccfg"]
    return found


def study(
    clips: Sequence[Clip],
    stages: Stages,
    rows: ResultsBuilder,
    seed: int,
    most: int | None = None,
) -> None:
    """CLAP score of every sample; Fréchet distance and diversity of every method.

    Args:
        clips: real ones, the reference of the Fréchet distance.
        stages: of the checkpoint.
        rows: to add to.
        seed: of starting noise, codebooks and choices.
        most: samples of each prompt and method; fewer than two leave out what a set of
            samples has, and then only one prompt of five is made.
    """
    stages.checkpoint.use_channels_last()
    prompts = PROMPTS if most is None or most > 1 else PROMPTS[::5]
    texts = [text for _, text in prompts]
    wanted = stages.clap_text(texts)
    conditionings = {text: stages.embed([text], "") for text in texts}
    count = round(SECONDS * stages.mel_config.sample_rate)
    heard = [to_model_rate(clip)[:count] for clip in clips]
    real = torch.cat([stages.clap_audio(torch.from_numpy(wave)[None]) for wave in heard])
    for (method, stage), each in methods().items():
        each = each if most is None else min(each, most)
        made = []
        # A batch is one round of all prompts: a sample depends on prompt and round alone.
        for number in range(each):
            made.append(
                _embeddings(stages, method, stage, texts, conditionings, seed, number, count)
            )
            for i, (category, _) in enumerate(prompts):
                score = float(made[-1][i] @ wanted[i])
                rows.add(
                    f"{category} {number:02d}", "clap_score", score, "1",
                    category=category, method=method, stage=stage,
                )  # fmt: skip
        if most is None or most > 1:
            both = torch.stack(made, dim=1)
            for name, value in (
                ("frechet_clap", frechet(both.flatten(0, 1), real)),
                ("diversity", diversity(both)),
            ):
                rows.add(WHOLE, name, value, "1", method=method, stage=stage)


def _embeddings(
    stages: Stages,
    method: str,
    stage: str,
    texts: Sequence[str],
    conditionings: Mapping[str, Conditioning],
    seed: int,
    number: int,
    count: int,
) -> torch.Tensor:
    """CLAP embeddings of one sample of each prompt, ``(prompts, width)``."""
    latents = make(stages, method, stage, texts, conditionings, seed, number)
    waves = stages.vocode(stages.decode(latents))[:, :count]
    return stages.clap_audio(waves)


def make(
    stages: Stages,
    method: str,
    stage: str,
    texts: Sequence[str],
    conditionings: Mapping[str, Conditioning],
    seed: int = 0,
    number: int = 0,
) -> torch.Tensor:
    """Latents of one sample of each prompt, ``(prompts, 8, frames, 16)``.

    Args:
        method, stage: of `methods`.
        texts: the prompts.
        conditionings: prompt to its embedding, with the negative.
        seed: of the starting noise, which all methods share, of codebooks and choices.
        number: of the sample.
    """
    frames = round(SECONDS * 25)
    config = stages.checkpoint.scheduler_config
    seeds = [derived_seed(seed, zlib.crc32(text.encode()), number) % 2**63 for text in texts]
    start = starting_noise(seeds, frames)
    towards = stack([conditionings[text] for text in texts])
    guided = stages.denoiser(towards, 1.0 if stage == "no guidance" else GUIDANCE)
    schedule = Schedule.from_config(config, STEPS, eta=0.0 if method == "ddim" else 1.0)
    if method in ("ddpm", "ddim"):
        return _free(schedule, start, guided, seeds)
    ccfg = stage == "prompt-free CCFG"
    size = 1024 if ccfg else int(stage.removeprefix("K = "))
    shape = (8, frames, 16)
    if size == 65536:
        # All shifts of each base vector, with both signs: 2 N of them.
        book = codebooks.make("cyclic", shape, seed, bases=size // (2 * 8 * frames * 16))
    else:
        book = codebooks.make("gaussian", shape, seed, size=size)
    coder = DDCM(schedule, book)
    if not ccfg:
        return _random(coder, start, guided, seeds)
    return coder.generate_ccfg(
        frames, stages.denoiser(towards), stages.denoiser(), seeds=seeds, subset=SUBSET,
        device=stages.device,
    ).latents  # fmt: skip


def _free(
    schedule: Schedule,
    x: torch.Tensor,
    denoiser: Callable[..., torch.Tensor],
    seeds: Sequence[int],
) -> torch.Tensor:
    """DDPM, or DDIM where eta is 0, by the very steps that DDCM takes, with free noise."""
    generators = [torch.Generator().manual_seed(one ^ 0x5EED) for one in seeds]
    with torch.no_grad():
        for i, t in enumerate(schedule.timesteps):
            noise = torch.stack([torch.randn(x.shape[1:], generator=one) for one in generators])
            x = schedule.step(i, x, denoiser(x, t), noise.to(x))
    return x


def _random(
    coder: DDCM, start: torch.Tensor, denoiser: Callable[..., torch.Tensor], seeds: Sequence[int]
) -> torch.Tensor:
    """As ``DDCM.generate``, from the given starting noise."""

    def pick(i: int, *_: torch.Tensor) -> torch.Tensor:
        rows = [derived_seed(one, 0, 0) for one in seeds]
        return coder.codebook.random_choice(i, rows, coder.atoms[i])

    return coder.run(start, denoiser, pick).latents


def frechet(made: torch.Tensor, real: torch.Tensor, dimensions: int = DIMENSIONS) -> float:
    """Fréchet distance of two sets of embeddings, in the real ones' main directions.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); few clips allow few directions.

    Args:
        made, real: ``(n, width)``.
        dimensions: at most so many, and fewer than half the real clips.
    """
    real, made = real.double().numpy(), made.double().numpy()
    dimensions = max(1, min(dimensions, len(real) // 2, len(made) // 2))
    centre = real.mean(0)
    basis = np.linalg.svd(real - centre, full_matrices=False)[2][:dimensions].T
    one, two = (made - centre) @ basis, (real - centre) @ basis
    covariances = [np.atleast_2d(np.cov(part.T)) if len(part) > 1 else np.zeros((dimensions,) * 2)
                   for part in (one, two)]  # fmt: skip
    product = np.linalg.eigvals(covariances[0] @ covariances[1]).real
    root = 2 * np.sqrt(np.clip(product, 0, None)).sum()
    gap = one.mean(0) - two.mean(0)
    return float(gap @ gap + sum(np.trace(c) for c in covariances) - root)


def diversity(embeddings: torch.Tensor) -> float:
    """Mean of 1 - cosine between samples of one prompt; ``(prompts, samples, width)``."""
    n = embeddings.shape[1]
    if n < 2:
        return 0.0
    cosines = embeddings @ embeddings.transpose(1, 2)
    other = (cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)) / (n * (n - 1))
    return float((1 - other).mean())


def equivalence(pairs: Sequence[np.ndarray], seed: int = 0, draws: int = 4000) -> Interval:
    """Mean difference between methods, prompt by prompt, from samples of the same noise.

    A sample's starting noise decides much of its score, and all methods share it, so pairs
    tell far more than the same number of unpaired samples. Prompts are what they are and are
    not drawn again, the starting noises of each prompt are. Two one-sided tests at 5 % find
    equivalence where the 90 % interval lies within the margin (Schuirmann 1987).

    Args:
        pairs: an array ``(noises, methods)`` a prompt of differences to the reference, NaN
            where a method made no sample of that noise.

    Returns:
        Mean over prompts and its interval at 90 %, in the score's unit; n counts differences.
    """
    rng = np.random.default_rng(seed)
    means, whole, count = np.zeros(draws), 0.0, 0
    for differences in pairs:
        held = np.isfinite(differences).sum(1)
        differences, held = np.nansum(differences, 1)[held > 0], held[held > 0]
        drawn = rng.integers(0, len(held), (draws, len(held)))
        means += differences[drawn].sum(1) / held[drawn].sum(1)
        whole += differences.sum() / held.sum()
        count += int(held.sum())
    low, high = np.quantile(means / len(pairs), (0.05, 0.95))
    return Interval(whole / len(pairs), float(low), float(high), count)
