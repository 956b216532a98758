"""What the rows of ``07_correlation`` show: own codes beside every null, and the controls.

A control is a comparison that must fail, by the same tests: own codes held against a stranger's
input, and random indices in the place of own codes where inputs are dealt out again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from audioldm_utils.metrics.statistics import FEWEST, Interval
from audioldm_utils.results.summaries import (
    interval_text,
    per_clip,
    proper_minus,
    select,
    summarise,
)
from audioldm_utils.studies import correlation_tests
from audioldm_utils.studies.correlation_tests import ALPHA
from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD, claim, listed, together
from audioldm_utils.studies.verification import JUDGED, METRICS

#: (method, stage) to the name of its null; an empty stage is that of the own codes.
NULLS = {
    ("ddcm-random", ""): "random indices",
    ("ddcm-wrong", ""): "wrong checkpoint's codes",
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
    ("claim_1", ("random indices", "wrong checkpoint's codes"), IN_TIME),
    ("claim_2", ("another clip", "another clip of the class"), IN_TIME),
    ("claim_3", ("another prompt", "another prompt, guided"), IN_TIME),
    ("claim_4", ("noise of its loudness",), IN_TIME),
    ("claim_5", ("noise of its seven bands",), IN_TIME),
    ("claim_6", ("random indices", "another clip", "another clip of the class"), IN_SHAPE),
)
#: Key of the claim that the controls fail.
CONTROL = "claim_7"
#: What a sentence calls each null.
NAMED = {
    "random indices": "random choices",
    "another clip": "other clips",
    "another clip of the class": "other clips of the class",
    "wrong checkpoint's codes": "the codes of another network",
    "another prompt": "the same codes under another prompt",
    "another prompt, guided": "the same codes guided by another prompt",
    "noise of its loudness": "noise of the clip's loudness",
    "noise of its seven bands": "noise of its levels in seven bands",
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
    """Whether outputs follow their own inputs, as the beginning of a sentence."""
    if words[CONTROL] == REFUTED:
        return "The test cannot tell, since a control that must fail passes"
    n, needed = int(tests["n"].max()) if len(tests) else 0, fewest_clips(max(len(tests), 1))
    if n < needed:
        return f"Too few recordings to tell: the test needs {needed} and has {n}"
    if UPHELD not in (words["claim_1"], words["claim_2"]):
        return "It is not shown that the output follows its own input"
    named: dict[str, list[str]] = {UPHELD: [], REFUTED: [], UNDECIDED: []}
    in_time = tests[tests["representation"].isin(IN_TIME)]
    for null, text in NAMED.items():
        rows = in_time[in_time["null"] == null]
        if len(rows):
            named[together([_word(row) for row in rows.itertuples()])].append(text)
    if words["claim_6"] != UPHELD:
        named[UNDECIDED].append("other clips, once each frame's loudness is taken away")
    if not (named[REFUTED] or named[UNDECIDED]):
        return "Yes, the output follows its own input more than any of the nulls does"
    says = {
        UPHELD: "ahead of",
        REFUTED: "behind, in at least one comparison,",
        UNDECIDED: "not clearly ahead of",
    }
    told = "; ".join(f"{says[word]} {listed(texts)}" for word, texts in named.items() if texts)
    return f"In part: by correlation in time, a clip's own codes are {told}"


def nearest_null(tests: pd.DataFrame, rate: str, source: str) -> str:
    """The null that comes nearest to own codes in log-mel at a rate, as a sentence.

    Args:
        source: which clips the comparisons are of.
    """
    rows = tests[(tests["rate"] == rate) & (tests["representation"] == IN_TIME[-1])]
    if rows.empty:
        return f"Nothing could be compared ({source})"
    row = rows.sort_values("difference").iloc[0]
    numbers = "{matched:.2f}, and at {null_mean:.2f} with the nearest null".format(**row)
    apart = interval_text(row["difference"], row["low"], row["high"], ".2f")
    apart = f"a difference of {apart}, n = {row['n']} recordings"
    told = proper_minus(f"{numbers} ({row['null']}), {apart}")
    return (
        f"At {rate} the log-mel that own codes give correlates with the clip's, bin means "
        f"removed, at {told} ({source})"
    )


def verdict(tests: pd.DataFrame) -> str:
    """How the clip's own codes stand to the nulls, from :func:`comparisons`, for a sentence."""
    asked = tests[tests["representation"].isin(IN_TIME)]
    if asked["follows"].all():
        return "above every null"
    n, needed = int(asked["n"].min()), fewest_clips(len(tests))
    if n >= needed:
        return "not above every null as asked"
    above = "above every null" if (asked["difference"] > 0).all() else "not above every null"
    clips = "1 clip" if n == 1 else f"{n} clips"
    return f"{above} on average ({clips}, too few to test: that takes {needed})"


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
