"""Study ``04_choices``: what codebooks gain on a denoiser's real residuals.

At single noise levels, and over whole encodings where each choice changes what is left for the
next; beside that softer choices, fitted atoms and quantised latents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import torch

from audioldm_utils.audio.clips import Clip
from audioldm_utils.ddcm.codebook import Codebook, CyclicShift, Gaussian, Turbo, start_noise
from audioldm_utils.ddcm.codebook.fitted import load_kmeans, load_quantiser
from audioldm_utils.ddcm.core import DDCM, Step
from audioldm_utils.metrics.statistics import Interval
from audioldm_utils.model.networks import Networks
from audioldm_utils.model.schedule import Schedule, training_alphas_bar
from audioldm_utils.results.summaries import differences
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies.codebook_fits import LEVELS, nearest_timesteps, residuals
from audioldm_utils.studies.codebook_theory import efficiency
from audioldm_utils.studies.rows import Bench, Excerpt, Row, correlation, fitted
from audioldm_utils.studies.verdicts import (
    NOT_COMPARED,
    REFUTED,
    UNDECIDED,
    UPHELD,
    at_stages,
    claim,
    counted,
    interval_of,
    mean_of,
    of,
    together,
    told,
    where,
    words,
)


def measure_choices(
    clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int, seconds: float, steps: int,
    temperatures: Sequence[float], softness: Sequence[float],
) -> None:  # fmt: skip
    """Single choices, soft choices, fitted atoms and quantised latents of one excerpt.

    Args:
        temperatures: of a choice, between the best atom (0) and plain sampling (infinity),
            which are measured as well.
        softness: squared latent units, over which the centres of the quantiser are averaged;
            the hard one is measured as well.
    """
    at = Bench(clip, networks, rows)
    excerpt = at.excerpt(seconds)
    _single(at, excerpt, seed)
    schedule = Schedule.from_config(networks.checkpoint.scheduler_config, steps)
    coder = DDCM(schedule, CyclicShift(excerpt.shape, seed))
    for temperature in (0.0, *temperatures, math.inf):
        row = at.row("ddcm", f"temperature {temperature:g}")
        selection = {"temperature": temperature, "seeds": [seed]} if temperature else {}
        _encode(row, networks, excerpt, coder, selection)
    _fitted(at, excerpt, schedule, seed)
    _quantised(at, excerpt, softness)


def _single(at: Bench, excerpt: Excerpt, seed: int) -> None:
    """Efficiency of one choice at each noise level, N = values of the excerpt's latents."""
    shape, config = excerpt.shape, at.networks.checkpoint.scheduler_config
    # Codebook, atoms, and the draws of it that are averaged: many where a draw is cheap.
    books: dict[str, tuple[Codebook, int, int]] = {
        "ddcm": (CyclicShift(shape, seed), 1, 8),
        "ddcm, 8 atoms": (CyclicShift(shape, seed), 8, 2),
        "ddcm, no mask": (CyclicShift(shape, seed, mask=False), 1, 8),
        "ddcm-gaussian": (Gaussian(shape, seed, size=1024), 1, 6),
        "ddcm-turbo": (Turbo(shape, seed, size=4096), 30, 1),
    }
    timesteps = nearest_timesteps(training_alphas_bar(config))
    schedule = Schedule.from_config(config, placement=timesteps)
    found = residuals([excerpt.latents[0]], schedule, at.networks.denoiser(), seed)
    targets = {f"real, {level:g}": r[None].cpu() for level, r in zip(LEVELS, found, strict=True)}
    targets["white"] = start_noise([seed + 77], shape)
    for place, (stage, target) in enumerate(targets.items()):
        for name, (book, atoms, draws) in books.items():
            shares = []
            for step in range(100 * place, 100 * place + draws):
                noise = book.noise(step, book.choose(step, target, atoms))
                cosine = torch.cosine_similarity(noise.flatten(), target.flatten(), dim=0)
                shares.append(float(efficiency(float(cosine), book.values, book.bits(atoms))))
            at.row(name, stage).add("efficiency", sum(shares) / draws, "1")


#: What chosen noise looks like to the denoiser; of normal noise 1, and 0 for the others.
_LOOKS = ("spread", "excess_kurtosis", "neighbours_in_time", "neighbours_in_frequency")


def _looks(noise: torch.Tensor) -> tuple[float, ...]:
    """Standard deviation, excess kurtosis and correlations of neighbours of one step's noise."""
    z = noise - noise.mean()
    spread = z.square().mean()
    return (
        float(spread.sqrt()),
        float(z.pow(4).mean() / spread**2 - 3),
        float((z[:, :, 1:] * z[:, :, :-1]).mean() / spread),
        float((z[..., 1:] * z[..., :-1]).mean() / spread),
    )


def _encode(
    row: Row, networks: Networks, excerpt: Excerpt, coder: DDCM, selection: dict[str, object]
) -> None:
    """Encode, and add error, correlation, bits a value, cosine and the noise's looks."""
    seen: list[tuple[float, ...]] = []
    cosines: list[float] = []

    def look(step: Step) -> None:
        if step.noise is not None:
            seen.append(_looks(step.noise))
            cosines.append(float(step.cosine()))

    codes = coder.encode(excerpt.latents, networks.denoiser(), callback=look, **selection)
    row.add("mel_error", excerpt.mel_error(networks.decode(codes.latents)), "nat")
    row.add("latent_correlation", correlation(codes.latents, excerpt.latents), "1")
    row.add("rate", coder.bits / coder.codebook.values, "bit/value")
    row.add("choice_cosine", sum(cosines) / len(cosines), "1")
    for name, value in zip(_LOOKS, torch.tensor(seen).mean(0).tolist(), strict=True):
        row.add(f"noise_{name}", value, "1")


def _fitted(at: Bench, excerpt: Excerpt, schedule: Schedule, seed: int) -> None:
    """Fitted atoms against shifts, at no more than the fitted ones' bits a step."""
    shape = excerpt.shape
    kmeans = fitted(load_kmeans, at.networks, shape, seed=seed)
    if kmeans is None:
        return
    normal = CyclicShift(shape, seed)
    # One atom more now and then, so that the bits of all steps are the same.
    mean = kmeans.bits() / normal.bits()
    atoms = [int((i + 1) * mean) - int(i * mean) for i in range(schedule.noisy_steps)]
    coders = {"ddcm-kmeans": DDCM(schedule, kmeans), "ddcm": DDCM(schedule, normal, atoms)}
    for name, coder in coders.items():
        _encode(at.row(name, "equal rate"), at.networks, excerpt, coder, {})


def _quantised(at: Bench, excerpt: Excerpt, softness: Sequence[float]) -> None:
    """The latents' vectors replaced by a fitted quantiser's, hard and soft; no diffusion."""
    decode, quantiser = at.networks.decode, fitted(load_quantiser, at.networks, "vq")
    at.row("vae").add("mel_error", excerpt.mel_error(decode(excerpt.latents)), "nat")
    for soft in (0.0, *softness) if quantiser else ():
        row = at.row("vq", f"soft, {soft:g}" if soft else "hard")
        found = quantiser.soft(excerpt.latents, soft)
        row.add("mel_error", excerpt.mel_error(decode(found)), "nat")
        missed = (found - excerpt.latents).square().mean() / excerpt.latents.var()
        row.add("latent_error", float(missed), "1")
        if not soft:
            row.add(
                "payload_rate", quantiser.bits(excerpt.shape) / excerpt.seconds / 1000, "kbit/s"
            )


#: Efficiency that shifts may lack and still serve as well as independent entries.
MARGIN = 0.02


def on_real_residuals(table: pd.DataFrame) -> pd.DataFrame:
    """Efficiency of masked shifts less that of others, over all noise levels of real residuals."""
    stages = sorted({stage for stage in table["stage"] if stage.startswith("real")})
    asked = {
        other: (of("ddcm", stages), of(other, stages))
        for other in ("ddcm-gaussian", "ddcm, no mask")
    }
    return differences(table, asked, "efficiency")


def claims(table: pd.DataFrame, white: pd.DataFrame) -> dict[str, str]:
    """The chapter's claims, each with its word.

    1: on white residuals, shifts are as good as theory says of as many independent entries, but
    for `MARGIN`; 2: on real ones, as good as independent entries, but for the same; 3: the mask
    makes them better there; 4: at equal bits shifts leave a smaller mel error than fitted atoms.

    Args:
        white: rows of ``codebook_theory.read_efficiency`` of one atom of shifts on white
            residuals, with mean, low, high, n and theory.
    """
    rows = white[["mean", "low", "high", "n", "theory"]].itertuples(index=False)
    expected = [claim(Interval(*row[:4]), row[4] - MARGIN) for row in rows]
    real = on_real_residuals(table)
    fitted = differences(table, at_stages("ddcm", "ddcm-kmeans", ["equal rate"]), "mel_error")
    return {
        "claim_1": together(expected),
        "claim_2": together(words(real.loc[real.index == "ddcm-gaussian"], True, -MARGIN)),
        "claim_3": together(words(real.loc[real.index == "ddcm, no mask"], True)),
        "claim_4": together(words(fitted, above=False)),
    }


#: How the second claim stands in a sentence.
SERVE = {
    UPHELD: "serve as well as",
    UNDECIDED: "were not shown to serve as well as",
    REFUTED: "serve worse than",
}
#: How the measured difference stands to that of the sizes, by the word for «it is larger».
SIZE = {UPHELD: "more than", UNDECIDED: "about", REFUTED: "less than"}


def answer(table: pd.DataFrame, word: str, source: str, expected: tuple[float, float]) -> str:
    """The chapter's answer; ``word`` of ``claim_2``.

    Args:
        expected: efficiency that theory gives to independent codebooks of the two sizes, that of
            the shifts and that of the independent entries.
    """
    real = on_real_residuals(table)
    if "ddcm-gaussian" not in real.index:
        return "No real residual was measured on these clips."
    row, size = real.loc["ddcm-gaussian"], expected[0] - expected[1]
    explains = SIZE[claim(interval_of(row), size)]
    return (
        f"Per bit, the shifts of one vector {SERVE[word]} independent entries: on the denoiser's "
        f"own residuals they reach an efficiency of {row['first']:.2f}, where theory expects "
        f"{expected[0]:.2f} of as many independent entries; fewer independent entries reach "
        f"{row['second']:.2f} (theory {expected[1]:.2f}). The difference, "
        f"{told(interval_of(row), '+.3f')}, is {explains} the {size:.2f} that theory gives for the "
        f"larger size ({counted(row['n'], source)})."
    )


def by_level(table: pd.DataFrame) -> str:
    """At which noise levels (alpha-bar) it is upheld that the mask of signs makes shifts better."""
    stages = {stage for stage in table["stage"] if stage.startswith("real")}
    at = sorted(stages, key=lambda stage: float(stage.split(", ")[1]))
    found = differences(table, at_stages("ddcm", "ddcm, no mask", at), "efficiency")
    names = [stage.split(", ")[1] for stage in found.index]
    said = dict(zip(names, words(found, True), strict=True))
    return f"{together(list(said.values()))} {where(said)}" if said else NOT_COMPARED


def sampled(table: pd.DataFrame) -> str:
    """What plain sampling's latents share with the clip's, as a sentence of its interval."""
    between = mean_of(table, of("ddcm", "temperature inf"), "latent_correlation")
    if between is None:
        return "Plain sampling was not measured on these clips."
    shares = {
        UPHELD: "still correlate with the clip's, as those of any two sounds may: spectra slope "
        "alike",
        UNDECIDED: "are not shown to correlate with the clip's",
        REFUTED: "correlate negatively with the clip's",
    }
    return f"There the latents {shares[claim(between)]} ({told(between)}, n = {between.n:.0f})."


def quantised(table: pd.DataFrame, rate_of_ddcm: str) -> str:
    """The hard vector quantiser beside DDCM of ``equal rate`` on the same clips, in a sentence."""
    sides = {"": (of("vq", "hard"), of("ddcm", "equal rate"))}
    found = differences(table, sides, "mel_error")
    if found.empty:
        return "No quantiser is fitted for this checkpoint, or nothing to hold against it."
    row, rate = found.iloc[0], table[table["metric"] == "payload_rate"]["value"].mean()
    more = {UPHELD: "more", UNDECIDED: "which is less is undecided", REFUTED: "less"}
    return (
        f"The hard quantiser leaves {row['first']:.3f} nat at {rate:.1f} kbit/s, DDCM "
        f"{row['second']:.3f} nat at {rate_of_ddcm}: {more[claim(interval_of(row))]} "
        f"(difference {told(interval_of(row), '+.3f')} nat, n = {row['n']:.0f})."
    )


def advice(found: dict[str, str]) -> str:
    """What to do, from :func:`claims`."""
    if found["claim_2"] == REFUTED:
        return "Take independent entries where bits are dear, and shifts where time is."
    mask = " under a mask of signs" * (found["claim_3"] == UPHELD)
    return f"Take cyclic shifts of one vector{mask}."


def lowest(table: pd.DataFrame) -> str:
    """Method of the least mean efficiency on real residuals."""
    real = table[(table["metric"] == "efficiency") & table["stage"].str.startswith("real")]
    return str(real.groupby("method")["value"].mean().idxmin())
