"""What a study's table says about a bound that was set before it was measured.

A :class:`Verdict` holds ``yes`` where the whole 95 % interval over clips keeps the bound,
``on average`` where only the mean does or where the clips are fewer than
``statistics.FEWEST``, and ``no`` otherwise; «worst clip» bounds have no interval and are
``yes`` or ``no``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from audioldm_utils.errors import UserError
from audioldm_utils.metrics.statistics import (
    FEWEST,
    Interval,
    bootstrap_interval,
    bootstrap_reduction,
)
from audioldm_utils.results.summaries import per_clip, proper_minus, select
from audioldm_utils.studies import diffusion as study_diffusion
from audioldm_utils.studies import repair as study_repair
from audioldm_utils.studies.repair import BLIND, FULL, SIDE

if TYPE_CHECKING:
    import pandas as pd

#: Columns and the values that choose one method at one stage.
Choice = Mapping[str, object]
HIGH = "4-8 kHz"
ABOVE = "8-16 kHz"
#: Clips with less of their energy above 8 kHz have no such band to lose, per cent.
LEAST_ABOVE = 0.1


@dataclass(frozen=True)
class Verdict:
    """One bound and what was measured.

    Attributes:
        key: short name, for sentences that quote it.
        asked: the bound in words.
        measured, low, high: value and 95 % interval, NaN where there is none.
        unit: of these.
        n: clips.
        holds: ``yes``, ``on average`` or ``no``.
    """

    key: str
    asked: str
    measured: float
    low: float
    high: float
    unit: str
    n: int
    holds: str


@dataclass(frozen=True)
class Worst(Interval):
    """The value of the worst clip: it tells of these clips, however few they are."""

    @classmethod
    def of(cls, values: np.ndarray) -> Worst:
        """The largest of the clips' values."""
        top = float(values.max())
        return cls(top, top, top, len(values))


def _judge(
    key: str, asked: str, found: Interval, bound: float, above: bool, unit: str, scale: float = 1.0
) -> Verdict:
    sign = 1 if above else -1
    mean, low, high = (scale * value for value in (found.mean, found.low, found.high))
    worse = low if above else high
    kept = [not math.isnan(value) and sign * value >= sign * bound for value in (mean, worse)]
    sure = found.n >= FEWEST or isinstance(found, Worst)
    holds = "yes" if all(kept) and sure else "on average" if kept[0] else "no"
    return Verdict(key, asked, mean, low, high, unit, found.n, holds)


def pairs(
    table: pd.DataFrame, a: Choice, b: Choice, metric: str, band: str = ""
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Values of two choices on the clips that both have, and the clips' names; maybe none."""
    sides = []
    for choice in (a, b):
        try:
            sides.append(per_clip(select(table, metric=metric, band=band, **choice)))
        except UserError:
            return np.array([]), np.array([]), []
    shared = sides[0].index.intersection(sides[1].index).sort_values()
    return sides[0][shared].to_numpy(), sides[1][shared].to_numpy(), list(shared)


def difference(
    table: pd.DataFrame, a: Choice, b: Choice, metric: str, band: str = ""
) -> Interval | None:
    """Mean difference ``a - b`` over clips with its interval; None without shared clips."""
    first, second, _ = pairs(table, a, b, metric, band)
    return bootstrap_interval(first - second) if len(first) else None


def differences(
    table: pd.DataFrame,
    choices: Mapping[str, Choice],
    baseline: Choice,
    metric: str,
    band: str = "",
) -> pd.DataFrame:
    """:func:`difference` of several choices from one baseline, for a figure.

    Returns:
        Columns ``method`` (the choice's name), ``mean``, ``low``, ``high``, ``n``.
    """
    import pandas as pd

    rows = []
    for name, choice in choices.items():
        found = difference(table, choice, baseline, metric, band)
        if found is not None:
            rows.append({"method": name, **asdict(found)})
    return pd.DataFrame(rows, columns=["method", "mean", "low", "high", "n"])


def _vae(stage: str = "") -> Choice:
    return {"method": "vae", "stage": stage}


def _high(stage: str) -> Choice:
    return {"method": "vae-highfreq", "stage": stage}


def _reduction(
    table: pd.DataFrame, a: Choice, b: Choice, metric: str, band: str = "", signed: bool = False
) -> Interval | None:
    first, second, _ = pairs(table, a, b, metric, band)
    if not len(first) or not second.any():
        return None
    return bootstrap_reduction(first, second, signed=signed)


def repair_verdicts(table: pd.DataFrame) -> list[Verdict]:
    """The bounds of «Repairing the VAE», from the table of ``02_repair``."""
    out: list[Verdict] = []

    def judge(
        key: str,
        asked: str,
        found: Interval | None,
        bound: float,
        above: bool = True,
        unit: str = "%",
    ) -> None:
        if found is not None:
            out.append(_judge(key, asked, found, bound, above, unit, 100.0 if unit == "%" else 1.0))

    def rate(key: str, asked: str, choice: Choice, rows: pd.DataFrame, most: float) -> None:
        """The dearest clip's side information."""
        values, _, _ = pairs(rows, choice, choice, "side_rate")
        if len(values):
            judge(key, asked, Worst.of(values), most, above=False, unit="kbit/s")

    judge(
        "blind",
        "blind: at least 80 % of the mean 4 to 8 kHz bias removed",
        _reduction(table, _high(BLIND), _vae(), "band_energy_bias", HIGH, signed=True),
        80,
    )
    judge(
        "side",
        "side information: 4 to 8 kHz energy error at most half",
        _reduction(table, _high(SIDE), _vae(), "band_energy_error", HIGH),
        50,
    )
    rate("side_rate", "at most 0.2 kbit/s for it on any clip", _high(SIDE), table, 0.2)
    judge(
        "side_mel",
        "log-mel distance no worse with it",
        difference(table, _high(SIDE), _vae(), "log_mel_distance"),
        0,
        above=False,
        unit="dB",
    )
    full = with_band_above(table)
    judge(
        "above",
        "above 8 kHz: log-spectral distance at least halved",
        _reduction(full, _high(FULL), _vae(FULL), "log_spectral_distance", ABOVE),
        50,
    )
    rate("above_rate", "at most 1 kbit/s for it on any clip", _high(FULL), full, 1.0)
    judge(
        "above_noise",
        "better than noise of the same envelope",
        difference(
            full,
            _high(FULL),
            {"method": "envelope-noise", "stage": FULL},
            "log_spectral_distance",
            ABOVE,
        ),
        0,
        above=False,
        unit="dB",
    )
    judge(
        "refined",
        f"refined: log-mel error at least 25 % lower in {study_repair.STEPS} steps",
        _reduction(table, {"method": "vae-refined", "stage": "mel"}, _vae("mel"), "mel_error"),
        25,
    )
    restored = {"method": "vae-restored", "stage": ""}
    for key, name, metric, unit, above in (
        ("restored_stft", "multi-resolution STFT distance", "multi_resolution_stft", "", False),
        ("restored_visqol", "ViSQOL", "visqol", "MOS", True),
    ):
        found = difference(table, restored, _vae(), metric)
        judge(key, f"restored: {name} better", found, 0, above, unit)
        first, second, _ = pairs(table, restored, _vae(), metric)
        if len(first):
            # Relative loss of the clip that fares worst, positive where it is worse.
            worst = Worst.of(np.where(above, 1, -1) * (second - first) / second)
            asked = f"restored: no clip worse by more than 10 % in {name}"
            judge(f"{key}_worst", asked, worst, 10, above=False)
    return out


def with_band_above(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the clips that have :data:`LEAST_ABOVE` of their energy above 8 kHz."""
    rows = table[(table["metric"] == "energy_above_8_khz") & (table["value"] >= LEAST_ABOVE)]
    return table[table["clip"].isin(rows["clip"])]


def diffusion_verdicts(table: pd.DataFrame) -> list[Verdict]:
    """The bounds of «VAE against diffusion», from the table of ``03_diffusion``."""
    out: list[Verdict] = []
    for key, asked, choice, bound in (
        (
            "inversion",
            "DDPM inversion, replayed, returns the latents to 1e-4",
            {"method": "ddpm-inversion", "stage": ""},
            1e-4,
        ),
        (
            "strength_0",
            "SDEdit at strength 0 returns the VAE's latents",
            {"method": "sdedit", "stage": "strength 0"},
            0.0,
        ),
    ):
        values, _, names = pairs(table, choice, choice, "largest_latent_difference")
        if names:
            out.append(_judge(key, asked, Worst.of(values), bound, False, ""))
    for strength in study_diffusion.STRENGTHS:
        stage = f"strength {strength:g}"
        found = difference(
            table,
            {"method": "guided", "stage": stage},
            {"method": "sdedit", "stage": stage},
            "log_mel_distance",
        )
        if found is not None:
            asked = f"guided nearer than SDEdit at strength {strength:g}, equal calls"
            out.append(_judge(f"guided_{strength:g}", asked, found, 0, False, "dB"))
    return out


def plane(summary: pd.DataFrame, x: str, y: str, methods: Sequence[str]) -> pd.DataFrame:
    """Two metrics of a summary side by side, for ``plotting.trade_off``.

    Args:
        summary: from ``results.summarise`` by method, stage and metric.
        x, y: names of the metrics; points that lack one are left out.
        methods: in this order; a method's points are in the order of their stages.

    Returns:
        Columns ``method``, ``stage``, and ``x``, ``x_low``, ``x_high``, the same for ``y``.
    """
    import pandas as pd

    columns = ["method", "stage", "mean", "low", "high"]
    sides = []
    for name, metric in (("x", x), ("y", y)):
        side = summary.loc[summary["metric"] == metric, columns]
        names = {"mean": name, "low": f"{name}_low", "high": f"{name}_high"}
        sides.append(side.rename(columns=names))
    both = pd.merge(*sides, on=["method", "stage"])
    both = both[both["method"].isin(list(methods))]
    place = both["method"].map({method: number for number, method in enumerate(methods)})
    both = both.assign(place=place).sort_values(["place", "stage"], kind="stable")
    return both.drop(columns="place").reset_index(drop=True)


def as_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Verdicts to be read: asked, measured with interval, n, holds."""
    import pandas as pd

    rows = []
    for verdict in verdicts:
        unit = f" {verdict.unit}" if verdict.unit else ""
        cell = f"{verdict.measured:.3g}{unit}"
        if verdict.low < verdict.high:
            cell = f"{verdict.measured:.3g} [{verdict.low:.3g}, {verdict.high:.3g}]{unit}"
        cell = proper_minus(cell)
        rows.append(
            {"asked": verdict.asked, "measured [95 % interval]": cell, "n": verdict.n,
             "holds": verdict.holds}
        )  # fmt: skip
    return pd.DataFrame(rows, columns=["asked", "measured [95 % interval]", "n", "holds"])
