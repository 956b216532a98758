"""What the model card tells, from ``figures.json`` and ``card/`` in the checkpoint's folder.

Any of them may be absent from a checkpoint that was not trained here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import safe_open
from scipy.stats import binomtest

from audioldm_utils import bounds
from audioldm_utils.audio.clips import ClipInfo, load_clip, to_model_rate
from audioldm_utils.metrics.statistics import Interval
from audioldm_utils.model.checkpoint_fingerprint import fingerprint
from audioldm_utils.model.generation import make_scheduler, sample
from audioldm_utils.model.networks import Networks
from audioldm_utils.results.summaries import interval_text, proper_minus
from audioldm_utils.studies.rows import Excerpt
from audioldm_utils.studies.verdicts import UNDECIDED, claim

#: The published ``cvssp/audioldm2``, from its configurations; parameters in millions, counted on
#: the same architecture with random weights.
PUBLISHED = {
    ("vae", "parameters, M"): 55.38,
    ("vae", "block_out_channels"): [128, 256, 512],
    ("vae", "latent_channels"): 8,
    ("vocoder", "parameters, M"): 55.27,
    ("vocoder", "upsample_initial_channel"): 1024,
    ("vocoder", "upsample_rates"): [5, 4, 2, 2, 2],
    ("unet", "parameters, M"): 346.94,
    ("unet", "block_out_channels"): [128, 256, 384, 640],
    ("unet", "layers_per_block"): 2,
    ("text_encoder", "projection_dim"): 512,
    ("text_encoder_2", "d_model"): 1024,
    ("text_encoder_2", "num_layers"): 24,
    ("language_model", "n_embd"): 768,
    ("language_model", "n_layer"): 12,
    ("scheduler", "beta_start"): 0.0015,
    ("scheduler", "beta_end"): 0.0195,
}
#: What is asked of the figures: label, keys in ``figures.json``, which bound of what, and it.
#: ``most``, ``least``: of the value; ``below``: of the whole interval.
ASKED = (
    ("VAE, log-mel error, nat", ("vae", "mel_error_nat"), "most", 0.10),
    ("VAE, ratio to the best PCA of mel patches", ("vae", "ratio_to_best_pca"), "", None),
    ("vocoder from the true mel, log-mel error, nat", ("sound", "mel-vocoder", "log_mel"),
     "most", 0.40),
    ("vocoder, STFT distance re plain Griffin-Lim's", ("sound", "vocoder_re_plain_all"),
     "most", 1.25),
    ("the same re this project's Griffin-Lim", ("sound", "vocoder_ratio_all"), "", None),
    ("energy in the 100 Hz comb, tonal recordings", ("sound", "original", "comb"), "", None),
    ("100 Hz comb, VAE and vocoder", ("sound", "vae-vocoder", "comb"), "most", 0.60),
    ("100 Hz comb, VAE and synthesis", ("sound", "whole_path", "comb"), "most", 0.10),
    ("chroma correlation, VAE and vocoder", ("sound", "vae-vocoder", "chroma"), "least", 0.30),
    ("chroma correlation, VAE and synthesis", ("sound", "whole_path", "chroma"), "least", 0.85),
    ("STOI of speech, VAE and vocoder", ("sound", "vae-vocoder", "stoi"), "least", 0.78),
    ("STOI of speech, VAE and synthesis", ("sound", "whole_path", "stoi"), "least", 0.90),
    ("ViSQOL, VAE and synthesis, MOS", ("sound", "whole_path", "visqol"), "least", 4.5),
    ("STFT distance, VAE and synthesis", ("sound", "whole_path", "multi_resolution_stft"),
     "most", 1.10),
    ("inverse, STFT distance re plain Griffin-Lim's", ("sound", "inverse_re_plain_all"),
     "most", 0.88),
    ("inverse, the same, tonal clips", ("sound", "inverse_re_plain_tonal"), "most", 0.65),
    ("denoiser, error re the best linear one's, mean of levels", ("denoiser", "mean_ratio"),
     "most", 0.75),
    ("denoiser, worst level", ("denoiser", "worst_ratio"), "most", 1.0),
    ("asked class of samples told, share", ("text", "accuracy_of_all"), "least", 0.50),
    ("class of real clips told, VAE and synthesis", ("text", "real_through_vae_and_synthesis"),
     "", None),
    ("different prompts at one seed, correlation of spectra",
     ("collapse", "different_prompts_one_seed"), "most", 0.4),
    ("one prompt at different seeds", ("collapse", "one_prompt_different_seeds"), "", None),
    ("samples below −45 dBFS at the level of files", ("text", "below_45_dbfs"), "most", 0),
    ("share told, change with another GPT-2 sequence", ("text", "other_gpt2", "difference"),
     "below", 0.0),
    ("share told, change with another T5 sequence", ("text", "other_t5", "difference"),
     "below", 0.0),
    ("CLAP, recall among 10 over chance", ("clap", "over_chance"), "least", 6.0),
)  # fmt: skip
#: Component to its name in the figure of training, and the part of its loss that is drawn.
CURVES = {
    "vae": ("vae", "mae"),
    "vocoder": ("vocoder", "mrstft"),
    "inverse": ("fitted inverse", "log"),
    "clap": ("text and sound (CLAP)", "contrastive"),
    "unet": ("denoiser", "weighted"),
}
#: Components that each figure depends on; all where none is named.
FIGURE_PARTS: dict[str, tuple[str, ...]] = {
    "vae": ("vae",),
    "sound": ("vae", "vocoder"),
    "shipped": ("vae", "vocoder"),
    "clap": ("text_encoder", "tokenizer", "feature_extractor"),
    "denoiser": (),
    "text": (),
    "collapse": (),
}
#: Share of real clips never trained on that lie within the strict limit of near-copies.
STRICT = 0.05
#: Seconds of each shipped clip in `clip_figures`.
SECONDS = 2.56


def read_figures(folder: Path, checkpoint: Path | None = None) -> dict[str, Any]:
    """``figures.json`` of a folder, without what was computed of other weights; empty without it.

    ``checkpoint`` is the checkpoint's folder, if that is another one.
    """
    path = folder / "figures.json"
    stored = json.loads(path.read_text()) if path.is_file() else {}
    weights = stored.get("weights", {})
    return {
        name: stored[name]
        for name, parts in FIGURE_PARTS.items()
        if name in stored and weights.get(name) == fingerprint(checkpoint or folder, parts)
    }


def read_table(folder: Path, name: str) -> pd.DataFrame | None:
    """``card/NAME.csv`` of a checkpoint folder, or None."""
    path = folder / "card" / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else None


def figures_table(figures: Mapping[str, Any]) -> pd.DataFrame:
    """Every figure that was computed, with its interval, what is asked, and whether it is met."""
    kinds = {
        "most": ("≤", lambda value, low, high, bound: value <= bound),
        "least": ("≥", lambda value, low, high, bound: value >= bound),
        "below": ("interval below", lambda value, low, high, bound: high < bound),
    }
    rows = []
    for label, keys, kind, bound in ASKED:
        found: Any = figures
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is None:
            continue
        interval = found if isinstance(found, Mapping) else {"mean": found}
        values = [interval.get(name, math.nan) for name in ("mean", "low", "high")]
        asked = met = ""
        if kind:
            word, holds = kinds[kind]
            asked, met = f"{word} {bound:g}", "yes" if holds(*values, bound) else "no"
        rows.append((label, *values, interval.get("n", ""), asked, met))
    return pd.DataFrame(rows, columns=["figure", "value", "low", "high", "n", "asked", "met"])


def _digits(value: float, asked: str) -> int:
    bound = asked.split()[-1] if asked else ""
    return next((d for d in range(3, 7) if not bound or float(bound) == value
                 or float(f"{value:.{d}f}") != float(bound)), 7)  # fmt: skip


def digits(value: float, asked: str) -> str:
    """A value with as many digits as tell it from its bound: ``0.7502`` where ``≤ 0.75``."""
    return proper_minus(f"{value:.{_digits(value, asked)}f}")


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The figures as text, with as many digits as tell a value from its bound."""

    def told(row: Any) -> str:
        return interval_text(row.value, row.low, row.high, f".{_digits(row.value, row.asked)}f")

    values = [told(row) for row in table.itertuples()]
    kept = table.assign(value=values).rename(columns={"value": "value [95 % interval]"})
    return kept.drop(columns=["low", "high"])


def loss_curves(log: pd.DataFrame | None) -> pd.DataFrame:
    """Training losses of `CURVES` as a share of the first, by ``name`` and ``minutes``."""
    parts = []
    for component, (name, key) in CURVES.items() if log is not None else ():
        part = log[(log["component"] == component) & (log["key"] == key)]
        if len(part):
            share = part["value"] / part["value"].iloc[0]
            minutes = part["seconds"] / 60
            parts.append(pd.DataFrame({"name": name, "minutes": minutes, "mean": share}))
    found = pd.concat(parts) if parts else pd.DataFrame(columns=["name", "minutes", "mean"])
    return found.assign(low=math.nan, high=math.nan)


def claims(figures: Mapping[str, Any]) -> dict[str, str]:
    """Upheld, refuted or undecided: what the card claims of the checkpoint, by key.

    1: the VAE errs less than the best linear code of as many numbers; 2: the denoiser errs less
    than the best linear one, in the mean of its noise levels; 3: the class of samples is told
    more often than by chance; 4: samples are no nearer to train clips than real clips which were
    never trained on: fewer are near-copies by a limit that one in twenty of those passes.
    """
    vae, text = figures.get("vae", {}), figures.get("text", {})
    best = min((one["mean"] for name, one in vae.items() if name.startswith("pca_")), default=None)
    error = _interval(vae["mel_error_nat"]) if vae else None
    return {
        "claim_1": UNDECIDED if best is None else claim(error, best, above=False),
        "claim_2": UNDECIDED,  # its figure has no interval
        "claim_3": claim(_interval(text["accuracy_of_all"]), text["chance"]) if text else UNDECIDED,
        "claim_4": claim(copied(text), STRICT, above=False),
    }


def copied(text: Mapping[str, Any], which: str = "strict_near_copies") -> Interval | None:
    """Share of all samples that are near-copies, with its exact binomial interval."""
    if which not in text:
        return None
    count, n = int(text[which]), int(text["nearest_train_nat"]["n"])
    limits = binomtest(count, n).proportion_ci()
    return Interval(count / n, float(limits.low), float(limits.high), n)


def _interval(found: Mapping[str, float]) -> Interval:
    return Interval(*(found[name] for name in ("mean", "low", "high")), int(found["n"]))


def parameters_of(folder: Path) -> float:
    """Millions of parameters in a component folder, from the headers of its weights."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as handle:
            for key in handle.keys():  # noqa: SIM118
                total += math.prod(handle.get_slice(key).get_shape())
    return total / 1e6


def architecture(folder: Path) -> pd.DataFrame:
    """The checkpoint's configuration beside the published one, one row a property."""
    rows = []
    for (component, name), published in PUBLISHED.items():
        part = folder / component
        if name == "parameters, M":
            own: Any = round(parameters_of(part), 2)
        else:
            file = "scheduler_config.json" if component == "scheduler" else "config.json"
            own = json.loads((part / file).read_text()).get(name, "") if part.is_dir() else ""
        rows.append((component, name.replace("_", " "), str(own), str(published)))
    return pd.DataFrame(rows, columns=["component", "property", "this", "published"])


def clip_figures(networks: Networks, clips: Sequence[ClipInfo]) -> dict[str, dict[str, float]]:
    """Log-mel error of VAE and of vocoder, nat, on the first seconds of each clip."""
    found = {}
    for info in clips:
        excerpt = Excerpt.of(to_model_rate(load_clip(info)), networks, SECONDS)
        found[info.name] = {
            "vae_nat": excerpt.mel_error(networks.decode(excerpt.latents)),
            "vocoder_nat": excerpt.mel_error(networks.to_mel(networks.vocode(excerpt.mel))),
        }
    return found


def samples(
    networks: Networks, prompts: Sequence[str], steps: int, seconds: float, seed: int = 0
) -> list[Any]:
    """A sound a prompt, (n,) each at 16 kHz, by DDIM with guidance, in batches."""
    for name, value in (("sample_steps", steps), ("sample_seconds", seconds), ("seed", seed)):
        bounds.check_parameter(name.removeprefix("sample_"), name, value)
    networks.checkpoint.use_channels_last()
    frames, made = round(seconds * 25), []
    for first in range(0, len(prompts), 22):
        texts = list(prompts[first : first + 22])
        generator = torch.Generator().manual_seed(seed + first)
        noise = torch.randn((len(texts), 8, frames, 16), generator=generator)
        scheduler = make_scheduler("ddim", networks.checkpoint.scheduler_config)
        denoiser = networks.denoiser(networks.embed(texts, ""), 3.5)
        latents = sample(networks, scheduler, denoiser, noise, steps)
        made += [wave.numpy() for wave in networks.synthesise(networks.decode(latents)).cpu()]
    return made
