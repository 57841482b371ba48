"""Each control of the gate on one order in memory: at its limit, and one unit past it.

The order buys 0.5 BTC at 100, a notional of 50, and passes every control; a row changes what stands
before the colon. ``test_gate.py`` asks the same gate over a ledger.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared import config
from shared.errors import OrderDenied
from shared.execution.types import OrderTicket
from shared.ledger import state
from shared.ledger.state import TradingState
from shared.risk import limits
from shared.risk.controls import conduct
from shared.risk.controls.order import deny_unless_state_allows
from tests.risk.gate_bench import judge
from tests.risk.gate_case import ACTIVE, BOOK, NOW, STOP, book, case, verdict
from tests.risk.world import ETH, World, dec, rules, ticket


@pytest.mark.parametrize("purpose", ["entry", "exit"])
def test_the_order_of_these_tests_passes(purpose: str) -> None:
    assert verdict(case(purpose)) is None
    assert verdict(case("protect", **STOP)) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"rules": rules("kraken")}, "MARKET_MISMATCH"),
        ({"rules": rules(symbol=ETH)}, "MARKET_MISMATCH"),
        ({"book": dataclasses.replace(BOOK, symbol=ETH)}, "MARKET_MISMATCH"),
        ({"position_symbol": ETH}, "POSITION_MISMATCH"),
        ({"position_symbol": None}, "POSITION_MISMATCH"),
        ({"book": book(None, 100.01)}, "BOOK_EMPTY"),
        ({"book": book(99.99, None)}, "BOOK_EMPTY"),
        ({"book": book(0.0, 100.01)}, "BOOK_NUMBER"),
        ({"book": book(99.99, 0.0)}, "BOOK_NUMBER"),
        ({"book": book(99.99, float("inf"))}, "BOOK_NUMBER"),
        ({"book": book(float("-inf"), 100.01)}, "BOOK_NUMBER"),
        ({"book": book(100.01, 100.0)}, "BOOK_CROSSED"),
        ({"book": book(100.0, 100.0)}, "BOOK_CROSSED"),
        ({"book": book(99.99, 100.0)}, None),
        # an asset of less than a unit has a book as well
        (
            {
                "book": book(0.5, 0.501),
                "limit_price": dec("0.5"),
                "quantity": dec(1),
                "min_notional": 0,
                "other_venue_mids": [dec("0.5005")],
                "low_1m": dec("0.499"),
                "high_1m": dec("0.502"),
            },
            None,
        ),
    ],
)
def test_market_and_book(changes: dict[str, Any], code: str | None) -> None:
    assert verdict(case(**changes)) == code


def test_the_mid_is_halfway_between_the_best_prices() -> None:
    assert case(book=book(99.0, 103.0)).mid == 101
    assert case(book=BOOK).mid == 100


@pytest.mark.parametrize(
    ("purpose", "changes", "code"),
    [
        ("entry", {"limit_price": dec("100.50")}, None),
        ("entry", {"limit_price": dec("100.51")}, "PRICE_COLLAR"),
        ("exit", {"limit_price": dec("90.00")}, None),
        ("exit", {"limit_price": dec("89.99")}, "PRICE_COLLAR"),
        ("rebalance", {"side": "sell", "limit_price": dec("99.50")}, None),
        ("rebalance", {"side": "sell", "limit_price": dec("99.49")}, "PRICE_COLLAR"),
        # a width that a person has set wider than that of exits holds for them too
        ("exit", {"limit_price": dec("88"), "settings": {"price_collar_bps": dec(1_200)}}, None),
        ("exit", {"limit_price": dec("87.99"), "settings": {"price_collar_bps": dec(1_200)}},
         "PRICE_COLLAR"),
        # stops are held against their trigger: 2 % of 98 are 1.96
        ("protect", STOP | {"limit_price": dec("96.04")}, None),
        ("protect", STOP | {"limit_price": dec("96.03")}, "PRICE_COLLAR"),
        ("rebalance", STOP | {"side": "sell", "limit_price": dec("97.51")}, None),
        ("rebalance", STOP | {"side": "sell", "limit_price": dec("97.50")}, "PRICE_COLLAR"),
        ("protect", STOP | {"stop_price": dec("99.99"), "limit_price": dec(99)}, None),
        ("protect", STOP | {"stop_price": dec(100), "limit_price": dec(99)},
         "PRICE_STOP_ABOVE_MID"),
        # a price that an ordinary order carries beside its limit is no trigger
        ("entry", {"stop_price": dec(101)}, None),
    ],
)  # fmt: skip
def test_collar(purpose: str, changes: dict[str, Any], code: str | None) -> None:
    assert verdict(case(purpose, **changes)) == code


@pytest.mark.parametrize(
    ("bid", "ask", "entry", "leave"),
    [
        (101.99, 102.01, None, None),  # 2 % above 100, and below
        (102.0, 102.02, "PRICE_VENUES_APART", None),
        (97.99, 98.01, None, None),
        (97.98, 98.0, "PRICE_VENUES_APART", None),
        (109.99, 110.01, "PRICE_VENUES_APART", None),
        (110.0, 110.02, "PRICE_VENUES_APART", "PRICE_VENUES_APART"),
        (89.99, 90.01, "PRICE_VENUES_APART", None),
        (89.98, 90.0, "PRICE_VENUES_APART", "PRICE_VENUES_APART"),
    ],
)
def test_venues_apart(bid: float, ask: float, entry: str | None, leave: str | None) -> None:
    mid = dec(bid + ask) / 2
    minute = {"low_1m": mid, "high_1m": mid}
    here = {"book": book(bid, ask), "other_venue_mids": [dec(100)]} | minute
    assert verdict(case(**here, limit_price=dec(89))) == entry
    assert verdict(case("exit", **here, limit_price=dec(111))) == leave


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quantity_step": "0.5"}, None),
        ({"quantity_step": "0.3"}, "QUANTITY_STEP"),
        ({"quantity_step": 0}, "RULES_NUMBER"),
        ({"quantity_step": -1}, "RULES_NUMBER"),
        ({"price_tick": 0}, "RULES_NUMBER"),
        ({"price_tick": -1}, "RULES_NUMBER"),
        ({"price_tick": 1}, None),
        ({"price_tick": 3}, "PRICE_TICK"),
        ({"price_tick": "0.02", "limit_price": dec("100.01")}, "PRICE_TICK"),
        ({"min_quantity": "0.5"}, None),
        ({"min_quantity": "0.501"}, "QUANTITY_MINIMUM"),
        ({"min_notional": 50}, None),
        ({"min_notional": "50.01"}, "NOTIONAL_MINIMUM"),
    ],
)
def test_grid(changes: dict[str, Any], code: str | None) -> None:
    assert verdict(case(**changes)) == code


@pytest.mark.parametrize("kind", ["stop_limit", "stop_market"])
@pytest.mark.parametrize(("stop", "code"), [("98.01", None), ("98.001", "PRICE_TICK")])
def test_a_trigger_lies_on_the_grid(kind: str, stop: str, code: str | None) -> None:
    order = STOP | {"order_type": kind, "stop_price": dec(stop)}
    assert verdict(case("protect", **order)) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        # 0.3 held at the mid of 100, 20 under way, 50 more: the 100 of MAX_POSITION_SIZE
        ({"symbol_held_quantity": dec("0.3"), "symbol_pending_buy_quote": dec(20)}, None),
        ({"symbol_held_quantity": dec("0.3"), "symbol_pending_buy_quote": dec("20.01")},
         "POSITION_SIZE"),
        ({"symbol_held_quantity": dec("0.301"), "symbol_pending_buy_quote": dec(20)},
         "POSITION_SIZE"),
        # 2 % of the equity
        ({"equity_quote": dec(2_500), "day_start_quote": dec(2_500),
          "rolling_start_quote": dec(2_500), "high_water_quote": dec(2_500),
          "week_start_quote": dec(2_500)}, None),
        ({"equity_quote": dec("2499.99"), "day_start_quote": dec(2_500),
          "rolling_start_quote": dec(2_500), "high_water_quote": dec(2_500),
          "week_start_quote": dec(2_500)}, "POSITION_SHARE"),
        # five full sizes in all: 300 held elsewhere, 150 under way there, 50 here
        ({"others_held_quote": dec(300), "others_pending_buy_quote": dec(150)}, None),
        ({"others_held_quote": dec(300), "others_pending_buy_quote": dec("150.01")},
         "EXPOSURE_GROSS"),
        ({"others_held_quote": dec("300.01"), "others_pending_buy_quote": dec(150)},
         "EXPOSURE_GROSS"),
        ({"other_positions": 4}, None),
        ({"other_positions": 5}, "POSITION_COUNT"),
        ({"unresolved": 1}, "SYMBOL_UNRESOLVED"),
        ({"opposing": 1}, "ORDER_SELF_MATCH"),
        # 10 bps of fee on what is bought and on what is under way: 50.05 and 20.02
        ({"venue_pending_buy_quote": dec(20), "venue_cash_quote": dec("70.07")}, None),
        ({"venue_pending_buy_quote": dec(20), "venue_cash_quote": dec("70.06")}, "BALANCE_SHORT"),
        ({"venue_cash_quote": dec("50.049999")}, "BALANCE_SHORT"),
        ({"venue_cash_quote": dec("50.05"), "taker_fee_bps": 11}, "BALANCE_SHORT"),
        ({"venue_cash_quote": None}, "BALANCE_MISSING"),
    ],
)  # fmt: skip
def test_new_risk_ends_at_its_limits_and_exits_do_not(
    changes: dict[str, Any], code: str | None
) -> None:
    assert verdict(case(**changes)) == code
    if "opposing" not in changes:
        assert verdict(case("exit", **changes)) is None


def test_all_positions_together_stay_within_the_equity() -> None:
    """With a share of 100 %, the equity of 400 binds before five full sizes do."""
    whole = {"position_size_percent": dec(100), "daily_loss_percent": dec(100)}
    worth = dict.fromkeys(
        (
            "equity_quote", "day_start_quote", "rolling_start_quote", "high_water_quote",
            "week_start_quote",
        ),
        dec(400),
    )  # fmt: skip
    fits = case(settings=whole, others_held_quote=dec(350), **worth)
    assert verdict(fits) is None
    past = case(settings=whole, others_held_quote=dec("350.01"), **worth)
    assert verdict(past) == "EXPOSURE_GROSS"


def test_who_never_had_equity_is_worth_what_was_paid_in() -> None:
    nothing = dict.fromkeys(
        ("at", "equity_quote", "high_water_quote", "day_start_quote", "rolling_start_quote")
    )
    assert verdict(case(**nothing)) is None
    assert verdict(case(**nothing, capital_quote=dec("2499.99"))) == "POSITION_SHARE"
    assert verdict(case(**nothing, capital_quote=None)) == "EQUITY_MISSING"


@pytest.mark.parametrize(
    ("age_ms", "code"),
    [
        (600_000, None),
        (600_001, "EQUITY_STALE"),
        (-1_000, None),  # the clocks of two processes
        (-1_001, "EQUITY_STALE"),
    ],
)
def test_equity_is_ten_minutes_old_at_most(age_ms: int, code: str | None) -> None:
    at = NOW - timedelta(milliseconds=age_ms)
    assert verdict(case(at=at)) == code
    assert verdict(case("exit", at=at)) is None


@pytest.mark.parametrize("window", ["day_start_quote", "rolling_start_quote"])
@pytest.mark.parametrize(
    ("start", "code"),
    [
        ("10049.99", None),
        ("10050", "LOSS_DAILY"),
        (None, "LOSS_UNKNOWN"),
        ("0", "LOSS_UNKNOWN"),
        ("1", None),
    ],
)
def test_the_loss_of_either_window(window: str, start: str | None, code: str | None) -> None:
    changes = {window: None if start is None else dec(start), "high_water_quote": dec(10_050)}
    assert verdict(case(**changes)) == code
    assert verdict(case("exit", **changes)) is None


@pytest.mark.parametrize(
    ("start", "limit"), [(1_000, "50"), (999, "49.95"), (2_000, "50"), (100, "5")]
)
def test_the_daily_limit_is_the_smaller_of_50_and_5_percent(start: int, limit: str) -> None:
    assert limits.daily_loss_limit(config.load({}), dec(start)) == dec(limit)


@pytest.mark.parametrize(
    ("high_water", "code"),
    [("11111.11", None), ("11111.12", "DRAWDOWN_LIMIT"), (None, "DRAWDOWN_UNKNOWN")],
)
def test_drawdown_of_10_percent(high_water: str | None, code: str | None) -> None:
    changes = {"high_water_quote": None if high_water is None else dec(high_water)}
    assert verdict(case(**changes)) == code
    assert verdict(case("exit", **changes)) is None


def test_a_drawdown_of_exactly_its_limit_is_at_it() -> None:
    nine = {"equity_quote": dec(9_000), "day_start_quote": dec(9_000)}
    assert verdict(case(**nine, rolling_start_quote=dec(9_000))) == "DRAWDOWN_LIMIT"


@pytest.mark.parametrize(
    ("purpose", "changes", "code"),
    [
        ("exit", {"held_on_venue": dec("0.5")}, None),
        ("exit", {"held_on_venue": dec("0.499")}, "HOLDING_EXCEEDED"),
        ("exit", {"held_on_venue": None}, "HOLDING_EXCEEDED"),
        ("exit", {"pending_sell_quantity": dec("0.5")}, None),
        ("exit", {"pending_sell_quantity": dec("0.501")}, "HOLDING_EXCEEDED"),
        # a stop that may not rest keeps back no exit, but another stop and a rebalance
        ("exit", {"pending_sell_quantity": dec(1), "unknown_stop_quantity": dec("0.5")}, None),
        ("exit", {"pending_sell_quantity": dec(1), "unknown_stop_quantity": dec("0.499")},
         "HOLDING_EXCEEDED"),
        ("protect", {"pending_sell_quantity": dec(1), "unknown_stop_quantity": dec(1), **STOP},
         "HOLDING_EXCEEDED"),
        ("rebalance", {"pending_sell_quantity": dec(1), "unknown_stop_quantity": dec(1),
                       "side": "sell"}, "HOLDING_EXCEEDED"),
        ("entry", {"held_on_venue": None}, None),
        ("exit", {"opposing": 1}, "ORDER_SELF_MATCH"),
        ("protect", {"opposing": 1, **STOP}, None),
    ],
)  # fmt: skip
def test_a_sale_of_what_is_held_and_free(
    purpose: str, changes: dict[str, Any], code: str | None
) -> None:
    assert verdict(case(purpose, **changes)) == code


@pytest.mark.parametrize(
    ("purpose", "last"),
    [
        ("entry", (19, 399)),
        ("protect", (39, 799)),
        ("exit", (59, 1_199)),
        ("rebalance", (59, 1199)),
    ],
)
def test_the_last_order_of_a_minute_and_of_an_hour(purpose: str, last: tuple[int, int]) -> None:
    order = STOP if purpose == "protect" else {"side": "buy" if purpose == "entry" else "sell"}
    minute, hour = last
    for before, code in (((minute, hour), None), ((minute + 1, 0), "RATE_ORDERS"),
                         ((0, hour + 1), "RATE_ORDERS")):  # fmt: skip
        counts = {"orders_last_minute": before[0], "orders_last_hour": before[1]}
        assert verdict(case(purpose, **counts, **order)) == code


def test_a_rate_tells_what_the_order_would_make_of_it() -> None:
    with pytest.raises(
        OrderDenied, match="RATE_ORDERS: window=minute, before=20, after=21, limit=20"
    ):
        conduct.rate(case(orders_last_minute=20))


@pytest.mark.parametrize("window", ["minute", "hour"])
@pytest.mark.parametrize(("stops", "code"), [(6, None), (5, "RATE_ORDERS")])
def test_stops_take_no_room_from_entries(window: str, stops: int, code: str | None) -> None:
    """Of 25 orders a minute 6 were stops, so that 19 count; of 405 an hour, 399."""
    orders = {"minute": 25, "hour": 405}[window]
    counts = {f"orders_last_{window}": orders, f"stops_last_{window}": stops}
    assert verdict(case(**counts)) == code


@pytest.mark.parametrize(
    ("elapsed_ms", "entry", "leave"),
    [(44_000, None, None), (44_001, "RUN_TIME", None), (52_000, "RUN_TIME", None),
     (52_001, "RUN_TIME", "RUN_TIME")],
)  # fmt: skip
def test_time_for_two_requests_of_an_entry_and_one_of_an_exit(
    elapsed_ms: int, entry: str | None, leave: str | None
) -> None:
    began = {"run_started_at": NOW - timedelta(milliseconds=elapsed_ms)}
    assert verdict(case(**began)) == entry
    assert verdict(case("exit", **began)) == leave
    assert verdict(case(run_started_at=None)) == "RUN_UNKNOWN"


# What ``check`` asks before it reads anything -----------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quantity": Decimal("NaN")}, "ORDER_NUMBER"),
        ({"limit_price": dec(0)}, "ORDER_NUMBER"),
        ({"quantity": 0.5}, "ORDER_NUMBER"),  # binary fractions are not money
        ({"order_type": "stop_limit", "stop_price": None}, "ORDER_STOP_PRICE"),
        ({"order_type": "stop_market", "stop_price": None}, "ORDER_STOP_PRICE"),
        ({"order_type": "stop_limit", "stop_price": dec(0)}, "ORDER_NUMBER"),
    ],
)
def test_numbers_are_asked_before_the_ledger(
    world: World, changes: dict[str, Any], code: str
) -> None:
    assert judge(world, ticket(**changes), position_id=world.position()) == code


@pytest.mark.parametrize("halt", ["REDUCING", "HALTED"])
def test_a_halt_is_told_before_anything_else(world: World, halt: Any) -> None:
    state.tighten(world.ledger, halt, reason="test", set_by="test")
    broken = ticket(quantity=Decimal("NaN"))
    assert judge(world, broken, position_id=world.position()) == f"STATE_{halt}"


@pytest.mark.parametrize(
    ("changes", "restricted", "code"),
    [
        ({"order_type": "market"}, True, "STATE_LIMIT_ORDERS_ONLY"),
        ({"order_type": "market"}, False, None),
        ({"order_type": "limit"}, True, None),
        ({"order_type": "market", "side": "sell"}, True, None),
    ],
)
def test_limit_orders_only(changes: dict[str, Any], restricted: bool, code: str | None) -> None:
    trading = dataclasses.replace(ACTIVE, limit_orders_only=restricted)
    assert refusal(trading, ticket(**changes), "rebalance") == code


def refusal(trading: TradingState, order: OrderTicket, purpose: Any) -> str | None:
    try:
        deny_unless_state_allows(trading, order, purpose)
    except OrderDenied as denied:
        return denied.code
    return None
