"""The mel VAE: an ``AutoencoderKL`` of AudioLDM2's shape (8 latent channels, 4x down).

Two parts: its linear chain alone (:mod:`recipe.linear_vae`), then the whole
network from there. Train and tune alone are read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from audioldm_utils.model.mel import MelConfig
from recipe import linear_vae
from recipe.data import Corpus, load_corpus
from recipe.loop import Trainer, mixed_precision

#: Kullback-Leibler weight per latent value, against the mean absolute error per mel value.
KL_WEIGHT = 1e-4
#: Share of the budget that the linear chain gets, and at most so many seconds.
LINEAR_SHARE, LINEAR_SECONDS = 0.2, 900.0
#: Spread of the noise on the linear chain's latents, so that they stay away from nothing.
LATENT_NOISE = 0.01


def build_vae() -> torch.nn.Module:
    """A 2.6 M AutoencoderKL; no attention, so that any clip length costs linear time.

    One normalisation group: the whole signal is scaled as one, so that nothing between the
    channels is lost and silence or a long clip changes little.
    """
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        latent_channels=8,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        norm_num_groups=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False,
        sample_size=64,
    )


def vae_loss(vae: torch.nn.Module, mel: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean absolute log-mel error plus a light Kullback-Leibler term."""
    with mixed_precision(mel.device.type):
        posterior = vae.encode(mel).latent_dist
        estimate = vae.decode(posterior.sample()).sample
    error = (estimate.float() - mel).abs().mean()
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return error + KL_WEIGHT * divergence, {"mae": error.item(), "kl": divergence.item()}


@torch.no_grad()
def mel_error(vae: torch.nn.Module, corpus: Corpus, clips: np.ndarray) -> float:
    """Mean over clips of the absolute log-mel error, from the posterior mode, whole clips."""
    errors = []
    for clip in clips:
        mel = torch.from_numpy(corpus.log_mel(clip))[
            None, None, : corpus.table["frames"][clip] // 4 * 4
        ]
        estimate = vae.decode(vae.encode(mel).latent_dist.mode()).sample
        errors.append((estimate - mel).abs().mean().item())
    return float(np.mean(errors))


def latent_std(
    vae: torch.nn.Module, corpus: Corpus, clips: np.ndarray, frames: int = 1024
) -> float:
    """Standard deviation of the train latents over everything; 1 / it is ``scaling_factor``."""
    with torch.no_grad():
        values = [
            vae.encode(
                torch.from_numpy(
                    corpus.log_mel(clip)[:frames][: len(corpus.log_mel(clip)) // 4 * 4]
                )[None, None]
            )
            .latent_dist.mode()
            .flatten()
            for clip in clips
            if corpus.table["frames"][clip] >= 4
        ]
    return torch.cat(values).std().item()


def train_vae(
    data: str | Path,
    folder: str | Path,
    budget: float,
    seed: int = 0,
    device: str = "cpu",
    start: str | Path | None = None,
    learning_rate: float = 1.5e-4,
) -> torch.nn.Module:
    """Train, set ``scaling_factor``, and return the averaged VAE.

    Args:
        data, folder, budget, seed, device: as for every component.
        start: checkpoint folder whose VAE to go on from, rather than from random weights.
        learning_rate: peak, of the whole network.
    """
    corpus = load_corpus(data)
    tune = np.flatnonzero(corpus.held)[::2]
    torch.manual_seed(seed)

    def batch(rng: np.random.Generator, count: int, frames: int) -> torch.Tensor:
        clips, first = corpus.crops(rng, count, frames)
        mel = corpus.mel_batch(clips, first, frames)
        gain = torch.from_numpy(rng.uniform(-1.5, 0.2, (count, 1, 1, 1)).astype(np.float32))
        gain[torch.from_numpy(rng.random(count) < 0.5)] = 0.0
        return (mel + gain).clamp(min=MelConfig().silence).to(device)

    if start:
        from diffusers import AutoencoderKL

        vae = AutoencoderKL.from_pretrained(Path(start) / "vae", torch_dtype=torch.float32)
        linear_vae.unfold(vae)
        vae.to(device)
    else:
        vae = build_vae()
        linear_vae.normalise_ends(vae)
        linear_vae.preserve_variance(vae)
        vae.to(device)
        seconds = min(LINEAR_SHARE * budget, LINEAR_SECONDS)
        vae = _train_chain(vae, batch, folder, seconds, seed).to(device)
        linear_vae.graft(vae, batch(np.random.default_rng(seed), 16, 256))
        budget -= seconds

    def loss(rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        # Short crops first for many steps; long ones later, since the normalisation
        # layers take their statistics from the whole crop.
        return vae_loss(vae, batch(rng, *((6, 64) if progress < 0.5 else (4, 192))))

    trainer = Trainer(
        "vae",
        {"vae": vae},
        loss,
        folder,
        budget,
        learning_rate=learning_rate,
        seed=seed,
        evaluate=lambda average: {"mae": mel_error(average["vae"], corpus, tune)},
        weight_decay=0.0,
    )
    average = trainer.run()["vae"].cpu()
    linear_vae.fold(average)
    step = max(1, len(corpus) // 300)
    average.register_to_config(
        scaling_factor=1.0 / latent_std(average, corpus, np.arange(0, len(corpus), step))
    )
    average.save_pretrained(Path(folder) / "vae", safe_serialization=True)
    return average


def _train_chain(
    vae: torch.nn.Module, batch: object, folder: str | Path, seconds: float, seed: int
) -> torch.nn.Module:
    """Train the linear chain alone; its curve is kept as ``vae_linear``."""

    def loss(rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        mel = batch(rng, 4, 64)
        z = linear_vae.encode_linear(vae, mel)
        estimate = linear_vae.decode_linear(vae, z + LATENT_NOISE * torch.randn_like(z))
        error = (estimate - mel).abs().mean()
        return error, {"mae": error.item()}

    trainer = Trainer(
        "vae_linear", {"vae": vae}, loss, folder, seconds, 6e-4, seed, weight_decay=0.0
    )
    return trainer.run()["vae"].requires_grad_(True)


def rebuilder(
    folder: str | Path, device: str
) -> Callable[[torch.Tensor, np.random.Generator], torch.Tensor]:
    """Gives back log-mels ``(batch, frames, 64)``, half of them as ``folder``'s VAE makes them.

    Frames come in fours.
    """
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(Path(folder) / "vae", torch_dtype=torch.float32)
    vae.to(device).eval()

    @torch.no_grad()
    def rebuild(mel: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        keep = torch.from_numpy(rng.random(len(mel)) < 0.5)[:, None, None].to(device)
        with mixed_precision(mel.device.type):
            made = vae.decode(vae.encode(mel[:, None]).latent_dist.mode()).sample[:, 0].float()
        return torch.where(keep, mel, made)

    return rebuild
