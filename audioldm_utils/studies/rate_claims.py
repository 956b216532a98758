"""What «DDCM as a codec» claims, and what its tables say to it.

Every claim is judged by the 95 % interval of paired differences over clips
(:func:`~audioldm_utils.studies.verdicts.claim`). Codecs are compared at equal rate: the curve of
one is read at the true rates of the other, clip by clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from audioldm_utils.results import summaries as results
from audioldm_utils.studies.rate_curves import at_rates_of, through
from audioldm_utils.studies.verdicts import (
    REFUTED,
    UNDECIDED,
    UPHELD,
    at_stages,
    interval_of,
    listed,
    of,
    together,
    told,
    words,
)

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


def steps(table: pd.DataFrame, stages: Sequence[str], metric: str) -> pd.DataFrame:
    """Paired differences of a metric of DDCM from each stage to the next."""
    asked = {f"{x} to {y}": (of("ddcm", y), of("ddcm", x)) for x, y in pairwise(stages)}
    return results.differences(table, asked, metric)


def against(table: pd.DataFrame, other: str, stages: Sequence[str]) -> pd.DataFrame:
    """Mel error of DDCM less another's at DDCM's rates, with a word for «smaller» in ``claim``."""
    joined = at_rates_of(table, other, "ddcm", "mel_error")
    found = results.differences(joined, at_stages("ddcm", other, stages), "mel_error")
    return found.assign(claim=words(found, above=False))


def against_noise(table: pd.DataFrame) -> pd.DataFrame:
    """As :func:`against`, noise of the clip's envelope at the noise's rates."""
    noise = "envelope-noise"
    joined = at_rates_of(table, "ddcm", noise, "mel_error")
    stages = sorted(set(table.loc[table["method"] == noise, "stage"]))
    found = results.differences(joined, at_stages("ddcm", noise, stages), "mel_error")
    return found.assign(claim=words(found, above=False))


def _rates(stages: Sequence[str]) -> str:
    return listed([stage.removesuffix(" kbit/s") for stage in stages])


def by_range(found: pd.DataFrame) -> str:
    """Where DDCM is better, undecided and worse, from :func:`against`, by its stages."""
    parts = []
    for word, side in SIDES.items():
        rates = _rates(found.index[found["claim"] == word])
        parts += [f"{side} at {rates} kbit/s"] * bool(rates)
    return "; ".join(parts) or "not compared on these clips"


def advice(found: pd.DataFrame) -> str:
    """What to code with, from :func:`against` the residual quantiser."""
    shown = found["claim"] == UPHELD
    better, others = (_rates(found.index[chosen]) for chosen in (shown, ~shown))
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
    if not stages:
        return "No file of these clips pays for a choice."
    value = results.summarise(table, by=("method", "stage", "metric"))
    value = value.set_index(["method", "stage", "metric"])

    def error(method: str, stage: str) -> str:
        return f"{told(interval_of(value.loc[method, stage, 'mel_error'], 'mean'))} nat"

    first, last = (
        f"{error('ddcm', stage)} at {value.loc['ddcm', stage, 'rate']['mean']:.2g} kbit/s"
        for stage in (stages[0], stages[-1])
    )
    said = f"was measured at one rate, and is {first}"
    if len(stages) > 1:
        falls = FALLS[together(words(steps(table, stages, "mel_error"), above=False))]
        said = f"{falls}, from {first} to {last}"
    count = int(value.loc["ddcm", stages[-1], "mel_error"]["n"])
    return (
        f"The mel error {said}; the VAE without coding leaves {error('vae', '')} "
        f"(n = {count} of {source})."
    )


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
    if not stages:
        return pd.DataFrame(), {}, {}
    named = [through(stage, synthesis) if synthesis else stage for stage in stages]
    vae, better = of("vae", synthesis), results.directions()
    chosen = (table["method"] == "vae") & (table["stage"] == synthesis)
    rows: list[dict[str, str]] = []
    all_steps: dict[str, str] = {}
    ends: dict[str, str] = {}
    for metric, label in HEARD.items():
        up = better[metric] == "higher"
        found = steps(table, named, metric)
        if found.empty:
            continue
        said = words(found, above=up)
        limit = table["value"] * (1 - share if up else 1 + share)
        scaled = table.assign(value=table["value"].where(~chosen, limit))
        end = words(results.differences(scaled, {"": (of("ddcm", named[-1]), vae)}, metric), up)
        row = {"measure": label, "n": str(found["n"].max())}
        for name, change, word in zip(found.index, found["difference"], said, strict=True):
            column = name.replace(f", {synthesis}", "") if synthesis else name
            row[column.replace(" kbit/s", "", 1)] = results.proper_minus(f"{change:+.2g}: {word}")
        ends[metric] = end[0] if end else UNDECIDED
        row[f"within {100 * share:g} % of the VAE at {stages[-1]}"] = ends[metric]
        rows.append(row)
        all_steps[metric] = together(said)
    return pd.DataFrame(rows), all_steps, ends


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
