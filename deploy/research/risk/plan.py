"""What is forecast, when, and between what the choices were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from shared import clock
from shared.risk import portfolio

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "DOGE/USDT")
"""Judged alone, besides the two portfolios: two large coins, two wild ones."""
CORE_PERCENT = {"BTC/USDT": 40.0, "ETH/USDT": 30.0, "SOL/USDT": 15.0}
CHOSEN_UNTIL_MS = clock.to_ms(datetime(2025, 1, 1, tzinfo=UTC))
"""Window, decay and the rule for the horizon were chosen on days before this one."""

WINDOWS = (120, 240, 500, 1_000, 1_500)
DAILY_DECAYS = (0.50, 0.80, 0.90, 0.94, 0.97, 0.99)
HISTORY_HOURS = max(WINDOWS)
"""Hours before the first day of a portfolio, so that every window sees the same days."""

Weights = dict[str, float]


@dataclass(frozen=True)
class Stretch:
    """Days that begin in ``[from_ms, until_ms)``."""

    name: str
    from_ms: int
    until_ms: int


def holdings(available: Sequence[str], alone: Sequence[str] = SYMBOLS) -> dict[str, Weights]:
    """The portfolios to judge, by name: single symbols, the core sleeve's weights, equal weights.

    Shares of one unit of quote currency; there is no cash in them.
    """
    found: dict[str, Weights] = {symbol: {symbol: 1.0} for symbol in alone}
    others = [symbol for symbol in available if symbol not in CORE_PERCENT]
    if others and set(CORE_PERCENT) <= set(available):
        core = {symbol: percent / 100 for symbol, percent in CORE_PERCENT.items()}
        rest = 1 - sum(core.values())
        found["core weights"] = core | dict.fromkeys(others, rest / len(others))
    if len(available) > 1:
        found["equal weights"] = dict.fromkeys(available, 1 / len(available))
    return found


def minimum_hours() -> int:
    return HISTORY_HOURS + portfolio.HORIZON_HOURS
