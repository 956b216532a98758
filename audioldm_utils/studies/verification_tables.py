"""What the rows of ``07_correlation`` show: own codes beside every null, and the controls.

A control is a comparison that must fail, by the same tests: own codes held against a stranger's
input, and random indices in the place of own codes where inputs are dealt out again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import numpy as np

from audioldm_utils.metrics.statistics import FEWEST, Interval, holm
from audioldm_utils.results.summaries import per_clip, proper_minus, select, summarise
from audioldm_utils.studies import correlation_tests
from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD, claim, together
from audioldm_utils.studies.verification import JUDGED, METRICS

if TYPE_CHECKING:
    import pandas as pd

#: (method, stage) to the name of its null; an empty stage is that of the own codes.
NULLS = {
    ("ddcm-random", ""): "random indices",
    ("ddcm-wrong", ""): "wrong checkpoint's codes",
    ("ddcm-prompt", ""): "another prompt",
    ("ddcm-prompt-guided", ""): "another prompt, guided",
    ("envelope-noise", "broadband"): "noise of its loudness",
    ("envelope-noise", "seven bands"): "noise of its seven bands",
}
#: What a comparison has to show.
ALPHA, EFFECT = 0.01, 0.8
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
#: What is not beaten where a claim beside the first two is not upheld.
UNBEATEN = {
    "claim_3": "the same codes under another prompt",
    "claim_4": "noise of the clip's loudness",
    "claim_5": "noise of its levels in seven bands",
    "claim_6": "other clips, once each frame's loudness is taken away",
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


def _columns() -> list[str]:
    return ["rate", *(field.name for field in fields(correlation_tests.Comparison))]


def _tested(found: Sequence[Mapping[str, object]], **more: object) -> pd.DataFrame:
    """Comparisons as a table, corrected by Holm over all of them."""
    import pandas as pd

    out = pd.DataFrame(found, columns=[*more, *_columns()])
    out["p_corrected"] = holm(out["p"])
    out["follows"] = (out["p_corrected"] < ALPHA) & (out["d_z"] >= EFFECT)
    out["at_floor"] = out["p"] <= out["floor"] * (1 + 1e-9)
    return out


def _of_clips(table: pd.DataFrame, clips: Sequence[str]) -> tuple[list[str], list[str]]:
    """Class and recording of each clip; a clip without one shares it with none."""
    known = table.drop_duplicates("clip").set_index("clip")
    belongs = known["recording"] if "recording" in known else known.index.to_series()
    kinds = [known["class"][clip] or clip for clip in clips]
    return kinds, [belongs[clip] or clip for clip in clips]


def comparisons(table: pd.DataFrame) -> pd.DataFrame:
    """Matched correlations of the clips' own codes against every null, at every rate.

    Args:
        table: rows of the study, of at least two clips.

    Returns:
        One row a comparison: ``rate`` and the fields of ``correlation_tests.Comparison``, p-values
        corrected by Holm over all rows, ``follows`` and ``at_floor``.
    """
    found = []
    for stage in rates_of(table):
        matrices = {metric: matrix(table, "ddcm", stage, metric) for metric in JUDGED}
        clips = list(next(iter(matrices.values())).index)
        own = table[table["band"] == ""]
        nulls = {
            label: {
                metric: per_clip(
                    select(own, method=method, stage=kind or stage, metric=metric)
                )[clips].to_numpy()
                for metric in JUDGED
            }
            for (method, kind), label in NULLS.items()
        }  # fmt: skip
        values = {metric: frame.to_numpy() for metric, frame in matrices.items()}
        matched = {metric: np.diag(value) for metric, value in values.items()}
        belongs = _of_clips(table, clips)
        verified = correlation_tests.verify(matched, nulls, values, *belongs, draws=DRAWS)
        found += [{"rate": stage, **asdict(one)} for one in verified]
    return _tested(found)


def control(table: pd.DataFrame) -> pd.DataFrame:
    """Comparisons that must fail, one for every null: as :func:`comparisons`, with ``control``.

    ``a stranger's input``: own codes and nulls alike are held against the input of a clip of
    another class. ``random indices``: they stand in the place of own codes, against other clips.
    """
    found = []
    pairs = table[table["band"].str.startswith("with ")]
    # Of a null each output is held against one stranger.
    chosen = pairs.loc[pairs["method"] == "ddcm-prompt", ["clip", "band"]].drop_duplicates()
    strange = pairs.merge(chosen, on=["clip", "band"])
    for stage in rates_of(table):
        if len(chosen):
            clips = sorted(chosen["clip"])

            def against(method: str, at: str, clips: list[str] = clips) -> dict[str, np.ndarray]:
                rows = select(strange, method=method, stage=at)
                return {
                    metric: per_clip(select(rows, metric=metric))[clips].to_numpy()
                    for metric in JUDGED
                }

            nulls = {label: against(method, kind or stage)
                     for (method, kind), label in NULLS.items()}  # fmt: skip
            belongs = _of_clips(table, clips)
            verified = correlation_tests.verify(
                against("ddcm", stage), nulls, None, *belongs, draws=DRAWS
            )
            about = {"control": "a stranger's input", "rate": stage}
            found += [{**about, **asdict(one)} for one in verified]
        matrices = {metric: matrix(table, "ddcm-random", stage, metric) for metric in JUDGED}
        belongs = _of_clips(table, list(next(iter(matrices.values())).index))
        values = {metric: frame.to_numpy() for metric, frame in matrices.items()}
        matched = {metric: np.diag(value) for metric, value in values.items()}
        verified = correlation_tests.verify(matched, {}, values, *belongs, draws=DRAWS)
        about = {"control": "random indices", "rate": stage}
        found += [{**about, **asdict(one)} for one in verified]
    return _tested(found, control="")


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
    left = [text for key, text in UNBEATEN.items() if words[key] != UPHELD]
    left += ["chance"] * (words["claim_1"] != UPHELD) + ["other clips"] * (
        words["claim_2"] != UPHELD
    )
    if not left:
        return "Yes, the output follows its own input more than any of the nulls does"
    listed = " and of ".join([", of ".join(left[:-1]), left[-1]] if len(left) > 1 else left)
    return f"In part: the output follows its own input, but it is not shown to be ahead of {listed}"


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
    apart = "{difference:.2f} [{low:.2f}, {high:.2f}], n = {n} recordings".format(**row)
    told = proper_minus(f"{numbers} ({row['null']}), a difference of {apart}")
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
