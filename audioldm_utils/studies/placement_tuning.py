"""Tuning where the steps lie at each rate, on train clips: ``audioldm-utils fit``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from audioldm_utils.ddcm.codebook import CyclicShift
from audioldm_utils.ddcm.core import DDCM
from audioldm_utils.ddcm.placement import Rule, placement_path, plan_rate
from audioldm_utils.ddcm.windows import Denoiser
from audioldm_utils.files import atomic_write
from audioldm_utils.model.schedule import Schedule

#: What is tried, from most steps in the noise to most steps near the clean latents:
#: (placement, power, stop).
CANDIDATES = (
    ("uniform", 1.0, 0.99),
    ("alpha-bar", 0.2, 0.97),
    ("alpha-bar", 0.25, 0.97),
    ("alpha-bar", 0.3, 0.98),
    ("alpha-bar", 0.4, 0.99),
    ("alpha-bar", 0.5, 0.99),
    ("alpha-bar", 0.7, 0.99),
    ("alpha-bar", 1.0, 0.99),
)
#: Share of the least distance that is given up for more steps in the noise. A placement with
#: too few of them loses some clips altogether, and a few train clips may not show it.
GAIN = 0.01
#: Bits a latent value at which the placement is tuned, of the choices alone; a clip has 3,200
#: values a second, so that these are 0.1 to 5 kbit/s.
BITS = (0.04, 0.1, 0.28, 0.6, 1.5)


def save_rules(
    checkpoint: str | Path, fingerprint: str, rules: Sequence[Rule], facts: dict[str, object]
) -> Path:
    """Store a table with what it was tuned on."""
    path = placement_path(checkpoint, fingerprint)
    listed = [[None if rule[0] == float("inf") else rule[0], *rule[1:]] for rule in rules]
    record = {**facts, "fingerprint": fingerprint, "rules": listed}
    atomic_write(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
    return path


def tune(
    latents: torch.Tensor,
    denoiser: Denoiser,
    scheduler_config: Mapping[str, Any],
    distance: Callable[[torch.Tensor], float],
    *,
    steps: int = 25,
    bits: Sequence[float] | None = None,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> tuple[tuple[Rule, ...], list[dict[str, object]]]:
    """The best of `CANDIDATES` at each rate.

    All are tried, since the distance need not fall and rise only once along them.

    Args:
        latents: of train clips of one length, ``(clips, 8, frames, 16)``.
        denoiser: of the checkpoint, without a prompt.
        distance: of decoded latents of the same shape; lower is better.
        steps: network calls, at most.
        bits: a latent value, rising; `BITS` by default.
        progress: called after each candidate.

    Returns:
        The table, its limits halfway (in the logarithm) between the rates; and every trial.
    """
    bits = BITS if bits is None else bits
    book = CyclicShift(tuple(latents.shape[1:]), seed)
    trials: list[dict[str, object]] = []

    def measure(wanted: float, index: int) -> float:
        name, power, stop = CANDIDATES[index]
        # 1 s stands for the clip: only bits count here.
        plan = plan_rate(book, wanted * book.values / 1000, 1.0, max_steps=steps)
        schedule = Schedule.from_config(
            scheduler_config, plan.steps, placement=name, stop=stop, power=power
        )
        codes = DDCM(schedule, book, plan.atoms).encode(latents, denoiser)
        found = distance(codes.latents)
        trial = {"bits": wanted, "calls": plan.steps, "placement": name, "power": power}
        trials.append({**trial, "stop": stop, "distance": round(found, 5)})
        if progress is not None:
            progress()
        return found

    chosen = []
    for wanted in bits:
        found = [measure(wanted, index) for index in range(len(CANDIDATES))]
        # The first, which has the most steps in the noise, that is as good as any.
        chosen.append(next(i for i, one in enumerate(found) if one <= (1 + GAIN) * min(found)))
    limits = [(low * high) ** 0.5 for low, high in pairwise(bits)]
    rules = [
        (round(limit, 4), *CANDIDATES[index])
        for limit, index in zip([*limits, float("inf")], chosen, strict=True)
    ]
    # Neighbours that agree are one rule.
    kept = [
        rule for i, rule in enumerate(rules) if i + 1 == len(rules) or rules[i + 1][1:] != rule[1:]
    ]
    return tuple(kept), trials
