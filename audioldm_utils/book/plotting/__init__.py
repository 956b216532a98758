"""Figures of the book: one style, one look a method in every chapter, units on every axis.

Nothing heavy is imported before a figure is drawn.
"""

from audioldm_utils.book.plotting.captions import (
    CaptionedFigure,
    figure_caption,
    glue_object,
    glue_table,
    glue_value,
)
from audioldm_utils.book.plotting.charts import (
    curves,
    heatmap,
    logarithmic,
    points_with_intervals,
    rate_quality,
    trade_off,
)
from audioldm_utils.book.plotting.looks import METHOD_STYLE, Look, look, style
from audioldm_utils.book.plotting.spectrograms import (
    level_db,
    spectrogram_pair,
    spectrogram_tile,
)
from audioldm_utils.book.plotting.tables import plain_table, summary_table

__all__ = [
    "METHOD_STYLE",
    "CaptionedFigure",
    "Look",
    "curves",
    "figure_caption",
    "glue_object",
    "glue_table",
    "glue_value",
    "heatmap",
    "level_db",
    "logarithmic",
    "look",
    "plain_table",
    "points_with_intervals",
    "rate_quality",
    "spectrogram_pair",
    "spectrogram_tile",
    "style",
    "summary_table",
    "trade_off",
]
