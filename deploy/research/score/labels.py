"""What became of a long entry at the close of each candle, after costs.

The entry pays the close. Of the candles after it, in order: one whose low is at the stop or below
is a loss, whatever its high was (inside a candle nobody knows which came first, so the worse is
taken); otherwise one whose high is at the target or above is a win. With neither within the time
stop the position is sold at the last close. A candle that opens beyond a level is left at its
open. Entries whose candles are not all there have no label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.market.score.barrier import BPS, ExitRules
from shared.market.types import TIMEFRAME_MS, Candles

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """The outcome of each entry, in the order of the candles.

    Attributes:
        known: whether every candle up to the time stop is there.
        won: the event of ``shared.market.score.barrier``; means nothing where not ``known``.
        net_return: what the entry earned after costs, as a share of what was paid; NaN where
            not ``known``.
    """

    known: NDArray[np.bool_]
    won: NDArray[np.bool_]
    net_return: Floats


def outcomes(candles: Candles, exits: ExitRules, cost_bps: float) -> Outcomes:
    """Follow an entry at every candle's close until it ends."""
    count, ahead = len(candles), _candles_ahead(candles, exits)
    known = _complete(candles, ahead)
    entry = candles.close
    target = entry * (1 + exits.rise(cost_bps))
    stop = entry * (1 - exits.fall(cost_bps))
    left = np.full(count, np.nan)  # the price at which the entry was left
    won = np.zeros(count, dtype=bool)
    open_still = known.copy()
    for step in range(1, ahead + 1):
        rows = np.flatnonzero(open_still)
        after = rows + step
        stopped = candles.low[after] <= stop[rows]
        reached = ~stopped & (candles.high[after] >= target[rows])
        opens = candles.open[after]
        left[rows[stopped]] = np.minimum(stop[rows], opens)[stopped]
        left[rows[reached]] = np.maximum(target[rows], opens)[reached]
        won[rows[reached]] = True
        open_still[rows[stopped | reached]] = False
    rows = np.flatnonzero(open_still)
    left[rows] = candles.close[rows + ahead]
    return Outcomes(known, won, left / entry - 1 - cost_bps / BPS)


def _candles_ahead(candles: Candles, exits: ExitRules) -> int:
    return round(exits.hours * 3_600_000 / TIMEFRAME_MS[candles.timeframe])


def _complete(candles: Candles, ahead: int) -> NDArray[np.bool_]:
    """Entries followed by all their candles, without a gap."""
    complete = np.zeros(len(candles), dtype=bool)
    reach = candles.open_ms[ahead:] - candles.open_ms[:-ahead]
    complete[: len(reach)] = reach == ahead * TIMEFRAME_MS[candles.timeframe]
    return complete
