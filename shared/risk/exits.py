"""Where a new position is to be left again: stop, target, trailing stop, time stop.

With ``EXIT_SCALING=fixed`` the configured percentages hold as they stand. With ``volatility`` the
distances of stop, target and trailing stop grow and shrink together with the symbol's current
volatility, so that a stop is as seldom met by noise in a wild week as in a quiet one. The time
stop stays. A wider stop is no larger risk, because sizing divides by ``stop_distance_percent``.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.config import MAX_EXIT_SCALE, Config
from shared.errors import DataUnavailable
from shared.execution.types import Exits
from shared.market.types import TIMEFRAME_MS, Candles

REFERENCE_VOLATILITY_PERCENT = 60.0
"""Annualised volatility at which the configured percentages hold: that of a large coin in an
ordinary year, and the one from which sizing shrinks."""

MIN_EXIT_SCALE = Decimal("0.5")  # nearer, and the spread and an ordinary minute would meet the stop
GAP_MULTIPLE = Decimal(3)
"""How many stop distances a price that jumps over the stop is taken to cost."""

_CURRENT_HOURS = 72  # long enough for a spread of +-8 % in the estimate, short enough to be current
_MINIMUM_HOURS = 48
_HOURS_PER_YEAR = 24 * 365
_CENT_OF_A_CENT = Decimal("0.00000001")


@dataclass(frozen=True)
class EntryExits(Exits):
    """The exits of a position that is still to be entered.

    Attributes:
        entry_price: the mid that the prices were reckoned from, in quote currency.
        scale: by how much the configured percentages were stretched, 1 where they hold as they are.
    """

    entry_price: Decimal
    scale: Decimal

    @property
    def stop_distance_percent(self) -> Decimal:
        """How far the stop lies below the entry: what a unit of notional loses at the stop."""
        return 100 * (self.entry_price - self.stop_price) / self.entry_price


def for_entry(
    config: Config, mid: Decimal, now_ms: int, *, volatility_ratio: float | None = None
) -> EntryExits:
    """The exits of a position that is entered around ``mid``, from the configured percentages.

    Args:
        volatility_ratio: the symbol's current volatility over the reference, see
            ``volatility_ratio``; only looked at where ``EXIT_SCALING`` is ``volatility``.

    Raises:
        DataUnavailable: the mid is no price, or the exits scale with a volatility that is missing.
    """
    if not (mid.is_finite() and mid > 0):
        raise DataUnavailable(f"mid: expected a price above 0, was {mid}")
    scale = _scale(config, volatility_ratio)
    return EntryExits(
        stop_price=_moved(mid, -config.stop_loss_percent * scale),
        target_price=_moved(mid, config.take_profit_percent * scale),
        trailing_activation_price=_moved(mid, config.trailing_activation_percent * scale),
        trailing_distance_percent=config.trailing_distance_percent * scale,
        time_stop_at=clock.from_ms(now_ms) + timedelta(hours=config.time_stop_hours),
        entry_price=mid,
        scale=scale,
    )


def volatility_ratio(hourly: Candles) -> float:
    """The volatility of the last three days over the reference, both annualised.

    It is the sample deviation of hourly returns; one across a missing hour is not counted.

    Raises:
        DataUnavailable: fewer than 48 returns are known in those days, or the price never moved.
    """
    opens, closes = hourly.open_ms[-_CURRENT_HOURS - 1 :], hourly.close[-_CURRENT_HOURS - 1 :]
    returns = [
        float(closes[n] / closes[n - 1] - 1)
        for n in range(1, len(closes))
        if opens[n] - opens[n - 1] == TIMEFRAME_MS["1h"]
    ]
    if len(returns) < _MINIMUM_HOURS:
        raise DataUnavailable(
            f"hourly returns of {hourly.symbol}: expected at least {_MINIMUM_HOURS}, "
            f"found {len(returns)}"
        )
    deviation = statistics.stdev(returns)
    if not deviation > 0:
        raise DataUnavailable(f"volatility of {hourly.symbol}: expected above 0, was {deviation}")
    return 100 * deviation * math.sqrt(_HOURS_PER_YEAR) / REFERENCE_VOLATILITY_PERCENT


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


def _scale(config: Config, ratio: float | None) -> Decimal:
    """The ratio within its bounds: a stop is never nearer than half of what is configured, and
    never wider than two and a half times."""
    if config.exit_scaling == "fixed":
        return Decimal(1)
    if ratio is None or not math.isfinite(ratio) or ratio <= 0:
        raise DataUnavailable(f"volatility_ratio: expected a number above 0, was {ratio}")
    return min(max(Decimal(repr(float(ratio))), MIN_EXIT_SCALE), MAX_EXIT_SCALE)


def _moved(price: Decimal, percent: Decimal) -> Decimal:
    return (price * (100 + percent) / 100).quantize(_CENT_OF_A_CENT)
