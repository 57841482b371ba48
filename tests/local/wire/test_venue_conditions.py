"""Order kinds and conditions of the venues, as unmodified ccxt clients send and read them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from typing import Any

import ccxt
import pytest

from deploy.local.wire.rules import VENUES
from shared import clock
from shared.errors import ConfigurationError
from tests.local.wire.conftest import RunningWire
from tests.local.wire.fakes import MINUTE_MS, START_MS

SYMBOL = "BTC/USDT"
TICK = Decimal("0.01")
CLIENT_ID = {"coinbase": "client_order_id"}
STOP_LOSS = {  # kind, limit price: a protective stop in each venue's form
    "binance": ("limit", 95_000),
    "binanceus": ("limit", 95_000),
    "coinbase": ("limit", 95_000),
    "kraken": ("market", None),
}
every_venue = pytest.mark.parametrize("venue", VENUES)


@pytest.fixture
def client(wire: RunningWire, venue: str) -> Any:
    client = wire.client(venue)
    client.load_markets()
    return client


@pytest.fixture
def configure(wire: RunningWire, venue: str) -> Callable[..., None]:
    return wire.wire.venues[venue].configure


def buy(client: Any, price: float, amount: float = 0.01, **params: Any) -> dict[str, Any]:
    sent: dict[str, Any] = client.create_order(SYMBOL, "limit", "buy", amount, price, params)
    return sent


def balance(client: Any) -> Any:
    return client.fetch_balance({"v3": True} if client.id == "coinbase" else {})


def state(client: Any, order_id: str) -> tuple[str, float]:
    order = client.fetch_order(order_id, SYMBOL)
    return order["status"], order["filled"]


def rfc3339(moment_ms: int) -> str:
    return clock.iso(clock.from_ms(moment_ms))


def end_of(venue: str, moment_ms: int) -> dict[str, Any]:
    """GTD until then, in the venue's own parameter."""
    if venue == "kraken":
        return {"timeInForce": "GTD", "expiretm": str(moment_ms // 1000)}
    return {"timeInForce": "GTD", "end_time": rfc3339(moment_ms)}


# What a tether is worth


@pytest.mark.parametrize("venue", VENUES)
def test_a_tether_is_worth_its_dollar_until_it_is_told_otherwise(
    client: Any, venue: str, configure: Callable[..., None], wire: RunningWire
) -> None:
    pair = "USDC/USDT" if venue == "binance" else "USDT/USD"

    def mid() -> float:
        book = client.fetch_order_book(pair, 20 if venue == "binance" else None)
        return float(book["bids"][0][0] + book["asks"][0][0]) / 2

    assert mid() == pytest.approx(1, rel=0.002)
    configure(tether_worth="0.8")
    assert mid() == pytest.approx(1, rel=0.002)
    wire.advance(1)
    assert mid() == pytest.approx(1.25 if venue == "binance" else 0.8, rel=0.002)
    with pytest.raises(ConfigurationError, match="tether_worth: expected more than 0"):
        configure(tether_worth=0)


# Time in force


@pytest.mark.parametrize("venue", ["binance", "binanceus", "coinbase"])
def test_fill_or_kill(client: Any) -> None:
    client.load_markets()
    killed = buy(client, 99_990, timeInForce="FOK")
    assert state(client, killed["id"])[1] == 0
    order = client.fetch_order(killed["id"], SYMBOL)
    assert (order["status"] in ("canceled", "expired"), order["timeInForce"]) == (True, "FOK")
    assert state(client, buy(client, 101_000, 0.001, timeInForce="FOK")["id"]) == ("closed", 0.001)


@pytest.mark.parametrize("venue", ["coinbase", "kraken"])
def test_good_till_date_ends_by_itself(client: Any, wire: RunningWire, venue: str) -> None:
    sent = buy(client, 90_000, **end_of(venue, START_MS + 90_000))
    wire.advance(1)
    assert state(client, sent["id"]) == ("open", 0)
    wire.advance(1)
    order = client.fetch_order(sent["id"], SYMBOL)
    assert order["status"] in ("canceled", "expired")
    raw = order["info"]["status"]
    assert raw.lower() == "expired"
    assert client.fetch_open_orders(SYMBOL) == []
    assert balance(client)["USDT"]["used"] == 0


@pytest.mark.parametrize(
    ("venue", "words"), [("coinbase", "End time is in the past"), ("kraken", "expiretm")]
)
def test_good_till_date_in_the_past(client: Any, venue: str, words: str) -> None:
    with pytest.raises(ccxt.ExchangeError, match=words):
        buy(client, 90_000, **end_of(venue, START_MS - 1_000))


@pytest.mark.parametrize("venue", ["binance", "binanceus"])
def test_binance_has_no_gtd(client: Any) -> None:
    with pytest.raises(ccxt.ExchangeError, match=r"-1115.*Invalid timeInForce"):
        client.private_post_order(
            {
                **{"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.01"},
                **{"price": "90000", "timeInForce": "GTD"},
            }
        )


@pytest.mark.parametrize("venue", ["binance"])
def test_limit_maker_takes_no_time_in_force(client: Any) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT_MAKER", "quantity": "0.01"}
    with pytest.raises(ccxt.ExchangeError, match="-1106"):
        client.private_post_order(order | {"price": "90000", "timeInForce": "GTC"})
    assert client.private_post_order(order | {"price": "90000"})["status"] == "NEW"


# Protective stops


@every_venue
def test_a_protective_stop_from_birth_to_trigger(
    client: Any, wire: RunningWire, venue: str
) -> None:
    kind, limit = STOP_LOSS[venue]
    own_id = {CLIENT_ID.get(venue, "clientOrderId"): "tlstop1"}
    sent = client.create_order(SYMBOL, kind, "sell", 0.5, limit, {"stopLossPrice": 98_500} | own_id)
    (resting,) = client.fetch_open_orders(SYMBOL)
    assert (resting["id"], resting["clientOrderId"]) == (sent["id"], "tlstop1")
    assert (resting["status"], resting["stopPrice"]) == ("open", 98_500)
    assert balance(client)["BTC"]["used"] == 0.5
    wire.advance(1)
    assert state(client, sent["id"]) == ("open", 0)
    wire.advance(1)
    assert state(client, sent["id"]) == ("closed", 0.5)
    (trade,) = client.fetch_my_trades(SYMBOL)
    assert (trade["price"], trade["order"]) == (98_500, sent["id"])
    assert balance(client)["BTC"]["used"] == 0


@every_venue
def test_a_cancelled_stop_gives_its_funds_back(client: Any, venue: str) -> None:
    kind, limit = STOP_LOSS[venue]
    sent = client.create_order(SYMBOL, kind, "sell", 0.5, limit, {"stopLossPrice": 98_500})
    client.cancel_order(sent["id"], SYMBOL)
    assert state(client, sent["id"]) == ("canceled", 0)
    assert balance(client)["BTC"]["free"] == 1


@pytest.mark.parametrize(
    ("venue", "words"),
    [
        ("binance", "Stop price would trigger immediately."),
        ("binanceus", "Stop price would trigger immediately."),
        ("coinbase", "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE"),
    ],
)
def test_a_stop_that_the_price_has_passed_is_refused(client: Any, words: str) -> None:
    with pytest.raises(ccxt.ExchangeError, match=words):
        client.create_order(SYMBOL, "limit", "sell", 0.5, 99_000, {"stopLossPrice": 101_000})


@pytest.mark.parametrize("venue", ["kraken"])
def test_kraken_lets_such_a_stop_act_at_once(client: Any) -> None:
    sent = client.create_order(SYMBOL, "market", "sell", 0.01, None, {"stopLossPrice": 101_000})
    assert state(client, sent["id"]) == ("closed", 0.01)


# Partial fills and expiry


@every_venue
def test_a_scripted_part_fills_and_the_rest_stays_open(
    client: Any, configure: Callable[..., None]
) -> None:
    configure(fill_share=[0.5])
    sent = buy(client, 101_000, 0.002)
    assert state(client, sent["id"]) == ("open", 0.001)
    (resting,) = client.fetch_open_orders(SYMBOL)
    assert resting["remaining"] == 0.001
    assert len(client.fetch_my_trades(SYMBOL)) == 1


@every_venue
def test_a_resting_order_that_the_venue_ends(
    client: Any, wire: RunningWire, configure: Callable[..., None]
) -> None:
    configure(expire_after_ms=MINUTE_MS)
    sent = buy(client, 90_000)
    wire.advance(1)
    assert state(client, sent["id"])[0] in ("canceled", "expired")
    assert balance(client)["USDT"]["used"] == 0


# Status


@pytest.mark.parametrize(
    ("venue", "status", "words", "cancel_words"),
    [
        ("binance", "cancel_only", "Market is closed", None),
        ("binance", "maintenance", "Market is closed", "Market is closed"),
        ("binanceus", "maintenance", "Market is closed", "Market is closed"),
        ("coinbase", "cancel_only", "orderbook is in cancel only mode", None),
        ("coinbase", "post_only", "orderbook is in post only mode", None),
        ("coinbase", "maintenance", "trading is disabled", "cancelOrders"),
        ("kraken", "cancel_only", "EService:Market in cancel_only mode", None),
        ("kraken", "post_only", "EService:Market in post_only mode", None),
        ("kraken", "maintenance", "EService:Unavailable", "EService:Unavailable"),
    ],
)
def test_status_is_shown_and_enforced(
    client: Any, configure: Callable[..., None], status: str, words: str, cancel_words: str | None
) -> None:
    resting = buy(client, 90_000)
    configure(status=status)
    market = client.load_markets(True)[SYMBOL]
    assert not market["active"] or market["info"].get(status) is True  # a flag of Coinbase's
    with pytest.raises(ccxt.BaseError, match=words):
        buy(client, 90_000)
    if cancel_words is None:
        client.cancel_order(resting["id"], SYMBOL)
    else:
        with pytest.raises(ccxt.BaseError, match=cancel_words):
            client.cancel_order(resting["id"], SYMBOL)
    assert len(client.fetch_open_orders(SYMBOL)) == (cancel_words is not None)


@pytest.mark.parametrize(
    ("venue", "status", "shown"),
    [
        ("binance", "maintenance", "maintenance"),
        ("kraken", "maintenance", "maintenance"),
        ("kraken", "cancel_only", "maintenance"),  # ccxt's word for it
    ],
)
def test_status_of_the_system(
    client: Any, configure: Callable[..., None], status: str, shown: str
) -> None:
    configure(status=status)
    assert client.fetch_status()["status"] == shown


# Collars and numbers of stops


@pytest.mark.parametrize(
    ("venue", "words"),
    [
        ("binance", "Filter failure: PERCENT_PRICE_BY_SIDE"),
        ("coinbase", "INVALID_LIMIT_PRICE"),
        ("kraken", "EOrder:Invalid price"),
    ],
)
def test_price_collar(client: Any, configure: Callable[..., None], words: str) -> None:
    configure(price_collar_percent=5)
    with pytest.raises(ccxt.ExchangeError, match=words):
        buy(client, 94_000)


binance_and_us = pytest.mark.parametrize(
    ("venue", "band"),
    [
        (
            "binance",
            {
                "filterType": "PERCENT_PRICE_BY_SIDE",
                "bidMultiplierUp": "5",
                "bidMultiplierDown": "0.2",
                "askMultiplierUp": "5",
                "askMultiplierDown": "0.2",
                "avgPriceMins": 5,
            },
        ),
        (
            "binanceus",
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": "5",
                "multiplierDown": "0.2",
                "avgPriceMins": 5,
            },
        ),
    ],
)


def filters(client: Any) -> dict[str, Any]:
    listed = client.load_markets(True)[SYMBOL]["info"]["filters"]
    return {one["filterType"]: one for one in listed}


@binance_and_us
def test_binance_lists_its_filters(
    client: Any, configure: Callable[..., None], band: dict[str, Any]
) -> None:
    """As in the venues' own exchangeInfo: BTCUSDT of Binance, BTCUSD4 of Binance US (2025-05)."""
    kind = band["filterType"]
    assert as_text(filters(client)[kind]) == as_text(band)
    assert int(filters(client)["MAX_NUM_ORDERS"]["maxNumOrders"]) == 200
    assert int(filters(client)["MAX_NUM_ALGO_ORDERS"]["maxNumAlgoOrders"]) == 5
    configure(price_collar_percent=2)
    lowest = [value for name, value in filters(client)[kind].items() if name.endswith("Down")]
    assert set(lowest) == {"0.98"}


def as_text(record: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in record.items()}


@binance_and_us
def test_binance_refuses_by_the_average_that_it_tells(
    client: Any, configure: Callable[..., None], band: dict[str, Any]
) -> None:
    configure(price_collar_percent=5)
    average = Decimal(client.publicGetAvgPrice({"symbol": "BTCUSDT"})["price"])
    lowest = (average * Decimal("0.95") / TICK).to_integral_value(ROUND_CEILING) * TICK
    assert buy(client, float(lowest))["status"] == "open"
    with pytest.raises(ccxt.ExchangeError, match=rf'Filter failure: {band["filterType"]}("|$)'):
        buy(client, float(lowest - TICK))


@pytest.mark.parametrize("venue", ["binance", "binanceus"])
def test_averages_over_five_minutes(client: Any, wire: RunningWire, venue: str) -> None:
    answer = client.publicGetAvgPrice({"symbol": "BTCUSDT"})
    assert (int(answer["mins"]), int(answer["closeTime"])) == (5, wire.now_ms)
    asked = {"symbol": "BTCUSDT"}
    if venue == "binance":
        assert client.publicGetReferencePrice(asked)["referencePrice"] == answer["price"]
    else:
        with pytest.raises(ccxt.ExchangeNotAvailable, match="404 Not Found"):
            client.publicGetReferencePrice(asked)


@pytest.mark.parametrize("venue", ["binance", "binanceus"])
def test_the_201st_order_is_refused(client: Any) -> None:
    for _ in range(200):
        buy(client, 60_000, amount=0.001)
    with pytest.raises(ccxt.ExchangeError, match=r'-1013,"msg":"Filter failure: MAX_NUM_ORDERS"'):
        buy(client, 60_000, amount=0.001)
    client.cancel_order(client.fetch_open_orders(SYMBOL)[0]["id"], SYMBOL)
    assert buy(client, 60_000, amount=0.001)["status"] == "open"


@pytest.mark.parametrize("venue", ["binance", "binanceus"])
def test_a_sixth_stop_is_refused(client: Any) -> None:
    stop = {"stopLossPrice": 98_500}
    for _ in range(5):
        client.create_order(SYMBOL, "limit", "sell", 0.01, 98_000, stop)
    words = r'-1013,"msg":"Filter failure: MAX_NUM_ALGO_ORDERS"'
    with pytest.raises(ccxt.ExchangeError, match=words):
        client.create_order(SYMBOL, "limit", "sell", 0.01, 98_000, stop)


# Clock and lag


@every_venue
def test_a_clock_that_is_ahead(client: Any, configure: Callable[..., None], venue: str) -> None:
    configure(clock_offset_ms=4_000)
    assert client.fetch_time() == START_MS + 4_000
    sent = buy(client, 90_000)
    assert client.fetch_order(sent["id"], SYMBOL)["timestamp"] == START_MS + 4_000
    assert client.fetch_ohlcv(SYMBOL, "1m", limit=2)[-1][0] == START_MS - MINUTE_MS


@pytest.mark.parametrize(
    ("venue", "offset_ms", "error"),
    [
        ("binance", -2_000, ccxt.InvalidNonce),  # we are more than a second ahead of it
        ("binance", 61_000, ccxt.InvalidNonce),
        ("coinbase", 121_000, ccxt.AuthenticationError),  # the token has expired
        ("coinbase", -10_000, ccxt.AuthenticationError),  # it does not hold yet
    ],
)
def test_a_clock_that_is_too_far_off(
    client: Any, configure: Callable[..., None], offset_ms: int, error: type[Exception]
) -> None:
    configure(clock_offset_ms=offset_ms)
    with pytest.raises(error):
        balance(client)


@every_venue
def test_query_lag(client: Any, wire: RunningWire, configure: Callable[..., None]) -> None:
    configure(query_lag_ms=MINUTE_MS)
    resting, filled = buy(client, 90_000), buy(client, 101_000, 0.001)
    assert balance(client)["BTC"]["total"] > 1
    assert client.fetch_open_orders(SYMBOL) == []
    assert client.fetch_closed_orders(SYMBOL) == []
    assert client.fetch_my_trades(SYMBOL) == []
    with pytest.raises(ccxt.ExchangeError):
        client.fetch_order(filled["id"], SYMBOL)
    wire.advance(1)
    assert [order["id"] for order in client.fetch_open_orders(SYMBOL)] == [resting["id"]]
    assert state(client, filled["id"]) == ("closed", 0.001)
    assert len(client.fetch_my_trades(SYMBOL)) == 1


# Fees in BNB


@pytest.mark.parametrize("venue", ["binance", "binanceus"])
def test_fees_in_bnb(
    client: Any, wire: RunningWire, configure: Callable[..., None], venue: str
) -> None:
    wire.wire.venues[venue].exchange.account.receive("BNB", Decimal(1))
    configure(fee_token=True)
    sent = buy(client, 101_000, 0.001)
    assert [fee["currency"] for fee in sent["fees"]] == ["BNB"]
    (trade,) = client.fetch_my_trades(SYMBOL)
    quote = client.fetch_bids_asks(["BNB/USDT"])["BNB/USDT"]
    rate = {"binance": 0.001, "binanceus": 0.006}[venue] * 0.75
    worth = trade["fee"]["cost"] * (quote["bid"] + quote["ask"]) / 2
    assert worth == pytest.approx(trade["cost"] * rate, rel=0.001)
    held = balance(client)
    assert held["BTC"]["total"] == 1.001
    assert held["BNB"]["total"] == pytest.approx(1 - trade["fee"]["cost"])


# Kraken


@pytest.mark.parametrize("venue", ["kraken"])
@pytest.mark.parametrize(
    ("deadline", "words"),
    [
        (rfc3339(START_MS), "EService:Deadline elapsed"),
        (rfc3339(START_MS + 61_000), "EGeneral:Invalid arguments:deadline"),
        ("tomorrow", "EGeneral:Invalid arguments:deadline"),
    ],
)
def test_kraken_deadline(client: Any, wire: RunningWire, deadline: str, words: str) -> None:
    with pytest.raises(ccxt.ExchangeError, match=words):
        buy(client, 90_000, deadline=deadline)
    assert client.fetch_open_orders(SYMBOL) == []
    buy(client, 90_000, deadline=rfc3339(START_MS + 5_000))
    assert len(client.fetch_open_orders(SYMBOL)) == 1


@pytest.mark.parametrize("venue", ["kraken"])
def test_kraken_user_references_are_shared_by_orders(client: Any) -> None:
    for price in (90_000, 91_000):
        buy(client, price, userref=7)
    buy(client, 92_000, userref=8)
    found = client.private_post_openorders({"userref": "7"})["result"]["open"]
    assert {row["userref"] for row in found.values()} == {7}
    assert len(found) == 2
    assert client.private_post_cancelorder({"txid": "7"})["result"]["count"] == 2
    assert [order["price"] for order in client.fetch_open_orders(SYMBOL)] == [92_000]


@pytest.mark.parametrize("venue", ["kraken"])
def test_kraken_takes_either_reference_or_client_id(client: Any) -> None:
    with pytest.raises(ccxt.ExchangeError, match="arguments:cl_ord_id"):
        client.private_post_addorder(
            {
                **{"pair": "XBTUSDT", "type": "buy", "ordertype": "limit", "price": "90000"},
                **{"volume": "0.01", "cl_ord_id": "tl1", "userref": "7"},
            }
        )


# Orders that are not modelled are refused rather than made into others


@pytest.mark.parametrize(
    ("venue", "name", "value"),
    [
        ("binance", "icebergQty", 0.001),
        ("coinbase", "attached_order_configuration", {"trigger_bracket_gtc": {}}),
        ("kraken", "close", {"ordertype": "stop-loss", "price": 95_000}),
        ("kraken", "starttm", "+60"),
    ],
)
def test_what_is_not_modelled_is_refused(client: Any, name: str, value: Any) -> None:
    with pytest.raises(ccxt.BaseError, match=name):
        buy(client, 90_000, **{name: value})
    assert client.fetch_open_orders(SYMBOL) == []


# Client ids


@every_venue
def test_a_client_id_after_its_order_has_filled(client: Any, venue: str) -> None:
    """Free again on Binance and Kraken; on Coinbase the first order answers for ever."""
    own_id = {CLIENT_ID.get(venue, "clientOrderId"): "tltwice"}
    first = buy(client, 101_000, 0.001, **own_id)
    second = buy(client, 101_000, 0.001, **own_id)
    assert (first["id"] == second["id"]) == (venue == "coinbase")
    assert len(client.fetch_my_trades(SYMBOL)) == (1 if venue == "coinbase" else 2)
