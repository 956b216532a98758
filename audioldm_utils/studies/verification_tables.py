"""What chapter 07 concludes from the rows of study ``07_correlation``: tests, and curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import numpy as np

from audioldm_utils.metrics.statistics import holm
from audioldm_utils.results.summaries import per_clip, select, summarise
from audioldm_utils.studies.correlation_tests import Comparison, verify
from audioldm_utils.studies.verification import CONTROL, METRICS

if TYPE_CHECKING:
    import pandas as pd

#: Method to the name of its null.
NULLS = {
    "ddcm-random": "random indices",
    "ddcm-prompt": "another prompt",
    "ddcm-wrong": "wrong checkpoint's codes",
}
#: The metrics that the claim rests on.
JUDGED = ("latent_correlation_centred", "log_mel_correlation_centred")
#: What a comparison has to show.
ALPHA, EFFECT = 0.01, 0.8
#: Permutations: so many that the smallest p-value, times all comparisons, stays below ``ALPHA``.
DRAWS = 29999


def name_of(metric: str) -> str:
    """A correlation as tables and figures call it: ``log-mel, means removed``."""
    name, removed = metric.removesuffix("_centred"), metric.endswith("_centred")
    name = name.removesuffix("_correlation").replace("_", "-")
    return f"{name}, means removed" if removed else name


def rates_of(table: pd.DataFrame) -> list[str]:
    """The stages of the study, from the lowest rate up."""
    stages = set(select(table, method="ddcm")["stage"])
    return sorted(stages, key=lambda stage: float(stage.split()[0]))


def matrix(table: pd.DataFrame, method: str, stage: str, metric: str) -> pd.DataFrame:
    """Correlation of each output (row) with each input (column); the diagonal is matched."""
    rows = select(table, method=method, stage=stage, metric=metric)
    rows = rows[(rows["band"] == "") | rows["band"].str.startswith("with ")]
    other = rows["band"].str.removeprefix("with ").where(rows["band"] != "", rows["clip"])
    return rows.assign(other=other).pivot(index="clip", columns="other", values="value")


def comparisons(
    table: pd.DataFrame, matched: str = "ddcm", metrics: Sequence[str] = tuple(METRICS)
) -> pd.DataFrame:
    """Matched correlations of ``matched`` against every null, at every rate.

    Args:
        table: rows of the study, of at least two clips.
        matched: ``ddcm``; or ``ddcm-random`` for the negative control, which is compared
            with other clips only.
        metrics: which of ``METRICS``.

    Returns:
        One row a comparison: ``rate`` and the fields of ``correlation.Comparison``, p-values
        corrected by Holm over all rows, and ``follows``.
    """
    import pandas as pd

    found = []
    for stage in rates_of(table):
        matrices = {metric: matrix(table, matched, stage, metric) for metric in metrics}
        clips = list(next(iter(matrices.values())).index)
        by_clip = table.drop_duplicates("clip").set_index("clip")["class"]
        # A clip without a class shares it with none.
        classes = [by_clip[clip] or clip for clip in clips]
        nulls = {}
        if matched == "ddcm":
            nulls = {
                label: {
                    metric: per_clip(
                        select(table, method=null, stage=stage, metric=metric, band="")
                    )[clips].to_numpy()
                    for metric in metrics
                }
                for null, label in NULLS.items()
            }
        values = {metric: frame.to_numpy() for metric, frame in matrices.items()}
        diagonals = {metric: np.diag(value) for metric, value in values.items()}
        found += [
            {"rate": stage, **asdict(one)}
            for one in verify(diagonals, nulls, values, classes, draws=DRAWS)
        ]
    out = pd.DataFrame(found, columns=["rate", *(field.name for field in fields(Comparison))])
    out["p_corrected"] = holm(out["p"])
    out["follows"] = (out["p_corrected"] < ALPHA) & (out["d_z"] >= EFFECT)
    return out


def fewest_clips(tests: int) -> int:
    """Clips without which nothing can be shown: no sign-flip p-value of n is below 2^-n.

    Args:
        tests: by whose number Holm multiplies the smallest p-value.
    """
    return math.floor(math.log2(tests / ALPHA)) + 1


def verdict(tests: pd.DataFrame) -> str:
    """How the clip's own codes stand to the nulls, as a sentence takes it.

    Args:
        tests: of :func:`comparisons`.
    """
    claim = tests[tests["representation"].isin(JUDGED)]
    if claim["follows"].all():
        return "above every null"
    n, needed = int(claim["n"].min()), fewest_clips(len(tests))
    if n >= needed:
        return "not above every null as asked"
    above = "above every null" if (claim["difference"] > 0).all() else "not above every null"
    clips = "1 clip" if n == 1 else f"{n} clips"
    return f"{above} on average ({clips}, too few to test: that takes {needed})"


def control(table: pd.DataFrame) -> pd.DataFrame:
    """The negative control: random indices must not follow the inputs that they are paired with."""
    return comparisons(table, "ddcm-random", CONTROL)


def by_call(table: pd.DataFrame, stage: str, metric: str) -> pd.DataFrame:
    """Means over clips after each network call of a run, with column ``call`` from 1."""
    rows = select(table, stage=stage, metric=metric)
    summary = summarise(rows[rows["band"].str.startswith("call ")])
    return summary.assign(call=summary["band"].str.removeprefix("call ").astype(int))
