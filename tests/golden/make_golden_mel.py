"""Write ``mel.npz``: log-mels that librosa alone computes, for ``tests/model/test_mel.py``.

Run from the repository's root: ``python tests/golden/make_golden_mel.py``.
"""

from pathlib import Path

import librosa
import numpy as np

RATE = 16000
#: Padding of the two framings, samples each side.
PADDING = {"training": 432, "inference": 512}


def signal() -> np.ndarray:
    """Half a second: a sweep, a click, noise at -60 dB, then silence; peak 0.5, float64."""
    time = np.arange(RATE // 2) / RATE
    x = 0.4 * np.sin(2 * np.pi * (50 * time + 7000 * time**2))
    x += 1e-3 * np.random.default_rng(7).standard_normal(len(time))
    x[3000] += 0.3
    x[6400:] = 0
    return x * (0.5 / np.abs(x).max())


def librosa_log_mel(x: np.ndarray, framing: str) -> np.ndarray:
    """The published front end by librosa's own functions, float64 ``(frames, 64)``."""
    mel = librosa.feature.melspectrogram(
        y=np.pad(x, PADDING[framing], mode="reflect"),
        sr=RATE,
        n_fft=1024,
        hop_length=160,
        window="hann",
        center=False,
        power=1.0,
        n_mels=64,
        fmin=0,
        fmax=8000,
        dtype=np.float64,
    )
    return np.log(np.maximum(mel, 1e-5)).T


if __name__ == "__main__":
    path = Path(__file__).with_name("mel.npz")
    golden = {framing: librosa_log_mel(signal(), framing)[::7] for framing in PADDING}
    np.savez_compressed(path, **golden)
    print(f"{path}: " + ", ".join(f"{name} {values.shape}" for name, values in golden.items()))
