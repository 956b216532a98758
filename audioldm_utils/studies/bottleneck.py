"""The reconstruction ladder: what each stage of AudioLDM2 costs, by itself.

Every rung is one way from a clip to audio through some of the stages, so that the
difference of two rungs is the cost of what lies between them:

=====================  =====================================================  ===========
rung                   path                                                   reference
=====================  =====================================================  ===========
band-limit             resample to 16 kHz and back                            native clip
mel-original-phase     mel, its magnitudes with the true phase (oracle)       16 kHz clip
mel-griffinlim         mel, phase estimated from the mel's magnitudes         16 kHz clip
mel-vocoder            mel, vocoder                                           16 kHz clip
vae-original-phase     mel, VAE, its magnitudes with the true phase (oracle)  16 kHz clip
vae-griffinlim         mel, VAE, Griffin-Lim                                  16 kHz clip
vae                    mel, VAE, vocoder: AudioLDM2's own reconstruction      16 kHz clip
=====================  =====================================================  ===========

The mel's own error (rungs ``mel-*`` against ``vae-*``) is also measured in the mel domain,
before any phase is made up, and split between encoder and decoder: a latent refined by
gradient steps shows what the decoder can do, the rest is the encoder's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from audioldm_utils.audio.clips import Clip, fit_length, resample, to_model_rate
from audioldm_utils.methods.enhance.latent import refine_latents
from audioldm_utils.methods.enhance.stft import band_centres
from audioldm_utils.model.mel import griffin_lim
from audioldm_utils.model.networks import normalise
from audioldm_utils.studies.phase import with_phase

if TYPE_CHECKING:
    import pandas as pd

    from audioldm_utils.model.networks import Stages
    from audioldm_utils.results.tables import ResultsBuilder

#: Rungs in the order in which the book climbs them.
RUNGS = (
    "band-limit",
    "mel-original-phase",
    "mel-griffinlim",
    "mel-vocoder",
    "vae-original-phase",
    "vae-griffinlim",
    "vae",
)

#: Frames (2.56 s) and gradient steps of the refined latent, which costs a decoder's backward
#: pass each.
EXCERPT = 256
REFINE_STEPS = 25

#: Edges in Hz of the bands in which the mel error is reported.
MEL_BANDS = ((0, 500), (500, 1000), (1000, 2000), (2000, 4000), (4000, 8000))


@dataclass(frozen=True)
class Climb:
    """One clip on every rung.

    Attributes:
        clip: as loaded, at its own rate.
        reference: the clip at 16 kHz, what the model could know.
        audio: rung to waveform; ``band-limit`` at the clip's rate, the others at 16 kHz.
        mel: ``true`` and ``vae`` log-mel ``(frames, 64)``.
    """

    clip: Clip
    reference: np.ndarray
    audio: dict[str, np.ndarray]
    mel: dict[str, np.ndarray]


def climb(clip: Clip, stages: Stages, seed: int = 0) -> Climb:
    """Take one clip through every rung.

    Args:
        clip: mono, at any rate.
        stages: of the checkpoint that is examined.
        seed: of Griffin-Lim's first phase.
    """
    config = stages.mel_config
    reference = to_model_rate(clip)
    wave, level = normalise(torch.from_numpy(reference)[None])
    mel = stages.to_mel(wave)
    latents = stages.encode(mel)
    decoded = stages.decode(latents)

    def finish(samples: torch.Tensor) -> np.ndarray:
        return level.undo(samples.cpu())[0, : len(reference)].numpy()

    audio = {
        "band-limit": resample(reference, config.sample_rate, clip.sample_rate)[
            : len(clip.samples)
        ],
    }
    for source, spectrogram in (("mel", mel), ("vae", decoded)):
        audio[f"{source}-original-phase"] = finish(with_phase(spectrogram, wave))
        audio[f"{source}-griffinlim"] = finish(griffin_lim(spectrogram, seed=seed))
        name = "vae" if source == "vae" else "mel-vocoder"
        audio[name] = finish(stages.vocode(spectrogram))
    frames = len(reference) // config.hop_length
    mels = {"true": mel, "vae": decoded}
    return Climb(
        clip, reference, audio, {name: m[0, :frames].cpu().numpy() for name, m in mels.items()}
    )


def band_errors(reference: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """Mean absolute log-mel error in nat by band, ``""`` for all, from ``(frames, 64)`` mels."""
    centres = band_centres()
    error = np.abs(np.asarray(reference, np.float64) - estimate)
    bands = {"": float(error.mean())}
    for low, high in MEL_BANDS:
        chosen = (centres >= low) & (centres < high)
        bands[band_name(low, high)] = float(error[:, chosen].mean())
    return bands


def band_name(low: float, high: float) -> str:
    """``0.5-1 kHz`` for (500, 1000)."""
    return f"{low / 1000:g}-{high / 1000:g} kHz"


def add_scores(
    rows: ResultsBuilder,
    clip: Clip,
    method: str,
    reference: np.ndarray,
    estimate: np.ndarray,
    rate: int,
    stage: str = "",
    names: Iterable[str] | None = None,
) -> None:
    """Every metric of one estimate (or those named), as rows."""
    from audioldm_utils.metrics import evaluate_pair

    length = min(len(reference), len(estimate))
    scores = evaluate_pair(
        reference[:length], estimate[:length], rate, names=names, category=clip.category
    )
    for score in scores:
        rows.add(
            clip.name, score.metric, score.value, score.unit,
            category=clip.category, method=method, stage=stage, band=score.band,
        )  # fmt: skip


def study(clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """Study ``01_ladder``: every metric of every rung, and the mel errors."""
    result = climb(clip, stages, seed)
    for rung in RUNGS:
        native = rung == "band-limit"
        add_scores(
            rows,
            clip,
            rung,
            clip.samples if native else result.reference,
            result.audio[rung],
            clip.sample_rate if native else stages.mel_config.sample_rate,
        )
    add_mel_errors(rows, clip, "vae", "mel", result.mel["true"], result.mel["vae"])


def study_refined(clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """Study ``01_refined``: the VAE's mel error on an excerpt, before and after refinement."""
    wave, _ = normalise(torch.from_numpy(to_model_rate(clip))[None])
    target = stages.to_mel(wave)[:, :EXCERPT]
    latents = stages.encode(target)
    refined, _ = refine_latents(latents, target, stages.decode_grad, REFINE_STEPS)
    found = {"vae": stages.decode(latents), "refined-latent": stages.decode(refined)}
    for method, mel in found.items():
        add_mel_errors(rows, clip, method, "mel excerpt", target[0].numpy(), mel[0].numpy())


def add_mel_errors(
    rows: ResultsBuilder,
    clip: Clip,
    method: str,
    stage: str,
    reference: np.ndarray,
    estimate: np.ndarray,
) -> None:
    """Mean absolute log-mel error of ``(frames, 64)`` mels as rows, over all and by band."""
    for band, value in band_errors(reference, estimate).items():
        rows.add(
            clip.name, "mel_error", value, "nat",
            category=clip.category, method=method, stage=stage, band=band,
        )  # fmt: skip


#: What the front-end mistakes and the attacks are judged by.
SPECTRAL = ("log_mel_distance", "multi_resolution_stft")


def study_mistakes(clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """Study ``01_mistakes``: VAE and vocoder fed by each public front-end mistake."""
    from audioldm_utils.studies.mistakes import MISTAKES

    reference = to_model_rate(clip)
    wave, level = normalise(torch.from_numpy(reference)[None])
    fronts = {"none": lambda samples: stages.to_mel(samples), **MISTAKES}
    for name, front in fronts.items():
        mel = stages.pad_mel(front(wave))
        audio = level.undo(stages.vocode(stages.decode(stages.encode(mel))).cpu())
        estimate = fit_length(audio[0].numpy(), len(reference))
        add_scores(rows, clip, "vae", reference, estimate, 16000, stage=name, names=SPECTRAL)


def study_attacks(clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """Study ``01_attacks``: every metric of changes whose audibility is known."""
    reference = to_model_rate(clip)
    for name, attack in attacks().items():
        add_scores(rows, clip, "attack", reference, attack(reference), 16000, stage=name)


def step_costs(
    table: pd.DataFrame, steps: Mapping[str, tuple[str, str]], metric: str
) -> pd.DataFrame:
    """Paired difference over clips of each step: the metric on the first rung minus the second.

    Returns:
        Columns ``step``, ``mean``, ``low``, ``high``, ``n``.
    """
    import pandas as pd

    from audioldm_utils.metrics.statistics import bootstrap_interval

    chosen = table[(table["metric"] == metric) & (table["band"] == "")]
    wide = chosen.pivot_table(index="clip", columns="method", values="value")
    rows = []
    for step, (after, before) in steps.items():
        found = bootstrap_interval((wide[after] - wide[before]).dropna().to_numpy(), 0)
        rows.append((step, found.mean, found.low, found.high, found.n))
    return pd.DataFrame(rows, columns=["step", "mean", "low", "high", "n"])


def attacks(rate: int = 16000) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Changes of a waveform whose audibility is known, to test metrics with.

    ``inverted polarity`` and ``5 ms later`` sound the same; ``1 kHz low-pass`` and
    ``white noise at 10 dB`` do not, however well a waveform metric scores them.
    """
    from scipy.signal import butter, sosfiltfilt

    def low_pass(x: np.ndarray) -> np.ndarray:
        sections = butter(6, 1000, fs=rate, output="sos")
        return sosfiltfilt(sections, x).astype(np.float32)

    def noise(x: np.ndarray) -> np.ndarray:
        hiss = np.random.default_rng(0).standard_normal(len(x))
        return (x + hiss * np.sqrt(np.mean(x**2)) * 10 ** (-10 / 20)).astype(np.float32)

    return {
        "inverted polarity": lambda x: -x,
        "5 ms later": lambda x: np.roll(x, round(0.005 * rate)),
        "1 kHz low-pass": low_pass,
        "white noise at 10 dB": noise,
    }
