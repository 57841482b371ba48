"""Answers have the fields and JSON types of the replies that ccxt keeps in its test fixtures.

Source of the tables: field names and types of the replies ("httpResponse") in ccxt/ccxt,
ts/src/test/static/response/{binance,coinbase,kraken}.json (MIT licence), spot entries. Where these
hold no reply to a call, the example in the comments of ccxt 4.5's class stands in, and for a
cancelled Binance order and Kraken's extended balance the venue's REST documentation; such rows are
marked. Most fixtures were written down after ccxt had put numbers in quotes: there the type is the
one that the venue documents. The requests, their paths and their parameters, are ccxt's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.local.wire.conftest import RunningWire
from tests.local.wire.fakes import START_MS

SYMBOL = "BTC/USDT"
Shape = Any
"""A type; a set of alternatives; ``{field: shape}``; ``[shape]`` for a filled list of such rows;
``(shape, ...)`` for a row of exactly these columns; ``Each`` for an object keyed by names."""


class Each:
    """An object whose keys are names of pairs, coins or orders, and whose values are alike."""

    def __init__(self, shape: Shape, besides: dict[str, Shape] | None = None) -> None:
        self.shape = shape
        self.besides = besides or {}


NULL = type(None)
NUMBER = {int, float}


def mismatches(shape: Shape, value: Any, path: str = "") -> list[str]:
    """Where ``value`` lacks a field of ``shape`` or has another type, one line each."""
    if isinstance(shape, Each):
        if not isinstance(value, dict) or not value.keys() - shape.besides.keys():
            return [f"{path}: expected named entries, was {value!r}"]
        shape = dict.fromkeys(value, shape.shape) | shape.besides
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [f"{path}: expected an object, was {value!r}"]
        lacking = [f"{path}.{name}: absent" for name in shape if name not in value]
        return lacking + [
            line
            for name in shape
            if name in value
            for line in mismatches(shape[name], value[name], f"{path}.{name}")
        ]
    if isinstance(shape, list | tuple):
        return _row_mismatches(shape, value, path)
    allowed = shape if isinstance(shape, set) else {shape}
    return [] if type(value) in allowed else [f"{path}: expected {allowed}, was {value!r}"]


def _row_mismatches(shape: list[Shape] | tuple[Shape, ...], value: Any, path: str) -> list[str]:
    if not isinstance(value, list) or (isinstance(shape, list) and not value):
        return [f"{path}: expected a filled list, was {value!r}"]
    if isinstance(shape, tuple) and len(shape) != len(value):
        return [f"{path}: expected {len(shape)} columns, was {value!r}"]
    columns = shape * len(value) if isinstance(shape, list) else shape
    pairs = enumerate(zip(columns, value, strict=True))
    return [line for i, (one, item) in pairs for line in mismatches(one, item, f"{path}[{i}]")]


def fields(kind: Shape, names: str) -> dict[str, Shape]:
    return dict.fromkeys(names.split(), kind)


# Real fields that the wire leaves out, and those of a fixture that are ccxt's own.
_CURSOR = "ccxt puts the page's cursor into the row; the venue does not"
LEFT_OUT = {
    "binance new order": {"icebergQty": "only for iceberg orders, which are not modelled"},
    "coinbase fill": {"cursor": _CURSOR},
    "coinbase order": {"cursor": _CURSOR},
    "kraken public trade": {"eighth column": "ccxt appends the page's last; documented are seven"},
}

BINANCE_PLACED = (
    fields(str, "symbol clientOrderId price origQty executedQty origQuoteOrderQty")
    | fields(str, "cummulativeQuoteQty status timeInForce type side selfTradePreventionMode")
    | fields(int, "orderId orderListId")
)
BINANCE_ORDER = (
    BINANCE_PLACED
    | fields(str, "stopPrice icebergQty")
    | fields(int, "time updateTime workingTime")
    | {"isWorking": bool}
)
COINBASE_ORDER = (
    fields(str, "order_id product_id user_id side client_order_id status time_in_force")
    | fields(str, "created_time completion_percentage filled_size average_filled_price fee")
    | fields(str, "number_of_fills filled_value total_fees total_value_after_fees trigger_status")
    | fields(str, "order_type reject_reason product_type reject_message cancel_message")
    | fields(str, "order_placement_source outstanding_hold_amount leverage margin_type")
    | fields(bool, "pending_cancel size_in_quote size_inclusive_of_fees settled is_liquidation")
    | {"order_configuration": Each({"base_size": str}), "edit_history": list}
)
COINBASE_BOOK = fields(str, "product_id time") | fields([fields(str, "price size")], "bids asks")
KRAKEN_ORDER = (
    fields(str, "status vol vol_exec cost fee price stopprice limitprice misc oflags")
    | fields(NUMBER, "opentm starttm expiretm")
    | fields({NULL, str}, "refid")
    | {"userref": {NULL, int}}
    | {"descr": fields(str, "pair type ordertype price price2 leverage order close")}
)
KRAKEN_CLOSED = KRAKEN_ORDER | {"closetm": NUMBER, "reason": {NULL, str}, "trades": [str]}


def kraken(result: Shape) -> Shape:
    return {"error": list, "result": result}


def bought(client: Any) -> Any:
    """A market order of ours that is filled."""
    return client.create_order(SYMBOL, "market", "buy", 0.01, 100_000.0)


def resting(client: Any) -> Any:
    """A limit order of ours that waits far below the market."""
    return client.create_order(SYMBOL, "limit", "buy", 0.01, 90_000.0)


def after(make: Callable[[Any], Any], call: Callable[[Any, str], Any]) -> Callable[[Any], Any]:
    """``call`` with the id of the order that ``make`` has placed."""
    return lambda client: call(client, make(client)["id"])


# (venue, what): (the call whose last reply counts, its shape)
CASES: dict[tuple[str, str], tuple[Callable[[Any], Any], Shape]] = {
    ("binance", "ticker"): (
        lambda c: c.fetch_ticker(SYMBOL),
        fields(str, "symbol priceChange priceChangePercent weightedAvgPrice prevClosePrice")
        | fields(str, "lastPrice lastQty bidPrice bidQty askPrice askQty openPrice highPrice")
        | fields(str, "lowPrice volume quoteVolume")
        | fields(int, "openTime closeTime firstId lastId count"),
    ),
    # gocryptotrader's recording of ticker/bookTicker, see test_shapes; no fixture of ccxt's
    ("binance", "best prices"): (
        lambda c: c.fetch_bids_asks([SYMBOL]),
        [fields(str, "symbol bidPrice bidQty askPrice askQty")],
    ),
    ("binance", "candles"): (
        lambda c: c.fetch_ohlcv(SYMBOL, "1m", limit=3),
        [(int, *(str,) * 5, int, str, int, str, str, str)],
    ),
    ("binance", "book"): (
        lambda c: c.fetch_order_book(SYMBOL, 5),
        {"lastUpdateId": int} | fields([(str, str)], "bids asks"),
    ),
    ("binance", "public trades"): (
        lambda c: c.fetch_trades(SYMBOL, None, 3),
        [fields(str, "p q") | fields(int, "a f l T") | fields(bool, "m M")],
    ),
    ("binance", "balance"): (
        lambda c: c.fetch_balance(),
        fields(int, "makerCommission takerCommission buyerCommission sellerCommission")
        | fields(int, "updateTime uid")
        | fields(bool, "canTrade canWithdraw canDeposit brokered requireSelfTradePrevention")
        | fields(bool, "preventSor")
        | {"accountType": str, "permissions": [str]}
        | {"commissionRates": fields(str, "maker taker buyer seller")}
        | {"balances": [fields(str, "asset free locked")]},
    ),
    ("binance", "new order"): (
        bought,
        BINANCE_PLACED
        | fields(int, "transactTime workingTime")
        # The fixture's order has no fills: their fields are those of the documentation.
        | {"fills": [fields(str, "price qty commission commissionAsset") | {"tradeId": int}]},
    ),
    ("binance", "order"): (
        after(bought, lambda c, own: c.fetch_order(own, SYMBOL)),
        BINANCE_ORDER,
    ),
    ("binance", "open orders"): (
        after(resting, lambda c, _: c.fetch_open_orders(SYMBOL)),
        [BINANCE_ORDER],
    ),
    ("binance", "fills"): (
        after(bought, lambda c, _: c.fetch_my_trades(SYMBOL)),
        [
            fields(str, "symbol price qty quoteQty commission commissionAsset")
            | fields(int, "id orderId time")
            | fields(bool, "isBuyer isMaker isBestMatch")
        ],
    ),
    # Documentation of DELETE /api/v3/order
    ("binance", "cancel"): (
        after(resting, lambda c, own: c.cancel_order(own, SYMBOL)),
        BINANCE_PLACED | {"origClientOrderId": str, "transactTime": int},
    ),
    ("coinbase", "ticker"): (
        lambda c: c.fetch_ticker(SYMBOL),
        {"trades": [fields(str, "trade_id product_id price size time side bid ask")]}
        | fields(str, "best_bid best_ask"),
    ),
    # From here to "balance", and "new order" to "open orders": comments of ccxt's class
    ("coinbase", "best prices"): (
        lambda c: c.fetch_bids_asks([SYMBOL]),
        {"pricebooks": [COINBASE_BOOK]},
    ),
    ("coinbase", "candles"): (
        lambda c: c.fetch_ohlcv(SYMBOL, "1m", limit=3),
        {"candles": [fields(str, "start low high open close volume")]},
    ),
    ("coinbase", "book"): (
        lambda c: c.fetch_order_book(SYMBOL, 5),
        {"pricebook": COINBASE_BOOK},
    ),
    ("coinbase", "public trades"): (
        lambda c: c.fetch_trades(SYMBOL, None, 3),
        {"trades": [fields(str, "trade_id product_id price size time side")]},
    ),
    ("coinbase", "balance"): (
        lambda c: c.fetch_balance({"v3": True}),
        {
            "accounts": [
                fields(str, "uuid name currency created_at updated_at type")
                | fields(bool, "default active ready")
                | {"deleted_at": {NULL, str}}
                | fields(fields(str, "value currency"), "available_balance hold")
            ],
            "has_next": bool,
            "cursor": str,
            "size": int,
        },
    ),
    ("coinbase", "balance v2"): (
        lambda c: c.fetch_balance({"method": "v2PrivateGetAccounts"}),
        {
            "data": [
                fields(str, "id name type created_at updated_at resource resource_path")
                | fields(bool, "primary allow_deposits allow_withdrawals")
                | {"balance": fields(str, "amount currency")}
                | {
                    "currency": fields(str, "asset_id code color name slug type")
                    | {"exponent": int, "rewards": {NULL, dict}}
                }
            ],
            "pagination": fields({NULL, str}, "ending_before next_starting_after next_uri")
            | fields({NULL, str}, "previous_ending_before previous_uri starting_after")
            | {"limit": int, "order": str},
        },
    ),
    ("coinbase", "new order"): (
        resting,
        {"success": bool, "order_configuration": {NULL, dict}}
        | fields(str, "failure_reason order_id")
        | {"success_response": fields(str, "order_id product_id side client_order_id")},
    ),
    ("coinbase", "order"): (
        after(resting, lambda c, own: c.fetch_order(own, SYMBOL)),
        {"order": COINBASE_ORDER},
    ),
    ("coinbase", "open orders"): (
        after(resting, lambda c, _: c.fetch_open_orders(SYMBOL)),
        {"orders": [COINBASE_ORDER], "sequence": str, "has_next": bool, "cursor": str},
    ),
    ("coinbase", "closed orders"): (
        after(
            lambda c: c.create_order(SYMBOL, "market", "sell", 0.01),
            lambda c, _: c.fetch_closed_orders(SYMBOL),
        ),
        {"orders": [COINBASE_ORDER | {"last_fill_time": str}], "sequence": str}
        | {"has_next": bool, "cursor": str},
    ),
    ("coinbase", "fills"): (
        after(bought, lambda c, _: c.fetch_my_trades(SYMBOL)),
        {
            "fills": [
                fields(str, "entry_id trade_id order_id trade_time trade_type price size")
                | fields(str, "commission product_id sequence_timestamp liquidity_indicator")
                | fields(str, "user_id side")
                | {"size_in_quote": bool}
            ],
            "cursor": str,
        },
    ),
    # Comments of ccxt's class
    ("coinbase", "cancel"): (
        after(resting, lambda c, own: c.cancel_order(own, SYMBOL)),
        {"results": [fields(str, "failure_reason order_id") | {"success": bool}]},
    ),
    ("kraken", "ticker"): (
        lambda c: c.fetch_ticker(SYMBOL),
        kraken(
            Each(
                fields((str, str, str), "a b")
                | fields((str, str), "c v p l h")
                | {"t": (int, int), "o": str}
            )
        ),
    ),
    ("kraken", "candles"): (
        lambda c: c.fetch_ohlcv(SYMBOL, "1m", limit=3),
        kraken(Each([(int, *(str,) * 6, int)], {"last": int})),
    ),
    # Comments of ccxt's class
    ("kraken", "book"): (
        lambda c: c.fetch_order_book(SYMBOL, 5),
        kraken(Each(fields([(str, str, int)], "asks bids"))),
    ),
    ("kraken", "public trades"): (
        lambda c: c.fetch_trades(SYMBOL, None, 3),
        kraken(Each([(str, str, NUMBER, str, str, str, int)], {"last": str})),
    ),
    # Documentation of BalanceEx
    ("kraken", "balance"): (
        lambda c: c.fetch_balance(),
        kraken(Each(fields(str, "balance hold_trade"))),
    ),
    ("kraken", "new order"): (bought, kraken({"txid": [str], "descr": {"order": str}})),
    ("kraken", "order"): (
        after(bought, lambda c, own: c.fetch_order(own, SYMBOL)),
        kraken(Each(KRAKEN_CLOSED)),
    ),
    ("kraken", "open orders"): (
        after(resting, lambda c, _: c.fetch_open_orders(SYMBOL)),
        kraken({"open": Each(KRAKEN_ORDER)}),
    ),
    # Comments of ccxt's class
    ("kraken", "fills"): (
        after(bought, lambda c, _: c.fetch_my_trades(SYMBOL, START_MS - 1000)),
        kraken(
            {
                "trades": Each(
                    fields(str, "ordertxid postxid pair type ordertype price cost fee vol")
                    | fields(str, "margin leverage misc")
                    | {"time": NUMBER, "trade_id": int, "maker": bool}
                ),
                "count": int,
            }
        ),
    ),
    ("kraken", "cancel"): (
        after(resting, lambda c, own: c.cancel_order(own, SYMBOL)),
        kraken({"count": int}),
    ),
}


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_an_answer_has_the_fields_of_a_real_reply(wire: RunningWire, case: tuple[str, str]) -> None:
    call, shape = CASES[case]
    client = wire.client(case[0])
    client.load_markets()
    call(client)
    assert mismatches(shape, json.loads(client.last_http_response)) == []


def test_a_missing_or_mistyped_field_is_named() -> None:
    shape = {"a": str, "rows": [(int, str)], "b": {NULL, int}}
    assert mismatches(shape, {"a": "", "rows": [[1, "x"]], "b": None}) == []
    found = mismatches(shape, {"a": 1, "rows": [[True, "x"]]})
    assert [line.split(":")[0] for line in found] == [".b", ".a", ".rows[0][0]"]
    assert mismatches(shape | {"b": int}, {"a": "", "rows": [], "b": 1}) != []


def test_what_is_left_out_is_really_left_out(wire: RunningWire) -> None:
    """``LEFT_OUT`` names no field that the wire has come to send."""
    binance, coinbase, kraken_ = (wire.client(name) for name in ("binance", "coinbase", "kraken"))
    rows: dict[str, Any] = {}
    for client in (binance, coinbase, kraken_):
        client.load_markets()
    bought(binance)
    rows["binance new order"] = json.loads(binance.last_http_response)
    bought(coinbase)
    coinbase.fetch_my_trades(SYMBOL)
    rows["coinbase fill"] = json.loads(coinbase.last_http_response)["fills"][0]
    coinbase.fetch_orders(SYMBOL)
    rows["coinbase order"] = json.loads(coinbase.last_http_response)["orders"][0]
    kraken_.fetch_trades(SYMBOL)
    result = json.loads(kraken_.last_http_response)["result"]["XBTUSDT"]
    rows["kraken public trade"] = {"eighth column"} if len(result[0]) == 8 else set()
    assert {name: set(rows[name]) & set(left) for name, left in LEFT_OUT.items()} == dict.fromkeys(
        LEFT_OUT, set()
    )
