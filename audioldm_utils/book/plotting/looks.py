"""The look of each method, the same in every chapter, and the style of all figures.

Colours are chosen to stay apart for the common kinds of colour blindness (families differ in
lightness too) and to keep a contrast of at least 3 : 1 against the figure's white ground;
marker and line style differ within a family, so that no reading rests on colour alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from audioldm_utils.text import one_line

MAGNITUDE_MAP = "magma"
"""Perceptually uniform; for levels."""
DIFFERENCE_MAP = "RdBu_r"
"""Diverging, white at zero; for differences."""
WIDTH = 5.2
"""Of a figure, inches: so narrow that its text can be read on a phone too."""


@dataclass(frozen=True)
class Look:
    """How a method is drawn, and what it is called in legends."""

    label: str
    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]

    def line_style(self) -> dict[str, Any]:
        """Keyword arguments for a matplotlib line with markers."""
        shape = {"marker": self.marker, "linestyle": self.line}
        return {"label": self.label, "color": self.colour, **shape}


_DASH_DOT_DOT = (0, (5, 1, 1, 1, 1, 1))
_LONG = (0, (8, 2))

METHOD_STYLE: dict[str, Look] = {
    "original": Look("original", "#000000", "o", "-"),
    "band-limit": Look("16 kHz band limit", "#5c5c5c", "s", "--"),
    "stft-griffinlim": Look("true magnitudes + Griffin-Lim (oracle)", "#000000", "^", ":"),
    "mel-griffinlim": Look("true mel + Griffin-Lim", "#7a6a00", "^", "-"),
    "mel-inverse": Look("true mel + fitted inverse", "#7a6a00", "X", "-."),
    "mel-vocoder": Look("true mel + vocoder", "#7a6a00", "v", "--"),
    "mel-original-phase": Look("true mel + original phase (oracle)", "#7a6a00", "P", ":"),
    "mel": Look("true mel", "#7a6a00", "D", "-."),
    "vae": Look("VAE", "#c44e00", "o", "-"),
    "vae-vocoder": Look("VAE + vocoder", "#c44e00", "v", ":"),
    "vae-griffinlim": Look("VAE + Griffin-Lim", "#c44e00", "^", "--"),
    "vae-inverse": Look("VAE + fitted inverse", "#c44e00", "X", "-."),
    "vae-original-phase": Look("VAE + original phase (oracle)", "#c44e00", "P", ":"),
    "pca-griffinlim": Look("PCA + Griffin-Lim", "#6a3d9a", "^", "--"),
    "pca-inverse": Look("PCA + fitted inverse", "#6a3d9a", "X", "-."),
    "pca-vocoder": Look("PCA + vocoder", "#6a3d9a", "v", ":"),
    "pca-original-phase": Look("PCA + original phase (oracle)", "#6a3d9a", "P", ":"),
    "original phase (oracle)": Look("original phase (oracle)", "#000000", "P", ":"),
    "Griffin-Lim": Look("Griffin-Lim", "#3d7f86", "^", "-"),
    "fitted inverse": Look("fitted inverse", "#0b5cad", "X", "-."),
    "vocoder": Look("vocoder", "#b0413e", "v", "--"),
    "refined-latent": Look("best latent found (oracle)", "#8c2d04", "X", ":"),
    "vae-highfreq": Look("VAE, high frequencies", "#e07b39", "D", "-."),
    "vae-denoise": Look("VAE, noise suppressed", "#e07b39", "s", ":"),
    "vae-refined": Look("VAE, latent refined", "#8c2d04", "P", "--"),
    "vae-restored": Look("VAE, restored", "#8c2d04", "*", "-"),
    "highfreq, fitted table": Look("high frequencies, fitted table", "#e07b39", "v", ":"),
    "highfreq, blind": Look("high frequencies, blind", "#e07b39", "^", "--"),
    "highfreq, side information": Look("high frequencies, side information", "#e07b39", "P", "-"),
    "envelope-noise": Look("noise of the same envelope", "#6b6b6b", "x", ":"),
    "noise of its loudness": Look("noise of its loudness", "#6b6b6b", "v", "--"),
    "noise of its seven bands": Look("noise of its seven bands", "#6b6b6b", "^", "-."),
    "crossover (oracle)": Look("original above 8 kHz (oracle)", "#000000", "s", "--"),
    "sdedit": Look("SDEdit", "#2f8f63", "o", "-"),
    "ddpm-inversion": Look("DDPM inversion", "#2f8f63", "s", "--"),
    "guided": Look("guided diffusion", "#11593a", "^", "-."),
    "ddim": Look("DDIM sampling", "#11593a", "D", ":"),
    "ddpm": Look("DDPM sampling", "#11593a", "v", "--"),
    "ddcm": Look("DDCM, cyclic shifts", "#0b5cad", "o", "-"),
    "ddcm-vocoder": Look("DDCM, vocoder", "#4a90d9", "d", ":"),
    "ddcm-gaussian": Look("DDCM, independent entries", "#4a90d9", "s", "--"),
    "ddcm-kmeans": Look("DDCM, k-means atoms", "#4a90d9", "^", "-."),
    "ddcm-turbo": Look("DDCM, Turbo thresholding", "#0b3a6b", "D", ":"),
    "ddcm-quantised": Look("DDCM, quantised latents", "#0b3a6b", "P", "--"),
    "ddcm-uniform": Look("DDCM, uniform timesteps", "#0b3a6b", "X", (0, (3, 2))),
    "ddcm-pursuit": Look("DDCM, matching pursuit", "#4a90d9", "v", (0, (4, 1, 1, 1))),
    "ddcm-random": Look("DDCM, random codes", "#4a90d9", "x", ":"),
    "ddcm-prompt": Look("DDCM, another prompt", "#0b3a6b", "<", "--"),
    "ddcm-prompt-guided": Look("DDCM, another prompt, guided", "#0b3a6b", ">", ":"),
    "ddcm-wrong": Look("DDCM, perturbed network's codes", "#4a90d9", "h", (0, (3, 2))),
    "ddcm, no mask": Look("DDCM, shifts without mask", "#4a90d9", "<", "--"),
    "ddcm, 8 atoms": Look("DDCM, 8 atoms of shifts", "#0b3a6b", "s", "-."),
    "ddcm, bases": Look("DDCM, shifts of several bases", "#0b3a6b", "^", ":"),
    "rvq": Look("residual quantiser", "#a0327a", "o", "-"),
    "vq": Look("vector quantiser", "#a0327a", "s", "--"),
    "opus": Look("Ogg Opus", "#6b6b6b", "D", "-"),
    "mp3": Look("MP3", "#6b6b6b", "X", "-."),
    "codec2": Look("Codec2 (8 kHz)", "#7d2f2f", "s", "-."),
    "speex": Look("Speex (8 kHz)", "#7d2f2f", "^", ":"),
    "linear": Look("linear denoiser", "#8a5fa8", "^", "--"),
    "pca": Look("PCA of mel patches", "#8a5fa8", "v", ":"),
    "bound": Look("bound", "#000000", "", _LONG),
    "theory": Look("theory", "#000000", "", _DASH_DOT_DOT),
}
"""Method name, as in the results tables, to its look."""

_EXTRA = [("#4b6cb7", "<"), ("#b0413e", ">"), ("#3d7f86", "h"), ("#7d5ba6", "p")]


def look(method: str) -> Look:
    """The look of a method; an unlisted one gets a fixed look derived from its name."""
    if method in METHOD_STYLE:
        return METHOD_STYLE[method]
    colour, marker = _EXTRA[sum(method.encode()) % len(_EXTRA)]
    return Look(one_line(method), colour, marker, ":")


def style() -> None:
    """Set the book's plot style; call it once at the head of a notebook.

    White figure ground (the page puts it on a rounded card, in dark mode too), no top and
    right spine, light grid, 150 dots per inch.
    """
    import matplotlib as mpl
    import seaborn as sns

    sns.set_theme(
        context="notebook",
        style="ticks",
        rc={
            "figure.dpi": 100,
            "savefig.dpi": 150,
            "figure.figsize": (WIDTH, 3.6),
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e3e3e3",
            "grid.linewidth": 0.8,
            "axes.axisbelow": True,
            "lines.linewidth": 1.8,
            "lines.markersize": 6,
            # Names of clips and classes are drawn, and a dollar in one begins no formula.
            "text.parse_math": False,
        },
    )
    # The inline backend crops by the bounding box of what is drawn, which moves the sizes.
    mpl.rcParams["savefig.bbox"] = "standard"
