"""The vocoder: a ``SpeechT5HifiGan`` with AudioLDM2's rates, log-mel to waveform.

Kong et al., HiFi-GAN, arXiv 2010.05646, for the generator; the spectral losses are
auraloss's multi-resolution STFT distance and the front end's own log-mel distance. A second
run goes on against discriminators of spectrograms (Jang et al., UnivNet, arXiv 2106.07889).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.metrics.pitch import chroma_correlation, comb_share
from audioldm_utils.metrics.signal import log_mel_nat, multi_resolution_stft
from audioldm_utils.model.mel import MelConfig, log_mel, mel_filterbank, stft_magnitude
from recipe.data import Corpus, load_corpus
from recipe.loop import Trainer
from recipe.split import TONAL
from recipe.vae import rebuilder

#: The generator returns 32 samples too many (kernel 16 at rate 5); half of them lead.
EXTRA_SAMPLES = 32
#: Windows of the spectral loss. Only the longest tell a tone from a comb of 100 Hz.
WINDOWS = (512, 1024, 2048, 4096)
#: Windows and hops of the discriminators, and their channels.
JUDGES, JUDGE_CHANNELS = ((512, 128), (1024, 256), (4096, 1024)), 16
#: Mean mel magnitude below which the relative error is not relative any more.
QUIET = 1e-3
#: Weight of the log-mel error against the STFT distance. From 14,400 s on; it was 1 before, where
#: the curve of the log-mel error had flattened at 0.416 nat on `tune`.
MEL_WEIGHT = 3.0
#: Weight of the adversarial term against the spectral ones.
ADVERSARIAL = 0.5
#: Largest spread of the noise on the mel, nat. A mel that stands still can hold no tone, since
#: the output repeats every frame; with noise there is always something that breaks the tie.
DITHER = 0.1


def build_vocoder() -> torch.nn.Module:
    """A 1.4 M SpeechT5HifiGan: the published rates, one residual branch of wide dilations.

    The layers with many dilations cost least where they see most, at 500 Hz.
    """
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=64,
            sampling_rate=16000,
            upsample_initial_channel=256,
            upsample_rates=[5, 4, 2, 2, 2],
            upsample_kernel_sizes=[16, 16, 8, 4, 4],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1, 3, 9, 27]],
            normalize_before=True,
        )
    )


def prepare(vocoder: torch.nn.Module, corpus: Corpus) -> None:
    """Begin well: each band's own mean and spread, and weights that keep the variance.

    The layout's initial spread of 0.01 starves the generator: it stays silent for long.
    """
    mel = torch.from_numpy(corpus.mel[::50].astype(np.float32))
    vocoder.mean.copy_(mel.mean(0))
    vocoder.scale.copy_(mel.std(0))
    for name, module in vocoder.named_modules():
        if isinstance(module, torch.nn.Conv1d):
            fan = module.in_channels * module.kernel_size[0]
        elif isinstance(module, torch.nn.ConvTranspose1d):
            fan = module.in_channels * module.kernel_size[0] / module.stride[0]
        else:
            continue
        share = 0.1 if name == "conv_post" else 0.3 if ".convs2." in name else 1.0
        torch.nn.init.normal_(module.weight, std=share / fan**0.5)
        torch.nn.init.zeros_(module.bias)


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
    """Multi-resolution STFT distance, log-mel error, and relative error of the mel magnitudes.

    The first would rather have silence than a tone at the wrong frequency; the last asks for
    the tone's level within its band. The floor of the logarithm is added, not clamped: below a
    clamp there is no gradient, and a silent generator stays silent.
    """
    import auraloss

    distance = auraloss.freq.MultiResolutionSTFTLoss(
        fft_sizes=WINDOWS, hop_sizes=[w // 4 for w in WINDOWS], win_lengths=WINDOWS
    )
    bank, floor = mel_filterbank(MelConfig(), torch.float32, "cpu"), MelConfig().floor

    def loss(estimate: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        stft = distance(estimate[:, None], target[:, None])
        ours, theirs = (bank.to(x.device) @ stft_magnitude(x) for x in (estimate, target))
        mel = ((ours + floor).log() - (theirs + floor).log()).abs().mean()
        level = ((ours - theirs).abs().mean((1, 2)) / theirs.mean((1, 2)).clamp(min=QUIET)).mean()
        return stft + MEL_WEIGHT * mel + level, {
            "mrstft": stft.item(),
            "mel": mel.item(),
            "level": level.item(),
        }

    return loss


class Judges(torch.nn.Module):
    """Discriminators of log-magnitude spectrograms, one a window; no one hears the phase."""

    def __init__(self) -> None:
        super().__init__()
        channels = JUDGE_CHANNELS
        self.nets = torch.nn.ModuleList()
        for _ in JUDGES:
            layers: list[torch.nn.Module] = []
            for ins, stride in ((1, 1), (channels, 2), (channels, 2), (channels, 2)):
                layers += [
                    torch.nn.Conv2d(ins, channels, (9, 3), (stride, 1), (4, 1)),
                    torch.nn.LeakyReLU(0.2),
                ]
            self.nets.append(
                torch.nn.Sequential(*layers, torch.nn.Conv2d(channels, 1, 3, padding=1))
            )

    def forward(self, wave: torch.Tensor) -> list[torch.Tensor]:
        """A map of scores a discriminator, of waveforms ``(batch, samples)``."""
        scores = []
        for (window, hop), net in zip(JUDGES, self.nets, strict=True):
            shape = torch.hann_window(window, device=wave.device)
            spectrum = torch.stft(wave, window, hop, window=shape, return_complex=True)
            power = spectrum.real.square() + spectrum.imag.square()
            scores.append(net((power + 1e-7).log()[:, None] / 4 + 1))
        return scores


def contest(
    judges: Judges, estimate: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Least-squares terms of the generator, and of the judges; one backward serves both."""
    frozen = {name: value.detach() for name, value in judges.named_parameters()}
    fooled = torch.func.functional_call(judges, frozen, (estimate,))
    generator = sum((1 - score).square().mean() for score in fooled)
    real, made = judges(target), judges(estimate.detach())
    own = sum((1 - score).square().mean() for score in real)
    own = own + sum(score.square().mean() for score in made)
    return generator / len(JUDGES), own / len(JUDGES)


def sound_figures(reference: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """The project's own two distances of waveforms ``(samples,)`` at 16 kHz, the second in nat."""
    return {
        "multi_resolution_stft": multi_resolution_stft(reference, made, MODEL_RATE),
        "log_mel": log_mel_nat(reference, made, MODEL_RATE),
    }


@torch.no_grad()
def vocoder_error(vocoder: torch.nn.Module, corpus: Corpus, clips: np.ndarray) -> dict[str, float]:
    """Figures of whole clips from the true mel, averaged over clips; pitch over the tonal ones."""
    rows, tonal = [], []
    for clip in clips:
        mel, target = torch.from_numpy(corpus.log_mel(clip))[None], corpus.waveform(clip)
        made = synthesise(vocoder, mel)[0].numpy()
        rows.append(sound_figures(target, made))
        if corpus.table["class"].iloc[clip] in TONAL:
            tonal.append(
                (chroma_correlation(target, made, MODEL_RATE), comb_share(made, MODEL_RATE))
            )
    found = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    pitch = zip(("chroma", "comb"), zip(*tonal, strict=True), strict=False)
    return found | {key: float(np.mean(values)) for key, values in pitch}


def train_vocoder(
    data: str | Path,
    folder: str | Path,
    budget: float,
    seed: int = 0,
    device: str = "cpu",
    start: str | Path | None = None,
    learning_rate: float | None = None,
    adversarial: bool = False,
) -> torch.nn.Module:
    """Train on true mels; the adversarial run on the VAE's reconstructions of half of them too.

    Args:
        data, folder, budget, seed, device: as for every component.
        start: checkpoint folder whose vocoder to begin from; the adversarial run goes on from
            ``folder``'s own vocoder without it.
        learning_rate: peak (default: 1e-3, adversarial 2e-4).
        adversarial: against discriminators; its state is ``vocoder_adversarial``.
    """
    from transformers import SpeechT5HifiGan

    corpus = load_corpus(data)
    tune = np.flatnonzero(corpus.held)[::3]
    torch.manual_seed(seed)
    start = start or (folder if adversarial else None)
    if start:
        vocoder = SpeechT5HifiGan.from_pretrained(
            Path(start) / "vocoder", torch_dtype=torch.float32
        )
    else:
        vocoder = build_vocoder()
        prepare(vocoder, corpus)
    vocoder.apply_weight_norm()
    modules = {"vocoder": vocoder.to(device)}
    rebuild = None
    if adversarial:
        modules["judges"] = judges = Judges().to(device)
        rebuild = rebuilder(folder, device)
    criterion = spectral_loss()

    def loss(rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        # Many small steps first; longer crops once level and noise are there.
        count, frames = (5, 64) if progress < 0.3 and not adversarial else (4, 128)
        target = corpus.varied_audio(rng, count, frames).to(device)
        mel = log_mel(target)
        if rebuild:
            mel = rebuild(mel, rng)
        spread = torch.from_numpy(rng.uniform(0, DITHER, (count, 1, 1)).astype(np.float32))
        mel = mel + spread.to(device) * torch.randn_like(mel)
        # Single precision: in bfloat16 the waveform's own rounding, 54 dB down and white,
        # is louder than the quiet bands whose logarithm the losses compare.
        estimate = synthesise(vocoder, mel)
        value, figures = criterion(estimate, target)
        if adversarial:
            fooling, judging = contest(judges, estimate, target)
            value = value + ADVERSARIAL * fooling + judging
            figures |= {"fooling": fooling.item(), "judging": judging.item()}
        return value, figures

    trainer = Trainer(
        "vocoder_adversarial" if adversarial else "vocoder",
        modules,
        loss,
        folder,
        budget,
        learning_rate=learning_rate or (2e-4 if adversarial else 1e-3),
        seed=seed,
        evaluate=lambda average: vocoder_error(average["vocoder"], corpus, tune),
        evaluate_every=600,
        betas=(0.8, 0.99),
        clip=5.0,
    )
    average = trainer.run()["vocoder"].cpu()
    fold_weight_norm(average)
    average.save_pretrained(Path(folder) / "vocoder", safe_serialization=True)
    return average
