"""What is added to a position has a ceiling: the most that any of its slices may pay."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from shared.execution.entries.parents import ADDITIONS, Parent
from shared.execution.ticketing import Wish, marketable_intent
from tests.risk.world import book, rules

OPENED = datetime(2025, 5, 6, tzinfo=UTC)
PARENT = Parent(
    "p", 1, "BTC/USDT", "buy", "entry", "pyramid", Decimal(1), Decimal(100), "normal", 10, 60,
    OPENED, OPENED, Decimal(0), Decimal(0), None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("ceiling", "limit"),
    [
        (None, "100.11"),  # the best ask and 10 bps behind it, rounded down to the tick
        ("200", "100.11"),
        ("100.05", "100.05"),
        ("100.011", "100.01"),
        ("100.01", "100.01"),
        ("100.009", None),  # the ask lies above it: nothing is sent in vain
    ],
)
def test_a_purchase_pays_no_more_than_its_ceiling(ceiling: str | None, limit: str | None) -> None:
    wish = Wish("k", 1, "BTC/USDT", "buy", "entry", Decimal("0.5"), Decimal(100))
    at = None if ceiling is None else Decimal(ceiling)
    intent = marketable_intent(wish, rules(), book(), collar_bps=Decimal(50), ceiling=at)
    assert (None if intent is None else intent.ticket.limit_price) == (
        None if limit is None else Decimal(limit)
    )


def test_a_sale_has_no_ceiling() -> None:
    wish = Wish("k", 1, "BTC/USDT", "sell", "exit", Decimal("0.5"), Decimal(100))
    intent = marketable_intent(wish, rules(), book(), collar_bps=Decimal(50), ceiling=Decimal(1))
    assert intent is not None
    assert intent.ticket.limit_price < 100


@pytest.mark.parametrize(
    ("reason", "ceiling"),
    [("pyramid", "100.5"), ("average_down", "100.5"), ("momentum", None), ("rebalance", None)],
)
def test_additions_have_a_ceiling_and_entries_none(reason: str, ceiling: str | None) -> None:
    parent = dataclasses.replace(PARENT, reason=reason)
    expected = None if ceiling is None else Decimal(ceiling)
    assert parent.ceiling(Decimal(50)) == expected
    assert (reason in ADDITIONS) is (ceiling is not None)
