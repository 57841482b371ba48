"""The reliability diagram of a model."""

from __future__ import annotations

from pathlib import Path

from deploy.research.score.judge import Judgement

_PREDICTED, _OBSERVED = "chance that was given", "share that came true"


def reliability(path: Path, history: Judgement, unseen: Judgement, shown_cost_bps: int) -> None:
    """Draw both stretches into one PNG: on the diagonal, chances are frequencies."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    everything = [
        value
        for judgement in (history, unseen)
        for one in judgement.reliability
        for value in (one.predicted, one.observed)
    ]
    end = 1.1 * max(everything)
    axes.plot([0, end], [0, end], color="0.6", linewidth=1, label="what was said came true")
    axes.axhline(unseen.base_rate, color="0.8", linestyle="--", linewidth=1, label="base rate")
    for judgement, name, style in ((history, "walk-forward", "o-"), (unseen, "unseen", "s-")):
        axes.plot(
            [one.predicted for one in judgement.reliability],
            [one.observed for one in judgement.reliability],
            style,
            markersize=5,
            linewidth=1,
            label=f"{name} {judgement.from_day} to {judgement.to_day}, {judgement.entries:,}",
        )
    axes.set(xlim=(0, end), ylim=(0, end), xlabel=_PREDICTED, ylabel=_OBSERVED, aspect="equal")
    axes.set_title(f"AI score: reliability, costs of {shown_cost_bps} bps")
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Software": None})
