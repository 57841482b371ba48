"""What entries of a like chance earned: the odds that sizing stakes on.

An entry ends in one of three ways: at its target, at its stop, or by its time at any price
between. Kelly's formula knows two, so the three are folded into two without losing the mean: how
often an entry earned something after costs, how much those earned on average, and how much the
others lost. All of it is measured on predictions of entries that their model did not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.research.score.dataset import Dataset
from deploy.research.score.plan import Plan
from deploy.research.score.predict import Predicted

Floats = NDArray[np.float64]

GROUPS = 10
FEWEST_OUTCOMES = 30  # wins, and losses, for their averages to mean anything
_COLUMNS = ("chance", "entries", "win_share", "average_win_percent", "average_loss_percent")


@dataclass(frozen=True)
class Checked:
    """Odds at the shown costs beside what entries of like chances earned later.

    Attributes:
        chance: mean chance of the group. expected_percent: its mean net return, as measured.
        unseen: entries of the unseen stretch whose chance lies nearest to this group's.
        unseen_percent: what these earned; ``None`` where there are none.
    """

    chance: float
    win_share: float
    average_win_percent: float
    average_loss_percent: float
    expected_percent: float
    unseen: int
    unseen_percent: float | None


def measure(data: Dataset, predicted: Predicted, plan: Plan) -> list[dict[str, Any]]:
    """Odds by costs and, in ascending order, by chance; the shape of the model's file."""
    return [
        {"cost_bps": float(cost)}
        | _grouped(predicted.at_costs[:, number], 100 * data.net_return[predicted.rows, number])
        for number, cost in enumerate(plan.costs_bps)
    ]


def check(
    odds: list[dict[str, Any]], data: Dataset, unseen: Predicted, plan: Plan
) -> list[Checked]:
    """The odds at the shown costs against the unseen stretch."""
    shown = odds[plan.shown]
    nearest = _nearest(np.array(shown["chance"]), unseen.chances)
    net_percent = 100 * data.net_return[unseen.rows, plan.shown]
    return [
        Checked(
            chance=chance,
            win_share=share,
            average_win_percent=win,
            average_loss_percent=loss,
            expected_percent=share * win - (1 - share) * loss,
            unseen=int((nearest == number).sum()),
            unseen_percent=_mean(net_percent[nearest == number]),
        )
        for number, (chance, share, win, loss) in enumerate(
            zip(
                shown["chance"],
                shown["win_share"],
                shown["average_win_percent"],
                shown["average_loss_percent"],
                strict=True,
            )
        )
    ]


def _grouped(chances: Floats, net_percent: Floats) -> dict[str, list[float]]:
    """Groups of like chances, as many as have enough wins and enough losses."""
    order = np.argsort(chances, kind="stable")
    table: dict[str, list[float]] = {
        name: []
        for name in (
            "chance",
            "entries",
            "win_share",
            "average_win_percent",
            "average_loss_percent",
        )
    }
    for rows in _merged(np.array_split(order, GROUPS), net_percent):
        net = net_percent[rows]
        won, lost = net[net > 0], net[net <= 0]
        table["chance"].append(float(chances[rows].mean()))
        table["entries"].append(len(rows))
        table["win_share"].append(len(won) / len(rows))
        table["average_win_percent"].append(float(won.mean()))
        table["average_loss_percent"].append(float(-lost.mean()))
    return table


def _merged(parts: list[NDArray[np.int64]], net_percent: Floats) -> list[NDArray[np.int64]]:
    """Neighbours joined until each has its wins and losses; a poor rest joins the last."""
    groups: list[NDArray[np.int64]] = []
    gathering = np.array([], dtype=np.int64)
    for part in parts:
        gathering = np.concatenate([gathering, part])
        wins = int((net_percent[gathering] > 0).sum())
        if min(wins, len(gathering) - wins) >= FEWEST_OUTCOMES:
            groups.append(gathering)
            gathering = np.array([], dtype=np.int64)
    if len(gathering) and groups:
        groups[-1] = np.concatenate([groups[-1], gathering])
    return groups


def _nearest(centres: Floats, values: Floats) -> NDArray[np.int64]:
    between = (centres[1:] + centres[:-1]) / 2
    return np.searchsorted(between, values)


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None
