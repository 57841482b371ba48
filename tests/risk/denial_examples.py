"""One order for every code with which the gate denies, as ``docs/denials.md`` shows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared.errors import OrderDenied
from shared.execution.types import PriceBand
from shared.market.types import Book
from shared.risk.controls import stage
from tests.risk.gate_case import BOOK, NOW, NOW_MS, STOP, case, denial
from tests.risk.world import BTC, ETH, dec, rules

# The band of the example in Binance's "Filters".
NARROW = PriceBand(dec("0.2"), dec("1.2"), dec("0.8"), dec(5), 1)
CORE = {"sleeve": "core", "settings": {"core_sleeve_percent": dec(20)}}


def of(purpose: Any = "entry", **changes: Any) -> Callable[[], OrderDenied | None]:
    return lambda: denial(case(purpose, **changes))


def asks(*levels: tuple[float, float]) -> Book:
    return Book(BTC, ((99.99, 7.0),), levels, NOW_MS)


def staged(**changes: Any) -> Callable[[], OrderDenied | None]:
    def judge() -> OrderDenied | None:
        from shared.ledger.stages import STAGES

        try:
            stage.deny_beyond(case(**changes), STAGES[0])
        except OrderDenied as denied:
            return denied
        return None

    return judge


def not_armed() -> OrderDenied:
    """What ``arming.demand`` raises; tests/cli/test_arm.py has it over a ledger."""
    return OrderDenied("LIVE_NOT_ARMED", pod="test")


EXAMPLES: dict[str, Callable[[], OrderDenied | None]] = {
    # state and arming
    "STATE_HALTED": of(state="HALTED"),
    "STATE_REDUCING": of(state="REDUCING"),
    "STATE_LIMIT_ORDERS_ONLY": of(order_type="market", limit_orders_only=True),
    "LIVE_NOT_ARMED": not_armed,
    # the order by itself
    "ORDER_SIDE": of(side="sell"),
    "ORDER_TYPE": of(order_type="iceberg"),
    "ORDER_NUMBER": of(quantity=Decimal("NaN")),
    "ORDER_STOP_PRICE": of("protect", **STOP | {"stop_price": None}),
    "ORDER_SELF_MATCH": of(opposing=1),
    "ORDERS_RESTING": of(resting_orders=200),
    "STOPS_RESTING": of("protect", **STOP, resting_stops=5),
    "HOLDING_EXCEEDED": of("exit", pending_sell_quantity=dec("0.6")),
    # what it is for
    "MARKET_MISMATCH": of(rules=rules(symbol=ETH)),
    "POSITION_MISMATCH": of(position_symbol=ETH),
    "SYMBOL_NOT_ALLOWED": lambda: denial(dataclasses.replace(case(), buyable=("ETH/USDT",))),
    "VENUE_NOT_ALLOWED": of(venue="binanceus", rules=rules("binanceus")),
    "MARKET_CLOSED": of(is_open=False),
    "RULES_NUMBER": of(price_tick=0),
    "RULES_UNREAD": of(unread_filters=("PERCENT_PRICE avgPriceMins: was nothing",)),
    "FACT_INVALID": of(others_held_quote=Decimal("NaN")),
    "QUANTITY_STEP": of(quantity=dec("0.5005")),
    "QUANTITY_MINIMUM": of(min_quantity="0.501"),
    "NOTIONAL_MINIMUM": of(min_notional="50.01"),
    "PRICE_TICK": of(limit_price=dec("100.001")),
    # the market
    "BOOK_STALE": of(book=dataclasses.replace(BOOK, at_ms=NOW_MS - 15_001)),
    "BOOK_EMPTY": of(book=asks()),
    "BOOK_NUMBER": of(book=asks((float("nan"), 8.0))),
    "BOOK_CROSSED": of(book=asks((99.98, 8.0))),
    "BOOK_SPREAD": of(book=asks((101.0, 8.0))),
    "BOOK_DEPTH": of(book=asks((100.01, 1.9))),
    "PRICE_COLLAR": of(limit_price=dec("100.51")),
    "PRICE_BAND": of(price_band=NARROW, average_price=dec(80)),
    "PRICE_BAND_UNKNOWN": of(price_band=NARROW),
    "PRICE_AVERAGE": of(price_band=NARROW, average_price=Decimal("NaN")),
    "PRICE_STOP_ABOVE_MID": of("protect", **STOP | {"stop_price": dec(101)}),
    "PRICE_ONE_SOURCE": of(other_venue_mids=[]),
    "QUOTE_PEG": of(quote_worths=[dec("0.9899")]),
    "QUOTE_PEG_UNKNOWN": of(quote_worths=None),
    "PRICE_VENUES_APART": of(other_venue_mids=[dec(98)]),
    "PRICE_RANGE": of(low_1m=dec(97)),
    "PRICE_RANGE_UNKNOWN": of(low_1m=None),
    "VOLUME_SHARE": of(volume_24h_quote=dec(49_000)),
    "VOLUME_UNKNOWN": of(volume_24h_quote=None),
    "MARKET_NUMBER": of(volume_24h_quote=dec(0)),
    # the money
    "POSITION_SIZE": of(symbol_pending_buy_quote=dec("50.01")),
    "POSITION_SHARE": of(settings={"position_size_percent": dec("0.4")}),
    "POSITION_COUNT": of(other_positions=5),
    "EXPOSURE_GROSS": of(others_held_quote=dec("450.01")),
    "EXPOSURE_VENUE": of(venue_held_quote=dec("4950.01")),
    "CORE_WEIGHT": of(**CORE, symbol_pending_buy_quote=dec(2_000)),
    "CORE_SLEEVE": of(**CORE, others_held_quote=dec(2_500)),
    "STAGE_EXPOSURE": staged(others_held_quote=dec(1_000)),
    "STAGE_POSITION": staged(equity_quote=dec(5_000), symbol_pending_buy_quote=dec(10)),
    "EQUITY_MISSING": of(at=None),
    "EQUITY_STALE": of(at=NOW - timedelta(milliseconds=600_001)),
    "LOSS_DAILY": of(day_start_quote=dec(10_050)),
    "LOSS_WEEKLY": of(week_start_quote=dec(11_200)),
    "LOSS_UNKNOWN": of(rolling_start_quote=None),
    "DRAWDOWN_LIMIT": of(high_water_quote=dec(12_500)),
    "DRAWDOWN_UNKNOWN": of(high_water_quote=None),
    "BALANCE_UNCOMPARED": of(compared_at=None),
    "BALANCE_STALE": of(compared_at=NOW - timedelta(milliseconds=60_001)),
    "BALANCE_MISSING": of(venue_cash_quote=None),
    "BALANCE_SHORT": of(venue_cash_quote=dec(50)),
    # the program
    "SYMBOL_UNRESOLVED": of(unresolved=1),
    "RATE_ORDERS": of(orders_last_minute=20),
    "RATE_SYMBOL": of(symbol_trades_last_minute=10),
    "RATE_MESSAGES": of(messages_last_minute=60),
    "RATE_SYMBOL_MESSAGES": of(symbol_messages_last_minute=30),
    "REPEATED_ENTRIES": of(repeated_entries=10),
    "STRATEGY_THROTTLED": of(throttled_at=NOW),
    "RUN_TIME": of(run_started_at=NOW - timedelta(milliseconds=44_001)),
    "RUN_UNKNOWN": of(run_started_at=None),
}
