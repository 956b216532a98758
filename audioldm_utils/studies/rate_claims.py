"""What «DDCM as a codec» claims, and what its tables say to it.

Every claim is judged by the 95 % interval of paired differences over clips
(:func:`~audioldm_utils.studies.verdicts.claim`). Codecs are compared at equal rate: the curve of
one is read at the true rates of the other, clip by clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from audioldm_utils.results import summaries as results
from audioldm_utils.studies.rate_curves import at_rates_of, through
from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD, together, words

if TYPE_CHECKING:
    import pandas as pd

#: How DDCM stands beside another codec, by the word for «its error is smaller».
SIDES = {UPHELD: "better", UNDECIDED: "undecided", REFUTED: "worse"}
#: How the error goes up in rate, by the word for «it falls at every step».
FALLS = {
    UPHELD: "falls at every step",
    UNDECIDED: "does not surely fall at every step",
    REFUTED: "rises at some step",
}
#: Measures of the heard sound and what they are called.
HEARD = {
    "log_mel_distance": "log-mel distance, dB",
    "multi_resolution_stft": "multi-resolution STFT distance",
    "visqol": "ViSQOL, MOS",
    "chroma_correlation": "chroma correlation, tonal clips",
    "stoi": "STOI, speech",
}


def steps(
    table: pd.DataFrame, stages: Sequence[str], metric: str, method: str = "ddcm"
) -> pd.DataFrame:
    """Paired differences of a metric from each stage to the next."""
    of = {stage: {"method": method, "stage": stage} for stage in stages}
    asked = {f"{low} to {high}": (of[high], of[low]) for low, high in pairwise(stages)}
    return results.differences(table, asked, metric)


def against(
    table: pd.DataFrame, other: str, stages: Sequence[str], metric: str = "mel_error"
) -> pd.DataFrame:
    """DDCM less another codec at DDCM's own rates, with a word for «smaller» in ``claim``."""
    joined = at_rates_of(table, other, "ddcm", metric)
    asked = {
        stage: tuple({"method": method, "stage": stage} for method in ("ddcm", other))
        for stage in stages
    }
    found = results.differences(joined, asked, metric)
    return found.assign(claim=words(found, above=False))


def against_noise(table: pd.DataFrame, metric: str = "mel_error") -> pd.DataFrame:
    """DDCM less noise of the clip's envelope at the noise's rates, as :func:`against`."""
    noise = table[table["method"] == "envelope-noise"]
    joined = at_rates_of(table, "ddcm", "envelope-noise", metric)
    asked = {
        stage: tuple({"method": method, "stage": stage} for method in ("ddcm", "envelope-noise"))
        for stage in sorted(set(noise["stage"]))
    }
    found = results.differences(joined, asked, metric)
    better = results.directions().get(metric) == "higher"
    return found.assign(claim=words(found, above=better))


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def by_range(found: pd.DataFrame) -> str:
    """Where DDCM is better, undecided and worse, from :func:`against`, by its stages."""
    parts = []
    for word, side in SIDES.items():
        rates = [stage.removesuffix(" kbit/s") for stage in found.index[found["claim"] == word]]
        parts += [f"{side} at {listed(rates)} kbit/s"] * bool(rates)
    return "; ".join(parts) or "not compared on these clips"


def advice(found: pd.DataFrame) -> str:
    """What to code with, from :func:`against` the residual quantiser."""
    better, others = (
        listed([stage.removesuffix(" kbit/s") for stage in found.index[chosen]])
        for chosen in (found["claim"] == UPHELD, found["claim"] != UPHELD)
    )
    if not better:
        return (
            "Take the residual quantiser, which needs no network call: at no rate was DDCM "
            "shown to be better."
        )
    said = f"Take DDCM at {better} kbit/s"
    if not others:
        return f"{said}."
    return f"{said}; at {others} kbit/s it was not shown to be better than a residual quantiser."


def answer(table: pd.DataFrame, stages: Sequence[str], source: str) -> str:
    """The chapter's answer in one sentence, from the first stage to the last."""
    value = results.summarise(table, by=("method", "stage", "metric"))
    value = value.set_index(["method", "stage", "metric"])
    if not stages:
        return "No file of these clips pays for a choice."
    told = []
    for stage in (stages[0], stages[-1]):
        row, rate = value.loc["ddcm", stage, "mel_error"], value.loc["ddcm", stage, "rate"]
        told.append(f"{_nat(row)} at {rate['mean']:.2g} kbit/s")
    falls = FALLS[together(words(steps(table, stages, "mel_error"), above=False))]
    alone = _nat(value.loc["vae", "", "mel_error"])
    count = int(value.loc["ddcm", stages[-1], "mel_error"]["n"])
    rates = f"from {told[0]} to {told[1]}" if len(stages) > 1 else f"and is {told[0]}"
    verb = falls if len(stages) > 1 else "was measured at one rate"
    return (
        f"The mel error {verb}, {rates}; the VAE without coding leaves {alone} "
        f"(n = {count} of {source})."
    )


def _nat(row: pd.Series) -> str:
    limits = "" if row["low"] != row["low"] else f" [{row['low']:.2f}, {row['high']:.2f}]"
    return f"{row['mean']:.2f}{limits} nat"


def heard(
    table: pd.DataFrame, stages: Sequence[str], share: float = 0.1, synthesis: str = ""
) -> tuple[pd.DataFrame, dict[str, str], dict[str, str]]:
    """Does each measure of the sound improve from rate to rate, and end near the VAE's?

    Args:
        stages: by rising rate.
        share: of the VAE's value, by which the last stage may be off.
        synthesis: another one than the networks' own.

    Returns:
        One row a measure: ``n``, a column for each step and one for the end, each with the
        difference and its word. And by metric, one word for all steps and one for the end.
    """
    import pandas as pd

    named = [through(stage, synthesis) if synthesis else stage for stage in stages]
    if not stages:
        return pd.DataFrame(), {}, {}
    vae, better = {"method": "vae", "stage": synthesis}, results.directions()
    rows: list[dict[str, str]] = []
    all_steps: dict[str, str] = {}
    ends: dict[str, str] = {}
    for metric, label in HEARD.items():
        up = better[metric] == "higher"
        found = steps(table, named, metric)
        if found.empty:
            continue
        told = words(found, above=up)
        scaled = _scaled(table, vae, 1 - share if up else 1 + share)
        near = {"end": ({"method": "ddcm", "stage": named[-1]}, vae)}
        end = words(results.differences(scaled, near, metric), above=up)
        row = {"measure": label, "n": str(found["n"].max())}
        for name, change, word in zip(found.index, found["difference"], told, strict=True):
            column = name.replace(f", {synthesis}", "") if synthesis else name
            row[column.replace(" kbit/s", "", 1)] = results.proper_minus(f"{change:+.2g}: {word}")
        ends[metric] = end[0] if end else UNDECIDED
        row[f"within {100 * share:g} % of the VAE at {stages[-1]}"] = ends[metric]
        rows.append(row)
        all_steps[metric] = together(told)
    return pd.DataFrame(rows), all_steps, ends


def _scaled(table: pd.DataFrame, choice: Mapping[str, str], factor: float) -> pd.DataFrame:
    chosen = (table["method"] == choice["method"]) & (table["stage"] == choice["stage"])
    return table.assign(value=table["value"].where(~chosen, table["value"] * factor))


def speech_codecs(table: pd.DataFrame) -> str:
    """Whether Codec2 and Speex stand in a table, as a sentence."""
    names = {"codec2": "Codec2", "speex": "Speex"}
    there = [label for name, label in names.items() if (table["method"] == name).any()]
    if there:
        return (
            f"{listed(there)} code 8 kHz, so that nothing above 4 kHz is left of their sound; "
            "STOI is told of the whole band, and of the band up to 4 kHz alone."
        )
    if not table["class"].str.startswith("speech").any():
        return "No clip is labelled as speech, so codecs of speech have no rows."
    return (
        "Codec2 and Speex have no rows: their programs (Debian packages codec2 and speex) were not "
        "installed where this was measured."
    )
