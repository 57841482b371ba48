"""The checker sees each kind of wrong: books at rest are clean, one thing is spoilt, it is told."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from deploy.local.sweep.invariants import Evidence, judge, naked
from shared import clock

AT_MS = 1_767_571_320_000
FILL = {
    "trade_id": 7,
    "order_id": 5,
    "symbol": "BTC/USDT",
    "side": "buy",
    "price": "95000",
    "quantity": "0.001",
    "cost": "95",
    "fee": "0.000001",
    "fee_currency": "BTC",
    "is_maker": False,
    "at_ms": AT_MS,
}
BUY = {
    "order_id": 5,
    "client_order_id": "tl1",
    "symbol": "BTC/USDT",
    "side": "buy",
    "type": "limit",
    "time_in_force": "IOC",
    "status": "filled",
    "quantity": "0.001",
    "filled_quantity": "0.001",
    "limit_price": "95000",
    "stop_price": None,
    "created_ms": AT_MS,
    "updated_ms": AT_MS,
}
STOP = BUY | {
    "order_id": 6,
    "client_order_id": "tl2",
    "side": "sell",
    "status": "open",
    "quantity": "0.00099",
    "filled_quantity": "0",
    "stop_price": "93000",
}


def intent(client_order_id: str, purpose: str) -> dict[str, Any]:
    return {
        "intent_id": client_order_id,
        "client_order_id": client_order_id,
        "logical_key": f"{purpose}:1",
        "venue": "binance",
        "state": "ACKNOWLEDGED",
        "purpose": purpose,
        "epoch": 3,
    }


def order(client_order_id: str, status: str, quantity: str, filled: str) -> dict[str, Any]:
    return {
        "venue": "binance",
        "venue_order_id": client_order_id,
        "intent_id": client_order_id,
        "status": status,
        "quantity": Decimal(quantity),
        "filled_quantity": Decimal(filled),
    }


def books() -> Evidence:
    """A position bought by one order, and its stop."""
    return Evidence(
        intents=[intent("tl1", "entry"), intent("tl2", "protect")],
        orders=[order("tl1", "filled", "0.001", "0.001"), order("tl2", "open", "0.00099", "0")],
        fills=[
            {
                "venue": "binance",
                "venue_trade_id": "7",
                "intent_id": "tl1",
                "quantity": Decimal("0.001"),
                "price": Decimal(95000),
            }
        ],
        balances={
            ("binance", "USDT"): Decimal(905),
            ("binance", "BTC"): Decimal("0.000999"),
        },
        accounts={
            "binance": {
                "balances": {
                    "USDT": {"free": "905", "locked": "0"},
                    "BTC": {"free": "0.000009", "locked": "0.00099"},
                },
                "orders": [dict(BUY), dict(STOP)],
                "fills": [dict(FILL)],
            }
        },
        parents=[{"parent_id": "p", "quantity": Decimal("0.001"), "traded_quantity": Decimal(0)}],
        epochs=frozenset({3}),
        cost_quote=Decimal(95),
        positions=1,
        max_cost_quote=Decimal(100),
        max_positions=5,
        rebalanced=[clock.from_ms(AT_MS - 12 * 60_000), clock.from_ms(AT_MS)],
        rebalance_min_hours=0.2,
    )


Spoil = Callable[[Evidence, dict[str, Any]], Evidence | None]


def duplicate(books: Evidence, venue: dict[str, Any]) -> None:
    venue["orders"].append(BUY | {"order_id": 9, "filled_quantity": "0", "status": "expired"})


def orphan(books: Evidence, venue: dict[str, Any]) -> None:
    venue["orders"].append(STOP | {"order_id": 9, "client_order_id": "tl3"})


def order_called_dead(books: Evidence, venue: dict[str, Any]) -> Evidence:
    return replace(books, intents=[books.intents[0], {**books.intents[1], "state": "DEAD"}])


def lost_fill(books: Evidence, venue: dict[str, Any]) -> None:
    venue["fills"].append(FILL | {"trade_id": 8})


def phantom_fill(books: Evidence, venue: dict[str, Any]) -> None:
    venue["fills"].clear()


def fill_at_another_price(books: Evidence, venue: dict[str, Any]) -> None:
    venue["fills"][0]["price"] = "95001"


def order_still_open(books: Evidence, venue: dict[str, Any]) -> None:
    venue["orders"][1]["status"] = "cancelled"


def balance(books: Evidence, venue: dict[str, Any]) -> None:
    venue["balances"]["USDT"]["free"] = "905.00000001"


def unresolved(books: Evidence, venue: dict[str, Any]) -> Evidence:
    return replace(books, intents=[{**books.intents[0], "state": "UNKNOWN"}, books.intents[1]])


def bought_after_halt(books: Evidence, venue: dict[str, Any]) -> Evidence:
    return replace(books, halted_since=clock.from_ms(AT_MS) - timedelta(seconds=1))


def paid_too_much(books: Evidence, venue: dict[str, Any]) -> Evidence:
    return replace(books, cost_quote=Decimal("100.01"))


def too_many_positions(books: Evidence, venue: dict[str, Any]) -> Evidence:
    return replace(books, positions=6)


def parent_bought_too_much(books: Evidence, venue: dict[str, Any]) -> Evidence:
    return replace(
        books,
        parents=[
            {"parent_id": "p", "quantity": Decimal(1), "traded_quantity": Decimal("1.00000001")}
        ],
    )


def rebalanced_too_soon(books: Evidence, venue: dict[str, Any]) -> Evidence:
    first, second = books.rebalanced
    return replace(books, rebalanced=[first, second - timedelta(milliseconds=1)])


def fills_short_of_order(books: Evidence, venue: dict[str, Any]) -> Evidence:
    venue["orders"][0]["filled_quantity"] = "0.0005"
    return replace(
        books, orders=[{**books.orders[0], "filled_quantity": Decimal("0.0005")}, books.orders[1]]
    )


def stop_gone(books: Evidence, venue: dict[str, Any]) -> Evidence:
    venue["orders"].pop()
    return replace(books, intents=books.intents[:1], orders=books.orders[:1])


def stop_too_small(books: Evidence, venue: dict[str, Any]) -> None:
    venue["orders"][1]["quantity"] = "0.0009"


def foreign_epoch(books: Evidence, venue: dict[str, Any]) -> Evidence:
    return replace(books, epochs=frozenset({2}))


def test_books_at_rest_are_clean() -> None:
    assert judge(books(), expect_protection=True) == []


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (duplicate, "duplicate_order"),
        (orphan, "orphan_order"),
        (order_called_dead, "orphan_order"),
        (lost_fill, "lost_fill"),
        (phantom_fill, "phantom_fill"),
        (fill_at_another_price, "phantom_fill"),
        (order_still_open, "order_differs"),
        (balance, "balance_differs"),
        (unresolved, "unresolved"),
        (bought_after_halt, "after_halt"),
        (paid_too_much, "over_limit"),
        (too_many_positions, "over_limit"),
        (parent_bought_too_much, "over_bought"),
        (rebalanced_too_soon, "churned"),
        (fills_short_of_order, "over_filled"),
        (stop_gone, "unprotected"),
        (stop_too_small, "unprotected"),
        (foreign_epoch, "stale_epoch"),
    ],
)
def test_each_wrong_is_seen(spoil: Spoil, kind: str) -> None:
    clean = books()
    accounts = copy.deepcopy(clean.accounts)
    evidence = replace(clean, accounts=accounts)
    spoilt = spoil(evidence, accounts["binance"]) or evidence
    assert kind in {violation.kind for violation in judge(spoilt, expect_protection=True)}


def test_a_venue_without_a_stop_is_wrong_only_where_one_is_expected() -> None:
    clean = books()
    accounts = copy.deepcopy(clean.accounts)
    spoilt = stop_gone(replace(clean, accounts=accounts), accounts["binance"])
    assert judge(spoilt, expect_protection=False) == []


@pytest.mark.parametrize(
    ("dust", "uncovered"),
    [
        ({}, {"binance": Decimal("0.00109")}),  # one part in ten has no stop
        ({("binance", "BTC"): Decimal("0.0001")}, {}),  # a closed position has left that part
        ({("kraken", "BTC"): Decimal("0.0001")}, {"binance": Decimal("0.00109")}),
    ],
)
def test_dust_of_closed_positions_is_nobodys_to_protect(
    dust: dict[tuple[str, str], Decimal], uncovered: dict[str, Decimal]
) -> None:
    accounts = copy.deepcopy(books().accounts)
    accounts["binance"]["balances"]["BTC"]["free"] = "0.000109"
    assert naked(accounts, dust) == uncovered
