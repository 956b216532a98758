"""Study ``06_samples``: random codes of DDCM against DDPM and DDIM, on generated samples.

All methods start from the same noise, so that sample i of one belongs to sample i of another. A
row's clip is a sample (``rain falling 03``), its recording the prompt, its class the prompt's.
Scores are those of the checkpoint's own CLAP and compare within this checkpoint alone. What a set
of samples has, or real clips have, is about `WHOLE`; ``sampling_tables`` reads the rows.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from audioldm_utils.audio.clips import Clip, to_model_rate
from audioldm_utils.ddcm import codebook as codebooks
from audioldm_utils.ddcm.core import DDCM, derived_seed
from audioldm_utils.model.conditioning import Conditioning, stack
from audioldm_utils.model.denoiser import GuidedUNet
from audioldm_utils.model.generation import starting_noise
from audioldm_utils.model.networks import Networks, normalise
from audioldm_utils.model.schedule import Schedule
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies.prompts import CLASSES, PROMPTS
from audioldm_utils.studies.registry import WHOLE

#: A codebook of this size is a cyclic one.
CYCLIC = 65536
#: Directions of the embeddings in which the Fréchet distance is taken.
DIMENSIONS = 8
#: Samples that may be alike: of different prompts from one seed, of one prompt from several.
ONE_SEED, ONE_PROMPT = "different prompts, one seed", "one prompt, different seeds"


@dataclass(frozen=True)
class Sampling:
    """How samples are made; ``subset`` is the candidates a step of prompt-free guidance."""

    seed: int
    seconds: float
    steps: int
    guidance: float
    subset: int


def methods(sizes: Sequence[int]) -> list[tuple[str, str]]:
    """(method, stage) of each sampler; ``sizes`` of codebooks, `CYCLIC` or of normal atoms."""
    return [
        ("ddpm", "CFG"),
        ("ddim", "CFG"),
        *(("ddcm-random", f"K = {size}") for size in sizes),
        ("ddcm-random", "prompt-free CCFG"),
        ("ddpm", "no guidance"),
    ]


def measure_samples(
    clips: Sequence[Clip], networks: Networks, rows: ResultsBuilder, seed: int, seconds: float,
    steps: int, guidance: float, subset: int, sizes: Sequence[int], each: int, alike: int,
    of_each: int | None = None,
) -> None:  # fmt: skip
    """CLAP score, class and level of every sample; Fréchet distance and diversity of each method.

    Args:
        clips: real ones, the reference of the Fréchet distance; those of a class that is asked
            for also go through VAE and synthesis, as the ceiling of what can be told.
        seed to subset: as in :class:`Sampling`; sizes: as in :func:`methods`.
        each: samples of each prompt, by every method.
        alike: prompts of different classes, and seeds of each, whose spectra are compared.
        of_each: at most so many samples of each prompt and method; fewer than two leave out
            what a set of samples has, and then only one prompt of ten is made.
    """
    networks.checkpoint.use_channels_last()
    many = of_each is None or of_each > 1
    how = Sampling(seed, seconds, steps, guidance, subset)
    prompts = PROMPTS if many else PROMPTS[::10]
    conditionings = {text: networks.embed([text], "") for _, text in prompts}
    judge = _Judge(networks, prompts, round(seconds * networks.mel_config.sample_rate))
    real = judge.real(clips, rows) if many else None
    for method, stage in methods(sizes):
        made = []
        # A batch is one round of all prompts: a sample depends on prompt and round alone.
        for number in range(each if of_each is None else min(each, of_each)):
            latents = make(networks, method, stage, conditionings, how, number)
            made.append(judge.samples(latents, method, stage, number, rows))
        if real is not None:
            _add_sets(torch.stack(made, dim=1), real, prompts, method, stage, rows)
    if many:
        _add_alike(networks, conditionings, how, alike, rows)


class _Judge:
    """What the checkpoint's own CLAP says of sounds of so many samples."""

    def __init__(self, networks: Networks, prompts: Sequence[tuple[str, str]], count: int) -> None:
        self.networks, self.prompts, self.count = networks, prompts, count
        self.wanted = networks.clap_text([text for _, text in prompts])
        self.classes = networks.clap_text([name.replace("_", " ") for name in CLASSES])

    def told(self, embeddings: torch.Tensor) -> list[str]:
        """The class whose name is nearest each."""
        return [CLASSES[i] for i in (embeddings @ self.classes.T).argmax(dim=1).tolist()]

    def samples(
        self, latents: torch.Tensor, method: str, stage: str, number: int, rows: ResultsBuilder
    ) -> torch.Tensor:
        """Embeddings of a sample a prompt, whose rows are added."""
        networks = self.networks
        waves = networks.synthesise(networks.decode(latents))[:, : self.count]
        levels = 10 * waves.square().mean(dim=1).clamp(min=1e-12).log10()
        found = networks.clap_audio(waves)
        told = self.told(found)
        for i, (category, text) in enumerate(self.prompts):
            for metric, value, unit in (
                ("clap_score", float(found[i] @ self.wanted[i]), "1"),
                ("class_told", float(told[i] == category), "1"),
                ("level", float(levels[i]), "dB"),
            ):
                rows.add(
                    f"{text} {number:02d}", metric, value, unit,
                    category=category, method=method, stage=stage, recording=text,
                )  # fmt: skip
        return found

    def real(self, clips: Sequence[Clip], rows: ResultsBuilder) -> torch.Tensor:
        """Embeddings of the clips' beginnings; of how many of a recording the class is told."""
        found, right = [], defaultdict(list)
        for clip in clips:
            wave = torch.from_numpy(to_model_rate(clip)[: self.count])[None]
            found.append(self.networks.clap_audio(wave))
            if clip.category not in CLASSES:
                continue
            again = self.networks.clap_audio(self.networks.reconstruct_vae(wave))
            for method, embedding in (("original", found[-1]), ("vae", again)):
                right[method, clip.recording].append(self.told(embedding) == [clip.category])
        for (method, recording), told in right.items():
            share = sum(told) / len(told)
            rows.add(WHOLE, "class_told", share, "1", method=method, band=recording)
        return torch.cat(found)


def _add_sets(
    made: torch.Tensor, real: torch.Tensor, prompts: Sequence[tuple[str, str]], method: str,
    stage: str, rows: ResultsBuilder,
) -> None:  # fmt: skip
    """Diversity of each prompt's samples; Fréchet distance of all, and without each class.

    Args:
        made: embeddings ``(prompts, samples, width)``.
    """
    about = {"method": method, "stage": stage}
    for (_, text), value in zip(prompts, diversity(made), strict=True):
        rows.add(WHOLE, "diversity", float(value), "1", **about, band=text)
    rows.add(WHOLE, "frechet_clap", frechet(made.flatten(0, 1), real), "1", **about)
    for left_out in CLASSES:
        kept = [category != left_out for category, _ in prompts]
        value = frechet(made[kept].flatten(0, 1), real)
        rows.add(WHOLE, "frechet_clap", value, "1", **about, band=f"without {left_out}")


def _add_alike(
    networks: Networks, conditionings: Mapping[str, Conditioning], how: Sampling, alike: int,
    rows: ResultsBuilder,
) -> None:  # fmt: skip
    """How alike the mean spectra of different prompts are from one seed, and the other way."""
    texts = list(dict(reversed(PROMPTS)).values())[::-1][:alike]  # the first of each class
    chosen = {text: conditionings[text] for text in texts}
    spectra = []
    for number in range(alike):
        latents = make(networks, "ddim", "CFG", chosen, how, number, one_seed=True)
        waves, _ = normalise(networks.synthesise(networks.decode(latents)).cpu())
        spectra.append(networks.to_mel(waves).mean(dim=1).cpu().numpy())
    groups = np.stack(spectra)
    for seed, value in enumerate(alikeness(groups)):
        about = {"method": "ddim", "stage": ONE_SEED, "band": f"seed {seed}"}
        rows.add(WHOLE, "spectrum_correlation", value, "1", **about)
    for text, value in zip(texts, alikeness(groups.swapaxes(0, 1)), strict=True):
        about = {"method": "ddim", "stage": ONE_PROMPT, "band": text}
        rows.add(WHOLE, "spectrum_correlation", value, "1", **about)


def alikeness(groups: np.ndarray) -> list[float]:
    """Mean correlation of all pairs within each group, of spectra ``(groups, members, bands)``."""
    above = np.triu_indices(groups.shape[1], 1)
    return [float(np.corrcoef(group)[above].mean()) for group in groups]


def make(
    networks: Networks, method: str, stage: str, conditionings: Mapping[str, Conditioning],
    how: Sampling, number: int = 0, one_seed: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Latents of one sample of each prompt, ``(prompts, 8, frames, 16)``.

    Args:
        method, stage: of :func:`methods`.
        conditionings: prompt to its embedding, with the negative.
        one_seed: all prompts begin from the same noise.
    """
    frames = round(how.seconds * 25)
    marks = [0 if one_seed else zlib.crc32(text.encode()) for text in conditionings]
    seeds = [derived_seed(how.seed, mark, number) % 2**63 for mark in marks]
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


def diversity(embeddings: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - cosine between samples of each prompt, of ``(prompts, samples, width)``."""
    n = embeddings.shape[1]
    if n < 2:
        return torch.zeros(len(embeddings))
    cosines = embeddings @ embeddings.transpose(1, 2)
    other = cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)
    return 1 - other / (n * (n - 1))
