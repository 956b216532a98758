"""A table as the book shows it: in the page's own look, light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audioldm_utils.text import markup, one_line

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Html:
    """Markup that a notebook shows as it is."""

    data: str

    def _repr_html_(self) -> str:
        return self.data


def plain_table(
    frame: pd.DataFrame, digits: int = 3, index: bool = False, caption: str = ""
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
    """
    from audioldm_utils.results.summaries import count_text, proper_minus

    if frame.empty:
        return Html("<p>Nothing of this was measured on these clips.</p>")
    for unit in ("recording", "collection"):
        if {"n", f"{unit}s"} <= {*frame}:
            counts = zip(frame["n"], frame[f"{unit}s"], strict=True)
            told = [count_text(n, units, unit) for n, units in counts]
            frame = frame.assign(n=told).drop(columns=f"{unit}s")
    truths = frame.select_dtypes(bool).columns
    frame = frame.assign(**{name: frame[name].map({True: "yes", False: "no"}) for name in truths})
    frame = frame.map(_cell).rename(index=_cell)
    table = frame.rename(columns=lambda name: one_line(name).replace("_", " ")).to_html(
        index=index,
        float_format=lambda value: proper_minus(f"{value:z.{digits}f}"),
        na_rep="–",
        border=0,
    )
    if caption:
        table = table.replace(">", f"><caption>{markup(caption)}</caption>", 1)
    return Html(table)


def _cell(value: Any) -> Any:
    """Pandas escapes markup, but a blank line would end the table for who reads Markdown."""
    return one_line(value) if isinstance(value, str) else value
