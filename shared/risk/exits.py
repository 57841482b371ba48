"""Where a new position is to be left again: stop, target, trailing stop, time stop."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.config import Config
from shared.errors import DataUnavailable
from shared.execution.types import Exits

_CENT_OF_A_CENT = Decimal("0.00000001")


def for_entry(config: Config, mid: Decimal, now_ms: int) -> Exits:
    """The exits of a position that is entered around ``mid``, from the configured percentages.

    Raises:
        DataUnavailable: the mid is no price.
    """
    if not (mid.is_finite() and mid > 0):
        raise DataUnavailable(f"mid: expected a price above 0, was {mid}")
    return Exits(
        stop_price=_moved(mid, -config.stop_loss_percent),
        target_price=_moved(mid, config.take_profit_percent),
        trailing_activation_price=_moved(mid, config.trailing_activation_percent),
        trailing_distance_percent=config.trailing_distance_percent,
        time_stop_at=clock.from_ms(now_ms) + timedelta(hours=config.time_stop_hours),
    )


def as_export(exits: Exits) -> dict[str, object]:
    """The shape of ``steps.risk_management``'s export."""
    return {
        "stopLoss": float(exits.stop_price),
        "takeProfit": float(exits.target_price),
        "trailingStop": {
            "enabled": True,
            "activation": float(exits.trailing_activation_price),
            "distance_percent": float(exits.trailing_distance_percent),
        },
        "timeStop": clock.to_ms(exits.time_stop_at),
    }


def trailing_stop(high_water: Decimal, distance_percent: Decimal) -> Decimal:
    """The stop that follows a high at ``distance_percent`` below it."""
    return _moved(high_water, -distance_percent)


def _moved(price: Decimal, percent: Decimal) -> Decimal:
    return (price * (100 + percent) / 100).quantize(_CENT_OF_A_CENT)
