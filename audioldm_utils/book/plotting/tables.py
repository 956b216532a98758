"""A table as the book shows it: in the page's own look, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audioldm_utils.text import markup, one_line

if TYPE_CHECKING:
    import pandas as pd

#: What a reader calls a metric, where its name with spaces for underscores will not do.
NAMES = {
    "log mel distance": "log-mel distance",
    "multi resolution stft": "multi-resolution STFT distance",
    "log mel distance aligned": "log-mel distance at the best lag",
    "multi resolution stft aligned": "multi-resolution STFT distance at the best lag",
    "log spectral distance": "log-spectral distance",
    "visqol": "ViSQOL",
    "hf retention": "energy kept above 4 kHz",
    "comb excess": "energy in the 100 Hz comb, over the original's",
    "stoi": "STOI",
    "f0 error": "error of the fundamental",
    "snr": "SNR",
    "si sdr": "SI-SDR",
    "correlation": "waveform correlation",
    "mae": "mean absolute waveform error",
    "seconds per second": "seconds for one second of sound",
    "decoder forward": "decoder calls",
    "decoder backward": "gradient calls of the decoder",
    "side rate": "side information",
}


@dataclass(frozen=True)
class Html:
    """Markup that a notebook shows as it is."""

    data: str

    def _repr_html_(self) -> str:
        return self.data


def plain_table(
    frame: pd.DataFrame,
    digits: int = 3,
    index: bool = False,
    caption: str = "",
    folded: bool = False,
) -> Html:
    """A frame as HTML, the same frame giving the same bytes.

    A pandas Styler draws a random name into every table, and the theme leaves its tables
    light on a dark page.

    Args:
        frame: what to show; underscores of column names become spaces, and ``n`` beside
            ``recordings`` or ``collections`` one column, which names these where they differ.
        digits: decimals of floating-point numbers; missing ones become a dash.
        index: show the index as well.
        caption: above the table.
        folded: show the caption alone until it is opened.
    """
    from audioldm_utils.results.summaries import count_text, proper_minus

    if frame.empty:
        return Html("<p>Nothing of this was measured on these clips.</p>")
    for unit in ("recording", "collection"):
        if {"n", f"{unit}s"} <= {*frame}:
            counts = zip(frame["n"], frame[f"{unit}s"], strict=True)
            told = [count_text(n, units, unit) for n, units in counts]
            frame = frame.assign(n=told).drop(columns=f"{unit}s")
    if "p, Holm" in frame:  # never 0
        small = frame["p, Holm"].map(lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}")
        frame = frame.assign(**{"p, Holm": small.where(frame["p, Holm"].notna())})
    truths = frame.select_dtypes(bool).columns
    frame = frame.assign(**{name: frame[name].map({True: "yes", False: "no"}) for name in truths})
    frame = frame.map(_cell).rename(index=_cell)
    table = frame.rename(columns=lambda name: one_line(name).replace("_", " ")).to_html(
        index=index,
        float_format=lambda value: proper_minus(f"{value:z.{digits}f}"),
        na_rep="–",
        border=0,
    )
    if folded:
        frame_of = f'<div style="overflow-x: auto">{table}</div>'
        return Html(f"<details><summary>{markup(caption)}</summary>{frame_of}</details>")
    if caption:
        table = table.replace(">", f"><caption>{markup(caption)}</caption>", 1)
    return Html(table)


def summary_table(
    summary: pd.DataFrame, caption: str, rows: str = "method", order: Sequence[str] = ()
) -> Html:
    """A folded table of means with intervals, one line a method, in names that a reader knows.

    Args:
        summary: as ``results.summarise`` gives it.
        caption: what is seen until the table is opened.
        rows: column whose values are lines; methods get their labels.
        order: of the lines, those that there are; the summary's own by default.
    """
    from audioldm_utils.book.plotting.looks import look
    from audioldm_utils.results.summaries import tabulate

    if summary.empty:
        return plain_table(summary)
    table = tabulate(summary, rows)
    corner = table.columns.name
    table = table.loc[[name for name in order or table.index if name in table.index]]
    table = table.rename(index=lambda name: look(str(name)).label, columns=_named)
    said = f"{caption}. {corner.partition('; ')[2].capitalize()}."
    return plain_table(table.rename_axis(columns=None), index=True, caption=said, folded=True)


def _named(header: str) -> str:
    """A header of `tabulate`, such as ``hf retention → 1``, with its metric named as in `NAMES`."""
    found = max((name for name in NAMES if header.startswith(name)), key=len, default="")
    return NAMES.get(found, "") + header[len(found) :]


def _cell(value: Any) -> Any:
    """Pandas escapes markup, but a blank line would end the table for who reads Markdown."""
    return one_line(value) if isinstance(value, str) else value
