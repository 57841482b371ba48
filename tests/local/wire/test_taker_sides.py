"""Whose side a public trade's ``side`` is: on every venue the taker's, once it has been read."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.local.wire.rules import VENUES
from shared.calls import CallLog
from shared.execution.venues.ccxt_loader import exchange_class
from shared.execution.venues.ccxt_public import CcxtPublic
from shared.execution.venues.dialects import DIALECTS
from tests.local.wire.conftest import RunningWire

SYMBOL = "BTC/USDT"

# A trade in which the taker bought, as each venue documents it.
TAKER_BOUGHT: dict[str, Any] = {
    "binance": {"a": 1, "p": "1", "q": "2", "f": 1, "l": 1, "T": 1_000, "m": False},
    "binanceus": {"a": 1, "p": "1", "q": "2", "f": 1, "l": 1, "T": 1_000, "m": False},
    "kraken": ["1", "2", 1.5, "b", "m", "", 77],
    "coinbase": {
        "trade_id": "1", "product_id": "BTC-USDT", "price": "1", "size": "2",
        "time": "2025-01-11T00:52:37.557001Z", "side": "SELL", "bid": "", "ask": "",
    },
}  # fmt: skip


class _Loaded:
    loaded = True


@pytest.mark.parametrize("name", VENUES)
def test_what_ccxt_makes_of_a_trade_in_which_the_taker_bought(name: str) -> None:
    """Holds ccxt to what ``Dialect.public_side`` says of it."""
    side = exchange_class(name)().parse_trade(TAKER_BOUGHT[name])["side"]
    assert side == ("buy" if DIALECTS[name].public_side == "taker" else "sell")


@pytest.mark.parametrize("name", VENUES)
def test_trades_that_were_read_have_the_takers_side_and_the_venues_number(
    wire: RunningWire, name: str
) -> None:
    wire.advance(3)
    client = wire.client(name)
    client.load_markets()
    venue = CcxtPublic(name, client, DIALECTS[name], _Loaded(), CallLog())  # type: ignore[arg-type]
    read = venue.trades(SYMBOL, 150)
    personality = wire.wire.venues[name]
    tape = personality.tape.newest(personality.exchange.rules[SYMBOL], wire.now_ms, 150)
    assert {trade.side for trade in read} == {"buy", "sell"}
    assert [trade.side for trade in read] == [
        "buy" if printed.taker_buys else "sell" for printed in tape
    ]
    assert [trade.trade_id for trade in read] == [printed.trade_id for printed in tape]
