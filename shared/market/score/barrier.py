"""The event that the AI score is about, and what chance it has where prices have no drift.

A long entry is paid for at the mid price ``m`` of the moment. With round-trip costs ``c`` (fees
both ways, spread and slippage) and exits at a profit of ``T`` and a loss of ``S``, all as shares
of ``m``, the event is that the mid price reaches ``m (1 + T + c)`` before it falls to
``m (1 - S + c)``, and within the time stop. So both levels are net of costs: an event is a profit
of ``T`` in the account, and the opposite is a loss of ``S``, or the result at the time stop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from shared.config import Config

Floats = NDArray[np.float64]

BPS = 10_000
_TERMS = 48
_NOTHING = 1e-18  # a term that changes no chance
_LOWEST_SPREAD = 0.05  # of a day's volatility over the corridor; below it the series needs more
_LOWEST_CHANCE = 1e-3  # tails are fatter than the normal's: less than this is no information


@dataclass(frozen=True)
class ExitRules:
    """How a long position ends: at a net profit, at a net loss, or after a time."""

    take_profit_percent: float
    stop_percent: float
    hours: float

    @classmethod
    def of(cls, config: Config) -> ExitRules:
        """The exits that a pod is configured for."""
        return cls(
            float(config.take_profit_percent),
            float(config.stop_loss_percent),
            float(config.time_stop_hours),
        )

    def rise(self, cost_bps: float) -> float:
        """How far the mid price has to rise, as a share, to earn the profit and the costs."""
        return self.take_profit_percent / 100 + cost_bps / BPS

    def fall(self, cost_bps: float) -> float:
        """How far it may fall until the loss is reached; 0 or less: costs alone are the loss."""
        return self.stop_percent / 100 - cost_bps / BPS


def driftless_logit(volatility: Floats, cost_bps: Floats, exits: ExitRules) -> Floats:
    """Log-odds of the event for a Brownian motion without drift; never below a chance of 0.001.

    The chance to leave a corridor at its upper end within a time is an eigenfunction series (Cox
    and Miller, The Theory of Stochastic Processes, 1965, section 5.7).

    Args:
        volatility: standard deviation of a day's log return.
        cost_bps: round-trip costs; where they reach the stop the event is impossible, and the
            lowest chance is given.
    """
    costs = cost_bps / BPS
    up = np.log1p(exits.take_profit_percent / 100 + costs)
    down = -np.log1p(np.minimum(costs - exits.stop_percent / 100, 0.0))
    corridor = up + down
    spread = volatility * math.sqrt(exits.hours / 24) / corridor
    spread = np.maximum(spread, _LOWEST_SPREAD)
    start = down / corridor
    chance = np.array(start, dtype=np.float64)
    for n in range(1, _TERMS):
        angle = n * math.pi
        decay = np.exp(-0.5 * (angle * spread) ** 2)
        if decay.max() < _NOTHING:
            break
        chance += (-1) ** n * 2 / angle * np.sin(angle * start) * decay
    chance = np.clip(chance, _LOWEST_CHANCE, 1 - _LOWEST_CHANCE)
    return np.asarray(np.log(chance / (1 - chance)), dtype=np.float64)
