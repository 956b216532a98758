"""What the VAE and each synthesis cost, and what becomes of the claims of the ladder.

All of it is read from the table of ``01_ladder`` (:mod:`audioldm_utils.studies.bottleneck`).
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from audioldm_utils.metrics.signal import DB_PER_NAT
from audioldm_utils.metrics.statistics import Interval
from audioldm_utils.results.summaries import pairs, summarise
from audioldm_utils.studies.bottleneck import BAND_LIMIT, MELS, TRUE_MAGNITUDES
from audioldm_utils.studies.verdicts import (
    REFUTED,
    UNDECIDED,
    UPHELD,
    claim,
    difference,
    interval_of,
    listed,
    mean_of,
    of,
    together,
    told,
)

#: By what VAE and synthesis are compared: what a sentence calls it, and its unit.
COSTS = {
    "mel_error": ("log-mel error", "nat"),
    "multi_resolution_stft": ("multi-resolution STFT distance", "1"),
    "chroma_correlation": ("chroma correlation", "1"),
}
#: What a sentence and a figure call a synthesis and a mel.
WAYS = {
    "vocoder": "vocoder",
    "griffinlim": "Griffin-Lim",
    "inverse": "fitted inverse",
    "original-phase": "original phase (oracle)",
}
MEL_NAMES = {"mel": "recording's mel", "pca": "PCA of it", "vae": "VAE's mel"}


def rungs(summary: pd.DataFrame) -> pd.DataFrame:
    """Those rows of a summary that have a mel and a synthesis, both by name in columns of theirs.

    In the order in which a figure shows them.
    """
    parts = [
        summary[summary["method"] == f"{mel}-{way}"].assign(mel=MEL_NAMES[mel], synthesis=WAYS[way])
        for mel in MELS
        for way in WAYS
    ]
    return pd.concat(parts, ignore_index=True)


def costs(table: pd.DataFrame, way: str) -> pd.DataFrame:
    """What the VAE and a synthesis cost, clip by clip.

    The synthesis (``way`` of `WAYS`) costs what it loses of the true mel, the VAE what the same
    synthesis loses more of the VAE's mel. In the mel domain the VAE's error stands by itself,
    before any synthesis.

    Returns:
        Rows of a results table: the methods ``synthesis`` and ``VAE``, the metrics of `COSTS`.
    """

    def found(method: str, metric: str, stage: str = "") -> pd.Series:
        return pairs(table, of(method, stage), of(method, stage), metric)[0]

    clean, whole = f"mel-{way}", f"vae-{way}"
    stft, chroma = list(COSTS)[1:]
    nat = found(clean, "log_mel_distance") / DB_PER_NAT
    kept = found(clean, chroma)
    both = {
        "mel_error": (nat, found("vae", "mel_error", "mel")),
        stft: (found(clean, stft), found(whole, stft) - found(clean, stft)),
        chroma: (1 - kept, kept - found(whole, chroma)),
    }
    about = table.drop_duplicates("clip").set_index("clip", drop=False)
    parts = [about.iloc[:0]]
    for metric, sides in both.items():
        row = {"stage": way, "metric": metric, "band": "", "unit": COSTS[metric][1]}
        for method, values in zip(("synthesis", "VAE"), sides, strict=True):
            values = values.dropna()
            parts.append(about.loc[values.index].assign(method=method, value=values, **row))
    return pd.concat(parts, ignore_index=True)


def dearer(table: pd.DataFrame, way: str) -> dict[str, str]:
    """By each of `COSTS`, what becomes of «the synthesis costs more than the VAE»."""
    rows = costs(table, way)
    sides = of("synthesis", way), of("VAE", way)
    return {metric: claim(difference(rows, *sides, metric)) for metric in COSTS}


def cost_table(table: pd.DataFrame) -> pd.DataFrame:
    """To be read: what synthesis and VAE cost by each measure, and which of them more."""
    lines = []
    for way in ("vocoder", "inverse"):
        found, words = _summed(table, way), dearer(table, way)
        for metric, (name, unit) in COSTS.items():
            sides = [found.get((side, metric)) for side in ("synthesis", "VAE")]
            cells = [told(one, ".3f", "" if unit == "1" else unit) for one in sides]
            which = {UPHELD: WAYS[way], REFUTED: "VAE"}.get(words[metric], "undecided")
            lines.append((WAYS[way], name, *cells, sides[0].n if sides[0] else 0, which))
    columns = ["synthesis", "measure", "synthesis costs", "VAE costs", "n", "costs more"]
    return pd.DataFrame(lines, columns=columns)


def _summed(table: pd.DataFrame, way: str) -> dict[tuple[str, str], Interval]:
    """Mean costs with their intervals, by side (``synthesis``, ``VAE``) and measure."""
    found = summarise(costs(table, way), by=("method", "metric"))
    return {(row["method"], row["metric"]): interval_of(row, "mean") for _, row in found.iterrows()}


def ladder_claims(table: pd.DataFrame) -> dict[str, str]:
    """What becomes of each claim of «Where does the sound go?», by its key."""

    def compare(a: str, b: str, metric: str, stage: str = "") -> str:
        return claim(difference(table, of(a, stage), of(b, stage), metric))

    return {
        "claim_1": together(list(dearer(table, "vocoder").values())),
        "claim_2": together(list(dearer(table, "inverse").values())),
        "claim_3": compare("vae-inverse", "vae-griffinlim", "chroma_correlation"),
        "claim_4": compare("mel-original-phase", TRUE_MAGNITUDES, "multi_resolution_stft"),
        "claim_5": compare("vae", "pca", "mel_error", "mel"),
    }


def ladder_answer(table: pd.DataFrame) -> dict[str, str]:
    """The chapter's answer, its bottleneck in a word, and its advice, by their keys."""
    stft, costly, ways = "multi_resolution_stft", {}, ("vocoder", "inverse")
    for way in ways:
        found = _summed(table, way)
        sides = [told(found.get((side, stft))) for side in ("synthesis", "VAE")]
        costly[way] = f"the {WAYS[way]} costs {sides[0]} and the VAE under it {sides[1]}"
    if {word for way in ways for word in dearer(table, way).values()} == {UPHELD}:
        every = listed([name for name, _ in COSTS.values()])
        answer = (
            f"The step from mel to sound costs more than the VAE by {every}, with this "
            "checkpoint's vocoder and with the fitted inverse of the mel alike."
        )
    else:
        answer = (
            f"With this checkpoint's vocoder, {_compared(table, 'vocoder')}. With the fitted "
            f"inverse of the mel in its place, {_compared(table, 'inverse')}."
        )
    answer += (
        f" By multi-resolution STFT distance {costly['vocoder']}; {costly['inverse']}. "
        f"{_vocoder_beside_griffin_lim(table)} {_front_end(table)}"
    )
    words = set(dearer(table, "vocoder").values())
    names = {UPHELD: "vocoder", REFUTED: "VAE"} if len(words) == 1 else {}
    sides = of("vae-inverse"), of("vae-vocoder")
    better = {
        claim(difference(table, *sides, stft), above=False),
        claim(difference(table, *sides, "chroma_correlation")),
    }
    advice = {
        UPHELD: "Make sound with the fitted inverse of the mel, not with this vocoder.",
        REFUTED: "Make sound with the checkpoint's own vocoder.",
    }
    open_still = (
        "Listen to vocoder and fitted inverse on your own sound: the measures do not decide."
    )
    return {
        "answer": answer,
        "bottleneck": names.get(words.pop(), "vocoder or the VAE, which is not decided"),
        "advice": advice.get(better.pop(), open_still) if len(better) == 1 else open_still,
    }


def _vocoder_beside_griffin_lim(table: pd.DataFrame) -> str:
    """How this checkpoint's vocoder stands to what needs no weights, as a sentence."""
    found = difference(table, of("mel-vocoder"), of("mel-griffinlim"), "multi_resolution_stft")
    word = {UPHELD: "worse than", REFUTED: "better than", UNDECIDED: "not told apart from"}
    return (
        f"This vocoder is {word[claim(found)]} Griffin-Lim ({told(found, '+.2f')}): the finding "
        "is about it, and not about other checkpoints' vocoders."
    )


def _front_end(table: pd.DataFrame) -> str:
    """What the front end loses, as a sentence."""
    metric = "multi_resolution_stft"
    cost = told(mean_of(table, {"method": BAND_LIMIT}, metric))
    return (
        "The front end also drops everything above 8 kHz: beside the clip at its own rate that is "
        f"a multi-resolution STFT distance of {cost} (distances at different sample rates are not "
        "to be ranked)."
    )


def hidden(table: pd.DataFrame) -> str:
    """Whether the VAE's loss shows less under the vocoder, as a sentence; empty if it does not."""
    rows = pd.concat([costs(table, way) for way in ("vocoder", "inverse")])
    found = difference(rows, of("VAE", "inverse"), of("VAE", "vocoder"), "multi_resolution_stft")
    said = "The worse synthesis hides a part of the VAE's loss: under the fitted inverse it "
    return f"{said}costs {told(found, '.3f')} more." if claim(found) == UPHELD else ""


def _compared(table: pd.DataFrame, way: str) -> str:
    """Which costs more by which measures, as the end of a sentence."""
    words = dearer(table, way)
    parts = []
    for word, start in {
        UPHELD: f"the {WAYS[way]} costs more than the VAE by",
        REFUTED: f"the VAE costs more than the {WAYS[way]} by",
        UNDECIDED: f"VAE and {WAYS[way]} are not told apart by",
    }.items():
        names = [name for metric, (name, _) in COSTS.items() if words[metric] == word]
        if names:
            parts.append(f"{start} {listed(names)}")
    return "; ".join(parts)


def step_costs(
    table: pd.DataFrame, steps: Mapping[str, tuple[str, str | None]], metric: str
) -> pd.DataFrame:
    """Means of a path, or its paired differences from another, by the name of the step.

    Args:
        steps: name to the path and the one that it is compared with; None: with the recording.

    Returns:
        Columns ``step``, ``difference``, ``low``, ``high`` and ``n``; no row without clips.
    """
    lines = []
    for name, (path, other) in steps.items():
        found = difference(table, {"method": path}, {"method": other or path}, metric)
        if found and other is None:
            found = mean_of(table, {"method": path}, metric)
        if found:
            lines.append((name, found.mean, found.low, found.high, found.n))
    return pd.DataFrame(lines, columns=["step", "difference", "low", "high", "n"])
