"""Spectrograms of what was and what came out, with the limits they share."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from audioldm_utils.book.plotting.looks import DIFFERENCE_MAP, MAGNITUDE_MAP

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def level_db(
    samples: np.ndarray, sample_rate: int, peak: float | None = None, window: float = 0.032
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spectrogram in dB.

    Args:
        samples: (n,), full scale 1.
        sample_rate: Hz.
        peak: magnitude that is 0 dB; None means the largest of this one.
        window: Hann window, seconds; the hop is a quarter of it.

    Returns:
        Levels (bins, frames) in dB re ``peak`` (floor -120), frequencies in Hz, times in s.
    """
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    size = max(16, round(window * sample_rate))
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
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
    span_db: float = 30.0,
) -> Figure:
    """Original, reconstruction and their difference, side by side.

    Both spectrograms share 0 dB (the original's peak) and the floor; the difference is
    reconstruction minus original with both floored first, so that what lies under the floor
    in both is no difference.

    Args:
        reference: (n,), the original.
        estimate: (n,) or so; the longer of the two is cut.
        sample_rate: of both, Hz.
        titles: over the first two panels.
        floor_db: lowest level shown, dB re the original's peak.
        span_db: the difference is shown from -span to +span.
    """
    n = min(len(reference), len(estimate))
    raw, f, t = level_db(reference[:n], sample_rate, peak=1.0)
    top = float(raw.max())
    a = np.maximum(raw - top, floor_db)
    b = np.maximum(level_db(estimate[:n], sample_rate, peak=1.0)[0] - top, floor_db)
    return _triptych(a, b, t, f / 1000, "frequency, kHz", titles, (floor_db, 0.0), span_db)


def mel_pair(
    reference: np.ndarray,
    estimate: np.ndarray,
    titles: tuple[str, str] = ("original", "reconstruction"),
    frame_rate: float = 100.0,
    span_db: float = 20.0,
) -> Figure:
    """Two log-mel spectrograms (frames, bins) in nat and their difference, shown in dB."""
    to_db = 20 / np.log(10)
    n = min(len(reference), len(estimate))
    a, b = to_db * np.asarray(reference[:n]).T, to_db * np.asarray(estimate[:n]).T
    t, f = np.arange(n) / frame_rate, np.arange(a.shape[0]) + 1
    limits = (max(float(a.max()) - 90.0, float(a.min())), float(a.max()))
    return _triptych(a, b, t, f, "mel band", titles, limits, span_db, "level, dB re 1")


def _triptych(
    a: np.ndarray,
    b: np.ndarray,
    t: np.ndarray,
    f: np.ndarray,
    y_label: str,
    titles: tuple[str, str],
    limits: tuple[float, float],
    span: float,
    level_label: str = "level, dB re peak of original",
) -> Figure:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.2), sharex=True, sharey=True)
    panels = [(a, titles[0]), (b, titles[1]), (b - a, f"{titles[1]} − {titles[0]}")]
    images = []
    for panel, (values, title) in zip(axes, panels, strict=True):
        difference = values is panels[2][0]
        low, high = (-span, span) if difference else limits
        colours = DIFFERENCE_MAP if difference else MAGNITUDE_MAP
        mesh = panel.pcolormesh(
            t, f, values, vmin=low, vmax=high, cmap=colours, shading="nearest", rasterized=True
        )
        panel.set_title(title)
        panel.set_xlabel("time, s")
        panel.grid(False)
        images.append(mesh)
    axes[0].set_ylabel(y_label)
    figure.colorbar(images[1], ax=axes[1], label=level_label, pad=0.02)
    figure.colorbar(images[2], ax=axes[2], label="difference, dB", pad=0.02)
    return figure


def spectrogram_tile(
    samples: np.ndarray,
    sample_rate: int,
    top_hz: float,
    peak: float,
    floor_db: float = -80.0,
    size: tuple[int, int] = (480, 240),
) -> bytes:
    """A small spectrogram without margins as PNG, for players.

    Frequency rises on a mel-like scale to ``top_hz``, with small ticks in the picture; what
    lies above half the sample rate is black, as it is silent.

    Args:
        samples: (n,).
        sample_rate: Hz.
        top_hz: upper edge of the picture; equal for all that are to be compared.
        peak: magnitude at 0 dB; equal for all that are to be compared.
        floor_db: black.
        size: pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as PlainFigure

    level, f, _ = level_db(samples, sample_rate, peak=peak)
    rows = np.linspace(0, _mel(top_hz), size[1])
    edges = _hertz(rows)
    picture = np.full((size[1], level.shape[1]), floor_db)
    inside = edges <= sample_rate / 2
    upper = np.clip(np.searchsorted(f, edges[inside]), 0, len(f) - 1)
    picture[inside] = level[upper]
    figure = PlainFigure((size[0] / 100, size[1] / 100), dpi=100, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(
        picture, origin="lower", aspect="auto", cmap=MAGNITUDE_MAP, vmin=floor_db, vmax=0.0,
        interpolation="bilinear",
    )  # fmt: skip
    for hertz in (500, 1000, 2000, 4000, 8000, 16000):
        if hertz < 0.9 * top_hz:
            y = np.searchsorted(rows, _mel(hertz))
            axes.axhline(y, xmin=0, xmax=0.015, color="white", linewidth=1)
            text = f"{hertz / 1000:g}k"
            axes.text(0.02, y, text, transform=axes.get_yaxis_transform(), color="white",
                      fontsize=11, va="center")  # fmt: skip
    axes.axis("off")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _mel(hertz: float | np.ndarray) -> Any:
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def _hertz(mel: float | np.ndarray) -> Any:
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)
