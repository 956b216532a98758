"""The figures that the model card quotes, each from this one command.

``python data/checkpoints/recipe evaluate --data DIR --checkpoint C`` judges on eval what
was trained on train; what is fitted here (PCA, linear denoiser, classifier) is fitted on
train as well. Every figure is a function of the checkpoint and the data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from audioldm_utils.files import atomic_write
from audioldm_utils.metrics.statistics import bootstrap_interval
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.checkpoint_fingerprint import fingerprint
from audioldm_utils.model.mel import griffin_lim
from audioldm_utils.model.networks import Networks
from audioldm_utils.model.schedule import Schedule, training_alphas_bar
from audioldm_utils.studies.linear_denoiser import PATCH, LinearDenoiser
from audioldm_utils.studies.model_card import FIGURE_PARTS, read_figures
from recipe.data import Corpus, load_corpus
from recipe.unet import LEVELS, denoiser_ratios
from recipe.vocoder import sound_figures

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
    found: dict[str, Any] = {"mel_error_nat": bootstrap_interval(errors).as_dict()}
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
        found[f"pca_{frames}_frames_nat"] = bootstrap_interval(scores).as_dict()
    best = min(found[f"pca_{frames}_frames_nat"]["mean"] for frames in PCA_FRAMES)
    found["ratio_to_best_pca"] = found["mel_error_nat"]["mean"] / best
    return found


def vocoder_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """From the true mel: multi-resolution STFT distance and mel error beside Griffin-Lim's."""
    ours, theirs = [], []
    for clip, mel in enumerate(tqdm(_mels(held_out, 1), desc="vocoder", unit="clip")):
        for rows, made in ((ours, networks.vocode(mel)), (theirs, griffin_lim(mel, seed=0))):
            rows.append(sound_figures(held_out.waveform(clip), made[0].cpu().numpy()))
    found = {
        f"{name}_{who}": bootstrap_interval([row[key] for row in rows]).as_dict()
        for name, key in (("mrstft", "multi_resolution_stft"), ("mel", "log_mel"))
        for who, rows in (("vocoder", ours), ("griffin_lim", theirs))
    }
    found["mrstft_ratio"] = found["mrstft_vocoder"]["mean"] / found["mrstft_griffin_lim"]["mean"]
    return found


def visqol_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """ViSQOL of VAE + vocoder minus that of VAE mel + Griffin-Lim, paired over clips."""
    from audioldm_utils.metrics import visqol

    differences, both = [], {"vae": [], "vae-griffinlim": []}
    for clip, mel in enumerate(tqdm(_mels(held_out), desc="ViSQOL", unit="clip")):
        decoded = networks.decode(networks.encode(mel))
        target = held_out.waveform(clip)[: mel.shape[1] * 160]
        scores = [
            visqol(target, wave[0].numpy(), 16000)
            for wave in (networks.vocode(decoded), griffin_lim(decoded, iterations=32, seed=0))
        ]
        both["vae"].append(scores[0])
        both["vae-griffinlim"].append(scores[1])
        differences.append(scores[0] - scores[1])
    return {
        "difference": bootstrap_interval(differences).as_dict(),
        **{name: bootstrap_interval(values).as_dict() for name, values in both.items()},
    }


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
    }


def text_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """Class of generated samples, told by a classifier of real clips."""
    from recipe.classifier import classifier_figures

    return classifier_figures(networks, train, held_out)


def shipped_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """VAE's and vocoder's log-mel error on each clip that the project ships, for checks."""
    from audioldm_utils.audio.clips import find_clips
    from audioldm_utils.studies.model_card import clip_figures

    folder = Path(__file__).resolve().parents[2] / "audio"
    return clip_figures(networks, find_clips(folder))


FIGURES: dict[str, Callable[[Networks, Corpus, Corpus], dict[str, Any]]] = {
    "vae": vae_figures,
    "vocoder": vocoder_figures,
    "visqol": visqol_figures,
    "clap": clap_figures,
    "denoiser": denoiser_figures,
    "text": text_figures,
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
