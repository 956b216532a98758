"""The vocoder: a ``SpeechT5HifiGan`` with AudioLDM2's rates, log-mel to waveform.

Kong et al., HiFi-GAN, arXiv 2010.05646, for the generator; the spectral losses are
auraloss's multi-resolution STFT distance and the front end's own log-mel distance.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from audioldm_utils.model.mel import MelConfig, log_mel
from recipe.data import Corpus, load_corpus
from recipe.loop import Trainer, mixed_precision

#: The generator returns 32 samples too many (kernel 16 at rate 5); half of them lead.
EXTRA_SAMPLES = 32


def build_vocoder() -> torch.nn.Module:
    """A 1.7 M SpeechT5HifiGan: the published rates, two residual branches a stage."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=64,
            sampling_rate=16000,
            upsample_initial_channel=256,
            upsample_rates=[5, 4, 2, 2, 2],
            upsample_kernel_sizes=[16, 16, 8, 4, 4],
            resblock_kernel_sizes=[3, 7],
            resblock_dilation_sizes=[[1, 3], [1, 3]],
            normalize_before=False,
        )
    )


def synthesise(vocoder: torch.nn.Module, mel: torch.Tensor) -> torch.Tensor:
    """Waveform ``(batch, frames * 160)`` of a log-mel ``(batch, frames, 64)``, aligned."""
    lead = EXTRA_SAMPLES // 2
    return vocoder(mel)[:, lead : lead + mel.shape[1] * MelConfig().hop_length]


def fold_weight_norm(vocoder: torch.nn.Module) -> None:
    """Fold weight normalisation into plain weights.

    ``SpeechT5HifiGan.remove_weight_norm`` looks for torch's older hook and does not find
    the parametrisation that its own ``apply_weight_norm`` sets.
    """
    from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

    for module in vocoder.modules():
        if is_parametrized(module, "weight"):
            remove_parametrizations(module, "weight", leave_parametrized=True)


def spectral_loss() -> Callable[..., tuple[torch.Tensor, dict[str, float]]]:
    """Multi-resolution STFT distance (auraloss's defaults), log-mel error, mel convergence.

    The first of them would rather have silence than a tone at the wrong frequency, and this
    generator cannot place one anywhere: from a mel that stands still its output repeats every
    frame, so it holds multiples of 100 Hz alone. The last, the relative error of the mel
    magnitudes, asks for the tone's level within its band.
    """
    import auraloss

    distance = auraloss.freq.MultiResolutionSTFTLoss()

    def loss(estimate: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        stft = distance(estimate[:, None], target[:, None])
        ours, theirs = log_mel(estimate), log_mel(target)
        mel = (ours - theirs).abs().mean()
        ours, theirs = ours.exp(), theirs.exp()
        level = ((ours - theirs).abs().sum((1, 2)) / theirs.sum((1, 2))).mean()
        return stft + mel + level, {
            "mrstft": stft.item(),
            "mel": mel.item(),
            "level": level.item(),
        }

    return loss


@torch.no_grad()
def vocoder_error(vocoder: torch.nn.Module, corpus: Corpus, clips: range) -> dict[str, float]:
    """Whole-clip figures from the true mel, averaged over clips."""
    loss = spectral_loss()
    figures = [
        loss(
            synthesise(vocoder, torch.from_numpy(corpus.log_mel(clip))[None]),
            torch.from_numpy(corpus.waveform(clip))[None],
        )[1]
        for clip in clips
    ]
    return {key: float(np.mean([row[key] for row in figures])) for key in figures[0]}


def train_vocoder(
    data: str | Path,
    folder: str | Path,
    budget: float,
    seed: int = 0,
    device: str = "cpu",
    vae: torch.nn.Module | None = None,
    start: str | Path | None = None,
    name: str = "vocoder",
    learning_rate: float = 1e-3,
) -> torch.nn.Module:
    """Train from true mels, or from the VAE's reconstructions of them if ``vae`` is given.

    Args:
        vae: fine-tune on this VAE's own output (one crop in four keeps its true mel,
            so that the vocoder stays usable from any mel).
        start: checkpoint folder whose vocoder to begin from.
    """
    corpus, held_out = load_corpus(data), load_corpus(data, "eval")
    if start:
        from transformers import SpeechT5HifiGan

        vocoder = SpeechT5HifiGan.from_pretrained(
            Path(start) / "vocoder", torch_dtype=torch.float32
        )
    else:
        vocoder = build_vocoder()
    vocoder.to(device)
    vocoder.apply_weight_norm()
    criterion = spectral_loss()

    def loss(rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        # Many small steps first; longer crops once pitch and noise are there.
        count, frames = (6, 40) if vae is None and progress < 0.7 else (6, 96)
        clips, first = corpus.crops(rng, count, frames)
        mel = corpus.mel_batch(clips, first, frames).to(device)
        target = corpus.audio_batch(clips, first, frames).to(device)
        if vae is not None:
            with torch.no_grad(), mixed_precision(mel.device.type):
                rebuilt = vae.decode(vae.encode(mel).latent_dist.mode()).sample.float()
            keep = torch.from_numpy(rng.random(count) < 0.25)[:, None, None, None]
            mel = torch.where(keep, mel, rebuilt)
        # Single precision: in bfloat16 the waveform's own rounding, 54 dB down and white,
        # is louder than the quiet bands whose logarithm the losses compare.
        estimate = synthesise(vocoder, mel[:, 0])
        return criterion(estimate, target)

    trainer = Trainer(
        name,
        {"vocoder": vocoder},
        loss,
        folder,
        budget,
        learning_rate=learning_rate,
        seed=seed,
        evaluate=lambda average: vocoder_error(average["vocoder"], held_out, range(0, 105, 5)),
        betas=(0.8, 0.99),
        clip=5.0,
    )
    average = trainer.run()["vocoder"].cpu()
    fold_weight_norm(average)
    average.save_pretrained(Path(folder) / name, safe_serialization=True)
    return average


if __name__ == "__main__":
    import sys

    torch.set_num_threads(1)
    train_vocoder(sys.argv[1], sys.argv[2], float(sys.argv[3]))
