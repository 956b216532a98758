"""What each stage of AudioLDM2 costs by itself: a clip on every path from mel to waveform.

A **mel** is one of three, and a **synthesis** makes the waveform; each mel goes through each
synthesis, so that the difference of two paths is the cost of what lies between them. The path's
name is ``MEL-SYNTHESIS``.

- ``mel``: the recording's own;
- ``pca``: through as many principal components as the VAE has latents: a linear VAE;
- ``vae``: through the checkpoint's VAE;
- ``original-phase``: the mel's magnitudes with the recording's phase (oracle);
- ``griffinlim``: the mel's magnitudes, phase by Griffin-Lim;
- ``inverse``: magnitudes by the fitted inverse of the mel, phase by Griffin-Lim;
- ``vocoder``: the checkpoint's own.

Two paths have no mel: ``band-limit`` resamples to 16 kHz and back and is compared with the
recording at its own rate; ``stft-griffinlim`` (oracle) keeps the recording's magnitudes, 513 a
frame, and loses its phase alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import librosa
import numpy as np
import torch
from scipy.signal import butter, lfilter, sosfiltfilt

from audioldm_utils.audio.clips import Clip, fit_length, resample, to_model_rate
from audioldm_utils.methods.enhance.latent import refine_latents
from audioldm_utils.metrics import NotApplicable
from audioldm_utils.metrics.pitch import COMB, SPOKEN, comb_share, pitch_names
from audioldm_utils.model.mel import (
    MelConfig,
    griffin_lim_from,
    linear_magnitude,
    stft_magnitude,
)
from audioldm_utils.model.networks import Networks, normalise
from audioldm_utils.model.synthesis import synthesise
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies.mistakes import MISTAKES
from audioldm_utils.studies.pca import load_pca
from audioldm_utils.studies.rows import Row

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
#: The same two with a delay forgiven that nobody hears.
ALIGNED = ("log_mel_distance_aligned", "multi_resolution_stft_aligned")


@dataclass(frozen=True)
class Reconstructed:
    """One clip on every path.

    ``reference`` is the clip at 16 kHz, what the model could know; ``audio`` the waveform of each
    path, ``band-limit`` at the clip's rate, the others at 16 kHz; ``mel`` the log-mel
    ``(frames, 64)`` of each of `MELS`.
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


def with_phase(mel: torch.Tensor, waveform: torch.Tensor) -> torch.Tensor:
    """Waveform ``(batch, frames * 160)`` of a log-mel ``(batch, frames, 64)``, phase of another.

    That one, ``(batch, samples)``, is cut, or padded with silence, to the mel's length.
    """
    config = MelConfig()
    pad = (config.n_fft - config.hop_length) // 2
    length = mel.shape[1] * config.hop_length
    magnitudes = linear_magnitude(mel, config).cpu().numpy()
    waves = []
    for magnitude, samples in zip(magnitudes, waveform.detach().cpu().numpy(), strict=True):
        whole = fit_length(samples, length)
        options = {"hop_length": config.hop_length, "n_fft": config.n_fft, "center": False}
        spectrum = librosa.stft(np.pad(whole, pad, mode="reflect"), **options)
        phase = np.exp(1j * np.angle(spectrum))
        waves.append(librosa.istft(magnitude * phase, **options)[pad:-pad])
    return torch.from_numpy(np.stack(waves).astype(np.float32)).to(mel.device)


def measure_paths(clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int) -> None:
    """Study ``01_ladder``: every path, and the mel errors of the VAE and of the components.

    ViSQOL and the search for a delay take longer than all else together and are left to paths
    that a decoder can take.
    """
    result = reconstruct_each_way(clip, networks, seed)
    rate = networks.mel_config.sample_rate
    pitch = pitch_names(clip.category)
    for path in PATHS:
        row, made = Row(rows, clip, path), result.audio[path]
        judges = (*JUDGES, *("visqol", *ALIGNED) * (path not in ORACLES))
        if path == BAND_LIMIT:
            row.scores(clip.samples, made, clip.sample_rate, judges)
        else:
            row.scores(result.reference, made, rate, (*judges, *pitch))
    if "comb_excess" in pitch:
        with suppress(NotApplicable):  # shorter than a second
            # The recording's own share, which the paths' is compared with.
            Row(rows, clip, "original").add("comb_share", comb_share(result.reference, rate), "1")
    for name in MELS[1:]:
        Row(rows, clip, name, "mel").mel_errors(result.mel["mel"], result.mel[name])


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


#: Judges of the attacks. Those of pitch are asked of every clip: each attack is the same for all.
ATTACK_JUDGES = (
    "snr", "si_sdr", "correlation", "mae", "log_mel_distance", "multi_resolution_stft", "visqol",
    "chroma_correlation", "comb_excess", *ALIGNED,
)  # fmt: skip
#: Of the comb filter's output that comes again one period later: a tooth is 1.6 Hz wide.
FEEDBACK = 0.95


def measure_attacks(clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int) -> None:
    """Study ``01_attacks``: what every metric says of changes whose audibility is known."""
    reference = to_model_rate(clip)
    names = (*ATTACK_JUDGES, *SPOKEN * (clip.category or "").startswith("speech"))
    for name, attack in attacks().items():
        Row(rows, clip, "attack", name).scores(reference, attack(reference), names=names)


def attacks(rate: int = 16000) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Changes of a waveform whose audibility is known, to test metrics with.

    ``inverted polarity`` and ``5 ms later`` sound the same. The others are plainly heard:
    ``one semitone up`` has another pitch and the same tempo, ``100 Hz comb`` buzzes,
    ``backwards`` runs from the end to the beginning.
    """

    def low_pass(x: np.ndarray) -> np.ndarray:
        sections = butter(6, 1000, fs=rate, output="sos")
        return sosfiltfilt(sections, x).astype(np.float32)

    def noise(x: np.ndarray) -> np.ndarray:
        hiss = np.random.default_rng(0).standard_normal(len(x))
        return (x + hiss * np.sqrt(np.mean(x**2)) * 10 ** (-10 / 20)).astype(np.float32)

    def semitone(x: np.ndarray) -> np.ndarray:
        return librosa.effects.pitch_shift(x, sr=rate, n_steps=1).astype(np.float32)

    def comb(x: np.ndarray) -> np.ndarray:
        period = round(rate / COMB)
        buzz = lfilter([1.0], [1.0, *[0.0] * (period - 1), -FEEDBACK], x)
        return (buzz * np.sqrt(np.mean(x**2) / max(np.mean(buzz**2), 1e-30))).astype(np.float32)

    return {
        "inverted polarity": lambda x: -x,
        "5 ms later": lambda x: np.roll(x, round(0.005 * rate)),
        "1 kHz low-pass": low_pass,
        "white noise at 10 dB": noise,
        "one semitone up": semitone,
        "100 Hz comb": comb,
        "backwards": lambda x: x[::-1].copy(),
    }
