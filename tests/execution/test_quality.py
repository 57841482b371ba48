"""Execution quality, against figures worked out by hand from a small table of orders and fills."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.execution import quality
from shared.ledger.connection import Ledger

DAY = datetime(2025, 5, 6, tzinfo=UTC)
ALL = (DAY, DAY + timedelta(days=1))
Fill = tuple[str, str, str | None, str | None, int]  # price, quantity, fee, liquidity, after ms


def order(
    ledger: Ledger,
    name: str,
    what: str,
    quantity: str,
    mids: tuple[str, str],
    at: str,
    fills: Sequence[Fill] = (),
    *,
    state: str = "ACKNOWLEDGED",
    purpose: str = "entry",
    parent_id: str | None = None,
) -> None:
    """An order ``what`` ("binance BTC/USDT buy") at ``at`` o'clock, with its fills."""
    venue, symbol, side = what.split()
    sent_at = DAY + timedelta(
        hours=int(at[:2]), minutes=int(at[3:5]), seconds=int(at[6:8] or 0) if len(at) > 5 else 0
    )
    ledger.execute(
        "INSERT INTO intents (intent_id, logical_key, client_order_id, pod, position_id, "
        "parent_id, venue, symbol, side, purpose, order_type, time_in_force, quantity, "
        "limit_price, decision_mid, arrival_mid, epoch, sent_at, valid_until, state) "
        "SELECT %s, %s, %s, %s, min(position_id), %s, %s, %s, %s, %s, 'limit', 'IOC', %s, 1, %s, "
        "%s, 1, %s, %s, %s FROM positions",
        (
            *(name, name, name, ledger.pod, parent_id, venue, symbol, side, purpose, quantity),
            *(*mids, sent_at, sent_at, state),
        ),
    )
    for number, (price, filled, fee, liquidity, after_ms) in enumerate(fills):
        ledger.execute(
            "INSERT INTO fills SELECT %s, %s, %s, %s, min(position_id), %s, %s, %s, %s, %s, %s, "
            "'USDT', %s, %s, %s, %s FROM positions",
            (
                *(venue, f"{name}-{number}", name, name, ledger.pod, symbol, side, price, filled),
                *(fee or "0.001", fee, liquidity, sent_at + timedelta(milliseconds=after_ms), DAY),
            ),
        )


@pytest.fixture
def table(ledger: Ledger) -> Ledger:
    """Five orders: bought in two parts, sold in part, rejected, unknown, and a resting stop."""
    ledger.execute(
        "INSERT INTO positions (pod, symbol, strategy, opened_at, stop_price) "
        "VALUES ('test', 'BTC/USDT', 'momentum', %s, 90)",
        (DAY,),
    )
    parts: list[Fill] = [
        ("101", "1", "0.101", "taker", 200),
        ("102", "1", "0.051", "maker", 1_000),
    ]
    order(ledger, "a", "binance BTC/USDT buy", "2", ("100", "100.5"), "13:59:30", parts)
    sold: list[Fill] = [("49.5", "4", "0.198", "taker", 300)]
    order(ledger, "b", "kraken ETH/USDT sell", "10", ("50", "50"), "14:10", sold, purpose="exit")
    order(ledger, "c", "kraken BTC/USDT buy", "1", ("100", "100"), "14:15", state="REJECTED")
    order(ledger, "d", "binance BTC/USDT sell", "1", ("100", "100"), "14:20", state="UNKNOWN")
    order(ledger, "e", "binance BTC/USDT sell", "2", ("100", "100"), "14:21", purpose="protect")
    return ledger


def chosen(figures: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    found = {name: figures[name] for name in expected}
    return {n: None if v is None else pytest.approx(float(v)) for n, v in found.items()}


FIRST = {
    "average_price": 101.5,  # 203 for 2
    "filled_quote": 203,
    "fees_quote": 0.152,
    "fee_bps": 10_000 * 0.152 / 203,
    "fill_rate_percent": 100,
    "slippage_bps": 150,  # 101.5 against 100
    "arrival_slippage_bps": 10_000 * 1 / 100.5,
    "maker_percent": 100 * 102 / 203,
    "time_to_first_fill_ms": 200,
    "time_to_fill_ms": 1_000,
}
SECOND = {
    "average_price": 49.5,
    "filled_quote": 198,
    "fees_quote": 0.198,
    "fee_bps": 10,
    "fill_rate_percent": 40,
    "slippage_bps": 100,  # sold 0.5 below 50: a cost
    "arrival_slippage_bps": 100,
    "maker_percent": 0,
    "time_to_first_fill_ms": 300,
    "time_to_fill_ms": 300,
}
NONE_FILLED = {
    **dict.fromkeys(("average_price", "filled_quote", "fees_quote", "fee_bps", "slippage_bps")),
    **dict.fromkeys(("maker_percent", "time_to_fill_ms")),
    "fill_rate_percent": 0,
}
TOTAL = {
    "orders_sent": 4,
    "orders_filled": 2,
    "rejected": 1,
    "unknown": 1,
    "fees_unknown": 0,
    "average_price": None,  # of two symbols
    "filled_quote": 401,
    "fees_quote": 0.35,
    "fee_bps": 10_000 * 0.35 / 401,
    "fill_rate_percent": 100 * (201 + 200) / (201 + 500 + 100 + 100),
    "slippage_bps": (150 * 203 + 100 * 198) / 401,
    "arrival_slippage_bps": (10_000 / 100.5 * 203 + 100 * 198) / 401,
    "maker_percent": 100 * 102 / 401,
    "time_to_first_fill_ms": 250,  # the median of 200 and 300
    "time_to_fill_ms": 650,
    "time_to_fill_p95_ms": 300 + 0.95 * 700,
}


@pytest.mark.parametrize(
    ("intent_id", "expected"),
    [("a", FIRST), ("b", SECOND), ("c", NONE_FILLED), ("d", NONE_FILLED)],
)
def test_each_order(table: Ledger, intent_id: str, expected: dict[str, Any]) -> None:
    figures = quality.of_intents(table, [intent_id])
    (single,) = figures["orders"]
    assert single["intent_id"] == intent_id
    assert chosen(single, expected) == expected
    assert chosen(figures, expected) == expected  # of one order, all figures are its own


def test_of_several_orders_the_money_weighs(table: Ledger) -> None:
    assert chosen(quality.of_intents(table, ["a", "b", "c", "d"]), TOTAL) == TOTAL
    assert chosen(quality.of_window(table, *ALL), TOTAL) == TOTAL  # without the resting stop


@pytest.mark.parametrize(
    ("grouped_by", "name", "expected"),
    [
        ("by_venue", "binance", {"orders_sent": 2, "unknown": 1, "fill_rate_percent": 20100 / 301}),
        ("by_venue", "kraken", {"orders_sent": 2, "rejected": 1, "fill_rate_percent": 100 / 3}),
        ("by_symbol", "BTC/USDT", {"orders_sent": 3, "average_price": 101.5, "slippage_bps": 150}),
        ("by_symbol", "ETH/USDT", {"orders_sent": 1, "fee_bps": 10}),
        ("by_hour", "13", FIRST),
        ("by_hour", "14", {"orders_sent": 3, "slippage_bps": 100, "time_to_fill_ms": 300}),
    ],
)
def test_by_venue_symbol_and_hour(
    table: Ledger, grouped_by: str, name: str, expected: dict[str, Any]
) -> None:
    groups = quality.of_window(table, *ALL)[grouped_by]
    assert len(groups) == 2
    assert chosen(groups[name], expected) == expected


def test_the_window_has_an_open_start_and_a_closed_end(table: Ledger) -> None:
    at = DAY + timedelta(hours=14, minutes=10)
    assert quality.of_window(table, at, ALL[1])["orders_sent"] == 2
    assert quality.of_window(table, ALL[0], at)["orders_sent"] == 2


def test_a_fee_without_a_value_leaves_the_fees_unknown_and_nothing_else(table: Ledger) -> None:
    paid: list[Fill] = [("100", "1", None, "taker", 5)]
    order(table, "f", "binance SOL/USDT buy", "1", ("100", "100"), "15:00", paid)
    (single,) = quality.of_intents(table, ["f"])["orders"]
    assert (single["fees_quote"], single["fee_bps"], single["filled_quote"]) == (None, None, 100)
    total = quality.of_window(table, *ALL)
    assert (total["fees_unknown"], float(total["fees_quote"])) == (1, 0.35)
    assert float(total["fee_bps"]) == pytest.approx(10_000 * 0.35 / 401)  # of orders with a fee


def test_a_minute_without_orders_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = quality.of_intents(None, [])  # type: ignore[arg-type]
    assert (figures["orders"], figures["orders_sent"], figures["by_venue"]) == ([], 0, {})
    assert figures["slippage_bps"] is figures["fill_rate_percent"] is None


def test_another_pod_stays_out(table: Ledger) -> None:
    figures = quality.of_window(Ledger(table._connection, "other"), *ALL)
    assert (figures["orders_sent"], figures["by_hour"]) == (0, {})
    assert figures["fill_rate_percent"] is None


def parent(ledger: Ledger, name: str, state: str = "EXPIRED") -> None:
    ledger.execute(
        "INSERT INTO parent_orders (parent_id, pod, position_id, symbol, side, purpose, reason, "
        "quantity, decision_mid, urgency, slices, interval_seconds, created_at, expires_at, state) "
        "SELECT %s, 'test', min(position_id), 'BTC/USDT', 'buy', 'entry', 'x', 10, 100, 'normal', "
        "2, 60, %s, %s, %s FROM positions",
        (name, DAY + timedelta(hours=1), DAY + timedelta(hours=2), state),
    )


def slices(ledger: Ledger, name: str, last_mid: str) -> None:
    """6 of 10 bought: 4 at 101, then 2 at 102, with a fee of 1 per mille of the first."""
    for number, (mid, fill) in enumerate(
        [("100.5", ("101", "4", "0.4", "taker", 1)), (last_mid, ("102", "2", "0.2", "taker", 1))]
    ):
        order(
            *(ledger, f"{name}{number}", "binance BTC/USDT buy", "5", ("100", mid)),
            *(f"01:0{number}", [fill]),
            parent_id=name,
        )


@pytest.mark.parametrize(("last_mid", "missed"), [("102", 8), ("97", -12)])
def test_the_shortfall_counts_what_was_missed(table: Ledger, last_mid: str, missed: int) -> None:
    """Paid 608 for 6 that were worth 600, and 0.6 in fees; 4 were not bought."""
    parent(table, "p")
    slices(table, "p", last_mid)
    found = quality.shortfall(table, *ALL)
    assert (found["execution_quote"], found["missed_quote"]) == (8, missed)
    assert found["fees_quote"] == Decimal("0.6")
    assert found["shortfall_quote"] == Decimal("8.6") + missed
    assert found["shortfall_bps"] == 10_000 * (Decimal("8.6") + missed) / 1_000


def test_a_parent_without_an_order_is_counted_and_not_valued(table: Ledger) -> None:
    parent(table, "p")
    found = quality.shortfall(table, *ALL)
    assert (found["parents"], found["parents_unvalued"]) == (1, 1)
    assert found["shortfall_quote"] is found["shortfall_bps"] is None


def test_a_parent_that_is_still_worked_has_no_shortfall_yet(table: Ledger) -> None:
    parent(table, "p", "WORKING")
    slices(table, "p", "102")
    assert quality.shortfall(table, *ALL)["parents"] == 0
