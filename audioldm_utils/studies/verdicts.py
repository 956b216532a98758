"""What a study's table says about a bound.

A :class:`Verdict` holds ``yes`` where the whole 95 % interval over recordings keeps the bound,
``on average`` where only the mean does or where the recordings are fewer than
``statistics.FEWEST``, and ``no`` otherwise; «worst clip» bounds have no interval and are
``yes`` or ``no``. Each study's bounds stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from audioldm_utils.errors import UserError
from audioldm_utils.metrics import REGISTRY
from audioldm_utils.metrics.statistics import (
    FEWEST,
    Interval,
    bootstrap_interval,
    bootstrap_reduction,
)
from audioldm_utils.results.summaries import (
    Choice,
    count_text,
    interval_text,
    pairs,
    select,
    summarise,
    units,
)


@dataclass(frozen=True)
class Verdict:
    """One bound in words and what was measured, with its 95 % interval; NaN where there is none.

    ``key`` is for sentences that quote it; ``holds`` is ``yes``, ``on average`` or ``no``.
    """

    key: str
    asked: str
    measured: float
    low: float
    high: float
    unit: str
    n: int
    recordings: int
    holds: str


@dataclass(frozen=True)
class Worst(Interval):
    """The value of the worst clip: it tells of these clips, however few they are."""

    @classmethod
    def of(cls, values: np.ndarray) -> Worst | None:
        """The largest of the clips' values; None of none."""
        if not len(values):
            return None
        top = float(values.max())
        return cls(top, top, top, len(values))


def judge(
    key: str, asked: str, found: Interval | None, bound: float, above: bool, unit: str
) -> list[Verdict]:
    """The verdict, as a list; empty where nothing was found. Shares are told in per cent."""
    if found is None:
        return []
    scale = 100.0 if unit == "%" else 1.0
    sign = 1 if above else -1
    mean, low, high = (scale * value for value in (found.mean, found.low, found.high))
    worse = low if above else high
    kept = [not math.isnan(value) and sign * value >= sign * bound for value in (mean, worse)]
    sure = found.recordings >= FEWEST or isinstance(found, Worst)
    holds = "yes" if all(kept) and sure else "on average" if kept[0] else "no"
    return [Verdict(key, asked, mean, low, high, unit, found.n, found.recordings, holds)]


#: What becomes of a claim, once its falsifier was looked for.
UPHELD, REFUTED, UNDECIDED = "upheld", "refuted", "undecided"


def claim(found: Interval | None, bound: float = 0.0, above: bool = True) -> str:
    """What becomes of the claim that a mean is above (or below) a bound.

    Upheld or refuted where the whole interval is on one side of the bound; undecided where it
    is not, where the recordings are fewer than ``FEWEST``, and where there are none.
    """
    if found is None or found.recordings < FEWEST or math.isnan(found.low):
        return UNDECIDED
    sign = 1 if above else -1
    ends = sorted(sign * (end - bound) for end in (found.low, found.high))
    return UPHELD if ends[0] > 0 else REFUTED if ends[1] < 0 else UNDECIDED


def interval_of(row: pd.Series, mean: str = "difference") -> Interval:
    """A row of ``results.differences``, or with ``mean`` of a summary, as its interval."""
    limits = (row[name] for name in (mean, "low", "high", "n"))
    return Interval(*limits, recordings=int(row.get("recordings", row["n"])))


def words(found: pd.DataFrame, above: bool, bound: float = 0.0) -> list[str]:
    """A word for each row of ``results.differences``: is it above (below) the bound?"""
    return [claim(interval_of(row), bound, above) for _, row in found.iterrows()]


def together(found: Sequence[str]) -> str:
    """One word for claims that must all hold: refuted if one is, upheld if all are."""
    if REFUTED in found or not found:
        return REFUTED if found else UNDECIDED
    return UPHELD if set(found) == {UPHELD} else UNDECIDED


#: What a claim is where a side of it was not measured.
NOT_COMPARED = "not compared"


def where(found: Mapping[str, str], form: str = "at {}") -> str:
    """Where a claim got its word, and where others: ``at 2; undecided at 1; not compared at 5``.

    Args:
        found: name of a place to its word, or to :data:`NOT_COMPARED`.
        form: what names stand in, such as ``at {} kbit/s``.
    """
    whole = together([word for word in found.values() if word != NOT_COMPARED])
    parts = []
    for word in dict.fromkeys([whole, REFUTED, UNDECIDED, UPHELD, NOT_COMPARED]):
        names = listed([name for name, given in found.items() if given == word])
        parts += [f"{word} {form.format(names)}".removeprefix(f"{whole} ")] * bool(names)
    return "; ".join(parts)


def counted(n: float, source: str) -> str:
    """``n = 21 recordings``, or ``n = 19 of 21 recordings`` where fewer were compared."""
    return f"n = {source}" if source.startswith(f"{n:.0f} ") else f"n = {n:.0f} of {source}"


def told(found: Interval | None, spec: str = ".2f", unit: str = "") -> str:
    """A mean with its interval for a sentence: ``0.31 [0.28, 0.34] dB``; a dash for none."""
    if found is None:
        return "\N{EN DASH}"
    text = interval_text(found.mean, found.low, found.high, spec)
    return text + (f"\N{NARROW NO-BREAK SPACE}{unit}" if unit else "")


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def of(method: str, stage: str | list[str] = "") -> Choice:
    """The choice of a method's rows at one stage, or at several."""
    return {"method": method, "stage": stage}


def at_stages(a: str, b: str, stages: Iterable[str]) -> dict[str, tuple[Choice, Choice]]:
    """What ``results.differences`` is asked of two methods at the same stages, by the stage."""
    return {stage: (of(a, stage), of(b, stage)) for stage in stages}


def difference(
    table: pd.DataFrame, a: Choice, b: Choice, metric: str, band: str = ""
) -> Interval | None:
    """Mean difference ``a - b`` over clips with its interval; None without shared clips."""
    first, second = pairs(table, a, b, metric, band)
    if not len(first):
        return None
    return bootstrap_interval(first - second, recordings=units(table, first.index))


def mean_of(table: pd.DataFrame, choice: Choice, metric: str) -> Interval | None:
    """Mean over a choice's clips with its interval; None where it has no such row."""
    try:
        rows = select(table, metric=metric, band="", **choice)
    except UserError:
        return None
    return interval_of(summarise(rows).iloc[0], "mean")


def reduction(
    table: pd.DataFrame, a: Choice, b: Choice, metric: str, band: str = "", signed: bool = False
) -> Interval | None:
    """How much smaller ``a`` is than ``b``, as a share; None without shared clips.

    Args:
        signed: values may cancel: the magnitudes of the two means are compared.
    """
    first, second = pairs(table, a, b, metric, band)
    if not len(first) or not second.any():
        return None
    belongs = units(table, first.index)
    return bootstrap_reduction(first, second, signed=signed, recordings=belongs)


def compared(
    table: pd.DataFrame, a: Choice, b: Choice, metrics: Mapping[str, tuple[str, str]]
) -> str:
    """How ``a`` stands to ``b``: «better by ViSQOL (+0.05 [+0.04, +0.06]); worse by …».

    «Not told apart» is what has an interval that holds zero, too few recordings, or a difference
    below a thousandth.

    Args:
        metrics: those to compare by, each with what a sentence calls it and its unit.
    """
    parts: dict[str, list[str]] = {UPHELD: [], REFUTED: [], UNDECIDED: []}
    for metric, (name, unit) in metrics.items():
        if found := difference(table, a, b, metric):
            higher = metric in REGISTRY and REGISTRY[metric].better == "higher"
            word = claim(found, above=higher)  # of an artefact, less is better
            word = word if max(abs(found.low), abs(found.high)) >= 0.001 else UNDECIDED
            parts[word].append(f"{name} ({told(found, '+.2f', unit)})")
    says = {UPHELD: "better by", REFUTED: "worse by", UNDECIDED: "not told apart by"}
    said = [f"{says[word]} {listed(names)}" for word, names in parts.items() if names]
    return "; ".join(said) or "not compared"


def as_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Verdicts to be read: asked, measured with interval, n, holds."""
    rows = []
    for verdict in verdicts:
        unit = f" {verdict.unit}" if verdict.unit else ""
        low, high = (verdict.low, verdict.high) if verdict.low < verdict.high else (math.nan,) * 2
        cell = interval_text(verdict.measured, low, high, ".3g") + unit
        count = count_text(verdict.n, verdict.recordings)
        shown = verdict.n if count.isdigit() else count
        rows.append((verdict.asked, cell, shown, verdict.holds))
    return pd.DataFrame(rows, columns=["asked", "measured [95 % interval]", "n", "holds"])
