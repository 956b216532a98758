"""What «DDCM as a codec» claims, and what its tables say to it.

Every claim is judged by the 95 % interval of paired differences over clips
(:func:`~audioldm_utils.studies.verdicts.claim`). Codecs are compared at equal rate: the curve of
one is read at the true rates of the other, clip by clip.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd

from audioldm_utils.metrics.statistics import FEWEST
from audioldm_utils.results import summaries as results
from audioldm_utils.studies.rate_curves import at_rates_of, through
from audioldm_utils.studies.verdicts import (
    NOT_COMPARED,
    REFUTED,
    UNDECIDED,
    UPHELD,
    at_stages,
    claim,
    counted,
    interval_of,
    listed,
    of,
    together,
    told,
    where,
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


def by_range(found: pd.DataFrame, stages: Sequence[str] = ()) -> str:
    """Where DDCM is better, undecided and worse, from :func:`against`; other stages at last."""
    parts = []
    for word, side in SIDES.items():
        rates = _rates(found.index[found["claim"] == word])
        parts += [f"{side} at {rates} kbit/s"] * bool(rates)
    if not parts:
        return "not compared on these clips"
    for stage, n in found.loc[found["n"] < found["n"].max(), "n"].items():
        parts.append(f"at {stage} on {n} of {found['n'].max()} clips alone")
    missing = _rates([stage for stage in stages if stage not in found.index])
    return "; ".join(parts + [f"not compared at {missing} kbit/s"] * bool(missing))


def range_of(found: pd.DataFrame, stages: Sequence[str] = ()) -> str:
    """Where a claim of :func:`against` got its word; ``stages`` besides were not compared."""
    said = dict.fromkeys([*stages, *found.index], NOT_COMPARED) | found["claim"].to_dict()
    return where({stage.removesuffix(" kbit/s"): word for stage, word in said.items()},
                 "at {} kbit/s") or NOT_COMPARED  # fmt: skip


def left_out(table: pd.DataFrame, other: str, stages: Sequence[str]) -> str:
    """How many clips have no comparison with another codec, and how hard they are."""
    joined, parts = at_rates_of(table, other, "ddcm", "mel_error"), []
    joined = joined[joined["metric"] == "mel_error"]
    for stage in stages:
        at = joined[joined["stage"] == stage].pivot_table("value", "clip", "method")
        lone = at[at[other].isna()] if other in at else at[:0]
        if len(lone):
            parts.append(
                f"at {stage} {len(lone)} of {len(at)} clips, on which DDCM's error is "
                f"{lone['ddcm'].mean():.2f} nat"
            )
    if not parts:
        return "No clip is left out where both were measured."
    return f"Left out, since the other's curve does not reach DDCM's rate: {listed(parts)}."


def advice(found: pd.DataFrame) -> str:
    """What to code with, from :func:`against` the residual quantiser."""
    shown = found["claim"] == UPHELD
    better, others = (_rates(found.index[chosen]) for chosen in (shown, ~shown))
    if not better:
        return (
            "Take the residual quantiser, which needs no network call: at no rate was DDCM "
            "shown to be better."
        )
    said = f"Take DDCM rather than a residual quantiser of the same latents at {better} kbit/s"
    if not others:
        return f"{said}."
    return f"{said}; at {others} kbit/s it was not shown to be better than a residual quantiser."


def answer(table: pd.DataFrame, stages: Sequence[str], source: str) -> str:
    """The chapter's answer, from the first stage to the last."""
    if not stages:
        return "No file of these clips pays for a choice."
    value = results.summarise(table, by=("method", "stage", "metric"))
    value = value.set_index(["method", "stage", "metric"])

    def error(method: str, stage: str, spec: str = ".2f") -> str:
        return f"{told(interval_of(value.loc[method, stage, 'mel_error'], 'mean'), spec)} nat"

    first, last = (
        f"{error('ddcm', stage)} at {value.loc['ddcm', stage, 'rate']['mean']:.2g} kbit/s"
        for stage in (stages[0], stages[-1])
    )
    said = f"was measured at one rate, and is {first}"
    if len(stages) > 1:
        falls = FALLS[together(words(steps(table, stages, "mel_error"), above=False))]
        said = f"{falls} of the rate, from {first} to {last}"
    few, n = (int(value.loc["ddcm", stages[i], "mel_error"]["n"]) for i in (0, -1))
    fewer = f"; n = {few} at the lowest rate, as a short clip does not pay its header" * (few < n)
    return (
        f"DDCM's mel error {said}; the VAE, whose latents it codes, leaves "
        f"{error('vae', '', '.3f')} ({counted(n, source)}{fewer})."
    )


def stoi_beside(table: pd.DataFrame, other: str, name: str) -> str:
    """DDCM's STOI less that of another codec at the payload rates of that one, in a sentence."""
    spoken = set(table.loc[table["metric"] == "stoi", "clip"])
    joined = at_rates_of(table[table["clip"].isin(spoken)], "ddcm", other, "stoi", "payload_rate")
    own = joined[joined["method"] == other]
    found = results.differences(
        joined, at_stages("ddcm", other, sorted(set(own["stage"]) - {""})), "stoi"
    )
    if found.empty:
        return f"DDCM's STOI was not compared with that of {name} on these clips."
    rates = own[own["metric"] == "payload_rate"].groupby("stage")["value"].mean()
    few = bool(found["recordings"].max() < FEWEST)
    parts = [
        f"{told(interval_of(row), '+.2f')} at {rates[stage]:.2g} kbit/s"
        + f" ({claim(interval_of(row))})" * (not few)
        for stage, row in found.iterrows()
    ]
    most = found.loc[found["n"].idxmax()]
    n = results.count_text(int(most["n"]), int(most["recordings"]))
    decide = ", too few to decide" * few
    return f"STOI of DDCM minus that of {name} is {listed(parts)}; n = {n} of speech{decide}."


def visqol_floor(table: pd.DataFrame, stages: Sequence[str], folder: str | Path) -> str:
    """Which rates lie below the ViSQOL of a clip played backwards (study ``01_attacks``)."""
    path = Path(folder) / "01_attacks.csv"
    if not path.is_file():
        return ""
    attacks = results.read(path)
    attacks = attacks[
        ~attacks["clip"].isin(json.loads(path.with_suffix(".json").read_text())["shipped"])
    ]
    chosen = (attacks["stage"] == "backwards") & (attacks["metric"] == "visqol")
    floor = results.per_clip(attacks[chosen]).mean()
    mean = table[table["metric"] == "visqol"].groupby(["method", "stage"])["value"].mean()
    below = [stage for stage in stages if mean.get(("ddcm", stage), floor) < floor]
    said = f"DDCM's is lower at {_rates(below)} kbit/s" if below else "DDCM's is never lower"
    opus = mean.get(("opus", "level 1"))
    also = "" if opus is None else f", Opus' at its lowest rate is {opus:.2f}"
    return f"A clip played backwards has a ViSQOL of {floor:.2f}: less says little. {said}{also}."


def passed_by(table: pd.DataFrame, other: str, name: str, stage: str) -> str:
    """From which payload rate on another codec has the better ViSQOL than DDCM at a stage."""
    part = table[table["method"] == other]
    rates = part[part["metric"] == "payload_rate"].groupby("stage")["value"].mean().sort_values()
    asked = {level: (of(other, level), of("ddcm", stage)) for level in rates.index}
    found = results.differences(table, asked, "visqol")
    for (level, row), word in zip(found.iterrows(), words(found, above=True), strict=True):
        if word == UPHELD:
            return (
                f"By ViSQOL, {name} is ahead of DDCM at {stage} from a payload of "
                f"{rates[level]:.2g} kbit/s on, by {told(interval_of(row), '+.2f')} there."
            )
    return f"By ViSQOL, {name} is not shown to be ahead of DDCM at {stage}."


def mixed(table: pd.DataFrame) -> str:
    """What mixing a clip with others changes in DDCM's error, in a sentence."""
    asked = {name: (of("ddcm", name), of("ddcm", "one clip")) for name in ("pair", "triple")}
    found = results.differences(table, asked, "mel_error")
    if found.empty:
        return "No mixture was measured."
    goes = {UPHELD: "raises", REFUTED: "lowers", UNDECIDED: "is not shown to change"}
    parts = [f"{told(interval_of(row), '+.3f')} nat ({name})" for name, row in found.iterrows()]
    return (
        f"Mixing {goes[together(words(found, above=True))]} the error: {listed(parts)}, "
        f"n = {found['n'].min()}."
    )


def classes(grouped: pd.DataFrame, stage: str) -> str:
    """The broad classes of the least and the largest error at a stage, of those of six clips."""
    part = grouped[(grouped["stage"] == stage) & (grouped["recordings"] >= FEWEST)]
    if len(part) < 2:
        return "Too few clips of a class to compare classes."
    ends = part.sort_values("mean").iloc[[0, -1]]
    least, most = (
        f"{row['group']} ({told(interval_of(row, 'mean'))} nat, n = {row['n']})"
        for _, row in ends.iterrows()
    )
    return f"At {stage} the error is least for {least} and largest for {most}."


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
        few = found["recordings"].max() < FEWEST
        for name, change, word in zip(found.index, found["difference"], said, strict=True):
            word = "too few recordings" if few else word
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
            "STOI is given for the whole band, and for the band up to 4 kHz."
        )
    if not table["class"].str.startswith("speech").any():
        return "No clip is labelled as speech, so codecs of speech have no rows."
    return (
        "Codec2 and Speex have no rows: their programs (Debian packages codec2 and speex) were not "
        "installed where this was measured."
    )
