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
from audioldm_utils.studies.rates import add_rates
from audioldm_utils.studies.rows import Bench, Excerpt, Row

if TYPE_CHECKING:
    from audioldm_utils.ddcm.windows import Denoiser
    from audioldm_utils.model.networks import Stages
    from audioldm_utils.results.tables import ResultsBuilder


def _measure(
    row: Row, codec: Codec, excerpt: Excerpt, settings: Settings, denoiser: Denoiser | None = None
) -> bytes | None:
    """Encode, add mel error and rates; the file, or None where the rate is too low."""
    try:
        encoded = codec.encode(excerpt.wave, settings, denoiser=denoiser)
    except RateTooLowError:
        return None
    add_rates(row, encoded)
    row.add("mel_error", excerpt.mel_error(codec.stages.decode(encoded.codes.latents)), "nat")
    return encoded.data


def measure_placement(
    clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int, seconds: float, steps: int,
    rates: Sequence[float], low_rate: float,
) -> None:  # fmt: skip
    """The codec of ``05_rates`` with uniform timesteps, at its rates above ``low_rate``."""
    at = Bench(clip, stages, rows)
    excerpt, codec = at.excerpt(seconds), Codec(stages)
    for rate in (rate for rate in rates if rate > low_rate):
        settings = Settings(kbps=rate, steps=steps, seed=seed, placement="uniform")
        _measure(at.row("ddcm-uniform", f"{rate:g} kbit/s"), codec, excerpt, settings)


def measure_codebooks(
    clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int, seconds: float, steps: int,
    pursuit_rates: Sequence[float], linear_rates: Sequence[float], paper_steps: int, bases: int,
) -> None:  # fmt: skip
    """Other codebooks, and the best linear denoiser in the network's place.

    Args:
        seconds, steps: as in ``05_rates``.
        pursuit_rates: of the official matching pursuit: several atoms a step, K = 1024, 3
            coefficient bits.
        linear_rates: of the linear denoiser.
        paper_steps, bases: as in :func:`_one_atom`.
    """
    at = Bench(clip, stages, rows)
    excerpt, codec = at.excerpt(seconds), Codec(stages)
    pursuit = {"codebook": "matching-pursuit", "coefficient_bits": 3}
    for rate in pursuit_rates:
        settings = Settings(kbps=rate, steps=steps, seed=seed, **pursuit)
        _measure(at.row("ddcm-pursuit", f"{rate:g} kbit/s"), codec, excerpt, settings)
    _one_atom(at, excerpt, codec, seed, paper_steps, bases)
    linear = _linear(stages)
    for rate in linear_rates if linear is not None else ():
        settings = Settings(kbps=rate, steps=steps, seed=seed)
        _measure(at.row("linear", f"{rate:g} kbit/s"), codec, excerpt, settings, linear)


def _one_atom(
    at: Bench, excerpt: Excerpt, codec: Codec, seed: int, paper_steps: int, bases: int
) -> None:
    """Equal bits with one atom a step: many small choices against fewer large ones.

    Args:
        paper_steps: network calls with the paper's K = 1024 independent atoms.
        bases: of the cyclic codebook, which gets as many steps as those bits pay for.
    """
    checkpoint, values = at.stages.checkpoint, excerpt.latents[0].numel()
    budget = 10 * (paper_steps - 1)
    rules = load_rules(checkpoint.path, checkpoint.fingerprint)
    _, placement, power, stop = next(rule for rule in rules if budget / values < rule[0])
    common = {
        "kbps": None, "atoms": 1, "seed": seed,
        "placement": placement, "power": power, "stop": stop,
    }  # fmt: skip
    paper = Settings(codebook="gaussian", size=1024, steps=paper_steps, **common)
    _measure(at.row("ddcm-gaussian", "one atom of 1024"), codec, excerpt, paper)
    steps = 1 + int(budget // np.log2(2 * values * bases))
    row = at.row("ddcm", "one atom of shifts")
    data = _measure(row, codec, excerpt, Settings(size=bases, steps=steps, **common))
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


def measure_mixtures(
    clips: Sequence[Clip], stages: Stages, rows: ResultsBuilder, seed: int, seconds: float,
    steps: int, mixture_rate: float,
) -> None:  # fmt: skip
    """A clip alone, mixed with a second one, and with a third, all equally loud, at one rate.

    The rows carry the first clip's name and class; the stage says of how many clips the
    mixture is.
    """
    at, codec = Bench(clips[0], stages, rows), Codec(stages)
    length = round(seconds * stages.mel_config.sample_rate)
    waves = [to_model_rate(clip)[:length] for clip in clips]
    first = waves[0]
    total = np.zeros(len(first), np.float32)
    for stage, wave in zip(("one clip", "pair", "triple"), waves, strict=False):
        fitted = fit_length(wave, len(first))
        total += fitted if stage == "one clip" else match_loudness(fitted, first, 16000)
        excerpt = Excerpt.of(total.copy(), stages, seconds)
        vae = excerpt.mel_error(stages.decode(excerpt.latents))
        at.row("vae", stage).add("mel_error", vae, "nat")
        settings = Settings(kbps=mixture_rate, steps=steps, seed=seed)
        _measure(at.row("ddcm", stage), codec, excerpt, settings)


def linear_fit(latents: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """What ``audioldm-utils fit`` stores of a linear denoiser, in half precision.

    Latents have a spread near 1, so that half precision costs less than the fit's own error.
    """
    fitted = LinearDenoiser.fit(latents)
    return {"mean": fitted.mean.half(), "lags": fitted.lags.half()}
