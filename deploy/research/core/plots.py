"""A picture of the sleeve: how far each weight is from its target, the band, the rebalances."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

from deploy.research.core.following import Followed
from shared import clock

# Okabe and Ito's colours, which the colour-blind tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def drift(followed: Followed, path: Path) -> Path:
    """Write one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    samples = [sample for sample in followed.samples if sample.is_of_the_moment]
    figure = Figure(figsize=(9, 4.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    plot: Any = figure.subplots()
    band = float(followed.band_percent)
    plot.axhspan(-band, band, color="0.94", zorder=0, label=f"band of {band:g} points")
    plot.axhline(0, color="0.7", linewidth=0.8)
    symbols = sorted({symbol for sample in samples for symbol in sample.weights})
    for symbol, colour in zip(symbols, cycle(_COLOURS), strict=False):
        own = [sample for sample in samples if symbol in sample.weights]
        at = [clock.from_ms(sample.at_ms) for sample in own]
        off = [sample.off_points[symbol] for sample in own]
        plot.plot(at, off, color=colour, linewidth=1.1, label=symbol)
    for number, rebalanced in enumerate(followed.rebalances):
        label = "rebalance" if number == 0 else None
        plot.axvline(rebalanced.at, color="0.3", linewidth=0.9, linestyle="--", label=label)
    funded = [s for s in samples if any(s.weights.values())]
    reach = 1.2 * max([band, *(sample.farthest_points for sample in funded)])
    plot.set_ylim(-reach, reach)
    plot.set_ylabel("weight above its target, points of the sleeve")
    plot.tick_params(labelsize=8)
    plot.margins(x=0.01)
    figure.legend(loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    return path
