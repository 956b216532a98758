"""Points with intervals, curves and heat maps over summaries of results."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from audioldm_utils.book.plotting.looks import DIFFERENCE_MAP, WIDTH, look
from audioldm_utils.text import one_line

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Columns of a heat map up to which a number fits into each cell.
MOST_NUMBERED = 12


def points_with_intervals(
    summary: pd.DataFrame,
    x_label: str,
    category: str = "method",
    series: str | None = None,
    order: Sequence[str] | None = None,
    reference: float | None = None,
    values: tuple[str, str, str] = ("mean", "low", "high"),
) -> Axes:
    """Means as points with their intervals, one row a category, best read from left to right.

    Args:
        summary: one row a point, as ``results.summarise`` gives it.
        x_label: what is measured, with its unit.
        category: column whose values become rows; methods are written with their labels.
        series: column that tells points within a row apart.
        order: categories from top to bottom; None keeps the table's order.
        reference: a vertical line there (zero difference, say).
        values: columns of mean and interval; an interval may be NaN.
    """
    import matplotlib.pyplot as plt

    order = list(order or dict.fromkeys(summary[category]))
    groups = list(dict.fromkeys(summary[series])) if series else [None]
    _, axes = plt.subplots(figsize=(WIDTH, 0.9 + len(order) * max(0.36, 0.2 * len(groups))))
    spread = np.linspace(-0.28, 0.28, len(groups)) if len(groups) > 1 else [0.0]
    mean, low, high = values
    for group, offset in zip(groups, spread, strict=True):
        part = summary if group is None else summary[summary[series] == group]
        for _, row in part.iterrows():
            drawn = look(str(row[category] if group is None else group))
            bars = [[row[mean] - row[low]], [row[high] - row[mean]]]
            axes.errorbar(
                row[mean],
                order.index(row[category]) + offset,
                xerr=None if np.isnan(row[low]) else bars,
                color=drawn.colour,
                marker=drawn.marker or "o",
                capsize=3,
            )
        if group is not None:
            axes.plot([], [], **look(str(group)).line_style() | {"linestyle": "none"})
    axes.set_yticks(range(len(order)), [_wrapped(look(str(name)).label) for name in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlabel(x_label)
    axes.grid(axis="y", visible=False)
    if reference is not None:
        axes.axvline(reference, color="#555555", linewidth=1, linestyle="--", zorder=0)
    if series:
        _names_below(axes)
    return axes


def curves(
    summary: pd.DataFrame,
    x: str,
    x_label: str,
    y_label: str,
    method: str = "method",
    log_x: bool = False,
    ceilings: Mapping[str, float] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Curves of means with interval bands, one a method, each in its fixed look.

    Args:
        summary: one row a point: column ``x``, ``mean``, ``low`` and ``high`` (may be NaN).
        x: column of the abscissa.
        x_label, y_label: with unit; y with the direction that is better.
        method: column that tells curves apart.
        log_x: logarithmic abscissa.
        ceilings: method to a level drawn as a horizontal line (``{"vae": 0.2}``).
        axes: to draw into; None makes a figure.
    """
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(summary[method]))
    if axes is None:  # with room for the names under it
        _, axes = plt.subplots(figsize=(WIDTH, 3.0 + 0.2 * len([*names, *(ceilings or {})])))
    for name in names:
        part = summary[summary[method] == name].sort_values(x)
        drawn = look(str(name))
        axes.plot(part[x], part["mean"], **drawn.line_style())
        band = (part[column].to_numpy(float) for column in (x, "low", "high"))
        axes.fill_between(*band, color=drawn.colour, alpha=0.18, linewidth=0)
    for name, level in (ceilings or {}).items():
        drawn = look(name)
        shape = {"color": drawn.colour, "linestyle": drawn.line, "linewidth": 1.4}
        axes.axhline(level, label=drawn.label, **shape)
    if log_x:
        logarithmic(axes, "x")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    _names_below(axes)
    return axes


def logarithmic(axes: Axes, which: str) -> None:
    """Make the axis ``which`` (``x`` or ``y``) logarithmic, with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.minorticks_off()


def _names_below(axes: Axes) -> None:
    """One legend under all panels, so that no name lies on a curve or on another's."""
    figure = axes.figure
    for earlier in list(figure.legends):
        earlier.remove()
    found = [zip(*panel.get_legend_handles_labels(), strict=True) for panel in figure.axes]
    names = {name: handle for pairs in found for handle, name in pairs}
    columns = 2 if max(map(len, names), default=0) <= 22 else 1
    figure.legend(names.values(), names.keys(), loc="outside lower center", ncols=columns)


def rate_quality(summary: pd.DataFrame, y_label: str, **options: Any) -> Axes:
    """Quality over the column ``kbps``: ``curves`` with a logarithmic axis in kbit/s."""
    return curves(summary, "kbps", "rate, kbit/s", y_label, log_x=True, **options)


def heatmap(
    table: pd.DataFrame,
    label: str,
    x_label: str = "",
    y_label: str = "",
    difference: bool = False,
    digits: int = 1,
) -> Axes:
    """A table as coloured cells, numbered where they are few enough to be read on a page.

    Args:
        table: rows and columns named as they are to be shown; NaN cells stay empty.
        label: what the numbers are, with unit.
        x_label, y_label: what the columns and the rows are.
        difference: diverging colours centred at zero instead of a magnitude map.
        digits: behind the point.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    table = table.rename(index=_drawn, columns=_drawn)
    numbered = table.shape[1] <= MOST_NUMBERED
    # Never so flat that slanted column names leave no room for the cells.
    height = 1.2 + (0.4 if numbered else 0.24) * max(table.shape[0], 4)
    pairs = not numbered and table.shape[0] == table.shape[1]  # square cells, all of them named
    height = WIDTH * 1.25 if pairs else height
    _, axes = plt.subplots(figsize=(WIDTH, height))
    span = float(np.nanmax(np.abs(table.to_numpy(float)))) or 1.0
    limits = (
        {"vmin": -span, "vmax": span, "cmap": DIFFERENCE_MAP} if difference else {"cmap": "viridis"}
    )
    sns.heatmap(
        table, annot=numbered, fmt=f".{digits}f", linewidths=0.6, linecolor="white", ax=axes,
        cbar_kws={"label": label, "orientation": "horizontal" if pairs else "vertical"},
        annot_kws={"fontsize": 9}, yticklabels=True, square=pairs,
        xticklabels=pairs or -(-table.shape[1] // MOST_NUMBERED), **limits,
    )  # fmt: skip
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.tick_params(length=0, labelsize=7 if pairs else None)
    axes.set_yticklabels(axes.get_yticklabels(), rotation=0)
    if numbered and max(len(str(name)) for name in table.columns) > 12:
        axes.set_xticklabels([str(n).replace("\n", " ") for n in table.columns], rotation=90)
    elif numbered and table.shape[1] > 4:
        axes.set_xticklabels(axes.get_xticklabels(), rotation=40, ha="right")
    return axes


def _drawn(name: Any) -> Any:
    """A name of a clip or class without what no font has a sign for."""
    return _wrapped(one_line(name)) if isinstance(name, str) else name


def _wrapped(name: str) -> str:
    return textwrap.fill(name, 20)


def trade_off(points: pd.DataFrame, x_label: str, y_label: str) -> Axes:
    """Two measures against each other: a point an operating point, a line a method.

    Args:
        points: one row a point, in the order in which a method's are joined; columns
            ``method``, ``stage`` (written beside the point), ``x``, ``x_low``, ``x_high``, ``y``,
            ``y_low``, ``y_high`` (intervals may be NaN).
        x_label, y_label: with unit and the direction that is better.
    """
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(WIDTH, 4.4))
    for name in dict.fromkeys(points["method"]):
        part = points[points["method"] == name]
        drawn = look(str(name))
        axes.plot(part["x"], part["y"], **drawn.line_style())
        for axis in ("x", "y"):
            spread = part[axis] - part[f"{axis}_low"], part[f"{axis}_high"] - part[axis]
            bars = np.nan_to_num(np.stack([np.asarray(side, float) for side in spread]))
            axes.errorbar(
                part["x"], part["y"], **{f"{axis}err": np.maximum(bars, 0)}, fmt="none",
                ecolor=drawn.colour, elinewidth=0.9, alpha=0.6,
            )  # fmt: skip
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    _names_below(axes)
    _name_points(axes, points)
    return axes


#: Where the name of a point may stand, in points from it, and how it is aligned.
_PLACES = [(5, 4, "left"), (5, -12, "left"), (-5, 4, "right"), (-5, -12, "right")]
_PLACES += [(5, 15, "left"), (5, -23, "left"), (-5, 15, "right"), (-5, -23, "right")]


def _name_points(axes: Axes, points: pd.DataFrame) -> None:
    """Write each stage beside its point, where no name stands yet; none where all is taken."""
    from matplotlib.transforms import Bbox

    axes.figure.canvas.draw()  # so that places are known
    taken: list[Bbox] = []
    for row in points.itertuples():
        text = one_line(row.stage)
        for dx, dy, side in _PLACES if text else ():
            named = axes.annotate(
                text, (row.x, row.y), xytext=(dx, dy), textcoords="offset points", ha=side,
                fontsize=9, color=look(str(row.method)).colour,
            )  # fmt: skip
            box = named.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            named.remove()
