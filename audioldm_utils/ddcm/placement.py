"""From a rate to a plan: how many steps, where they lie, and the atoms that each gets.

The best placement depends on the rate and on the denoiser, so a table of them is tuned for a
checkpoint on train clips and kept beside it. A ``.ddcm`` file names its own placement: a decoder
never looks here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from audioldm_utils.ddcm.codebook import Codebook
from audioldm_utils.errors import UserError
from audioldm_utils.model.fits import fitted_path

Rule = tuple[float, str, float, float]
"""Bits a latent value below which a placement serves: (limit, placement, power, stop)."""

PLACEMENT_BY_RATE: tuple[Rule, ...] = (
    (0.20, "alpha-bar", 0.25, 0.97),
    (0.50, "alpha-bar", 0.5, 0.99),
    (math.inf, "alpha-bar", 1.0, 0.99),
)
"""For a checkpoint that nothing was tuned for.

Real latents decide their coarse structure at very low alpha-bar, so at low rates steps are
needed there; at high rates uniform in alpha-bar wins. Measured on a small AudioLDM2.
"""


class RateTooLowError(UserError):
    """The rate does not pay the file's header and one choice for so short a clip."""


class Plan(NamedTuple):
    """Network calls, atoms of each of the steps - 1 noisy ones, and where the steps lie."""

    steps: int
    atoms: tuple[int, ...]
    placement: str
    power: float
    stop: float


def placement_path(checkpoint: str | Path, fingerprint: str) -> Path:
    """Where the table of this checkpoint lies."""
    return fitted_path(checkpoint, fingerprint, "placement", ".json")


def load_rules(checkpoint: str | Path, fingerprint: str) -> tuple[Rule, ...]:
    """The checkpoint's tuned table, or `PLACEMENT_BY_RATE` where none was tuned.

    Raises:
        UserError: a file that is damaged or belongs to another checkpoint.
    """
    path = placement_path(checkpoint, fingerprint)
    if not path.is_file():
        return PLACEMENT_BY_RATE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        rules = tuple(
            (math.inf if limit is None else float(limit), str(name), float(power), float(stop))
            for limit, name, power, stop in record["rules"]
        )
        whose = record["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it and run audioldm-utils fit --parts placement."
        ) from error
    if whose != fingerprint or not rules or rules[-1][0] != math.inf:
        raise UserError(f"{path} is not this checkpoint's: run audioldm-utils fit again.")
    return rules


def plan_rate(
    book: Codebook,
    kbps: float,
    seconds: float,
    *,
    max_steps: int = 50,
    overhead_bits: float = 0.0,
    rules: Sequence[Rule] = PLACEMENT_BY_RATE,
) -> Plan:
    """Spend a rate: one atom a step while bits last, then more atoms a step, evenly spread.

    Args:
        book: the codebook for one clip's latent shape; its options (K, bases) are kept.
        kbps: target in kbit/s, positive; never exceeded, overhead included.
        max_steps: network calls that may be used, at least 2; fewer are used only where the
            rate cannot pay one atom a step.
        overhead_bits: bits of the file beside the choices, to be paid from the target.
        rules: which placement serves up to which rate; the last one has no limit.

    Raises:
        RateTooLowError: the rate is too low for one atom.
        UserError: an argument is out of range.
    """
    if kbps <= 0 or seconds <= 0 or max_steps < 2:
        raise UserError("rate and seconds must be positive, and steps at least 2.")
    total = kbps * 1000 * seconds - overhead_bits
    one = book.bits(1)
    noisy = min(max_steps - 1, int(total // one)) if total > 0 else 0
    if noisy < 1:
        least = (one + overhead_bits) / seconds / 1000
        raise RateTooLowError(
            f"{kbps:g} kbit/s is too low for a clip of {seconds:.2f} s: one atom of "
            f"{one:.1f} bits needs at least {least:.3f} kbit/s."
        )
    atoms = _most_atoms(book, total / noisy)
    low = book.bits(atoms)
    left, step_up = max(total - noisy * low, 0.0), _bits(book, atoms + 1) - low
    extra = min(int(left // step_up), noisy)
    given = tuple(atoms + (i + 1) * extra // noisy - i * extra // noisy for i in range(noisy))
    rate = sum(book.bits(count) for count in given) / book.values
    return Plan(noisy + 1, given, *next(rule for rule in rules if rate < rule[0])[1:])


def _bits(book: Codebook, atoms: int) -> float:
    """Bits of so many atoms; infinity where the codebook has no such choice."""
    try:
        return book.bits(atoms)
    except UserError:
        return math.inf


def _most_atoms(book: Codebook, budget: float) -> int:
    """Most atoms a step whose bits stay within the budget (at least 1)."""
    low, high = 1, 2
    while _bits(book, high) <= budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _bits(book, middle) <= budget else (low, middle)
    return low
