"""The mel VAE: an ``AutoencoderKL`` of AudioLDM2's shape (8 latent channels, 4x down)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from audioldm_utils.mel import MelConfig
from audioldm_utils.training.data import Corpus, load_corpus
from audioldm_utils.training.loop import Trainer, mixed_precision

#: Kullback-Leibler weight per latent value, against the mean absolute error per mel value.
KL_WEIGHT = 2e-3


def build_vae() -> torch.nn.Module:
    """A 2.6 M AutoencoderKL; no attention, so that any clip length costs linear time."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        latent_channels=8,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        norm_num_groups=8,
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
def mel_error(vae: torch.nn.Module, corpus: Corpus, clips: range) -> float:
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
    data: str | Path, folder: str | Path, budget: float, seed: int = 0, device: str = "cpu"
) -> torch.nn.Module:
    """Train, set ``scaling_factor``, and return the averaged VAE."""
    corpus, held_out = load_corpus(data), load_corpus(data, "eval")
    vae = build_vae().to(device)

    def loss(rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        # Short crops first for many steps; long ones later, since the normalisation
        # layers take their statistics from the whole crop.
        count, frames = (8, 128) if progress < 0.6 else (4, 384)
        clips, first = corpus.crops(rng, count, frames)
        mel = corpus.mel_batch(clips, first, frames)
        gain = torch.from_numpy(rng.uniform(-1.5, 0.2, (count, 1, 1, 1)).astype(np.float32))
        gain[torch.from_numpy(rng.random(count) < 0.5)] = 0.0
        return vae_loss(vae, (mel + gain).clamp(min=MelConfig().silence).to(device))

    trainer = Trainer(
        "vae",
        {"vae": vae},
        loss,
        folder,
        budget,
        learning_rate=8e-4,
        seed=seed,
        evaluate=lambda average: {"mae": mel_error(average["vae"], held_out, range(0, 105, 5))},
    )
    average = trainer.run()["vae"].cpu()
    step = max(1, len(corpus) // 300)
    average.register_to_config(
        scaling_factor=1.0 / latent_std(average, corpus, np.arange(0, len(corpus), step))
    )
    average.save_pretrained(Path(folder) / "vae", safe_serialization=True)
    return average


if __name__ == "__main__":
    import sys

    torch.set_num_threads(1)
    train_vae(sys.argv[1], sys.argv[2], float(sys.argv[3]))
