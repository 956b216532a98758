"""Study ``06_samples``: random codes of DDCM against DDPM and DDIM, on generated samples.

All methods start from the same noise, so that sample i of one belongs to sample i of another. A
row's clip is a sample (``rain 03``), its class the prompt's. Scores are those of the checkpoint's
own CLAP and compare within this checkpoint alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from audioldm_utils.results.summaries import select, summarise
from audioldm_utils.studies.prompts import PROMPTS
from audioldm_utils.studies.registry import WHOLE

if TYPE_CHECKING:
    import pandas as pd

    from audioldm_utils.model.conditioning import Conditioning
    from audioldm_utils.model.denoiser import GuidedUNet
    from audioldm_utils.model.networks import Networks
    from audioldm_utils.results.tables import ResultsBuilder

#: A codebook of this size is a cyclic one.
CYCLIC = 65536
#: Directions of the embeddings in which the Fréchet distance is taken.
DIMENSIONS = 8


@dataclass(frozen=True)
class Sampling:
    """How samples are made; ``subset`` is the candidates a step of prompt-free guidance."""

    seed: int
    seconds: float
    steps: int
    guidance: float
    subset: int


def methods(
    sizes: Sequence[int], judged_size: int, judged_samples: int, other_samples: int
) -> dict[tuple[str, str], int]:
    """(method, stage) to samples of each prompt.

    Args:
        sizes: of codebooks: of :data:`CYCLIC`, else of independent normal atoms.
        judged_size: the least of them of which equivalence is judged.
        judged_samples: of DDPM and of those; ``other_samples`` of all other methods.
    """
    each = {size: judged_samples if size >= judged_size else other_samples for size in sizes}
    return {
        ("ddpm", "CFG"): judged_samples,
        ("ddim", "CFG"): other_samples,
        ("ddpm", "no guidance"): other_samples,
        **{("ddcm-random", f"K = {size}"): count for size, count in each.items()},
        ("ddcm-random", "prompt-free CCFG"): other_samples,
    }


def measure_samples(
    clips: Sequence[Clip], networks: Networks, rows: ResultsBuilder, seed: int, seconds: float,
    steps: int, guidance: float, subset: int, sizes: Sequence[int], judged_size: int,
    judged_samples: int, other_samples: int, of_each: int | None = None,
) -> None:  # fmt: skip
    """CLAP score of every sample; Fréchet distance and diversity of every method.

    Args:
        clips: real ones, the reference of the Fréchet distance.
        seed to subset: as in :class:`Sampling`; sizes to other_samples: as in :func:`methods`.
        of_each: at most so many samples of each prompt and method; fewer than two leave out
            what a set of samples has, and then only one prompt of five is made.
    """
    networks.checkpoint.use_channels_last()
    many = of_each is None or of_each > 1
    prompts = PROMPTS if many else PROMPTS[::5]
    texts = [text for _, text in prompts]
    wanted = networks.clap_text(texts)
    how = Sampling(seed, seconds, steps, guidance, subset)
    conditionings = {text: networks.embed([text], "") for text in texts}
    count = round(seconds * networks.mel_config.sample_rate)
    heard = [to_model_rate(clip)[:count] for clip in clips]
    real = torch.cat([networks.clap_audio(torch.from_numpy(wave)[None]) for wave in heard])
    counts = methods(sizes, judged_size, judged_samples, other_samples)
    for (method, stage), each in counts.items():
        made = []
        # A batch is one round of all prompts: a sample depends on prompt and round alone.
        for number in range(each if of_each is None else min(each, of_each)):
            latents = make(networks, method, stage, conditionings, how, number)
            made.append(
                networks.clap_audio(networks.synthesise(networks.decode(latents))[:, :count])
            )
            for i, (category, _) in enumerate(prompts):
                rows.add(
                    f"{category} {number:02d}", "clap_score", float(made[-1][i] @ wanted[i]), "1",
                    category=category, method=method, stage=stage,
                )  # fmt: skip
        if many:
            both = torch.stack(made, dim=1)
            distance = frechet(both.flatten(0, 1), real)
            rows.add(WHOLE, "frechet_clap", distance, "1", method=method, stage=stage)
            rows.add(WHOLE, "diversity", diversity(both), "1", method=method, stage=stage)


def make(
    networks: Networks, method: str, stage: str, conditionings: Mapping[str, Conditioning],
    how: Sampling, number: int = 0,
) -> torch.Tensor:  # fmt: skip
    """Latents of one sample of each prompt, ``(prompts, 8, frames, 16)``.

    Args:
        method, stage: of :func:`methods`.
        conditionings: prompt to its embedding, with the negative.
    """
    frames = round(how.seconds * 25)
    seeds = [
        derived_seed(how.seed, zlib.crc32(text.encode()), number) % 2**63 for text in conditionings
    ]
    start = starting_noise(seeds, frames)
    towards = stack(list(conditionings.values()))
    guided = networks.denoiser(towards, 1.0 if stage == "no guidance" else how.guidance)
    config = networks.checkpoint.scheduler_config
    schedule = Schedule.from_config(config, how.steps, eta=0.0 if method == "ddim" else 1.0)
    if method in ("ddpm", "ddim"):
        return _free(schedule, start, guided, seeds)
    ccfg = stage == "prompt-free CCFG"
    size = 1024 if ccfg else int(stage.removeprefix("K = "))
    shape = (8, frames, 16)
    if size == CYCLIC:
        # All shifts of each base vector, with both signs: 2 N of them.
        book = codebooks.make("cyclic", shape, how.seed, bases=max(1, size // (16 * 16 * frames)))
    else:
        book = codebooks.make("gaussian", shape, how.seed, size=size)
    coder = DDCM(schedule, book)
    if not ccfg:
        return coder.generate(frames, guided, seeds=seeds, start=start).latents
    return coder.generate(
        frames, networks.denoiser(), seeds=seeds, towards=networks.denoiser(towards),
        subset=how.subset, device=networks.device,
    ).latents  # fmt: skip


@torch.no_grad()
def _free(
    schedule: Schedule, x: torch.Tensor, denoiser: GuidedUNet, seeds: Sequence[int]
) -> torch.Tensor:
    """DDPM, or DDIM where eta is 0, by the very steps that DDCM takes, with free noise."""
    generators = [torch.Generator().manual_seed(one ^ 0x5EED) for one in seeds]
    for i, t in enumerate(schedule.timesteps):
        noise = torch.stack([torch.randn(x.shape[1:], generator=one) for one in generators])
        x = schedule.step(i, x, denoiser(x, t), noise.to(x))
    return x


def frechet(made: torch.Tensor, real: torch.Tensor, dimensions: int = DIMENSIONS) -> float:
    """Fréchet distance of two sets of embeddings ``(n, width)``, in the real ones' main directions.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); few clips allow few directions.
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

    Prompts are not drawn again, the starting noises of each prompt are. Two one-sided tests at
    5 % find equivalence where the 90 % interval lies within the margin (Schuirmann 1987).

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


def sample_scores(table: pd.DataFrame, order: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """CLAP score of each sampler, in the order of :func:`methods`; ``label`` names it."""
    summary = summarise(select(table, metric="clap_score"), by=("method", "stage"))
    names = [method.removesuffix("-random").upper() for method in summary["method"]]
    summary["label"] = [f"{a}, {b}" for a, b in zip(names, summary["stage"], strict=True)]
    places = {key: place for place, key in enumerate(order)}
    place = [places[key] for key in zip(summary["method"], summary["stage"], strict=True)]
    return summary.assign(place=place).sort_values("place", ignore_index=True)


def equivalences(
    table: pd.DataFrame, sizes: Sequence[int], judged_size: int, margin: float
) -> pd.DataFrame:
    """Each codebook size, and all that are judged (from ``judged_size`` on), against DDPM.

    Returns:
        ``stage``, ``difference, deviations`` with the 90 % interval ``low`` to ``high``, all in
        standard deviations of DDPM's scores, ``equivalent`` within ``margin``, and counts.
    """
    import pandas as pd

    scores = select(table, metric="clap_score")
    # A row a starting noise, a column a method.
    wide = scores.pivot(index=["class", "clip"], columns=["method", "stage"], values="value")
    reference = wide["ddpm", "CFG"]
    spread, count = float(reference.std()), int(reference.count())
    groups = {f"K = {size}": [f"K = {size}"] for size in sizes}
    groups["all judged"] = [f"K = {size}" for size in sizes if size >= judged_size]
    rows = []
    for name, stages in ((name, stages) for name, stages in groups.items() if stages):
        against = wide["ddcm-random"][stages].sub(reference, axis=0).groupby("class", observed=True)
        found = equivalence([part.to_numpy() for _, part in against])
        low, high = found.low / spread, found.high / spread
        # One sample a prompt has no spread to draw from, and shows nothing.
        equivalent = bool(-margin < low < high < margin)
        rows.append((name, found.mean / spread, low, high, equivalent, found.n, count))
    columns = ["stage", "difference, deviations", "low", "high", "equivalent", "n", "n, DDPM"]
    return pd.DataFrame(rows, columns=columns)


def set_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Fréchet distance and diversity, one row a sampler; no rows where too few were made."""
    names = {"frechet_clap": "Fréchet distance ↓", "diversity": "diversity ↑"}
    rows = table[table["metric"].isin(names)]
    wide = rows.pivot(index=["method", "stage"], columns="metric", values="value")
    wide = wide.reindex(columns=list(names)).rename(columns=names).reset_index()
    wide.columns.name = None
    return wide
