"""Whose side a public trade's ``side`` is: on every venue the taker's, once it has been read."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.local.wire.rules import VENUES
from shared.calls import CallLog
from shared.execution.venues import public_trades
from shared.execution.venues.ccxt_loader import exchange_class
from shared.execution.venues.ccxt_public import CcxtPublic
from shared.execution.venues.dialects import DIALECTS
from shared.market.types import PublicTrade
from tests.local.wire.conftest import RunningWire

SYMBOL = "BTC/USDT"

# A trade in which the taker bought, as each venue documents it.
BINANCE = {"a": 77, "p": "100.5", "q": "0.2", "f": 1, "l": 1, "T": 1_736_556_757_557, "m": False}
KRAKEN = ["100.5", "0.2", 1_736_556_757.557, "b", "m", "", 77]
COINBASE = {
    "trade_id": "77", "product_id": "BTC-USDT", "price": "100.5", "size": "0.2",
    "time": "2025-01-11T00:52:37.557001Z", "side": "SELL", "bid": "", "ask": "",
}  # fmt: skip
TOLD: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "binance": (BINANCE, lambda row: [row]),
    "binanceus": (BINANCE, lambda row: [row]),
    "kraken": (KRAKEN, lambda row: {"error": [], "result": {"BTC/USDT": [row], "last": "1"}}),
    "coinbase": (COINBASE, lambda row: {"trades": [row]}),
}
METHODS = {
    "binance": "publicGetAggTrades",
    "binanceus": "publicGetAggTrades",
    "kraken": "publicGetTrades",
    "coinbase": "v3PublicGetBrokerageMarketProductsProductIdTicker",
}


def client_that_says(name: str, answer: Any) -> Any:
    return SimpleNamespace(
        market=lambda symbol: {"id": symbol},
        parse8601=exchange_class("coinbase")().parse8601,
        **{METHODS[name]: lambda request: answer},
    )


class _Loaded:
    loaded = True


@pytest.mark.parametrize("name", VENUES)
def test_a_trade_in_which_the_taker_bought(name: str) -> None:
    row, around = TOLD[name]
    client = client_that_says(name, around(row))
    assert public_trades.newest(name, client, SYMBOL, 10) == [
        PublicTrade(1_736_556_757_557, "buy", 100.5, 0.2, 77)
    ]


@pytest.mark.parametrize("name", VENUES)
@pytest.mark.parametrize("bad", ["0", "-1", "nan", "x", None])
@pytest.mark.parametrize("field", ["price", "size"])
def test_a_trade_that_cannot_be_is_refused(name: str, bad: Any, field: str) -> None:
    row, around = TOLD[name]
    key: Any = field if name == "coinbase" else {"price": "p", "size": "q"}[field]
    if name == "kraken":
        broken: Any = [bad if i == ("price", "size").index(field) else v for i, v in enumerate(row)]
    else:
        broken = row | {key: bad}
    with pytest.raises((TypeError, ValueError)):
        public_trades.newest(name, client_that_says(name, around(broken)), SYMBOL, 10)


def test_an_answer_is_put_in_order_and_cut_to_the_newest() -> None:
    rows = [BINANCE | {"a": number, "T": 1_000 - number // 2} for number in range(6)]
    read = public_trades.newest("binance", client_that_says("binance", rows), SYMBOL, 4)
    assert [(trade.at_ms, trade.trade_id) for trade in read] == [
        (999, 2),
        (999, 3),
        (1_000, 0),
        (1_000, 1),
    ]


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
