"""Candles with the points, lines and levels of patterns drawn on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from deploy.research.patterns import plots
from deploy.research.patterns.episodes import Report, episodes_of
from deploy.research.patterns.experiment import JUDGED, Seen
from deploy.research.patterns.measure import matches
from deploy.research.patterns.plots import BLUE, GREEN, GREY, ORANGE, RED, spoken
from shared import clock
from shared.market.candles.candle_rows import sliced
from shared.market.patterns import KINDS
from shared.market.types import Candles

_COLOURS = (BLUE, ORANGE, RED, "#CC79A7", "#56B4E9", GREEN, "#8B4513", "#5D3A9B")
_MARGIN_CANDLES = 15


def chart(candles: Candles, patterns: Sequence[Report], path: Path) -> Path:
    """The newest 250 candles and what was found in them, with the list beside the chart."""
    made, axes = plots.figure(1, 1, (14, 7))
    shown = sliced(candles, slice(-250, None))
    plot = axes[0][0]
    candlesticks(plot, shown)
    for number, pattern in enumerate(patterns):
        colour = _COLOURS[number % len(_COLOURS)]
        label = f"{spoken(pattern['kind'])} {pattern['confidence']:.2f}"
        if "touches" in pattern:
            label += f"\n{pattern['price']:,.6g}, {pattern['touches']} touches"
        outline(plot, shown, pattern, (colour, label))
    _dated(plot, shown)
    at = clock.iso(clock.from_ms(candles.closed_ms))
    made.suptitle(f"{candles.symbol} {candles.timeframe}, closed at {at}")
    if patterns:
        made.legend(loc="outside right upper", frameon=False, title="kind and confidence")
    return plots.save(made, path)


def gallery(drawn: Sequence[Seen], path: Path) -> Path:
    """One drawing of each kind that was found, and one that was missed, at middling noise."""
    made, axes = plots.figure(4, 4, (17, 13))
    for number, kind in enumerate(KINDS):
        own = [s for s in drawn if s.drawing is not None and s.drawing.kind == kind]
        own.sort(key=lambda seen: abs(seen.drawing.noise_atr - 0.5) if seen.drawing else 0.0)
        found = [seen for seen in own if matches(seen, episodes_of(kind, seen.reported))]
        missed = [seen for seen in own if seen not in found]
        row, column = number // 2, 2 * (number % 2)
        _example(axes[row][column], found, "found")
        _example(axes[row][column + 1], missed, "missed")
    labelled = dict(zip(*_labels(axes.flat), strict=True))
    made.legend(
        labelled.values(), labelled.keys(), loc="outside lower center", ncols=2, frameon=False
    )
    return plots.save(made, path)


def _example(plot: Any, examples: Sequence[Seen], verdict: str) -> None:
    plot.set_xticks([])
    plot.set_yticks([])
    if not examples or (drawing := examples[0].drawing) is None:
        plot.set_title(f"none was {verdict}")
        return
    seen = examples[0]
    turns = drawing.points
    first = max(0, turns[0][0] - _MARGIN_CANDLES)
    shown = sliced(seen.candles, slice(first, min(turns[-1][0] + 30, JUDGED[-1])))
    candlesticks(plot, shown)
    xs, ys = [index - first for index, _ in turns], [price for _, price in turns]
    plot.plot(xs, ys, color=GREY, linestyle="--", marker="x", label="as drawn", zorder=3)
    for episode in matches(seen, episodes_of(drawing.kind, seen.reported))[:1]:
        outline(plot, shown, episode.reports[-1], (BLUE, "as found"), episode.seen_at[-1] - first)
    plot.set_title(
        f"{spoken(drawing.kind)}: {verdict}\nnoise {drawing.noise_atr:g}, "
        f"height {drawing.height_atr:.1f} ATR",
        fontsize=10,
    )


def _labels(plots_made: Iterable[Any]) -> tuple[list[str], list[Any]]:
    """The labels of all plots together, and what they stand for."""
    pairs = [plot.get_legend_handles_labels() for plot in plots_made]
    handles = [handle for found, _ in pairs for handle in found]
    return [label for _, found in pairs for label in found], handles


def candlesticks(plot: Any, candles: Candles) -> None:
    """Each candle at its index: a thin line from low to high and a thick one, open to close."""
    places = range(len(candles))
    colours = [
        GREEN if close >= opened else RED
        for opened, close in zip(candles.open, candles.close, strict=True)
    ]
    plot.vlines(places, candles.low, candles.high, colors=colours, linewidth=0.7, alpha=0.6)
    plot.vlines(places, candles.open, candles.close, colors=colours, linewidth=2.2, alpha=0.6)


def outline(
    plot: Any, candles: Candles, pattern: Report, style: tuple[str, str], until: int | None = None
) -> None:
    """The points of a pattern and its lines up to the candle ``until`` at which it was told (the
    last one, unless given); ``style`` is colour and label."""
    colour, label = style
    # By candle and not by time: a recording may have holes. A level may be older than the chart.
    shown = [point for point in pattern["points"] if point[0] >= candles.open_ms[0]]
    xs = candles.open_ms.searchsorted([point[0] for point in shown]).tolist()
    ys = [point[1] for point in shown]
    until = len(candles) - 1 if until is None else until
    if "price" in pattern:
        plot.hlines(pattern["price"], xs[0], until, colors=colour, linewidth=1.6, label=label)
        plot.plot(xs, ys, "o", color=colour, markersize=5)
    else:
        plot.plot(xs, ys, "o-", color=colour, linewidth=1.2, markersize=5, label=label)
    for side in ("upper", "lower"):
        if side in pattern:
            plot.plot((xs[0], until), pattern[side], color=colour, linewidth=1.6)
    if "neckline" in pattern:
        plot.plot((xs[1], until), (ys[1], pattern["neckline"]), color=colour, linestyle=":")


def _dated(plot: Any, candles: Candles) -> None:
    places = range(0, len(candles), 40)
    days = [f"{clock.from_ms(int(candles.open_ms[place])):%m-%d %H:%M}" for place in places]
    plot.set_xticks(list(places), days)
    plot.set(xlabel="candle's opening, UTC", ylabel=f"price of {candles.symbol}")
    plot.grid(alpha=0.2)
