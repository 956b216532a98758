"""Spectrograms of what was and what came out, with the limits they share."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from audioldm_utils.book.plotting.looks import DIFFERENCE_MAP, MAGNITUDE_MAP, WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Hann window, seconds; the hop is a quarter of it.
WINDOW = 0.032
#: The difference of a pair is shown from -SPAN to +SPAN, dB.
SPAN = 30.0
#: Size of a tile, pixels, and its level that is black, dB re its peak.
TILE, TILE_FLOOR = (480, 240), -80.0


def level_db(
    samples: np.ndarray, sample_rate: int, peak: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spectrogram in dB.

    Args:
        samples: (n,), full scale 1.
        sample_rate: Hz.
        peak: magnitude that is 0 dB; None means the largest of this one.

    Returns:
        Levels (bins, frames) in dB re ``peak`` (floor -120), frequencies in Hz, times in s.
    """
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    size = max(16, round(WINDOW * sample_rate))
    samples = np.pad(samples, (0, max(0, size - len(samples))))
    transform = ShortTimeFFT(hann(size, sym=False), size // 4, sample_rate, scale_to="magnitude")
    magnitude = np.abs(transform.stft(np.asarray(samples, np.float64)))
    peak = peak or float(magnitude.max()) or 1.0
    level = 20 * np.log10(np.maximum(magnitude / peak, 1e-6))
    return level, transform.f, transform.t(len(samples))


def spectrogram_pair(
    reference: np.ndarray,
    estimate: np.ndarray,
    sample_rate: int,
    titles: tuple[str, str] = ("original", "reconstruction"),
    floor_db: float = -80.0,
) -> Figure:
    """Original, reconstruction and their difference, one under the other.

    Both spectrograms share 0 dB (the original's peak) and the floor; the difference is
    reconstruction minus original with both floored first, so that what lies under the floor
    in both is no difference.

    Args:
        reference, estimate: (n,) or so; the longer of the two is cut.
        sample_rate: of both, Hz.
        floor_db: lowest level shown, dB re the original's peak.
    """
    import matplotlib.pyplot as plt

    n = min(len(reference), len(estimate))
    raw, f, t = level_db(reference[:n], sample_rate, peak=1.0)
    top = float(raw.max())
    a = np.maximum(raw - top, floor_db)
    b = np.maximum(level_db(estimate[:n], sample_rate, peak=1.0)[0] - top, floor_db)
    level = {"vmin": floor_db, "vmax": 0.0, "cmap": MAGNITUDE_MAP}
    change = {"vmin": -SPAN, "vmax": SPAN, "cmap": DIFFERENCE_MAP}
    panels = (
        (a, titles[0], level, "dB re its peak"),
        (b, titles[1], level, "dB re peak of original"),
        (b - a, f"{titles[1]} − {titles[0]}", change, "difference, dB"),
    )
    figure, axes = plt.subplots(3, 1, figsize=(WIDTH, 6.6), sharex=True, sharey=True)
    for panel, (values, title, limits, label) in zip(axes, panels, strict=True):
        mesh = panel.pcolormesh(t, f / 1000, values, shading="nearest", rasterized=True, **limits)
        panel.set_title(title)
        panel.set_ylabel("frequency, kHz")
        panel.grid(False)
        figure.colorbar(mesh, ax=panel, label=label, pad=0.02)
    axes[-1].set_xlabel("time, s")
    return figure


def spectrogram_tile(samples: np.ndarray, sample_rate: int, top_hz: float, peak: float) -> bytes:
    """A small spectrogram without margins as WebP, for players.

    Frequency rises on a mel-like scale to ``top_hz``, with small ticks in the picture; what
    lies above half the sample rate is black, as it is silent.

    Args:
        samples: (n,).
        sample_rate: Hz.
        top_hz: upper edge of the picture; equal for all that are to be compared.
        peak: magnitude at 0 dB; equal for all that are to be compared.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as PlainFigure

    width, height = TILE
    level, f, _ = level_db(samples, sample_rate, peak=peak)
    rows = np.linspace(0, _mel(top_hz), height)
    edges = 700 * (10 ** (rows / 2595) - 1)
    picture = np.full((height, level.shape[1]), TILE_FLOOR)
    inside = edges <= sample_rate / 2
    picture[inside] = level[np.clip(np.searchsorted(f, edges[inside]), 0, len(f) - 1)]
    figure = PlainFigure((width / 100, height / 100), dpi=100, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    shown = {"cmap": MAGNITUDE_MAP, "vmin": TILE_FLOOR, "vmax": 0.0}
    axes.imshow(picture, origin="lower", aspect="auto", interpolation="bilinear", **shown)
    for hertz in (500, 1000, 2000, 4000, 8000, 16000):
        if hertz < 0.9 * top_hz:
            y = np.searchsorted(rows, _mel(hertz))
            axes.axhline(y, xmin=0, xmax=0.015, color="white", linewidth=1)
            text = f"{hertz / 1000:g}k"
            axes.text(0.02, y, text, transform=axes.get_yaxis_transform(), color="white",
                      fontsize=11, va="center")  # fmt: skip
    axes.axis("off")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_webp(buffer, pil_kwargs={"quality": 85})
    return buffer.getvalue()


def _mel(hertz: float) -> Any:
    return 2595 * np.log10(1 + hertz / 700)
