"""What the rows of ``07_correlation`` show: own codes beside every null, and the controls.

A control is a comparison that must fail, by the same tests: own codes held against a stranger's
input, and random indices in the place of own codes where inputs are dealt out again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from audioldm_utils.metrics.statistics import FEWEST, Interval
from audioldm_utils.results.summaries import per_clip, proper_minus, select, summarise
from audioldm_utils.studies import correlation_tests
from audioldm_utils.studies.correlation_tests import ALPHA
from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD, claim, together
from audioldm_utils.studies.verification import JUDGED, METRICS

#: Codes that a perturbed network chose for the same clip: no null, but a test of robustness.
PERTURBED = "perturbed network's codes"
#: (method, stage) to the name of its null; an empty stage is that of the own codes.
NULLS = {
    ("ddcm-random", ""): "random indices",
    ("ddcm-wrong", ""): PERTURBED,
    ("ddcm-prompt", ""): "another prompt",
    ("ddcm-prompt-guided", ""): "another prompt, guided",
    ("envelope-noise", "broadband"): "noise of its loudness",
    ("envelope-noise", "seven bands"): "noise of its seven bands",
}
#: Permutations: so many that the smallest p-value, times all comparisons, stays below ``ALPHA``.
DRAWS = 29999
#: Correlations in time, loudness included, and without it.
IN_TIME, IN_SHAPE = JUDGED[:2], JUDGED[2:]
#: What has to hold: key, nulls, and the correlations in which own codes must give more.
CLAIMS = (
    ("claim_1", ("random indices",), IN_TIME),
    ("claim_2", ("another clip", "another clip of the class"), IN_TIME),
    ("claim_3", ("another prompt", "another prompt, guided"), IN_TIME),
    ("claim_4", ("noise of its loudness",), IN_TIME),
    ("claim_5", ("noise of its seven bands",), IN_TIME),
    ("claim_6", ("random indices", "another clip", "another clip of the class"), IN_SHAPE),
    ("claim_8", ("noise of its loudness", "noise of its seven bands"), IN_SHAPE),
)
#: Key of the claim that the controls fail.
CONTROL = "claim_7"
#: What own codes are compared with, as sentences call it.
ALOUD = {
    "random indices": "random indices",
    "another clip": "other clips",
    "another clip of the class": "other clips of the class",
    "another prompt": "another prompt",
    "another prompt, guided": "another prompt with guidance",
    "noise of its loudness": "noise of the clip's loudness",
    "noise of its seven bands": "noise of the clip's levels in seven bands",
}


def name_of(metric: str) -> str:
    """A correlation as tables and figures call it: ``log-mel, bin means removed``."""
    name = metric.replace("_correlation", "").removesuffix("_centred").removesuffix("_frame")
    removed = {"_frame_centred": "bin and frame means removed", "_centred": "bin means removed"}
    found = next((text for ending, text in removed.items() if metric.endswith(ending)), "")
    return ", ".join(filter(None, (name.replace("_", "-"), found)))


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


def _of_clips(table: pd.DataFrame, clips: Sequence[str]) -> tuple[list[str], list[str]]:
    """Class and recording of each clip; a clip without one shares it with none."""
    known = table.drop_duplicates("clip").set_index("clip")
    belongs = known["recording"] if "recording" in known else known.index.to_series()
    kinds = [known["class"][clip] or clip for clip in clips]
    return kinds, [belongs[clip] or clip for clip in clips]


def _matrices(
    table: pd.DataFrame, method: str, stage: str
) -> tuple[list[str], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Clips, and by metric the correlations of all pairs of them and their diagonal."""
    frames = {metric: matrix(table, method, stage, metric) for metric in JUDGED}
    values = {metric: frame.to_numpy() for metric, frame in frames.items()}
    matched = {metric: np.diag(value) for metric, value in values.items()}
    return list(frames[JUDGED[0]].index), values, matched


def _values(
    table: pd.DataFrame, method: str, stage: str, clips: Sequence[str]
) -> dict[str, np.ndarray]:
    """By metric, the correlation of each clip's output in these rows."""
    rows = select(table, method=method, stage=stage)
    return {m: per_clip(select(rows, metric=m))[clips].to_numpy() for m in JUDGED}


def _nulls(
    table: pd.DataFrame, stage: str, clips: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
    return {
        label: _values(table, method, kind or stage, clips)
        for (method, kind), label in NULLS.items()
    }


def comparisons(table: pd.DataFrame) -> pd.DataFrame:
    """Matched correlations of the clips' own codes against every null, at every rate.

    Args:
        table: rows of the study, of at least two clips.

    Returns:
        One row a comparison: ``rate`` and the columns of ``correlation_tests.corrected``.
    """
    found, own = [], table[table["band"] == ""]
    for stage in rates_of(table):
        clips, values, matched = _matrices(table, "ddcm", stage)
        nulls, belongs = _nulls(own, stage, clips), _of_clips(table, clips)
        verified = correlation_tests.verify(matched, nulls, values, *belongs, draws=DRAWS)
        found += [{"rate": stage, **one} for one in verified]
    return correlation_tests.corrected(found, "rate")


def control(table: pd.DataFrame) -> pd.DataFrame:
    """Comparisons that must fail, one for every null: as :func:`comparisons`, with ``control``.

    ``a stranger's input``: own codes and nulls alike are held against the input of a clip of
    another class. ``random indices``: they stand in the place of own codes, against other clips.
    """
    found = []
    pairs = table[table["band"].str.startswith("with ")]
    # Of a null each output is held against one stranger.
    chosen = pairs.loc[pairs["method"] == "ddcm-prompt", ["clip", "band"]].drop_duplicates()
    strange, clips = pairs.merge(chosen, on=["clip", "band"]), sorted(chosen["clip"])
    for stage in rates_of(table):
        asked = {}
        if clips:
            own, nulls = _values(strange, "ddcm", stage, clips), _nulls(strange, stage, clips)
            asked["a stranger's input"] = own, nulls, {}, *_of_clips(table, clips)
        every, values, matched = _matrices(table, "ddcm-random", stage)
        asked["random indices"] = matched, {}, values, *_of_clips(table, every)
        for name, given in asked.items():
            verified = correlation_tests.verify(*given, draws=DRAWS)
            found += [{"control": name, "rate": stage, **one} for one in verified]
    return correlation_tests.corrected(found, "control", "rate")


def fewest_clips(tests: int) -> int:
    """Recordings without which nothing can be shown: no sign-flip p-value of n is below 2^-n.

    Holm multiplies the smallest one by the number of tests.
    """
    return math.floor(math.log2(tests / ALPHA)) + 1


def claims(tests: pd.DataFrame, controls: pd.DataFrame) -> dict[str, str]:
    """Each of `CLAIMS`, and the controls': upheld, refuted or undecided, by key.

    A claim is upheld where every comparison shows what is asked (p below ``ALPHA``, an effect of
    ``EFFECT``), refuted where the interval of one lies below zero, and undecided else. The
    controls are upheld where none shows that, and none is even significant.
    """
    found = {}
    for key, nulls, metrics in CLAIMS:
        chosen = tests[tests["null"].isin(nulls) & tests["representation"].isin(metrics)]
        found[key] = together([_word(row) for row in chosen.itertuples()])
    loud = (controls["p_corrected"] < ALPHA).any()
    enough = len(controls) and controls["n"].min() >= FEWEST
    quiet = UPHELD if enough else UNDECIDED
    found[CONTROL] = REFUTED if controls["follows"].any() else UNDECIDED if loud else quiet
    return found


def _word(row: object) -> str:
    """What one comparison says of the claim that the own codes are above a null."""
    if row.follows:
        return UPHELD
    found = Interval(row.difference, row.low, row.high, row.n)
    return REFUTED if claim(found) == REFUTED else UNDECIDED


def answer(tests: pd.DataFrame, words: Mapping[str, str]) -> str:
    """Whether outputs follow their own inputs, rate by rate from the highest, as sentences."""
    if words[CONTROL] == REFUTED:
        return "The test cannot tell, since a control that must fail passes"
    n, needed = int(tests["n"].max()) if len(tests) else 0, fewest_clips(max(len(tests), 1))
    if n < needed:
        return f"Too few recordings to tell: the test needs {needed} and has {n}"
    if UPHELD not in (words["claim_1"], words["claim_2"]):
        return "It is not shown that the output follows its own input"
    rates = list(dict.fromkeys(tests["rate"]))[::-1]
    asked = tests[tests["null"].isin(ALOUD) & tests["representation"].isin(IN_TIME)]
    return ". ".join(_at(rate, asked[asked["rate"] == rate]) for rate in rates)


def _at(rate: str, asked: pd.DataFrame) -> str:
    """How own codes stand to the nulls at one rate, naming those that they do not beat.

    Of these every measure is told, so that none hides another.
    """
    beaten, others = 0, []
    for null, rows in asked.groupby("null", sort=False):
        word = together([_word(row) for row in rows.itertuples()])
        beaten += word == UPHELD
        if word != UPHELD:
            found = [_stands(row) for row in rows.itertuples()]
            others.append(f"{ALOUD[str(null)]} follows it {' and '.join(found)}")
    total = beaten + len(others)
    than = f"all {total} comparisons" if not others else f"{beaten} of {total} comparisons"
    return "; ".join([f"At {rate} the output follows its own input more than {than}", *others])


def _stands(row: Any) -> str:
    """``more in log-mel (0.67 against 0.60)``: how a null stands to own codes by one measure."""
    found = Interval(row.difference, row.low, row.high, row.n)
    does = {UPHELD: "less", REFUTED: "more", UNDECIDED: "not clearly less or more"}[claim(found)]
    short = ", but by less than was asked," if does == "less" and not row.follows else ""
    measure = name_of(row.representation).split(",")[0].replace("latent", "latents")
    numbers = proper_minus(f"{row.null_mean:.2f} against {row.matched:.2f}")
    return f"{does}{short} in {measure} ({numbers})"


def failing(tests: pd.DataFrame) -> str:
    """Which comparisons with the nulls, in time, do not show what was asked."""
    rows = tests[tests["null"].isin(ALOUD) & tests["representation"].isin(IN_TIME)]
    rows = rows[~rows["follows"]]
    told = []
    for row in rows.itertuples():
        measure = name_of(row.representation).split(",")[0]
        told.append(f"{row.null}, {row.rate}, {measure} ({proper_minus(f'{row.d_z:.2f}')})")
    return "; ".join(told) or "none"


def robustness(tests: pd.DataFrame, stage: str) -> str:
    """Own codes beside those that the perturbed network chose for the same clips, in log-mel."""
    chosen = (tests["null"] == PERTURBED) & (tests["representation"] == IN_TIME[-1])
    rows = tests[chosen & (tests["rate"] == stage)]
    if rows.empty:
        return "not compared"
    text = "{null_mean:.3f} against {matched:.3f} of own codes at {rate}, own minus perturbed "
    text += "{difference:.3f} [{low:.3f}, {high:.3f}]"
    said = proper_minus(text.format(**rows.iloc[0]))
    return f"{said} (log-mel correlation; n = {rows['n'].iloc[0]})"


def nearest(table: pd.DataFrame, stage: str) -> tuple[int, pd.Series]:
    """Outputs that correlate best with their own input; what each reaches, from the lowest up."""
    square = matrix(table, "ddcm", stage, IN_TIME[-1])
    values = square.to_numpy()
    hits = int((values.argmax(axis=1) == np.arange(len(values))).sum())
    return hits, pd.Series(np.diag(values), square.index).sort_values()


def representations(table: pd.DataFrame) -> pd.DataFrame:
    """Every correlation with the own input at the lowest rate: mean by ``metric`` and ``method``.

    ``metric`` is named by :func:`name_of`; noise has the name of its null for a method.
    """
    lowest = rates_of(table)[0]
    rows = table[(table["band"] == "") & table["metric"].isin(METRICS)]
    noise = rows["method"] == "envelope-noise"
    names = [NULLS.get(key, key[0]) for key in zip(rows["method"], rows["stage"], strict=True)]
    rows = rows.assign(method=rows["method"].where(~noise, names))
    rows = rows[noise | rows["stage"].isin(["", lowest])]
    summary = summarise(rows, by=("metric", "method"))
    return summary.assign(metric=[name_of(metric) for metric in summary["metric"]])


def by_call(table: pd.DataFrame, stage: str, metric: str) -> pd.DataFrame:
    """Means over clips after each network call of a run, with column ``call`` from 1."""
    rows = select(table, stage=stage, metric=metric)
    summary = summarise(rows[rows["band"].str.startswith("call ")])
    return summary.assign(call=summary["band"].str.removeprefix("call ").astype(int))
