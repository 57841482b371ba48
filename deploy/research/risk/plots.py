"""A picture of the backtest: what each day brought, its forecasts, and the days that broke them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deploy.research.risk.backtest import LARGEST, Line, Result
from deploy.research.risk.plan import DAY_MS, Stretch
from shared import clock
from shared.risk.portfolio import METHODS

# Okabe and Ito's colours, which the colour-blind tell apart.
_COLOURS = {"historical": "#0072B2", "filtered": "#E69F00", "parametric": "#009E73"}
_BROKEN, _DAY, _LARGEST = "#D55E00", "0.65", "0.15"
_LEAD_DAYS = 180
"""Shown before the last stretch, so that the change from seen to unseen days can be seen."""


def breaches(result: Result, path: Path) -> Path:
    """Write one PNG with a panel a portfolio: the last stretch and half a year before it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(result.lines)
    columns = 1 if len(names) == 1 else 2
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(7 * columns, 2.9 * rows + 0.7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).flat
    stretch = result.stretches[-1]
    for name, plot in zip(names, axes, strict=False):
        _panel(plot, name, result.lines[name], stretch)
    for plot in list(axes)[len(names) :]:
        plot.set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    figure.suptitle(f"Days from midnight UTC and their VaR 95; white: {stretch.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    return path


def _panel(plot: Any, name: str, line: Line, stretch: Stretch) -> None:
    days, forecasts = line.days, line.forecasts
    shown = (days.begin_ms >= stretch.from_ms - _LEAD_DAYS * DAY_MS) & (
        days.begin_ms < stretch.until_ms
    )
    at = np.array([clock.from_ms(int(ms)) for ms in days.begin_ms[shown]])
    percent = 100 * days.profit[shown] / days.values.sum()
    largest = -100 * forecasts.var95[LARGEST][shown] / days.values.sum()
    plot.axhline(0, color="0.85", linewidth=0.8)
    plot.plot(at, percent, ".", color=_DAY, markersize=3, label="a day's profit")
    for method in METHODS:
        level = -100 * forecasts.var95[method][shown] / days.values.sum()
        plot.plot(at, level, color=_COLOURS[method], linewidth=0.9, label=f"{method} VaR")
    plot.plot(at, largest, "--", color=_LARGEST, linewidth=0.7, label="the largest")
    broken = percent < largest
    plot.plot(at[broken], percent[broken], "o", color=_BROKEN, markersize=4, label="breach")
    begin = clock.from_ms(stretch.from_ms)
    inside = days.begin_ms[shown] >= stretch.from_ms
    if (~inside).any():
        plot.axvspan(at[0], begin, color="0.95", zorder=0)
    plot.set_title(
        f"{name}: {int((broken & inside).sum())} breaches of the largest in "
        f"{int(inside.sum())} days",
        fontsize=9,
    )
    plot.set_ylabel("% of holdings", fontsize=8)
    plot.tick_params(labelsize=7)
    plot.margins(x=0.01)
