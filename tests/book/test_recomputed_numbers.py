"""Numbers in the book's sentences, computed again by code that shares nothing with the project's.

The sentence's number is what its chapter keeps for it; beside it stands a formula written from
the sentence and the names of the tables' columns, in pandas, numpy and scipy alone. They may
differ by the rounding of the print, and the ends of intervals by what resampling leaves open.
"""

from __future__ import annotations

import json
import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, interpolate, stats

from tests.glued import CHAPTERS, ROOT, glued

EVIDENCE, MINI = ROOT / "book" / "evidence", ROOT / "data" / "checkpoints" / "mini"
STFT, MEL, CHROMA = "multi_resolution_stft", "log_mel_distance", "chroma_correlation"
CENTRED, SHAPE = "log_mel_correlation_centred", "log_mel_correlation_frame_centred"


@cache
def table(name: str) -> pd.DataFrame:
    """A committed table without the clips that come with the project."""
    found = pd.read_csv(EVIDENCE / f"{name}.csv", keep_default_na=False)
    record = EVIDENCE / f"{name}.json"
    shipped = json.loads(record.read_text()).get("shipped", []) if record.is_file() else []
    return found[~found["clip"].isin(shipped)] if "clip" in found else found


def clips(name: str, method: str, metric: str, stage: str = "", band: str = "") -> pd.Series:
    """One value a clip; ``stage`` and ``band`` are patterns for the whole name."""
    t = table(name)
    t = t[(t["method"] == method) & (t["metric"] == metric)]
    t = t[t["stage"].str.fullmatch(stage) & t["band"].str.fullmatch(band)]
    assert len(t), f"no rows: {name}, {method}, {metric}, {stage}"
    return t.astype({"value": float}).groupby("clip")["value"].mean()


def mean(*which: str) -> float:
    return clips(*which).mean()


def less(name: str, a: str, b: str, metric: str, at: str = "", other: str | None = None):
    """Paired differences of two methods, over the clips of both."""
    second = clips(name, b, metric, at if other is None else other)
    return (clips(name, a, metric, at) - second).dropna()


def interval(values: pd.Series, name: str = "", level: float = 0.95) -> list[tuple[float, float]]:
    """Mean and ends of an interval over recordings, each with the error that resampling leaves.

    Whole recordings are drawn; limits as wide as Student's t asks of so few.
    """
    belongs = values.index.to_series()
    if name:
        belongs = table(name).drop_duplicates("clip").set_index("clip")["recording"][values.index]
    groups = values.groupby(belongs.to_numpy())
    sums, counts, n = groups.sum().to_numpy(), groups.count().to_numpy(), groups.ngroups
    weights = np.random.default_rng(1).multinomial(n, np.full(n, 1 / n), 10000)
    means = weights @ sums / (weights @ counts)
    tail = stats.norm.cdf(stats.t.ppf((1 - level) / 2, n - 1) * np.sqrt(n / (n - 1)))
    ends = np.quantile(means, [tail, 1 - tail])
    return [(values.mean(), 0.0), *((end, 0.25 * means.std()) for end in ends)]


def best_of(size: float, values: int) -> float:
    """Expected efficiency of the best of so many independent normal entries."""
    bits, spread = np.log2(size), 8 / np.sqrt(values)

    def density(cosine: float) -> float:
        score = cosine * np.sqrt(values)
        log = np.log(size) + stats.norm.logpdf(score) + (size - 1) * stats.norm.logcdf(score)
        return -values * np.log2(1 - cosine**2) / (2 * bits) * np.exp(log) * np.sqrt(values)

    return integrate.quad(density, 0, spread, limit=200)[0]


def bd_rate(a: tuple[str, str, list[str]], b: tuple[str, str, list[str]]) -> float:
    """Mean distance of two curves of log rate over the errors that both cover, in per cent."""
    sides, curves = [], []
    for name, method, stages in (a, b):
        found = [(clips(name, method, "rate", s), clips(name, method, "mel_error", s))
                 for s in stages]  # fmt: skip
        sides.append(found)
    shared = sorted(set.intersection(*(set(x.index) for side in sides for p in side for x in p)))
    for side in sides:
        points = [(np.log(rate[shared]).mean(), error[shared].mean()) for rate, error in side]
        curves.append(np.array([p for p in points if not any(
            q[0] <= p[0] and q[1] < p[1] for q in points)]))  # fmt: skip
    low = max(curve[:, 1].min() for curve in curves)
    high = min(curve[:, 1].max() for curve in curves)
    grid = np.linspace(low, high, 20001)
    lines = [interpolate.PchipInterpolator(*curve[np.argsort(curve[:, 1])][:, ::-1].T)(grid)
             for curve in curves]  # fmt: skip
    return 100 * np.expm1(np.trapezoid(lines[0] - lines[1], grid) / (high - low))


@cache
def samples(stage: str, metric: str, method: str = "ddcm-random") -> pd.Series:
    """Mean of each prompt."""
    t = table("06_samples")
    t = t[(t["method"] == method) & (t["stage"] == stage) & (t["metric"] == metric)]
    prompts = t["clip"].str.replace(r" \d+$", "", regex=True)
    if metric == "diversity":
        prompts = t["band"]
    return t["value"].astype(float).groupby(prompts).mean()


def to_free_noise() -> list[tuple[float, float]]:
    """Codes of each size less DDPM with their 90 % intervals, in deviations within a prompt."""
    t = table("06_samples")
    t = t[(t["method"] == "ddpm") & (t["stage"] == "CFG") & (t["metric"] == "clap_score")]
    prompts = t["clip"].str.replace(r" \d+$", "", regex=True)
    within = np.sqrt(t["value"].astype(float).groupby(prompts).var(ddof=1).mean())
    free, found = samples("CFG", "clap_score", "ddpm"), []
    sizes = {s for s in table("06_samples")["stage"] if s.startswith("K = ")}
    for size in sorted(sizes, key=lambda s: int(s[4:])):
        found += interval((samples(size, "clap_score") - free) / within, level=0.9)
        found.append((float(size[4:]), 0.0))
    return found


def largest() -> str:
    sizes = {s for s in table("06_samples")["stage"] if s.startswith("K = ")}
    return max(sizes, key=lambda s: int(s[4:]))


def frechet() -> list[tuple[float, float]]:
    """Prompt-free guidance less DDPM, with a jackknife over classes."""
    t = table("06_samples")
    t = t[t["metric"] == "frechet_clap"].astype({"value": float})
    wide = t.assign(key=t["method"] + t["stage"]).pivot(index="band", columns="key", values="value")
    apart = wide["ddcm-randomprompt-free CCFG"] - wide["ddpmCFG"]
    parts, n = apart.drop(""), len(apart) - 1
    reach = stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) * parts.var(ddof=0))
    return [(apart[""] + side * reach, 0.0) for side in (0, -1, 1)]


def spectra(stage: str) -> list[tuple[float, float]]:
    t = table("06_samples")
    t = t[(t["metric"] == "spectrum_correlation") & (t["stage"] == stage)]
    return interval(t["value"].astype(float).reset_index(drop=True))


@cache
def figures() -> dict:
    return json.loads((MINI / "figures.json").read_text())


def share(key: str) -> list[tuple[float, float]]:
    """Per cent of samples with the exact limits of Clopper and Pearson."""
    k, n = figures()["text"][key], figures()["text"]["nearest_train_nat"]["n"]
    low = stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0
    return [(100 * x, 0.0) for x in (k / n, low, stats.beta.ppf(0.975, k + 1, n - k))]


def parameters() -> float:
    """Millions of weights, from the headers of all components' files."""
    total = 0
    for path in MINI.glob("*/*.safetensors"):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        total += sum(np.prod(v["shape"]) for k, v in header.items() if k != "__metadata__")
    return total / 1e6


@cache
def diffusion() -> list[pd.Series]:
    """How much larger the mel error of each diffusion method is than the VAE's, at equal calls."""
    t = table("03_diffusion")
    runs = t[t["method"].isin(["sdedit", "guided", "ddcm"])][["method", "stage"]].drop_duplicates()
    equal = [r for r in runs.to_numpy().tolist() if r[1] != "caption" and "equal" not in r[1]]
    return [less("03_diffusion", m, "vae", "mel_error", s, "") for m, s in equal]


def nearest_diffusion() -> list[tuple[float, float]]:
    """The VAE's mel error, and by how much the nearest diffusion method's is larger."""
    best = min(diffusion(), key=lambda change: change.mean())
    return [(mean("03_diffusion", "vae", "mel_error"), 0.0), *interval(best, "03_diffusion")]


def nearest_inputs() -> list[float]:
    """Outputs at the lowest rate that correlate best with their own input, of how many."""
    t = table("07_correlation").astype({"value": float})
    t = t[(t["method"] == "ddcm") & (t["stage"] == lowest()) & (t["metric"] == CENTRED)]
    best = t.loc[t.groupby("clip")["value"].idxmax(), "band"]
    return [(best == "").sum(), len(best)]


def lowest() -> str:
    stages = table("07_correlation").query("method == 'ddcm'")["stage"].unique()
    return min(stages, key=lambda s: float(s.split()[0]))


def by_call(metric: str, method: str, at: str, which: int | None = None) -> float:
    t = table("07_correlation").query("method == @method and stage == @at and metric == @metric")
    calls = t[t["band"].str.startswith("call")].astype({"value": float}).groupby("band")["value"]
    return calls.mean().mean() if which is None else calls.mean().sort_index().iloc[which]


def attack(stage: str, metric: str) -> float:
    return mean("01_attacks", "attack", metric, stage)


def above_8() -> pd.Index:
    """Clips with energy above 8 kHz: at least 0.1 per cent."""
    energy = clips("02_repair", "original", "energy_above_8_khz")
    return energy[energy >= 0.1].index


def lsd(method: str) -> float:
    found = clips("02_repair", method, "log_spectral_distance", "full band", "8-16 kHz")
    return found.reindex(above_8()).mean()


def speed(what: str, quantity: str) -> float:
    t = table("codebook_speed")
    return float(t[(t["what"] == what) & (t["quantity"] == quantity)]["value"].iloc[0])


def white(column: str) -> float:
    t = table("codebook_efficiency")
    t = t[(t["codebook"] == "cyclic shift") & (t["residual"] == "white") & (t["bits"] == 16)]
    cosine, values = t["cosine"].iloc[0], 32768
    return cosine if column == "cosine" else -values * np.log2(1 - cosine**2) / (2 * 16)


def excerpt() -> int:
    """Latent values of an excerpt: 25 frames a second, 8 channels of 16."""
    return round(grid("04_choices")["seconds"] * 25) * 128


def grid(name: str) -> dict:
    return json.loads((EVIDENCE / f"{name}.json").read_text())["parameters"]


def middle() -> str:
    strengths = sorted(grid("03_diffusion")["strengths"])
    return f"strength {strengths[len(strengths) // 2]:g}"


def stage_of(which: int) -> str:
    rates = sorted(grid("05_rates")["rates"])
    return f"{rates[which]:g} kbit/s"


def upper() -> list[str]:
    """The higher half of the rates above the lowest one."""
    rates = [r for r in sorted(grid("05_rates")["rates"]) if r > grid("05_rates")["low_rate"]]
    return [f"{r:g} kbit/s" for r in rates[len(rates) // 2 :]]


def overview() -> int:
    """Rows of the summary's tables: chapters, methods and stages."""
    asked = {"rate", "network_calls", MEL, "mel_error", STFT, "visqol", "hf_retention",
             "latent_correlation", "latent_correlation_centred", CENTRED, "clap_score", "snr",
             "correlation", "mae"}  # fmt: skip
    names = [path.stem for path in EVIDENCE.glob("0[0-9]_*.csv")]
    rows = pd.concat([table(name).assign(chapter=name[:2]) for name in names])
    rows = rows[(rows["band"] == "") & rows["metric"].isin(asked)]
    return len(rows[["chapter", "method", "stage"]].drop_duplicates())


L, R, D, C, T, V = ("01_ladder", "02_repair", "03_diffusion", "04_choices", "05_rates",
                    "07_correlation")  # fmt: skip
REAL = "real, .+"
#: By chapter, key and, where a sentence has several, what the numbers are: one number or more that
#: stand there one behind the other.
NUMBERS = {
    ("01", "n", ""): lambda: [table(L)["clip"].nunique()],
    ("01", "n_tonal", ""): lambda: [len(clips(L, "vae-vocoder", CHROMA))],
    ("01", "answer", "of the vocoder"): lambda: interval(clips(L, "mel-vocoder", STFT), L),
    ("01", "answer", "of the inverse"): lambda: interval(clips(L, "mel-inverse", STFT), L),
    ("01", "answer", "of the VAE"): lambda: interval(
        less(L, "vae-inverse", "mel-inverse", STFT), L),
    ("01", "stft_vae-vocoder", ""): lambda: [mean(L, "vae-vocoder", STFT)],
    ("01", "stft_vae-inverse", ""): lambda: [mean(L, "vae-inverse", STFT)],
    ("01", "chroma_vae-vocoder", ""): lambda: [mean(L, "vae-vocoder", CHROMA)],
    ("01", "chroma_vae-inverse", ""): lambda: [mean(L, "vae-inverse", CHROMA)],
    ("01", "comb_vae-vocoder", ""): lambda: [mean(L, "vae-vocoder", "comb_excess")],
    ("01", "step_1", ""): lambda: [mean(L, "stft-griffinlim", STFT)],
    ("01", "step_3", ""): lambda: [less(L, "mel-inverse", "mel-griffinlim", STFT).mean()],
    ("01", "vae_nat", ""): lambda: [mean(L, "vae", "mel_error", "mel")],
    ("01", "pca_nat", ""): lambda: [mean(L, "pca", "mel_error", "mel")],
    ("01", "encoder_share", ""): lambda: [100 - 100
        * mean("01_refined", "refined-latent", "mel_error", ".+")
        / mean("01_refined", "vae", "mel_error", ".+")],
    ("01", "polarity_snr", ""): lambda: [attack("inverted polarity", "snr")],
    ("01", "lowpass_snr", ""): lambda: [attack("1 kHz low-pass", "snr")],
    ("01", "delay_mel", ""): lambda: [attack("5 ms later", MEL)],
    ("02", "answer", "ViSQOL"): lambda: interval(
        less(R, "vae-restored", "vae-inverse", "visqol"), R),
    ("02", "answer", "chroma"): lambda: interval(
        less(R, "vae-restored", "vae-inverse", CHROMA), R),
    ("02", "answer", "STFT"): lambda: interval(
        less(R, "vae-restored", "vae-inverse", STFT), R),
    ("02", "log_mel_distance_vae-refined", ""): lambda: [
        less(R, "vae-refined", "vae", MEL).mean()],
    ("02", "visqol_vae-vocoder", ""): lambda: [less(R, "vae-vocoder", "vae", "visqol").mean()],
    ("02", "chroma_correlation_vae-griffinlim", ""): lambda: [
        less(R, "vae-griffinlim", "vae", CHROMA).mean()],
    ("02", "visqol_highfreq-side-information", ""): lambda: [
        less(R, "vae-highfreq", "vae", "visqol", "side information", "").mean()],
    ("02", "v_refined", ""): lambda: [100 - 100 * mean(R, "vae-refined", "mel_error", "mel")
                                      / mean(R, "vae", "mel_error", "mel")],
    ("02", "distance_start", ""): lambda: [mean(R, "vae-refined", "mel_distance", "step 0")],
    ("02", "lsd_vae-highfreq", ""): lambda: [lsd("vae-highfreq")],
    ("02", "lsd_envelope-noise", ""): lambda: [lsd("envelope-noise")],
    ("02", "kept_refined", ""): lambda: [100 * mean(R, "vae-restored", "kept", "refined")],
    ("03", "answer", ""): nearest_diffusion,
    ("03", "error_sdedit_middle", ""): lambda: [mean(D, "sdedit", "mel_error", middle())],
    ("03", "error_guided_middle", ""): lambda: [mean(D, "guided", "mel_error", middle())],
    ("03", "epsilon_vae", ""): lambda: [mean(D, "vae", "epsilon_error")],
    ("03", "mel_vae-vocoder", ""): lambda: [mean(D, "vae-vocoder", MEL)],
    ("03", "mel_guided_middle", ""): lambda: [mean(D, "guided", MEL, middle())],
    ("03", "seconds_guided", ""): lambda: [mean(D, "guided", "seconds", middle())],
    ("04", "answer", "difference"): lambda: interval(
        less(C, "ddcm", "ddcm-gaussian", "efficiency", REAL), C),
    ("04", "answer", "theory"): lambda: [best_of(2 * excerpt(), excerpt()),
                                         best_of(1024, excerpt())],
    ("04", "real_shift", ""): lambda: [mean(C, "ddcm", "efficiency", REAL)],
    ("04", "real_paper", ""): lambda: [mean(C, "ddcm-gaussian", "efficiency", REAL)],
    ("04", "real_plain", ""): lambda: [mean(C, "ddcm, no mask", "efficiency", REAL)],
    ("04", "error_kmeans", ""): lambda: [mean(C, "ddcm-kmeans", "mel_error", "equal rate")],
    ("04", "time_shift", ""): lambda: [mean(C, "ddcm", "noise_neighbours_in_time", "equal rate")],
    ("04", "cosine_16", ""): lambda: [white("cosine")],
    ("04", "white_16", ""): lambda: [white("efficiency")],
    ("04", "theory_16", ""): lambda: [best_of(2**16, 32768)],
    ("04", "choose_shift", ""): lambda: [
        speed("cyclic, 65,536 atoms, 16 bits", "choose, processor")],
    ("04", "paper_memory", ""): lambda: [
        speed("the paper's way, K=1024 resident", "memory over plain")],
    ("05", "answer", "lowest rate"): lambda: interval(
        clips(T, "ddcm", "mel_error", stage_of(0)), T),
    ("05", "answer", "VAE"): lambda: interval(clips(T, "vae", "mel_error"), T),
    ("05", "rate_low", ""): lambda: [mean(T, "ddcm", "rate", stage_of(0))],
    ("05", "error_high", ""): lambda: [mean(T, "ddcm", "mel_error", stage_of(-1))],
    ("05", "correlation_low", ""): lambda: [mean(T, "ddcm", "latent_correlation", stage_of(0))],
    ("05", "tonal", ""): lambda: [len(clips(T, "mel", CHROMA))],
    ("05", "bd_placement_high", ""): lambda: [bd_rate(
        (T, "ddcm", upper()), ("05_placement", "ddcm-uniform", upper()))],
    ("05", "saved", ""): lambda: [100 - 100
        * mean("05_codebooks", "ddcm", "network_calls", "one atom of shifts")
        / mean("05_codebooks", "ddcm-gaussian", "network_calls", "one atom of 1024")],
    ("05", "point_one", ""): lambda: interval(
        less("05_codebooks", "ddcm", "ddcm-gaussian", "mel_error", "one atom of shifts",
             "one atom of 1024"), "05_codebooks"),
    ("06", "answer", "differences"): to_free_noise,
    ("06", "ddpm", ""): lambda: [samples("CFG", "clap_score", "ddpm").mean()],
    ("06", "ddim", ""): lambda: [samples("CFG", "clap_score", "ddim").mean()],
    ("06", "told_codes", ""): lambda: interval(samples(largest(), "class_told")),
    ("06", "ccfg_gain", ""): lambda: interval(samples("prompt-free CCFG", "clap_score")
                                             - samples("no guidance", "clap_score", "ddpm")),
    ("06", "ccfg_frechet", ""): frechet,
    ("06", "ccfg_diversity", ""): lambda: interval(samples("prompt-free CCFG", "diversity")
                                                  - samples("CFG", "diversity", "ddpm")),
    ("06", "alike_prompt", ""): lambda: spectra("one prompt, different seeds"),
    ("06", "source_never", ""): lambda: [
        mean("06_editing", "ddcm", "source_correlation", "change at 100%")],
    ("06", "claim_7_effect", ""): lambda: interval(
        less("06_editing", "ddcm", "ddcm", "target_score", "change at 0%", "change at 100%"),
        "06_editing"),
    ("07", "nearest", ""): nearest_inputs,
    ("07", "robust", "means"): lambda: [mean(V, "ddcm-wrong", CENTRED, lowest()),
                                        mean(V, "ddcm", CENTRED, lowest())],
    ("07", "robust", "difference"): lambda: interval(
        less(V, "ddcm", "ddcm-wrong", CENTRED, lowest()), V),
    ("07", "log-mel_shape_ddcm", ""): lambda: [mean(V, "ddcm", SHAPE, lowest())],
    ("07", "latent_ddcm-random", ""): lambda: [
        mean(V, "ddcm-random", "latent_correlation", lowest())],
    ("07", "waveform_vae", ""): lambda: [mean(V, "vae", "waveform_correlation")],
    ("07", "noise_rate_seven", ""): lambda: [mean(V, "envelope-noise", "rate", "seven bands")],
    ("07", "log-mel_centred_noise-of-its-seven-bands", ""): lambda: [
        mean(V, "envelope-noise", CENTRED, "seven bands")],
    ("07", "last_call", ""): lambda: [
        by_call("denoised_correlation_centred", "ddcm", "1 kbit/s", -1)],
    ("07", "cosine_theory", ""): lambda: [by_call("choice_cosine", "theory", lowest())],
    ("08", "rows", ""): lambda: [overview()],
    ("08", "studies", ""): lambda: [len({path.stem for path in EVIDENCE.glob("0[0-9]_*.csv")})],
    ("06", "smallest_score", ""): lambda: [samples("K = 2", "clap_score").mean()],
    ("09", "clips", ""): lambda: [pd.read_csv(MINI / "ATTRIBUTION.csv")["file"].nunique()],
    ("09", "classes", ""): lambda: [pd.read_csv(MINI / "ATTRIBUTION.csv")["class"].nunique()],
    ("09", "parameters", ""): lambda: [parameters()],
    ("09", "denoiser_ratio", ""): lambda: [np.mean([
        error / figures()["denoiser"]["linear_error"][at]
        for at, error in figures()["denoiser"]["epsilon_error"].items()])],
    ("09", "copy_share", ""): lambda: share("near_copies"),
    ("09", "strict_share", ""): lambda: share("strict_near_copies"),
    ("09", "samples_n", ""): lambda: [figures()["text"]["accuracy_of_all"]["n"]],
}  # fmt: skip


def dearer(way: str) -> list[pd.Series]:
    """What a synthesis costs less what the VAE costs, by three measures, clip by clip."""
    true, stft = clips(L, f"mel-{way}", CHROMA), clips(L, f"mel-{way}", STFT)
    return [
        clips(L, f"mel-{way}", MEL) / (20 / np.log(10)) - clips(L, "vae", "mel_error", "mel"),
        stft - (clips(L, f"vae-{way}", STFT) - stft),
        (1 - true) - (true - clips(L, f"vae-{way}", CHROMA)),
    ]


#: Verdicts that the summary joins: differences that must all be above zero.
WORDS = {
    ("01", "claim_1"): lambda: (dearer("vocoder"), L),
    ("01", "claim_2"): lambda: (dearer("inverse"), L),
    ("01", "claim_3"): lambda: ([less(L, "vae-inverse", "vae-griffinlim", CHROMA)], L),
    ("01", "claim_4"): lambda: ([less(L, "mel-original-phase", "stft-griffinlim", STFT)], L),
    ("01", "claim_5"): lambda: ([less(L, "vae", "pca", "mel_error", "mel")], L),
    ("03", "claim_1"): lambda: (diffusion(), D),
    ("03", "claim_4"): lambda: ([less(D, "sdedit", "guided", "mel_error", f"strength {s:g}")
                                 for s in grid(D)["strengths"]], D),
    ("04", "claim_3"): lambda: ([less(C, "ddcm", "ddcm, no mask", "efficiency", REAL)], C),
    ("04", "claim_4"): lambda: ([less(C, "ddcm-kmeans", "ddcm", "mel_error", "equal rate")], C),
    ("05", "claim_3"): lambda: ([
        (clips("05_codebooks", "linear", "mel_error", f"{rate:g} kbit/s")
         - clips(T, "ddcm", "mel_error", f"{rate:g} kbit/s")).dropna()
        for rate in grid("05_codebooks")["linear_rates"]], T),
    ("06", "claim_2"): lambda: ([samples("prompt-free CCFG", "clap_score")
                                 - samples("no guidance", "clap_score", "ddpm")], ""),
    ("07", "claim_1"): lambda: ([less(V, "ddcm", "ddcm-random", metric, at)
        for metric in (CENTRED, "latent_correlation_centred")
        for at in sorted(set(table(V).query("method == 'ddcm'")["stage"]))], V),
}  # fmt: skip
NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def printed(text: str) -> list[tuple[float, float]]:
    """The numbers of a text, each with half a unit of its last digit."""
    found = []
    for number in NUMBER.findall(text.replace("\N{MINUS SIGN}", "-")):
        digits, _, power = number.rstrip(",").replace(",", "").partition("e")
        unit = 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
        found.append((float(f"{digits}e{power or 0}"), unit / 2))
    return found


def told(text: str, again: list) -> bool:
    """Whether a text says these numbers in a row, but for rounding and resampling."""
    again = [one if isinstance(one, tuple) else (one, 0.0) for one in again]
    said = printed(text)
    return any(
        all(abs(a - b) <= half * 1.001 + error
            for (a, half), (b, error) in zip(said[at:], again, strict=False))
        for at in range(len(said) - len(again) + 1)
    )  # fmt: skip


@pytest.mark.parametrize(("chapter", "key", "what"), NUMBERS)
def test_a_sentence_says_what_its_table_says(chapter, key, what):
    again, text = NUMBERS[chapter, key, what](), glued(chapter)[key]
    assert told(text, again), f"{again} is not in {text!r}"


def words(ends: list[list[tuple[float, float]]]) -> set[str]:
    """What may be said of intervals that must all lie above zero; two words at the border."""
    lows, highs = [[one[i] for one in ends] for i in (1, 2)]
    said = {"refuted"} if any(high - error <= 0 for high, error in highs) else set()
    if all(low + error > 0 for low, error in lows):
        said.add("upheld")
    clear = all(low - error > 0 for low, error in lows) or any(h + e < 0 for h, e in highs)
    return said if clear else {*said, "undecided"}


@pytest.mark.parametrize(("chapter", "key"), WORDS)
def test_a_verdict_is_what_the_intervals_say(chapter, key):
    differences, name = WORDS[chapter, key]()
    ends = [interval(one.dropna(), name) for one in differences]
    assert glued(chapter)[key] in words(ends), ends


def test_every_chapter_is_asked():
    """The summary has few numbers of its own; its verdicts are those above."""
    of = pd.Series([chapter for chapter, *_ in NUMBERS]).value_counts()
    assert set(of.index) == set(CHAPTERS)
    assert of.drop("08").min() >= 5
    assert of.sum() >= 60


def test_a_wrong_number_is_found():
    text = "by \N{MINUS SIGN}1,234.5 [2.0, 3e-05] nat, n = 7"
    assert [value for value, _ in printed(text)] == [-1234.5, 2.0, 3e-05, 7]
    assert told(text, [-1234.46, (2.2, 0.3), 3.4e-05])
    assert told(text, [2.04, 3e-05])
    assert words([[(2, 0), (1, 0.1), (3, 0.1)]]) == {"upheld"}
    assert words([[(2, 0), (1, 0.1), (3, 0.1)], [(0, 0), (-1, 0.1), (1, 0.1)]]) == {"undecided"}
    assert words([[(-2, 0), (-3, 0.1), (-1, 0.1)]]) == {"refuted"}
    assert words([[(1, 0), (0.05, 0.1), (2, 0.1)]]) == {"upheld", "undecided"}
    for wrong in ([-1234.4], [-1234.5, 2.1], [1234.5], [3.6e-05], [float("nan")], [2.0, 7]):
        assert not told(text, wrong)
