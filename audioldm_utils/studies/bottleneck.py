"""What each stage of AudioLDM2 costs by itself, and what the metrics and front ends make of it.

A clip is reconstructed in several ways, so that the difference of two is the cost of what lies
between them:

=====================  =====================================================  ===========
path                   through                                                reference
=====================  =====================================================  ===========
band-limit             resample to 16 kHz and back                            native clip
mel-original-phase     mel, its magnitudes with the true phase (oracle)       16 kHz clip
mel-griffinlim         mel, phase estimated from the mel's magnitudes         16 kHz clip
mel-vocoder            mel, vocoder                                           16 kHz clip
vae-original-phase     mel, VAE, its magnitudes with the true phase (oracle)  16 kHz clip
vae-griffinlim         mel, VAE, Griffin-Lim                                  16 kHz clip
vae                    mel, VAE, vocoder: AudioLDM2's own reconstruction      16 kHz clip
=====================  =====================================================  ===========
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from audioldm_utils.audio.clips import Clip, fit_length, resample, to_model_rate
from audioldm_utils.methods.enhance.latent import refine_latents
from audioldm_utils.model.mel import griffin_lim
from audioldm_utils.model.networks import normalise
from audioldm_utils.studies.mistakes import MISTAKES
from audioldm_utils.studies.phase import with_phase
from audioldm_utils.studies.rows import Row

if TYPE_CHECKING:
    from audioldm_utils.model.networks import Networks
    from audioldm_utils.results.tables import ResultsBuilder

#: In the order in which the book tells them.
PATHS = (
    "band-limit", "mel-original-phase", "mel-griffinlim", "mel-vocoder",
    "vae-original-phase", "vae-griffinlim", "vae",
)  # fmt: skip


@dataclass(frozen=True)
class Reconstructed:
    """One clip on every path.

    Attributes:
        reference: the clip at 16 kHz, what the model could know.
        audio: path to waveform; ``band-limit`` at the clip's rate, the others at 16 kHz.
        mel: ``true`` and ``vae`` log-mel ``(frames, 64)``.
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
    decoded = networks.decode(networks.encode(mel))

    def finish(samples: torch.Tensor) -> np.ndarray:
        return level.undo(samples.cpu())[0, : len(reference)].numpy()

    limited = resample(reference, config.sample_rate, clip.sample_rate)
    audio = {"band-limit": limited[: len(clip.samples)]}
    for source, vocoded, spectrogram in (("mel", "mel-vocoder", mel), ("vae", "vae", decoded)):
        audio[f"{source}-original-phase"] = finish(with_phase(spectrogram, wave))
        audio[f"{source}-griffinlim"] = finish(griffin_lim(spectrogram, seed=seed))
        audio[vocoded] = finish(networks.vocode(spectrogram))
    frames = len(reference) // config.hop_length
    mels = {"true": mel, "vae": decoded}
    mels = {name: found[0, :frames].cpu().numpy() for name, found in mels.items()}
    return Reconstructed(clip, reference, audio, mels)


def measure_paths(clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int) -> None:
    """Study ``01_ladder``: every metric of every path, and the VAE's mel errors."""
    result = reconstruct_each_way(clip, networks, seed)
    for path in PATHS:
        native = path == "band-limit"
        reference = clip.samples if native else result.reference
        rate = clip.sample_rate if native else networks.mel_config.sample_rate
        Row(rows, clip, path).scores(reference, result.audio[path], rate, None)
    Row(rows, clip, "vae", "mel").mel_errors(result.mel["true"], result.mel["vae"])


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


def measure_attacks(clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int) -> None:
    """Study ``01_attacks``: every metric of changes whose audibility is known."""
    reference = to_model_rate(clip)
    for name, attack in attacks().items():
        Row(rows, clip, "attack", name).scores(reference, attack(reference), names=None)


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
