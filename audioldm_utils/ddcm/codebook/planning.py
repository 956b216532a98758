"""From a target to a plan: how many steps, where they lie, and the atoms that each gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audioldm_utils.ddcm.codebook.base import Codebook
from audioldm_utils.errors import UserError

Rule = tuple[float, str, float, float]
"""Bits a latent value below which a placement serves: (limit, placement, power, stop)."""

PLACEMENT_BY_RATE: tuple[Rule, ...] = (
    (0.20, "alpha-bar", 0.25, 0.97),
    (0.50, "alpha-bar", 0.5, 0.99),
    (float("inf"), "alpha-bar", 1.0, 0.99),
)
"""For a checkpoint that nothing was tuned for; see `ddcm.placement` for the others.

Real latents decide their coarse structure at very low alpha-bar, so at low rates steps are
needed there; at high rates uniform in alpha-bar wins. Measured on a small AudioLDM2.
"""


class RateTooLowError(UserError):
    """The rate does not pay the file's header and one choice for so short a clip."""


@dataclass(frozen=True)
class Plan:
    """What `plan_rate` found. The schedule takes steps, placement, power and stop.

    Attributes:
        steps: network calls.
        atoms: for each of the steps - 1 noisy steps.
        bits: of all choices of a clip.
        kbps: bits / seconds / 1000, overhead included; never above the target.
    """

    steps: int
    atoms: tuple[int, ...]
    placement: str
    power: float
    stop: float | None
    bits: float
    kbps: float


def plan_rate(
    book: Codebook,
    kbps: float,
    seconds: float,
    *,
    max_steps: int = 50,
    overhead_bits: float = 0.0,
    placement: str | None = None,
    power: float | None = None,
    stop: float | None = None,
    rules: Sequence[Rule] = PLACEMENT_BY_RATE,
) -> Plan:
    """Spend a rate: one atom a step while bits last, then more atoms a step, evenly spread.

    Args:
        book: the codebook for one clip's latent shape; its options (K, bases) are kept.
        kbps: target in kbit/s, positive.
        seconds: of sound in the clip.
        max_steps: network calls that may be used, at least 2; fewer are used only where the
            rate cannot pay one atom a step.
        overhead_bits: bits of the file beside the choices, to be paid from the target.
        placement: given, instead of that of the rules, as are ``power`` and ``stop``.
        rules: which placement serves up to which rate; the last one has no limit.

    Raises:
        RateTooLowError: the rate is too low for one atom.
        UserError: it is above what the codebook can spend.
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
    low, extra = book.bits(atoms), 0
    if total - noisy * low > 0:
        step_up = _bits_or_none(book, atoms + 1)
        extra = min(int((total - noisy * low) // (step_up - low)), noisy) if step_up else 0
    given = tuple(atoms + (i + 1) * extra // noisy - i * extra // noisy for i in range(noisy))
    bits = sum(book.bits(count) for count in given)
    rate = bits / book.values
    rule = next(rule for rule in rules if rate < rule[0])
    return Plan(
        steps=noisy + 1,
        atoms=given,
        placement=placement or rule[1],
        power=rule[2] if power is None else power,
        stop=rule[3] if stop is None else stop,
        bits=bits,
        kbps=(bits + overhead_bits) / seconds / 1000,
    )


def _bits_or_none(book: Codebook, atoms: int) -> float | None:
    """Bits of so many atoms; None where the codebook has no such choice."""
    try:
        return book.bits(atoms)
    except UserError:
        return None


def _most_atoms(book: Codebook, budget: float) -> int:
    """Most atoms a step whose bits stay within the budget (at least 1)."""
    low, high = 1, 2
    while (spent := _bits_or_none(book, high)) is not None and spent <= budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        spent = _bits_or_none(book, middle)
        low, high = (middle, high) if spent is not None and spent <= budget else (low, middle)
    return low


def find_rate(
    distance: Callable[[float], float],
    target: float,
    low: float,
    high: float,
    *,
    tolerance: float = 0.05,
) -> float:
    """The lowest rate from ``low`` to ``high``, kbit/s, whose distance reaches ``target``.

    ``distance`` must fall with the rate; ``tolerance`` is relative, of the rate. UserError where
    the target is not reached at the highest rate.
    """
    if not 0 < low < high:
        raise UserError(f"rates must satisfy 0 < low < high, not {low} and {high}.")
    if distance(low) <= target:
        return low
    reached = distance(high)
    if reached > target:
        raise UserError(
            f"the target {target:g} is not reached: {reached:g} at {high:g} kbit/s, the highest "
            "rate searched."
        )
    while high / low > 1 + tolerance:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if distance(middle) <= target else (middle, high)
    return high
