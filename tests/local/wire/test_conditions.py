"""The settings of a venue: which names and values it takes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from deploy.local.wire.conditions import Conditions
from deploy.local.wire.rules import VENUE_RULES
from shared.errors import ConfigurationError


@pytest.mark.parametrize(
    ("venue", "name", "value", "kept"),
    [
        ("kraken", "status", "post_only", "post_only"),
        ("binance", "status", "cancel_only", "cancel_only"),
        ("binance", "fee_token", True, True),
        ("kraken", "clock_offset_ms", -2_500, -2_500),
        ("kraken", "price_collar_percent", "1.5", Decimal("1.5")),
        ("kraken", "price_collar_percent", None, None),
        ("coinbase", "fill_share", 0.25, (Decimal("0.25"),)),
        ("coinbase", "fill_share", ["0.4", 0], (Decimal("0.4"), Decimal(0))),
        ("coinbase", "resting_fill_minutes", 3, 3),
        ("coinbase", "expire_after_ms", 90_000, 90_000),
        ("coinbase", "query_lag_ms", 0, 0),
    ],
)
def test_values_that_are_taken(venue: str, name: str, value: Any, kept: Any) -> None:
    conditions = Conditions()
    conditions.change(VENUE_RULES[venue], {name: value})  # type: ignore[index]
    assert getattr(conditions, name) == kept


@pytest.mark.parametrize(
    ("venue", "name", "value"),
    [
        ("kraken", "status", "halted"),
        ("kraken", "status", None),
        ("binance", "status", "post_only"),  # Binance has no such mode
        ("kraken", "fee_token", True),  # Kraken has no such coin
        ("binance", "fee_token", "BNB"),
        ("kraken", "clock_offset_ms", 1.5),
        ("kraken", "clock_offset_ms", True),
        ("kraken", "price_collar_percent", -1),
        ("kraken", "price_collar_percent", "NaN"),
        ("coinbase", "fill_share", 1.1),
        ("coinbase", "fill_share", ["0.5", "much"]),
        ("coinbase", "resting_fill_minutes", 0),
        ("coinbase", "expire_after_ms", 0),
        ("coinbase", "query_lag_ms", -1),
        ("coinbase", "query_lag", 1),
    ],
)
def test_values_that_are_refused_change_nothing(venue: str, name: str, value: Any) -> None:
    conditions = Conditions()
    settings = {"resting_fill_minutes": 2, name: value}
    with pytest.raises(ConfigurationError, match=name):
        conditions.change(VENUE_RULES[venue], settings)  # type: ignore[index]
    assert conditions == Conditions()


def test_a_scripted_share_is_for_one_order() -> None:
    conditions = Conditions()
    conditions.change(VENUE_RULES["kraken"], {"fill_share": [0.5, 1]})
    shares = [conditions.next_fill_share() for _ in range(3)]
    assert shares == [Decimal("0.5"), Decimal(1), None]
