"""The figures that the model card quotes, each from this one command.

``python data/checkpoints/recipe evaluate --data DIR --checkpoint C`` judges on eval what
was trained on train; what is fitted here (PCA, linear denoiser, classifier) is fitted on
train as well. Every figure is a function of the checkpoint and the data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.files import atomic_write
from audioldm_utils.metrics import (
    NotApplicable,
    chroma_correlation,
    comb_share,
    log_mel_nat,
    multi_resolution_stft,
    stoi,
    visqol,
)
from audioldm_utils.metrics.statistics import bootstrap_interval
from audioldm_utils.model import HOP
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.checkpoint_fingerprint import fingerprint
from audioldm_utils.model.mel import MelConfig, griffin_lim_from, mel_filterbank
from audioldm_utils.model.networks import Networks
from audioldm_utils.model.schedule import Schedule, training_alphas_bar
from audioldm_utils.model.synthesis import ITERATIONS, SYNTHESES, synthesise
from audioldm_utils.studies.linear_denoiser import PATCH, LinearDenoiser
from audioldm_utils.studies.model_card import FIGURE_PARTS, read_figures
from recipe.data import Corpus, load_corpus
from recipe.split import TONAL, recordings
from recipe.unet import LEVELS, denoiser_ratios

#: Frames of the patches whose PCA is compared with the VAE, and channels kept of each.
PCA_FRAMES = (4, 8, 16)


def _mels(corpus: Corpus, multiple: int = 4) -> list[torch.Tensor]:
    return [
        torch.from_numpy(corpus.log_mel(i)[: corpus.table["frames"][i] // multiple * multiple])[
            None
        ]
        for i in range(len(corpus))
    ]


def vae_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """Mean absolute log-mel error in nat, and that of PCA with equally many coefficients."""
    errors = [
        (networks.decode(networks.encode(mel)) - mel).abs().mean().item()
        for mel in tqdm(_mels(held_out), desc="VAE", unit="clip")
    ]
    belong = recordings(held_out.table, takes=True)
    found: dict[str, Any] = {
        "mel_error_nat": bootstrap_interval(errors, recordings=belong).as_dict()
    }
    for frames in PCA_FRAMES:
        wide = np.concatenate(
            [m[0, : m.shape[1] // frames * frames].numpy().reshape(-1, frames * 64)
             for m in _mels(train)[::4]]
        ).astype(np.float64)  # fmt: skip
        mean = wide.mean(0)
        _, vectors = np.linalg.eigh(np.cov(wide.T))
        # Half of the values are kept: 8 latent channels for 4 x 4 mel values.
        basis = vectors[:, -frames * 32 :]
        scores = []
        for mel in _mels(held_out):
            patches = mel[0, : mel.shape[1] // frames * frames].numpy().reshape(-1, frames * 64)
            rebuilt = (patches - mean) @ basis @ basis.T + mean
            scores.append(float(np.abs(rebuilt - patches).mean()))
        mean_error = bootstrap_interval(scores, recordings=belong)
        found[f"pca_{frames}_frames_nat"] = mean_error.as_dict()
    best = min(found[f"pca_{frames}_frames_nat"]["mean"] for frames in PCA_FRAMES)
    found["ratio_to_best_pca"] = found["mel_error_nat"]["mean"] / best
    return found


def sound_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """What each synthesis makes of the true mel and of the VAE's, clip by clip.

    Paths are ``mel-vocoder``, ``vae-inverse`` and so on. Pitch is asked of tonal clips, STOI of
    speech; ``original`` is the comb that recordings have themselves. ``mel-plain`` is Griffin-Lim
    from the pseudo-inverse of the mel, what a reader would try first. Ratios are of means over
    clips, ``_re_plain`` to that, the others to this project's ``griffin-lim`` from the same mel.
    """
    rows = []
    for clip, mel in enumerate(tqdm(_mels(held_out), desc="sound", unit="clip")):
        target = held_out.waveform(clip)[: mel.shape[1] * HOP]
        category = held_out.table["class"][clip]
        made = {
            f"{source}-{name}": networks.vocode(given)
            if name == "vocoder"
            else synthesise(given, name, seed=0)
            for source, given in (("mel", mel), ("vae", networks.decode(networks.encode(mel))))
            for name in SYNTHESES
        }
        made["mel-plain"] = plain(mel)
        rows += [
            {"path": path, "clip": clip, **heard(target, wave[0].cpu().numpy(), category)}
            for path, wave in made.items()
        ]
        if category in TONAL:
            with suppress(NotApplicable):
                comb = comb_share(target, MODEL_RATE)
                rows.append({"path": "original", "clip": clip, "comb": comb})
    table = pd.DataFrame(rows)
    table["recording"] = recordings(held_out.table, takes=True)[table["clip"]]
    table["tonal"] = held_out.table["class"].isin(TONAL).to_numpy()[table["clip"]]
    found: dict[str, Any] = {}
    for path, part in table.groupby("path"):
        told = part.dropna(axis=1, how="all")
        found[path] = {name: interval(told, name) for name in HEARD if name in told}
    found["auto"] = networks.synthesis
    found["whole_path"] = found[f"vae-{networks.synthesis}"]
    for name in ("vocoder", "inverse"):
        for kind, part in (("all", table), ("tonal", table[table["tonal"]])):
            means = part.groupby("path")["multi_resolution_stft"].mean()
            found[f"{name}_ratio_{kind}"] = means[f"mel-{name}"] / means["mel-griffin-lim"]
            found[f"{name}_re_plain_{kind}"] = means[f"mel-{name}"] / means["mel-plain"]
    return found


def plain(mel: torch.Tensor) -> torch.Tensor:
    """Waveform of a log-mel ``(1, frames, 64)``: pseudo-inverse, 32 rounds of Griffin-Lim."""
    inverse = torch.linalg.pinv(mel_filterbank(MelConfig(), torch.float64, "cpu"))
    magnitude = (mel.double().exp() @ inverse.T).clamp(min=0).float()
    return griffin_lim_from(magnitude.transpose(1, 2), ITERATIONS, seed=0)


#: What `heard` may tell.
HEARD = ("log_mel", "multi_resolution_stft", "visqol", "chroma", "comb", "stoi")


def heard(target: np.ndarray, made: np.ndarray, category: str) -> dict[str, float]:
    """Figures of a waveform ``(samples,)`` at 16 kHz; what does not apply is left out."""
    asked: dict[str, Callable[[], float]] = {
        "log_mel": lambda: log_mel_nat(target, made, MODEL_RATE),
        "multi_resolution_stft": lambda: multi_resolution_stft(target, made, MODEL_RATE),
        "visqol": lambda: visqol(target, made, MODEL_RATE),
    }
    if category in TONAL:
        asked["chroma"] = lambda: chroma_correlation(target, made, MODEL_RATE)
        asked["comb"] = lambda: comb_share(made, MODEL_RATE)
    if category.startswith("speech"):
        asked["stoi"] = lambda: stoi(target, made, MODEL_RATE)
    found = {}
    for name, figure in asked.items():
        with suppress(NotApplicable):
            found[name] = figure()
    return found


def interval(table: pd.DataFrame, name: str) -> dict[str, float]:
    """Mean over clips with its 95 % interval over recordings."""
    kept = table[table[name].notna()]
    return bootstrap_interval(kept[name].to_numpy(), recordings=kept["recording"]).as_dict()


def clap_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """Caption-to-audio retrieval among all eval clips."""
    from recipe.clap import retrieval

    captions = held_out.table["caption"].tolist()
    audio = torch.cat(
        [
            networks.clap_audio(torch.from_numpy(held_out.waveform(clip)[:160000])[None])
            for clip in tqdm(range(len(held_out)), desc="CLAP", unit="clip")
        ]
    )
    return retrieval(networks.clap_text(captions).float(), audio.float(), captions)


def denoiser_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """Squared epsilon error at ten noise levels and its ratio to the best linear denoiser's."""
    fitted = [networks.encode(mel)[0] for mel in tqdm(_mels(train)[::8], desc="latents")]
    config = networks.checkpoint.scheduler_config
    alphas_bar = torch.from_numpy(training_alphas_bar(config)).float()
    schedule = Schedule.from_config(config, placement=sorted(LEVELS, reverse=True))
    place = {t: i for i, t in enumerate(schedule.timesteps)}

    def estimate(x_t: torch.Tensor, levels: torch.Tensor, text: str) -> torch.Tensor:
        denoise = networks.denoiser(networks.embed([text]))
        pairs = zip(x_t.split(1), levels.tolist(), strict=True)
        return torch.cat([schedule.predict_noise(place[t], x, denoise(x, t)) for x, t in pairs])

    latents = [networks.encode(mel[:, :256])[0] for mel in _mels(held_out)]
    found = denoiser_ratios(
        estimate,
        tqdm(latents, desc="denoiser", unit="clip"),
        held_out.table["caption"].tolist(),
        LinearDenoiser.fit(fitted, PATCH),
        alphas_bar,
    )
    ratios = {level: row["ratio"] for level, row in found.items()}
    return {
        "alpha_bar": {level: alphas_bar[level].item() for level in found},
        "epsilon_error": {level: row["network"] for level, row in found.items()},
        "linear_error": {level: row["linear"] for level, row in found.items()},
        "ratio": ratios,
        "mean_ratio": float(np.mean(list(ratios.values()))),
        "worst_ratio": max(ratios.values()),
    }


def text_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """Class of generated samples, told by a classifier of real clips."""
    from recipe.classifier import classifier_figures

    return classifier_figures(networks, train, held_out)


def collapse_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """How alike the sounds of different prompts are, beside those of one prompt."""
    from recipe.classifier import alikeness

    return alikeness(networks, train)


def shipped_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """VAE's and vocoder's log-mel error on each clip that the project ships, for checks."""
    from audioldm_utils.audio.clips import find_clips
    from audioldm_utils.studies.model_card import clip_figures

    folder = Path(__file__).resolve().parents[2] / "audio"
    return clip_figures(networks, find_clips(folder))


FIGURES: dict[str, Callable[[Networks, Corpus, Corpus], dict[str, Any]]] = {
    "vae": vae_figures,
    "sound": sound_figures,
    "clap": clap_figures,
    "denoiser": denoiser_figures,
    "text": text_figures,
    "collapse": collapse_figures,
    "shipped": shipped_figures,
}


def evaluate(
    data: str | Path,
    checkpoint: str,
    out: str | Path,
    figures: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute the figures and write ``<out>/figures.json``; others of the same weights stay."""
    networks = Networks(load(checkpoint), window=None)
    train, held_out = load_corpus(data), load_corpus(data, "eval")
    path, folder = Path(out) / "figures.json", networks.checkpoint.path
    found = read_figures(Path(out), folder)
    for name in figures or FIGURES:
        found[name] = FIGURES[name](networks, train, held_out)
        weights = {kept: fingerprint(folder, FIGURE_PARTS[kept]) for kept in found}
        atomic_write(path, json.dumps({"weights": weights, **found}, indent=1) + "\n")
        print(name, json.dumps(found[name], indent=1))
    return found
