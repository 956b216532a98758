"""What the rows of ``06_samples`` show. Intervals are over prompts, which were drawn at random."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import t

from audioldm_utils.metrics.statistics import FEWEST, Interval, bootstrap_interval
from audioldm_utils.results.summaries import interval_text, proper_minus
from audioldm_utils.studies import verdicts
from audioldm_utils.studies.prompts import CLASSES
from audioldm_utils.studies.registry import WHOLE
from audioldm_utils.studies.sampling import ONE_PROMPT, ONE_SEED
from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD, claim, together

#: Samples below this level, dBFS, are counted.
QUIET = -45.0
Key = tuple[str, str]
FREE, UNGUIDED = ("ddpm", "CFG"), ("ddpm", "no guidance")
PROMPT_FREE = ("ddcm-random", "prompt-free CCFG")


def label(key: Key) -> str:
    """``DDPM, CFG`` for a method and stage."""
    return f"{key[0].removesuffix('-random').upper()}, {key[1]}"


def _of(table: pd.DataFrame, key: Key, metric: str) -> pd.DataFrame:
    method, stage = key
    chosen = (table["method"] == method) & (table["stage"] == stage)
    return table[chosen & (table["metric"] == metric)]


def by_prompt(table: pd.DataFrame, key: Key, metric: str) -> pd.Series:
    """Mean over the samples of each prompt; of diversity what the study says of each."""
    rows = _of(table, key, metric)
    about = rows["band"].where(rows["clip"] == WHOLE, _prompts(rows))
    return rows["value"].groupby(about).mean()


def _prompts(rows: pd.DataFrame) -> pd.Series:
    return rows["clip"].str.replace(r" \d+$", "", regex=True)


def mean(values: pd.Series | np.ndarray, level: float = 0.95) -> Interval | None:
    """Mean with its interval; None of nothing."""
    return bootstrap_interval(np.asarray(values, float), level=level) if len(values) else None


def apart(table: pd.DataFrame, a: Key, b: Key, metric: str, level: float = 0.95) -> Interval | None:
    """Mean difference ``a - b`` over the prompts that both have."""
    first, second = (by_prompt(table, key, metric) for key in (a, b))
    return mean((first - second).dropna(), level)


def frechet_distance(table: pd.DataFrame, key: Key, minus: Key | None = None) -> Interval | None:
    """Fréchet distance, or a difference of two, with its jackknife interval over classes.

    A class is left out at a time (Efron and Stein 1981): the distance has no value for a sample.
    """
    sides = [_of(table, one, "frechet_clap").set_index("band")["value"]
             for one in (key, minus) if one]  # fmt: skip
    values = sides[0] if minus is None else (sides[0] - sides[1]).dropna()
    if "" not in values:
        return None
    whole, without = float(values[""]), values.drop("").to_numpy()
    n = len(without)
    if n < 2:
        return Interval(whole, math.nan, math.nan, n)
    error = math.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    reach = float(t.ppf(0.975, n - 1)) * error
    return Interval(whole, whole - reach, whole + reach, n)


def within(found: Interval | None, margin: float) -> str:
    """Whether a mean is equivalent to zero: upheld where its 90 % interval lies in the margin.

    Two one-sided tests at 5 % (Schuirmann 1987); refuted where the interval lies outside.
    """
    if found is None or found.n < FEWEST or math.isnan(found.low):
        return UNDECIDED
    if -margin < found.low and found.high < margin:
        return UPHELD
    return REFUTED if found.low > margin or found.high < -margin else UNDECIDED


def spread(table: pd.DataFrame) -> float:
    """Standard deviation of DDPM's CLAP scores within a prompt."""
    free = _of(table, FREE, "clap_score")
    return math.sqrt(free["value"].groupby(_prompts(free)).var().mean())


def equivalences(table: pd.DataFrame, sizes: Sequence[int], margin: float) -> pd.DataFrame:
    """CLAP score of random codes of each size against free noise, from the same starting noise.

    Returns:
        ``codebook``, ``difference`` with its 90 % interval ``low`` to ``high``, all in standard
        deviations of DDPM's scores within a prompt, ``equivalent`` (a word of :func:`within`),
        and ``prompts`` and ``samples`` of each.
    """
    one, rows = spread(table), []
    for size in sizes:
        key = ("ddcm-random", f"K = {size}")
        found, samples = apart(table, key, FREE, "clap_score", 0.9), _of(table, key, "clap_score")
        if found is None:
            continue
        # One sample a prompt has no spread to measure by.
        scaled = Interval(*(end / one for end in (found.mean, found.low, found.high)), found.n)
        values = (scaled.mean, scaled.low, scaled.high)
        rows.append((key[1], *values, within(scaled, margin), found.n, len(samples)))
    columns = ["codebook", "difference", "low", "high", "equivalent", "prompts", "samples"]
    return pd.DataFrame(rows, columns=columns)


def sample_scores(table: pd.DataFrame, order: Iterable[Key]) -> pd.DataFrame:
    """CLAP score of each sampler in this order: ``label``, ``mean``, ``low``, ``high``, ``n``."""
    found = {key: mean(by_prompt(table, key, "clap_score")) for key in order}
    rows = [{"method": key[0], "label": label(key), **one.as_dict()}
            for key, one in found.items() if one]  # fmt: skip
    return pd.DataFrame(rows)


def cell(found: Interval | None, digits: int = 3) -> str:
    """``0.41 [0.32, 0.50]``; a dash for nothing."""
    return verdicts.told(found, f".{digits}f")


def quiet(table: pd.DataFrame, key: Key) -> int:
    """Samples below `QUIET`."""
    return int((_of(table, key, "level")["value"] < QUIET).sum())


def quieter(table: pd.DataFrame, key: Key) -> Interval | None:
    """Share of samples below `QUIET` of a sampler, minus that of free noise."""
    levels = table[table["metric"] == "level"]
    shares = levels.assign(value=(levels["value"] < QUIET).astype(float))
    return apart(shares, key, FREE, "level")


def told(table: pd.DataFrame, method: str) -> Interval | None:
    """Share of real clips whose class is told, over recordings: ``original``, or by ``vae``."""
    return mean(_of(table, (method, ""), "class_told")["value"])


def measures(table: pd.DataFrame, order: Iterable[Key]) -> pd.DataFrame:
    """Every sampler by every measure, as a table to be read; real clips for what they have."""
    rows = [
        (
            label(key),
            cell(mean(by_prompt(table, key, "clap_score"))),
            cell(mean(by_prompt(table, key, "class_told")), 2),
            cell(frechet_distance(table, key)),
            cell(mean(by_prompt(table, key, "diversity"))),
            str(quiet(table, key)),
            str(len(_of(table, key, "clap_score"))),
        )
        for key in order
    ]
    for method, name in (("original", "real clips"), ("vae", "real clips through VAE")):
        count = f"{len(_of(table, (method, ''), 'class_told'))} recordings"
        rows.append((name, "–", cell(told(table, method), 2), "–", "–", "–", count))
    columns = ["sampler", "CLAP score ↑", "class told ↑", "Fréchet distance ↓", "diversity ↑"]
    quieter_than = proper_minus(f"samples below {QUIET:.0f} dBFS ↓")
    return pd.DataFrame(rows, columns=[*columns, quieter_than, "samples"])


def alike(table: pd.DataFrame, stage: str) -> Interval | None:
    """Mean correlation of mean spectra, over seeds or over prompts."""
    return mean(_of(table, ("ddim", stage), "spectrum_correlation")["value"])


def collapse(table: pd.DataFrame) -> str:
    """Whether the prompt decides what is heard, and not the seed.

    Upheld where spectra of different prompts at one seed are less alike than those of one prompt
    at different seeds, and their intervals apart; refuted the other way round.
    """
    seed, prompt = alike(table, ONE_SEED), alike(table, ONE_PROMPT)
    if seed is None or prompt is None:
        return UNDECIDED
    if claim(seed, prompt.low, above=False) == UPHELD:
        return UPHELD
    return REFUTED if claim(seed, prompt.high) == UPHELD else UNDECIDED


def claims(table: pd.DataFrame, sizes: Sequence[int], tests: pd.DataFrame) -> dict[str, str]:
    """Upheld, refuted or undecided: what the chapter claims of samples, by key.

    1: random codes of every size score as free noise does; 2: guidance by the choice of codes
    raises the score over no guidance; 3: it is nearer to real sounds than guidance by the network,
    and 10: more diverse; 4: CLAP tells the class of random codes' samples more often than by
    chance; 5: the prompt decides what is heard, and not the seed; 6: the smallest codebook makes
    more samples below `QUIET` than free noise.
    """
    codes = [("ddcm-random", f"K = {size}") for size in sizes]
    each = [claim(mean(by_prompt(table, key, "class_told")), 1 / len(CLASSES)) for key in codes]
    apart_from = frechet_distance(table, PROMPT_FREE, FREE)
    return {
        "claim_1": together(list(tests["equivalent"])),
        "claim_2": claim(apart(table, PROMPT_FREE, UNGUIDED, "clap_score")),
        "claim_3": claim(apart_from, above=False),
        "claim_10": claim(apart(table, PROMPT_FREE, FREE, "diversity")),
        "claim_4": together(each),
        "claim_5": collapse(table),
        "claim_6": claim(quieter(table, codes[sizes.index(min(sizes))])),
    }


def answer(tests: pd.DataFrame, margin: float) -> str:
    """Which random codes score as free noise does, with each difference and the margin."""
    names = {word: [row.codebook for row in tests.itertuples() if row.equivalent == word]
             for word in (UPHELD, UNDECIDED, REFUTED)}  # fmt: skip
    parts = []
    if names[UPHELD]:
        parts.append(f"random codes of {verdicts.listed(names[UPHELD])} equal DDPM's free noise")
    if names[REFUTED]:
        parts.append(f"random codes of {verdicts.listed(names[REFUTED])} differ from free noise")
    if names[UNDECIDED]:
        which = verdicts.listed(names[UNDECIDED])
        parts.append(f"for random codes of {which} equality with DDPM's free noise is undecided")
    if tests.empty:
        return "No random codes were measured"
    found = [f"{interval_text(row.difference, row.low, row.high, '.2f')} for {row.codebook}"
             for row in tests.itertuples()]  # fmt: skip
    count = f"{tests['samples'].max()} samples of {tests['prompts'].max()} prompts each"
    return (
        f"By CLAP score, {'; '.join(parts)}: the differences to DDPM are {verdicts.listed(found)} "
        f"({count}; 90 % intervals, in standard deviations within a prompt; "
        f"margin \N{PLUS-MINUS SIGN}{margin:g})"
    )


def advice(words: Mapping[str, str]) -> str:
    """What follows from :func:`claims` for storing a generated sound and for guiding by codes."""
    guide = {
        UPHELD: ", or a prompt, for a decoder that cannot have it",
        UNDECIDED: "; choosing them by a prompt is not shown to help",
        REFUTED: "; choosing them by a prompt scores below no guidance",
    }[words["claim_2"]]
    repeats = (
        "To repeat a generated sound, store its prompt and seed: they say as much as its indices"
    )
    return f"{repeats}. Store indices only where a clip chose them{guide}."
