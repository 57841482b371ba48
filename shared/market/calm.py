"""What the gate asks of a market before anything is bought: a quiet minute, a day's volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.market.types import Candles

_MINUTE_MAX_AGE_MS = 3 * 60_000  # since it closed; venues leave minutes without trades out
_HOUR_MS = 3_600_000
_DAY_HOURS = 24
_HOURS_MAX_AGE_MS = 2 * _HOUR_MS


@dataclass(frozen=True)
class Calm:
    """How a symbol has traded on one venue; ``None`` where its candles do not tell.

    Attributes:
        low_1m, high_1m: of the last closed minute.
        volume_24h_quote: of the last 24 closed hours, each valued at its typical price.
    """

    low_1m: float | None
    high_1m: float | None
    volume_24h_quote: float | None


def measure(minutes: Candles | None, hours: Candles | None, now_ms: int) -> Calm:
    """Read it from one venue's closed candles of one minute and of one hour."""
    low, high = _last_minute(minutes, now_ms)
    return Calm(low, high, _volume_24h(hours, now_ms))


def _last_minute(minutes: Candles | None, now_ms: int) -> tuple[float | None, float | None]:
    if minutes is None or not len(minutes):
        return None, None
    if not 0 <= now_ms - minutes.closed_ms <= _MINUTE_MAX_AGE_MS:
        return None, None
    return float(minutes.low[-1]), float(minutes.high[-1])


def _volume_24h(hours: Candles | None, now_ms: int) -> float | None:
    """The value of 24 closed hours. An hour that a venue leaves out had no trade in it."""
    if hours is None or not len(hours):
        return None
    until_ms = hours.closed_ms
    since_ms = until_ms - _DAY_HOURS * _HOUR_MS
    is_recent = 0 <= now_ms - until_ms <= _HOURS_MAX_AGE_MS
    if not is_recent or int(hours.open_ms[0]) > since_ms:
        return None
    day = hours.open_ms >= since_ms
    typical = (hours.high[day] + hours.low[day] + hours.close[day]) / 3
    return float(np.sum(typical * hours.volume[day]))
