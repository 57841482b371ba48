"""When an open position is left: one pure function over a position and what was seen since.

Precedence, the first that holds: stop, risk, trailing, target, time, technical. A stop comes
before a target that the same candle touched, because nobody knows which came first and the loss
is the safe assumption. One order is known: the bid is younger than every candle. So a candle whose
high raises the trailing stop above the bid is left at once; and where that high has reached the
target too, the target came first, since the price fell from there.

A position of the core sleeve is held for its weight: it is left for stop and risk alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from shared.ledger.positions import Position
from shared.market.types import Quote
from shared.risk.exits import trailing_stop

Reason = Literal["stop", "risk", "trailing", "target", "time", "technical"]
PRECEDENCE: tuple[Reason, ...] = ("stop", "risk", "trailing", "target", "time", "technical")


@dataclass(frozen=True)
class Seen:
    """The lowest and highest trade since the last look, all of it after the entry.

    ``low`` counts against the stop: lows from before the stop was raised to where it is are left
    out, unless they had reached the stop of their own time. It is infinite where none is left.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Momentum:
    """The trend on hourly candles, newest values: averages and the MACD histogram, in quote."""

    ema_9: float
    ema_21: float
    macd_histogram: float
    macd_histogram_previous: float

    @property
    def is_lost(self) -> bool:
        """The short average is under the long one, and the histogram is negative and falling."""
        falling = self.macd_histogram < self.macd_histogram_previous
        return self.ema_9 < self.ema_21 and self.macd_histogram < 0 and falling


@dataclass(frozen=True)
class ExitSignal:
    """Why to leave, the price that was crossed if there is one, and what was seen."""

    reason: Reason
    trigger: float | None
    seen: float | None


def decide_exit(
    position: Position,
    quote: Quote,
    *,
    now: datetime,
    seen: Seen | None = None,
    risk: bool = False,
    momentum: Momentum | None = None,
) -> ExitSignal | None:
    """Whether to leave, by the executable price (the bid) and the extremes since the last look.

    Args:
        position: held, that is with an entry price.
        seen: ``None`` where no whole candle lies between the last look and now.
        risk: everything is to be closed, whatever this position does.
        momentum: ``None`` where the averages are not known; then there is no technical exit.
    """
    lowest = quote.bid if seen is None else min(quote.bid, seen.low)
    highest = quote.bid if seen is None else max(quote.bid, seen.high)
    stop = float(position.stop_price)
    is_trailing = _has_trailed(position)
    if lowest <= stop and not is_trailing:
        return ExitSignal("stop", stop, lowest)
    if risk:
        return ExitSignal("risk", None, quote.bid)
    if lowest <= stop:
        # A stop that has been raised above the entry is the trailing stop doing its work.
        return ExitSignal("trailing", stop, lowest)
    if position.sleeve == "core":
        return None
    if position.target_price is not None and highest >= float(position.target_price):
        return ExitSignal("target", float(position.target_price), highest)
    raised = raised_stop(position, Decimal(repr(float(highest))))
    if raised is not None and quote.bid <= float(raised):
        return ExitSignal("trailing", float(raised), quote.bid)
    if position.time_stop_at is not None and now >= position.time_stop_at:
        return ExitSignal("time", None, quote.bid)
    if momentum is not None and momentum.is_lost:
        return ExitSignal("technical", momentum.ema_21, momentum.ema_9)
    return None


def raised_stop(position: Position, high: Decimal) -> Decimal | None:
    """The trailing stop that ``high`` asks for, or ``None`` where it would not tighten.

    It is active once the high has reached the activation price, and then for good.
    """
    activation, distance = position.trailing_activation_price, position.trailing_distance_percent
    if activation is None or distance is None:
        return None
    highest = high if position.high_water_price is None else max(high, position.high_water_price)
    if highest < activation:
        return None
    stop = trailing_stop(highest, distance)
    return stop if stop > position.stop_price else None


def _has_trailed(position: Position) -> bool:
    activation, high = position.trailing_activation_price, position.high_water_price
    return activation is not None and high is not None and high >= activation
