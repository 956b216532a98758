"""Figures with captions, and values that sentences take from the run."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from audioldm_utils.text import markup

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


#: A figure that is shown ``PHONE`` px wide has no text lower than ``LEGIBLE`` px.
PHONE, LEGIBLE = 350, 9.0


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure with its name, caption and alternative text; show it as a cell's last value.

    In the book it becomes a numbered figure that ``{numref}`` finds by its name.
    """

    name: str
    caption: str
    alt: str
    png: bytes
    width: int

    def _repr_mimebundle_(
        self, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        data = base64.b64encode(self.png).decode()
        page = (
            f'<figure><img src="data:image/png;base64,{data}" alt="{markup(self.alt)}" '
            f'width="{self.width}"><figcaption>{markup(self.caption)}</figcaption></figure>'
        )
        said = {"name": self.name, "caption": self.caption, "alt": self.alt}
        return (
            {"text/html": page, "image/png": data, "text/plain": self.caption},
            {"image/png": {"width": self.width}, "audioldm_utils_figure": said},
        )


def figure_caption(figure: Figure, name: str, caption: str, alt: str) -> CaptionedFigure:
    """Close a figure and give it name, caption and alternative text.

    Text too small for a phone is enlarged, and a label longer than the figure wrapped.

    Args:
        name: unique in the book, as ``fig-ladder``.
        caption: the finding, the number of clips, the seed and the checkpoint, in plain text:
            Markdown means nothing in it. Write its numbers by f-string from the results, never
            by hand.
        alt: what one would tell somebody who cannot see it; not the caption again.

    Raises:
        ValueError: caption or alternative text is empty, or an axis shows numbers unlabelled.
    """
    import matplotlib.pyplot as plt
    from PIL import Image

    if not caption.strip() or not alt.strip():
        raise ValueError(f"figure {name} needs a caption and an alternative text")
    figure.canvas.draw()
    _enlarge(figure)
    _wrap_labels(figure)
    for axes in figure.axes:
        for which, axis in (("x", axes.xaxis), ("y", axes.yaxis)) if axes.axison else ():
            shared = figure.get_supxlabel() if which == "x" else figure.get_supylabel()
            if _shows_numbers(axis) and not (axis.get_label_text() or shared):
                raise ValueError(
                    f"figure {name}: the {which} axis has numbers but no label and unit"
                )
    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    # A palette is a third of the bytes.
    Image.open(drawn).convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    width = round(figure.get_figwidth() * 100)  # as it is shown, at 100 dots per inch
    plt.close(figure)
    return CaptionedFigure(name, caption, alt, buffer.getvalue(), width)


def smallest_text(figure: Figure) -> float:
    """Font size of the smallest text, px, where the figure is shown ``PHONE`` px wide."""
    from matplotlib.text import Text

    texts = (text for text in figure.findobj(Text) if text.get_text().strip())
    points = min((text.get_fontsize() for text in texts), default=float("inf"))
    return points * PHONE / (72 * figure.get_figwidth())


def _enlarge(figure: Figure) -> None:
    from matplotlib.text import Text

    least = LEGIBLE * 72 * figure.get_figwidth() / PHONE
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if any(label.get_fontsize() < least for label in axis.get_ticklabels()):
                axis.set_tick_params(which="both", labelsize=least)
    for text in figure.findobj(Text):
        text.set_fontsize(max(least, text.get_fontsize()))


def _wrap_labels(figure: Figure) -> None:
    figure.canvas.draw()  # so that places are known
    for label in (x for axes in figure.axes for x in (axes.xaxis.label, axes.yaxis.label)):
        box = label.get_window_extent()
        upright = box.height > box.width
        low, high = (box.y0, box.y1) if upright else (box.x0, box.x1)
        edge = figure.bbox.height if upright else figure.bbox.width
        if label.get_text() and (low < 0 or high > edge):
            share = min(low + high, 2 * edge - low - high) / (high - low)
            label.set_text(textwrap.fill(label.get_text(), int(share * len(label.get_text()))))


def _shows_numbers(axis: Axis) -> bool:
    """Whether all tick labels are numbers; an axis of categories needs no other label."""
    texts = [label.get_text() for label in axis.get_ticklabels() if label.get_visible()]
    signs = str.maketrans("\N{MINUS SIGN}", "-", "${}^\\")
    try:
        return bool([float(t.translate(signs).removeprefix("mathdefault")) for t in texts if t])
    except ValueError:
        return False


def glue_value(name: str, value: Any, spec: str = "", unit: str = "") -> str:
    """Keep a value under a key, for sentences of this and of other pages.

    In the same notebook ``{glue:text}`name` `` shows it; on other pages ``{{01:name}}`` does.

    Args:
        name: unique in the notebook: letters, digits, ``_``, ``.`` and ``-``.
        value: from a results table, never typed; NaN shows as a dash, without its unit.
        spec: format specification for one number (``".2f"``).
        unit: put behind it with a narrow no-break space.

    Returns:
        The text that is shown; a proper minus sign stands before negative numbers.
    """
    from audioldm_utils.results.summaries import proper_minus

    text = format(value, spec)
    if isinstance(value, float | np.floating) and np.isnan(value):
        text, unit = "\N{EN DASH}", ""
    elif isinstance(value, int | float | np.number):
        text = proper_minus(text)
    if unit:
        text = f"{text}\N{NARROW NO-BREAK SPACE}{unit}"
    glue_object(name, text)
    return text


def glue_table(values: pd.Series, key: str, spec: str = "", unit: str = "") -> None:
    """Keep a column of a table, each value under its own key, as :func:`glue_value` does.

    ``key`` is the pattern of the keys, such as ``mel_{}``; it takes a value's name, or its names
    in order.
    """
    for name, value in values.items():
        names = name if isinstance(name, tuple) else (name,)
        glue_value(key.format(*names), value, spec, unit)


def glue_object(name: str, shown: Any) -> None:
    """Keep a figure or a player grid under a key, for other pages (``{{01:name}}``)."""
    from myst_nb import glue

    glue(name, shown, display=False)
