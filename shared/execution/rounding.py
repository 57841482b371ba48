"""Quantities and prices on a venue's grid, always rounded towards safety."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from shared.execution.types import Side


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of ``step`` that is not above ``value``."""
    return (value / step).to_integral_value(ROUND_FLOOR) * step


def ceil_to(value: Decimal, step: Decimal) -> Decimal:
    """The smallest multiple of ``step`` that is not below ``value``."""
    return (value / step).to_integral_value(ROUND_CEILING) * step


def limit_price(price: Decimal, side: Side, tick: Decimal) -> Decimal:
    """``price`` on the tick grid: never above it for a buy, never below it for a sell."""
    return floor_to(price, tick) if side == "buy" else ceil_to(price, tick)
