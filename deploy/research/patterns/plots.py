"""The plots of the report. Colours are Okabe and Ito's, which the colour-blind tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.research.patterns.forward import After
from deploy.research.patterns.measure import Detection, Reliability
from shared.market.patterns import KINDS

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"
_DPI = 110


def figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure that needs no display, and its axes as an array."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=size, layout="constrained", dpi=_DPI)
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, squeeze=False)


def save(made: Any, path: Path) -> Path:
    """Write a figure as PNG, with its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path)
    return path


def by_noise(detections: Sequence[Detection], path: Path) -> Path:
    """Recall and precision of each kind over the noise level."""
    made, axes = figure(2, 4, (13, 6.2))
    for kind, plot in zip(KINDS, axes.flat, strict=True):
        rows = [row for row in detections if row.kind == kind]
        noises = [row.noise_atr for row in rows]
        precisions = [float("nan") if r.precision is None else r.precision for r in rows]
        plot.plot(noises, [row.recall for row in rows], "o-", color=BLUE, label="recall")
        plot.plot(noises, precisions, "s--", color=ORANGE, label="precision")
        plot.set(title=spoken(kind), ylim=(-0.03, 1.03), xticks=noises)
        plot.grid(alpha=0.3)
    for plot in axes[1]:
        plot.set_xlabel("noise (average true ranges)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    made.suptitle(
        f"Drawn shapes: found, and right ({detections[0].drawings} drawings a point, "
        "half of the stretches plain)"
    )
    return save(made, path)


def false_alarms(rates: dict[str, dict[str, float]], path: Path) -> Path:
    """Shapes in 1,000 candles of each series; in a random walk every one is a false alarm."""
    made, axes = figure(1, 1, (10, 6))
    plot, width = axes[0][0], 0.8 / len(rates)
    colours = (BLUE, ORANGE, GREEN, GREY)
    for number, (series, by_kind) in enumerate(rates.items()):
        places = [place + (number + 0.5) * width - 0.4 for place in range(len(KINDS))]
        values = [by_kind[kind] for kind in KINDS]
        plot.barh(places, values, width, label=series, color=colours[number])
    plot.set_yticks(range(len(KINDS)), [spoken(kind) for kind in KINDS])
    plot.invert_yaxis()
    plot.set_xlabel("shapes told in 1,000 candles")
    plot.grid(axis="x", alpha=0.3)
    made.legend(loc="outside lower center", ncols=2, frameon=False)
    made.suptitle("Found in random walks, where nothing is, and in recorded candles")
    return save(made, path)


def calibration(rows: Sequence[Reliability], path: Path) -> Path:
    """What was told with a confidence, and how much of it was drawn."""
    made, axes = figure(1, 1, (6, 6))
    plot = axes[0][0]
    plot.plot((0, 1), (0, 1), color=GREY, linewidth=1, label="as it should be")
    said, real = [r.mean_confidence for r in rows], [r.drawn_share for r in rows]
    plot.plot(said, real, "o-", color=BLUE, label="measured on other drawings")
    for row in rows:
        at = (row.mean_confidence, row.drawn_share)
        plot.annotate(f"{row.episodes:.0f}", at, xytext=(6, -12), textcoords="offset points")
    plot.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that was drawn")
    plot.grid(alpha=0.3)
    made.legend(loc="outside lower center", ncols=2, frameon=False)
    made.suptitle("Does the confidence keep its word? (numbers: shapes)")
    return save(made, path)


def afterwards(rows: Sequence[After], path: Path) -> Path:
    """The excess return after each event with its interval."""
    made, axes = figure(1, 1, (10, 0.42 * len(rows) + 1.6))
    plot = axes[0][0]
    for place, row in enumerate(rows):
        colour = RED if row.differs else BLUE
        plot.plot((row.low_bps, row.high_bps), (place, place), color=colour, linewidth=2)
        plot.plot(row.excess_bps, place, "o", color=colour)
    plot.axvline(0, color=GREY, linewidth=1)
    plot.set_yticks(range(len(rows)), [f"{spoken(row.event)} ({row.events:,})" for row in rows])
    plot.invert_yaxis()
    plot.set_xlabel("return of 24 h, less that of any hour (bps); red: zero is outside")
    plot.grid(axis="x", alpha=0.3)
    made.suptitle("After a pattern, 2018 to 2023")
    return save(made, path)


def spoken(kind: str) -> str:
    """``head_and_shoulders`` as a person reads it."""
    return kind.replace("_", " ")
