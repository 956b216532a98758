"""Training audio: the clips of a ``train.csv``, cached as 16-bit samples and log-mels.

Training reads train without ``tune`` (:mod:`recipe.split`); ``evaluate`` alone reads eval.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from audioldm_utils.model.mel import MelConfig, log_mel
from recipe.split import tune_mask

_MEL = MelConfig()
#: Speeds of `Corpus.varied_audio`.
SPEED = (0.8, 1.25)
#: Peak of a crop that is not drawn again, re full scale, and draws in all.
AUDIBLE, TRIES = 0.01, 4


def default_cache() -> Path:
    """Folder of the preprocessed audio (``AUDIOLDM_UTILS_CACHE`` overrides it)."""
    return Path(os.environ.get("AUDIOLDM_UTILS_CACHE", "build/cache")) / "training"


def front_end_gain(samples: np.ndarray) -> np.ndarray:
    """Subtract the mean and scale the peak to 0.5, as AudioLDM2's front end does."""
    samples = samples - samples.mean()
    return samples * (0.5 / max(float(np.abs(samples).max()), 1e-8))


@dataclass
class Corpus:
    """All clips of a split, decoded once.

    Attributes:
        table: one row a clip (``file``, ``caption``, ``class``, ``frames``).
        audio: 16-bit samples at 16 kHz, clips one after another, each a whole number of frames.
        mel: log-mel of each normalised clip, float16, ``(frames, 64)``, joined likewise.
        start: first frame of each clip in ``mel`` (times 160: first sample in ``audio``).
    """

    table: pd.DataFrame
    audio: np.ndarray
    mel: np.ndarray
    start: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def held(self) -> np.ndarray:
        """Which clips are held out for tuning, ``(clips,)``."""
        return tune_mask(self.table)

    @cached_property
    def weights(self) -> np.ndarray:
        """How often a clip is drawn for training: by its length, and never one of `held`."""
        return np.where(self.held, 0.0, self.table["frames"].to_numpy(float))

    def waveform(self, index: int) -> np.ndarray:
        """Normalised float32 samples of one clip."""
        first = self.start[index] * _MEL.hop_length
        last = self.start[index + 1] * _MEL.hop_length
        return self.audio[first:last].astype(np.float32) / 32767.0

    def log_mel(self, index: int) -> np.ndarray:
        """Float32 log-mel of one clip, ``(frames, 64)``."""
        return self.mel[self.start[index] : self.start[index + 1]].astype(np.float32)

    def crops(
        self, rng: np.random.Generator, count: int, frames: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose random crops: clip indices and first frames (0 where the clip is shorter)."""
        clips = rng.choice(len(self), size=count, p=self.weights / self.weights.sum())
        spare = np.maximum(self.table["frames"].to_numpy()[clips] - frames, 0)
        return clips, (rng.random(count) * (spare + 1)).astype(int)

    def mel_batch(self, clips: np.ndarray, first: np.ndarray, frames: int) -> torch.Tensor:
        """Log-mel crops ``(count, 1, frames, 64)``, short clips padded with silence."""
        out = np.full((len(clips), frames, _MEL.n_mels), _MEL.silence, np.float32)
        for row, (clip, begin) in enumerate(zip(clips, first, strict=True)):
            piece = self.log_mel(clip)[begin : begin + frames]
            out[row, : len(piece)] = piece
        return torch.from_numpy(out)[:, None]

    def varied_audio(self, rng: np.random.Generator, count: int, frames: int) -> torch.Tensor:
        """Crops ``(count, frames * 160)`` at other speeds and levels, some of them two at once.

        Most instruments of train play a handful of pitches; at other speeds they play others.
        A place that is all but silent is drawn again, a few times: errors relative to nothing
        are beyond measure.
        """
        longest = int(np.ceil(frames * SPEED[1])) + 1
        out = np.zeros((count, frames * _MEL.hop_length), np.float32)
        pairs = rng.random(count) < 0.25
        for row in range(count):
            for layer in range(2 if pairs[row] else 1):
                for _ in range(TRIES):
                    wave = self.audio_batch(*self.crops(rng, 1, longest), longest)[0].numpy()
                    if np.abs(wave).max() > AUDIBLE:
                        break
                speed = np.exp(rng.uniform(*np.log(SPEED))) if rng.random() < 0.6 else 1.0
                places = np.arange(out.shape[1]) * speed
                gain = 10 ** (rng.uniform(-25, 3) / 20) if rng.random() < 0.5 or layer else 1.0
                out[row] += gain * np.interp(places, np.arange(len(wave)), wave).astype("f4")
        return torch.from_numpy(out)

    def audio_batch(self, clips: np.ndarray, first: np.ndarray, frames: int) -> torch.Tensor:
        """Waveform crops ``(count, frames * 160)`` aligned with :meth:`mel_batch`."""
        out = np.zeros((len(clips), frames * _MEL.hop_length), np.float32)
        for row, (clip, begin) in enumerate(zip(clips, first, strict=True)):
            piece = self.waveform(clip)[begin * _MEL.hop_length :][: out.shape[1]]
            out[row, : len(piece)] = piece
        return torch.from_numpy(out)


def load_corpus(data: str | Path, split: str = "train", cache: str | Path | None = None) -> Corpus:
    """Decode ``<data>/<split>.csv`` once and keep the result under ``cache``.

    Raises:
        FileNotFoundError: the CSV is missing.
    """
    import librosa
    import soundfile

    data = Path(data)
    source = data / f"{split}.csv"
    if not source.exists():
        raise FileNotFoundError(
            f"{source}: no such table; --data must name the folder that holds it"
        )
    key = hashlib.sha256(source.read_bytes() + json.dumps(vars(_MEL)).encode()).hexdigest()[:16]
    folder = Path(cache or default_cache()) / f"{split}-{key}"
    table = pd.read_csv(source)
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        audio, mels, frames = [], [], []
        for name in tqdm(table["file"], desc=f"preparing {split}", unit="clip"):
            samples, rate = soundfile.read(data / name, dtype="float32", always_2d=True)
            samples = samples.mean(1)
            if rate != _MEL.sample_rate:
                samples = librosa.resample(
                    samples, orig_sr=rate, target_sr=_MEL.sample_rate, res_type="soxr_hq"
                )
            count = len(samples) // _MEL.hop_length
            samples = front_end_gain(samples[: count * _MEL.hop_length])
            audio.append(np.round(samples * 32767).astype(np.int16))
            mel = log_mel(torch.from_numpy(samples)[None])[0].numpy()
            mels.append(mel.astype(np.float16))
            frames.append(count)
        np.save(folder / "audio.npy", np.concatenate(audio))
        np.save(folder / "mel.npy", np.concatenate(mels))
        np.save(folder / "frames.npy", np.array(frames))
        (folder / "done").touch()
    frames = np.load(folder / "frames.npy")
    return Corpus(
        table=table.assign(frames=frames),
        audio=np.load(folder / "audio.npy", mmap_mode="r"),
        mel=np.load(folder / "mel.npy", mmap_mode="r"),
        start=np.concatenate([[0], np.cumsum(frames)]),
    )
