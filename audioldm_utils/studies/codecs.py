"""Studies ``05_placement``, ``05_codebooks`` and ``05_mixtures``: one part changed at a time.

Their rows are to be paired with those of ``05_rates`` on the same clips: same excerpt, same
rates, same number of network calls; only what the method's name says is another.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from audioldm_utils.audio.clips import Clip, fit_length, match_loudness, to_model_rate
from audioldm_utils.ddcm.codebook.fitted import load_fitted
from audioldm_utils.ddcm.codebook.planning import RateTooLowError
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.placement import load_rules
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.errors import UserError
from audioldm_utils.studies.linear_denoiser import LinearDenoiser
from audioldm_utils.studies.rates import SECONDS, STEPS, Excerpt, Row

if TYPE_CHECKING:
    from audioldm_utils.ddcm.windows import Denoiser
    from audioldm_utils.model.networks import Stages
    from audioldm_utils.results.tables import ResultsBuilder

#: Rates at which uniform timesteps are measured.
PLACEMENT_RATES = (0.2, 0.5, 1.0, 2.0, 5.0)
#: Rates of the official matching pursuit: several atoms a step, K = 1024, 3 coefficient bits.
PURSUIT_RATES = (0.4, 0.7, 1.2)
LINEAR_RATES = (0.5, 1.0)
#: One atom a step: bits of the independent codebook (the paper's K = 1024), its steps, and the
#: bases that give the cyclic codebook 16 bits on 2.56 s.
PAPER_STEPS, BASES = 65, 4
MIXTURE_RATE = 1.0


def _measure(
    row: Row,
    codec: Codec,
    excerpt: Excerpt,
    settings: Settings,
    denoiser: Denoiser | None = None,
) -> bytes | None:
    """Encode, add mel error and rates; the file, or None where the rate is too low."""
    try:
        encoded = codec.encode(excerpt.wave, settings, denoiser=denoiser)
    except RateTooLowError:
        return None
    mel = codec.stages.decode(encoded.codes.latents)
    row.coded(encoded)
    row.add("mel_error", excerpt.mel_error(mel), "nat")
    return encoded.data


def study_placement(clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """The codec of ``05_rates`` with uniform timesteps."""
    excerpt, codec = Excerpt.of(to_model_rate(clip), stages), Codec(stages)
    for rate in PLACEMENT_RATES:
        row = Row(rows, clip, "ddcm-uniform", f"{rate:g} kbit/s")
        settings = Settings(kbps=rate, steps=STEPS, seed=seed, placement="uniform")
        _measure(row, codec, excerpt, settings)


def study_codebooks(clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """Other codebooks, and the best linear denoiser in the network's place."""
    excerpt, codec = Excerpt.of(to_model_rate(clip), stages), Codec(stages)
    for rate in PURSUIT_RATES:
        settings = Settings(
            kbps=rate, steps=STEPS, seed=seed, codebook="matching-pursuit", coefficient_bits=3
        )
        row = Row(rows, clip, "ddcm-pursuit", f"{rate:g} kbit/s")
        _measure(row, codec, excerpt, settings)
    _one_atom(clip, stages, rows, seed, excerpt, codec)
    linear = _linear(stages)
    if linear is not None:
        for rate in LINEAR_RATES:
            row = Row(rows, clip, "linear", f"{rate:g} kbit/s")
            settings = Settings(kbps=rate, steps=STEPS, seed=seed)
            _measure(row, codec, excerpt, settings, linear)


def _one_atom(
    clip: Clip,
    stages: Stages,
    rows: ResultsBuilder,
    seed: int,
    excerpt: Excerpt,
    codec: Codec,
) -> None:
    """Equal bits with one atom a step: many small choices against fewer large ones."""
    values = excerpt.latents[0].numel()
    budget = 10 * (PAPER_STEPS - 1)
    rules = load_rules(stages.checkpoint.path, stages.checkpoint.fingerprint)
    _, placement, power, stop = next(rule for rule in rules if budget / values < rule[0])
    common = {
        "kbps": None, "atoms": 1, "seed": seed,
        "placement": placement, "power": power, "stop": stop,
    }  # fmt: skip
    paper = Settings(codebook="gaussian", size=1024, steps=PAPER_STEPS, **common)
    _measure(Row(rows, clip, "ddcm-gaussian", "one atom of 1024"), codec, excerpt, paper)
    # As many steps as the paper's bits pay for, so that the rate is no higher.
    steps = 1 + int(budget // np.log2(2 * values * BASES))
    settings = Settings(size=BASES, steps=steps, **common)
    row = Row(rows, clip, "ddcm", "one atom of shifts")
    data = _measure(row, codec, excerpt, settings)
    start = time.process_time()
    codec.decode(data)
    row.add("decode_seconds", time.process_time() - start, "s")


def _linear(stages: Stages) -> Denoiser | None:
    """The fitted linear denoiser, or None where `audioldm-utils fit` has stored none."""
    checkpoint = stages.checkpoint
    try:
        tensors, _ = load_fitted(checkpoint.path, checkpoint.fingerprint, "linear")
    except UserError:
        return None
    fitted = LinearDenoiser(tensors["mean"].float(), tensors["lags"].float())
    return fitted.denoiser(checkpoint.scheduler_config)


def study_mixtures(clips: Sequence[Clip], stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """A clip alone, mixed with a second one, and with a third, all equally loud.

    The rows carry the first clip's name and class; the stage says of how many clips the
    mixture is. The rate is the same for all three.
    """
    codec = Codec(stages)
    length = round(SECONDS * stages.mel_config.sample_rate)
    waves = [to_model_rate(clip)[:length] for clip in clips]
    first = waves[0]
    total = np.zeros(len(first), np.float32)
    for number, wave in enumerate(waves, 1):
        fitted = fit_length(wave, len(first))
        total += fitted if number == 1 else match_loudness(fitted, first, 16000)
        excerpt = Excerpt.of(total.copy(), stages)
        stage = ("one clip", "pair", "triple")[number - 1]
        vae = excerpt.mel_error(stages.decode(excerpt.latents))
        Row(rows, clips[0], "vae", stage).add("mel_error", vae, "nat")
        row = Row(rows, clips[0], "ddcm", stage)
        _measure(row, codec, excerpt, Settings(kbps=MIXTURE_RATE, steps=STEPS, seed=seed))


def linear_fit(latents: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """What ``audioldm-utils fit`` stores of a linear denoiser, in half precision.

    Latents have a spread near 1, so that half precision costs less than the fit's own error.
    """
    fitted = LinearDenoiser.fit(latents)
    return {"mean": fitted.mean.half(), "lags": fitted.lags.half()}
