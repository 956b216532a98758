"""What each stage of AudioLDM2 costs by itself: a clip on every path from mel to waveform.

A **mel** is one of three, and a **synthesis** makes the waveform; each mel goes through each
synthesis, so that the difference of two paths is the cost of what lies between them. The path's
name is ``MEL-SYNTHESIS``.

=================  ===========================================================================
mel                what it is
=================  ===========================================================================
mel                the recording's own
pca                through as many principal components as the VAE has latents: a linear VAE
vae                through the checkpoint's VAE
=================  ===========================================================================

=================  ===========================================================================
synthesis          how it makes a waveform
=================  ===========================================================================
original-phase     the mel's magnitudes with the recording's phase (oracle)
griffinlim         the mel's magnitudes, phase by Griffin-Lim
inverse            magnitudes by the fitted inverse of the mel, phase by Griffin-Lim
vocoder            the checkpoint's own vocoder
=================  ===========================================================================

Two paths have no mel: ``band-limit`` resamples to 16 kHz and back and is compared with the
recording at its own rate; ``stft-griffinlim`` (oracle) keeps the recording's magnitudes, 513 a
frame, and loses its phase alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from audioldm_utils.audio.clips import Clip, fit_length, resample, to_model_rate
from audioldm_utils.methods.enhance.latent import refine_latents
from audioldm_utils.metrics import NotApplicable
from audioldm_utils.metrics.pitch import TONAL, comb_share
from audioldm_utils.metrics.signal import DB_PER_NAT
from audioldm_utils.metrics.statistics import Interval
from audioldm_utils.model.mel import griffin_lim_from, stft_magnitude
from audioldm_utils.model.networks import normalise
from audioldm_utils.model.synthesis import synthesise
from audioldm_utils.results.summaries import pairs, summarise
from audioldm_utils.studies.mistakes import MISTAKES
from audioldm_utils.studies.pca import load_pca
from audioldm_utils.studies.phase import with_phase
from audioldm_utils.studies.rows import Row
from audioldm_utils.studies.verdicts import (
    REFUTED,
    UNDECIDED,
    UPHELD,
    claim,
    difference,
    together,
    told,
)

if TYPE_CHECKING:
    import pandas as pd

    from audioldm_utils.model.networks import Networks
    from audioldm_utils.results.tables import ResultsBuilder

#: In the order in which the book tells them.
MELS = ("mel", "pca", "vae")
SYNTHESES = ("original-phase", "griffinlim", "inverse", "vocoder")
BAND_LIMIT, TRUE_MAGNITUDES = "band-limit", "stft-griffinlim"
PATHS = (BAND_LIMIT, TRUE_MAGNITUDES, *(f"{mel}-{way}" for mel in MELS for way in SYNTHESES))
#: Paths that no decoder can take: they use what is known of the recording alone.
ORACLES = (TRUE_MAGNITUDES, *(f"{mel}-original-phase" for mel in MELS))
#: What every path is judged by.
JUDGES = (
    "log_mel_distance", "multi_resolution_stft", "log_spectral_distance", "hf_retention",
    "snr", "correlation", "mae",
)  # fmt: skip


@dataclass(frozen=True)
class Reconstructed:
    """One clip on every path.

    Attributes:
        reference: the clip at 16 kHz, what the model could know.
        audio: path to waveform; ``band-limit`` at the clip's rate, the others at 16 kHz.
        mel: of `MELS`, log-mels ``(frames, 64)``.
    """

    clip: Clip
    reference: np.ndarray
    audio: dict[str, np.ndarray]
    mel: dict[str, np.ndarray]


def reconstruct_each_way(clip: Clip, networks: Networks, seed: int = 0) -> Reconstructed:
    """One clip, mono at any rate, on every path; the seed is of Griffin-Lim's first phase."""
    config = networks.mel_config
    reference = to_model_rate(clip)
    wave, level = normalise(torch.from_numpy(reference)[None])
    mel = networks.to_mel(wave)
    mels = {
        "mel": mel,
        "pca": load_pca().reconstruct(mel),
        "vae": networks.decode(networks.encode(mel)),
    }

    def finish(samples: torch.Tensor) -> np.ndarray:
        return fit_length(level.undo(samples.cpu())[0].numpy(), len(reference))

    audio = {BAND_LIMIT: resample(reference, config.sample_rate, clip.sample_rate)}
    audio[BAND_LIMIT] = fit_length(audio[BAND_LIMIT], len(clip.samples))
    filled = torch.nn.functional.pad(wave, (0, mel.shape[1] * config.hop_length - wave.shape[1]))
    audio[TRUE_MAGNITUDES] = finish(griffin_lim_from(stft_magnitude(filled), seed=seed))
    for name, one in mels.items():
        audio[f"{name}-original-phase"] = finish(with_phase(one, wave))
        audio[f"{name}-griffinlim"] = finish(synthesise(one, "griffin-lim", seed=seed))
        audio[f"{name}-inverse"] = finish(synthesise(one, "inverse", seed=seed))
        audio[f"{name}-vocoder"] = finish(networks.vocode(one))
    frames = len(reference) // config.hop_length
    shown = {name: found[0, :frames].cpu().numpy() for name, found in mels.items()}
    return Reconstructed(clip, reference, audio, shown)


def measure_paths(clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int) -> None:
    """Study ``01_ladder``: every path, and the mel errors of the VAE and of the components.

    ViSQOL takes longer than all else together and is left to paths that a decoder can take.
    """
    result = reconstruct_each_way(clip, networks, seed)
    rate = networks.mel_config.sample_rate
    tonal, spoken = clip.category in TONAL, (clip.category or "").startswith("speech")
    pitch = (*("chroma_correlation", "comb_excess") * tonal, *("stoi", "f0_error") * spoken)
    for path in PATHS:
        row, made = Row(rows, clip, path), result.audio[path]
        judges = (*JUDGES, *("visqol",) * (path not in ORACLES))
        if path == BAND_LIMIT:
            row.scores(clip.samples, made, clip.sample_rate, judges)
        else:
            row.scores(result.reference, made, rate, (*judges, *pitch))
    if tonal:
        _add_comb(Row(rows, clip, "original"), result.reference, rate)
    for name in MELS[1:]:
        Row(rows, clip, name, "mel").mel_errors(result.mel["mel"], result.mel[name])


def _add_comb(row: Row, samples: np.ndarray, rate: int) -> None:
    """The recording's own share of energy in the 100 Hz comb, which the paths' is compared with."""
    try:
        row.add("comb_share", comb_share(samples, rate), "1")
    except NotApplicable:  # shorter than a second
        return


def measure_refined(
    clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int, excerpt_seconds: float,
    refine_steps: int,
) -> None:  # fmt: skip
    """Study ``01_refined``: the VAE's mel error on an excerpt, before and after refinement.

    Gradient steps on the latent show what the decoder can do; the rest is the encoder's.
    """
    wave, _ = normalise(torch.from_numpy(to_model_rate(clip))[None])
    target = networks.to_mel(wave)[:, : 4 * round(25 * excerpt_seconds)]  # whole latent frames
    latents = networks.encode(target)
    refined, _ = refine_latents(latents, target, networks.decode_grad, refine_steps)
    for method, found in {"vae": latents, "refined-latent": refined}.items():
        mel = networks.decode(found)[0].numpy()
        Row(rows, clip, method, "mel excerpt").mel_errors(target[0].numpy(), mel)


#: What the front-end mistakes are judged by.
SPECTRAL = ("log_mel_distance", "multi_resolution_stft")


def measure_mistakes(clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int) -> None:
    """Study ``01_mistakes``: VAE and synthesis fed by each public front-end mistake."""
    reference = to_model_rate(clip)
    wave, level = normalise(torch.from_numpy(reference)[None])
    for name, front in {"none": networks.to_mel, **MISTAKES}.items():
        mel = networks.pad_mel(front(wave))
        audio = level.undo(networks.synthesise(networks.decode(networks.encode(mel))).cpu())
        estimate = fit_length(audio[0].numpy(), len(reference))
        Row(rows, clip, "vae", name).scores(reference, estimate, names=SPECTRAL)


#: By what VAE and synthesis are compared: what a sentence calls it, and its unit.
COSTS = {
    "mel_error": ("log-mel error", "nat"),
    "multi_resolution_stft": ("multi-resolution STFT distance", "1"),
    "chroma_correlation": ("chroma correlation", "1"),
}
#: What a sentence calls a synthesis.
WAYS = {"vocoder": "vocoder", "inverse": "fitted inverse", "griffinlim": "Griffin-Lim"}


def costs(table: pd.DataFrame, way: str) -> pd.DataFrame:
    """What the VAE and a synthesis cost, clip by clip.

    The synthesis costs what it loses of the true mel, the VAE what the same synthesis loses more
    of the VAE's mel. In the mel domain the VAE's error stands by itself, before any synthesis.

    Args:
        table: of ``01_ladder``.
        way: of `WAYS`.

    Returns:
        Rows of a results table: the methods ``synthesis`` and ``VAE``, the metrics of `COSTS`.
    """
    import pandas as pd

    def of(method: str, metric: str, stage: str = "") -> pd.Series:
        choice = {"method": method, "stage": stage}
        return pairs(table, choice, choice, metric)[0]

    clean, whole = f"mel-{way}", f"vae-{way}"
    stft, chroma = list(COSTS)[1:]
    found = {
        "mel_error": (of(clean, "log_mel_distance") / DB_PER_NAT, of("vae", "mel_error", "mel")),
        stft: (of(clean, stft), of(whole, stft) - of(clean, stft)),
        chroma: (1 - of(clean, chroma), of(clean, chroma) - of(whole, chroma)),
    }
    about = table.drop_duplicates("clip").set_index("clip", drop=False)
    parts = [about.iloc[:0]]
    for metric, sides in found.items():
        row = {"stage": way, "metric": metric, "band": "", "unit": COSTS[metric][1]}
        for method, values in zip(("synthesis", "VAE"), sides, strict=True):
            values = values.dropna()
            parts.append(about.loc[values.index].assign(method=method, value=values, **row))
    return pd.concat(parts, ignore_index=True)


def dearer(table: pd.DataFrame, way: str) -> dict[str, str]:
    """By each of `COSTS`, what becomes of «the synthesis costs more than the VAE»."""
    rows = costs(table, way)
    sides = {"method": "synthesis"}, {"method": "VAE"}
    return {metric: claim(difference(rows, *sides, metric)) for metric in COSTS}


def cost_table(table: pd.DataFrame) -> pd.DataFrame:
    """To be read: what synthesis and VAE cost by each measure, and which of them more."""
    import pandas as pd

    lines = []
    for way in ("vocoder", "inverse"):
        found, words = _summed(table, way), dearer(table, way)
        for metric, (name, unit) in COSTS.items():
            sides = [found.get((side, metric)) for side in ("synthesis", "VAE")]
            cells = [told(one, ".3f", "" if unit == "1" else unit) for one in sides]
            which = {UPHELD: WAYS[way], REFUTED: "VAE"}.get(words[metric], "undecided")
            lines.append((WAYS[way], name, *cells, sides[0].n if sides[0] else 0, which))
    columns = ["synthesis", "measure", "synthesis costs", "VAE costs", "n", "dearer"]
    return pd.DataFrame(lines, columns=columns)


def _summed(table: pd.DataFrame, way: str) -> dict[tuple[str, str], Interval]:
    """Mean costs with their intervals, by side (``synthesis``, ``VAE``) and measure."""
    found = summarise(costs(table, way), by=("method", "metric"))
    return {
        (row.method, row.metric): Interval(row.mean, row.low, row.high, row.n)
        for row in found.itertuples()
    }


def ladder_claims(table: pd.DataFrame) -> dict[str, str]:
    """What becomes of each claim of «Where does the sound go?», by its key."""

    def compare(a: str, b: str, metric: str, stage: str = "") -> str:
        sides = ({"method": method, "stage": stage} for method in (a, b))
        return claim(difference(table, *sides, metric))

    return {
        "claim_1": together(list(dearer(table, "vocoder").values())),
        "claim_2": together(list(dearer(table, "inverse").values())),
        "claim_3": compare("vae-inverse", "vae-griffinlim", "chroma_correlation"),
        "claim_4": compare("mel-original-phase", TRUE_MAGNITUDES, "multi_resolution_stft"),
        "claim_5": compare("vae", "pca", "mel_error", "mel"),
    }


def ladder_answer(table: pd.DataFrame) -> dict[str, str]:
    """The chapter's answer, its bottleneck in a word, and its advice, by their keys."""
    stft, costly = "multi_resolution_stft", {}
    for way in ("vocoder", "inverse"):
        found = _summed(table, way)
        sides = [told(found.get((side, stft))) for side in ("synthesis", "VAE")]
        costly[way] = f"the {WAYS[way]} costs {sides[0]} and the VAE {sides[1]}"
    answer = (
        f"With the checkpoint's own vocoder, {_compared(table, 'vocoder')}. With the fitted "
        f"inverse of the mel in its place, {_compared(table, 'inverse')}. By multi-resolution "
        f"STFT distance {costly['vocoder']}; {costly['inverse']}."
    )
    words = set(dearer(table, "vocoder").values())
    names = {UPHELD: "vocoder", REFUTED: "VAE"} if len(words) == 1 else {}
    ways = {"method": "vae-inverse"}, {"method": "vae-vocoder"}
    better = {
        claim(difference(table, *ways, stft), above=False),
        claim(difference(table, *ways, "chroma_correlation")),
    }
    advice = {
        UPHELD: "Make sound with the fitted inverse of the mel, not with this vocoder.",
        REFUTED: "Make sound with the checkpoint's own vocoder.",
    }
    open_still = "Listen to vocoder and fitted inverse on your own sound: measures do not agree."
    return {
        "answer": answer,
        "bottleneck": names.get(words.pop(), "vocoder or the VAE, as measures disagree"),
        "advice": advice.get(better.pop(), open_still) if len(better) == 1 else open_still,
    }


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
            parts.append(
                f"{start} {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}"
            )
    return "; ".join(parts)
