"""A table as the book shows it: in the page's own look, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        frame: what to show; underscores of column names become spaces.
        digits: decimals of floating-point numbers; missing ones become a dash.
        index: show the index as well.
        caption: above the table.
    """
    if frame.empty:
        return Html("<p>Nothing of this was measured on these clips.</p>")
    truths = frame.select_dtypes(bool).columns
    frame = frame.assign(**{name: frame[name].map({True: "yes", False: "no"}) for name in truths})
    # pandas escapes markup, but a blank line would end the table for whoever reads Markdown.
    frame = frame.map(lambda value: one_line(value) if isinstance(value, str) else value)
    frame = frame.rename(index=lambda name: one_line(name) if isinstance(name, str) else name)
    table = frame.rename(columns=lambda name: one_line(name).replace("_", " ")).to_html(
        index=index, float_format=_number(digits), na_rep="–", border=0
    )
    if caption:
        head, rest = table.split(">", 1)
        table = f"{head}><caption>{markup(caption)}</caption>{rest}"
    return Html(table)


def _number(digits: int) -> Callable[[float], str]:
    """Fixed decimals with a proper minus, and none before zero."""
    from audioldm_utils.results.summaries import proper_minus

    return lambda value: proper_minus(f"{value:z.{digits}f}")
