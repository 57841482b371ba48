"""What a fall through the stops would cost, which a stop cannot prevent.

A stop is a price at which selling begins, not one at which it ends: on 10 October 2025 prices fell
far past it. Sizes are therefore cut so that all tactical positions together, each sold three times
as far away as its stop, lose no more than the rest of what a day may lose. The core sleeve is not
counted here: its stops are far away on purpose, and value at risk bounds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from shared.config import Config
from shared.errors import OrderDenied
from shared.ledger.equity import Standing
from shared.ledger.positions import Position
from shared.risk.exits import GAP_MULTIPLE
from shared.risk.limits import daily_loss_limit


def held_loss_quote(positions: Sequence[Position], prices: Mapping[str, float]) -> Decimal:
    """The loss of open tactical positions from ``prices`` down to three times their stop distance.

    A price at its stop or below loses what is left between it and nothing better known: the
    distance is then that of the stop from the entry.
    """
    total = Decimal(0)
    for position in positions:
        if position.sleeve != "tactical" or not position.is_held:
            continue
        price = Decimal(repr(float(prices[position.symbol])))
        distance = price - position.stop_price
        if distance <= 0 and position.average_entry_price is not None:
            distance = abs(position.average_entry_price - position.stop_price)
        total += position.quantity * min(price, GAP_MULTIPLE * distance)
    return total


def cap_quote(
    config: Config,
    standing: Standing,
    *,
    worth_quote: Decimal,
    held_loss_quote: Decimal,
    pending_quote: Decimal,
    stop_distance_percent: Decimal,
) -> Decimal:
    """The largest notional whose gap loss still fits into the day's; may be negative.

    Args:
        held_loss_quote: from ``held_loss_quote``. pending_quote: notional of purchases under way,
            taken to have the configured stop.
        stop_distance_percent: of the new position, from its entry.

    Raises:
        OrderDenied: ``EXIT_STOP_DISTANCE``, where the stop does not lie below the entry.
    """
    if not (stop_distance_percent.is_finite() and stop_distance_percent > 0):
        raise OrderDenied("EXIT_STOP_DISTANCE", stop_distance_percent=stop_distance_percent)
    pending_loss = pending_quote * _gap_share(config.stop_loss_percent)
    left = _left_of_the_day(config, standing, worth_quote) - held_loss_quote - pending_loss
    return left / _gap_share(stop_distance_percent)


def _gap_share(stop_distance_percent: Decimal) -> Decimal:
    return min(Decimal(1), GAP_MULTIPLE * stop_distance_percent / 100)


def _left_of_the_day(config: Config, standing: Standing, worth_quote: Decimal) -> Decimal:
    """What the UTC day and the last 24 hours may still lose; a gain adds nothing to it."""
    windows = (
        (standing.day_start_quote, standing.day_loss_quote),
        (standing.rolling_start_quote, standing.rolling_loss_quote),
    )
    left = daily_loss_limit(config, worth_quote)
    for start, loss in windows:
        if start is not None and loss is not None:
            left = min(left, daily_loss_limit(config, start) - max(loss, Decimal(0)))
    return left
