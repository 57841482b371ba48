"""Unmodified ccxt clients against the three personalities, over real HTTP."""

from __future__ import annotations

from typing import Any

import ccxt
import pytest

from deploy.local.wire.rules import VENUES
from tests.local.wire.conftest import BALANCES, RunningWire
from tests.local.wire.fakes import MINUTE_MS, START_MS

SYMBOL = "BTC/USDT"
# Columns: what a venue's documentation says; ccxt must read it out of the answers.
TAKER = {"binance": 0.001, "binanceus": 0.006, "coinbase": 0.012, "kraken": 0.004}
MAKER = {"binance": 0.001, "binanceus": 0.004, "coinbase": 0.006, "kraken": 0.0025}
CANDLE_CAP = {"binance": 1000, "binanceus": 1000, "coinbase": 300, "kraken": 720}
CLIENT_ID = {
    "binance": "clientOrderId",
    "binanceus": "clientOrderId",
    "coinbase": "client_order_id",
    "kraken": "clientOrderId",
}
every_venue = pytest.mark.parametrize("venue", VENUES)


@pytest.fixture
def client(wire: RunningWire, venue: str) -> Any:
    client = wire.client(venue)
    client.load_markets()
    return client


def by_client_id(client: Any, own_id: str) -> Any:
    """The order of a client id, in the way that works on each venue."""
    if client.id.startswith("binance"):
        return client.fetch_order(None, SYMBOL, {"clientOrderId": own_id})
    if client.id == "kraken":
        parameters = {"clientOrderId": own_id}
        found = client.fetch_open_orders(SYMBOL, None, None, parameters)
        found += client.fetch_closed_orders(SYMBOL, None, None, parameters)
    else:
        found = client.fetch_orders(SYMBOL)
    return next(order for order in found if order["clientOrderId"] == own_id)


# Market data


@every_venue
def test_markets_carry_increments_minimums_and_fees(client: Any, venue: str) -> None:
    token = {"BNB/USDT"} if venue.startswith("binance") else set()
    peg = {"USDC/USDT" if venue == "binance" else "USDT/USD"}
    listed = {SYMBOL, "ETH/USDT", "SOL/USDT", "ETH/BTC", "SOL/BTC"} | token | peg
    assert set(client.markets) == listed
    market = client.market(SYMBOL)
    expected = {
        "binance": ("BTCUSDT", 0.01, 0.00001, 5),
        "binanceus": ("BTCUSDT", 0.01, 0.00001, 1),
        "coinbase": ("BTC-USDT", 0.01, 1e-8, 1),
        "kraken": ("XBTUSDT", 0.1, 1e-8, 0.5),
    }[venue]
    precision, limits = market["precision"], market["limits"]
    found = (market["id"], precision["price"], precision["amount"], limits["cost"]["min"])
    assert found == expected
    assert market["active"]
    if venue != "binanceus":  # ccxt's class knows better there; see the test of its own fees
        assert (market["taker"], market["maker"]) == (TAKER[venue], MAKER[venue])


@every_venue
def test_candles_end_with_the_newest_closed_minute(client: Any, wire: RunningWire) -> None:
    wire.advance(1)
    rows = client.fetch_ohlcv(SYMBOL, "1m", limit=3)
    assert [row[0] for row in rows] == [START_MS + step * MINUTE_MS for step in (-2, -1, 0)]
    assert rows[-1][1:5] == pytest.approx([100_000, 100_050, 98_900, 99_000], rel=0.0005)


@every_venue
def test_the_open_candle_holds_only_what_has_happened(client: Any, wire: RunningWire) -> None:
    wire.advance(2)
    row = client.fetch_ohlcv(SYMBOL, "5m", limit=2)[-1]
    assert row[0] == START_MS
    assert row[1:5] == pytest.approx([100_000, 100_050, 97_900, 98_000], rel=0.0005)


@every_venue
def test_candles_are_capped(client: Any, venue: str) -> None:
    rows = client.fetch_ohlcv(SYMBOL, "1m", limit=2_000)
    assert len(rows) == CANDLE_CAP[venue]
    assert rows[-1][0] == START_MS - MINUTE_MS


@every_venue
def test_candles_since(client: Any) -> None:
    since_ms = START_MS - 10 * MINUTE_MS
    rows = client.fetch_ohlcv(SYMBOL, "1m", since=since_ms, limit=4)
    assert [row[0] for row in rows] == [since_ms + step * MINUTE_MS for step in range(4)]


@every_venue
def test_book_and_best_prices_agree(client: Any, venue: str) -> None:
    book = client.fetch_order_book(SYMBOL, 50)
    assert len(book["bids"]) == len(book["asks"]) == 50
    bid, ask = book["bids"][0][0], book["asks"][0][0]
    assert bid < ask
    assert (bid + ask) / 2 == pytest.approx(100_000, rel=0.001)
    read = client.fetch_tickers if venue == "kraken" else client.fetch_bids_asks
    quote = read([SYMBOL, "ETH/USDT"])[SYMBOL]
    assert (quote["bid"], quote["ask"]) == (bid, ask)


@every_venue
def test_tickers(client: Any) -> None:
    tickers = client.fetch_tickers([SYMBOL, "SOL/USDT"])
    assert set(tickers) == {SYMBOL, "SOL/USDT"}
    assert tickers[SYMBOL]["last"] == pytest.approx(100_000, rel=0.001)
    assert tickers[SYMBOL]["baseVolume"] > 0
    assert client.fetch_ticker(SYMBOL)["last"] == pytest.approx(100_000, rel=0.001)


@every_venue
def test_public_trades(client: Any) -> None:
    trades = client.fetch_trades(SYMBOL, limit=200)
    assert len(trades) == 200
    assert {trade["side"] for trade in trades} == {"buy", "sell"}
    assert [trade["timestamp"] for trade in trades] == sorted(t["timestamp"] for t in trades)
    assert all(trade["amount"] > 0 for trade in trades)


@every_venue
def test_server_time_is_the_virtual_time(client: Any, wire: RunningWire) -> None:
    wire.advance(7)
    assert client.fetch_time() == START_MS + 7 * MINUTE_MS


# Account and orders


@every_venue
def test_balance_shows_what_orders_hold(client: Any, venue: str) -> None:
    before = client.fetch_balance({"v3": True} if venue == "coinbase" else {})
    assert before["USDT"]["free"] == before["USDT"]["total"] == float(BALANCES["USDT"])
    client.create_order(SYMBOL, "limit", "buy", 0.1, 99_500)
    after = client.fetch_balance({"v3": True} if venue == "coinbase" else {})
    fee = 0 if venue.startswith("binance") else TAKER[venue]
    assert after["USDT"]["used"] == pytest.approx(9_950 * (1 + fee))
    assert after["USDT"]["total"] == before["USDT"]["total"]


@every_venue
def test_ioc_order_is_found_by_both_ids_with_its_fill_and_fee(client: Any, venue: str) -> None:
    parameters = {"timeInForce": "IOC", CLIENT_ID[venue]: "tlfirst1"}
    sent = client.create_order(SYMBOL, "limit", "buy", 0.001, 101_000, parameters)
    by_id, by_own_id = client.fetch_order(sent["id"], SYMBOL), by_client_id(client, "tlfirst1")
    assert by_id["id"] == by_own_id["id"] == sent["id"]
    assert (by_own_id["status"], by_own_id["filled"]) == ("closed", 0.001)
    (trade,) = client.fetch_my_trades(SYMBOL)
    assert (trade["order"], trade["side"], trade["takerOrMaker"]) == (sent["id"], "buy", "taker")
    currency, paid_on = ("BTC", 0.001) if venue.startswith("binance") else ("USDT", trade["cost"])
    assert trade["fee"]["currency"] == currency
    assert trade["fee"]["cost"] == pytest.approx(paid_on * TAKER[venue], rel=1e-4)
    assert by_own_id["average"] == pytest.approx(trade["price"])


@every_venue
def test_market_order(client: Any, venue: str) -> None:
    price = 100_000 if venue == "coinbase" else None  # ccxt turns it into a quote size there
    sent = client.create_order(SYMBOL, "market", "buy", 0.002, price)
    order = client.fetch_order(sent["id"], SYMBOL)
    assert order["status"] == "closed"
    assert order["filled"] == pytest.approx(0.002, rel=0.015)  # Coinbase takes its fee of it
    sold = client.create_order(SYMBOL, "market", "sell", 0.001)
    assert client.fetch_order(sold["id"], SYMBOL)["filled"] == 0.001


@every_venue
def test_limit_order_rests_fills_later_and_counts_as_maker(
    client: Any, wire: RunningWire, venue: str
) -> None:
    sent = client.create_order(SYMBOL, "limit", "buy", 0.01, 99_500, {CLIENT_ID[venue]: "rest1"})
    (resting,) = client.fetch_open_orders(SYMBOL)
    assert (resting["id"], resting["status"], resting["filled"]) == (sent["id"], "open", 0)
    assert resting["clientOrderId"] == "rest1"
    wire.advance(1)
    assert client.fetch_open_orders(SYMBOL) == []
    assert client.fetch_order(sent["id"], SYMBOL)["status"] == "closed"
    (trade,) = client.fetch_my_trades(SYMBOL, since=START_MS)
    assert (trade["price"], trade["takerOrMaker"]) == (99_500, "maker")
    assert trade["timestamp"] == START_MS + MINUTE_MS


@every_venue
def test_stop_limit_order_triggers(client: Any, wire: RunningWire) -> None:
    stop = {"stopLossPrice": 98_500}
    sent = client.create_order(SYMBOL, "limit", "sell", 0.01, 98_000, stop)
    wire.advance(1)
    (waiting,) = client.fetch_open_orders(SYMBOL)
    assert waiting["id"] == sent["id"]
    wire.advance(1)
    order = client.fetch_order(sent["id"], SYMBOL)
    assert (order["status"], order["average"]) == ("closed", 98_500)


@every_venue
def test_cancel(client: Any, venue: str) -> None:
    sent = client.create_order(SYMBOL, "limit", "buy", 0.01, 99_500)
    client.cancel_order(sent["id"], SYMBOL)
    assert client.fetch_order(sent["id"], SYMBOL)["status"] == "canceled"
    assert client.fetch_open_orders(SYMBOL) == []
    with pytest.raises(ccxt.BadRequest if venue == "coinbase" else ccxt.OrderNotFound):
        client.cancel_order(sent["id"], SYMBOL)


@every_venue
def test_duplicate_client_id_of_an_open_order(client: Any, venue: str) -> None:
    parameters = {CLIENT_ID[venue]: "twice"}
    first = client.create_order(SYMBOL, "limit", "buy", 0.01, 99_500, parameters)
    if venue == "coinbase":
        assert (
            client.create_order(SYMBOL, "limit", "buy", 0.01, 99_500, parameters)["id"]
            == first["id"]
        )
    else:
        with pytest.raises(ccxt.ExchangeError):
            client.create_order(SYMBOL, "limit", "buy", 0.01, 99_500, parameters)
    assert len(client.fetch_open_orders(SYMBOL)) == 1


# Refusals, in the venues' own words


@every_venue
def test_insufficient_funds(client: Any) -> None:
    with pytest.raises(ccxt.InsufficientFunds):
        client.create_order(SYMBOL, "limit", "buy", 1, 99_500)
    assert client.fetch_open_orders(SYMBOL) == []


@pytest.mark.parametrize(
    ("venue", "quantity", "words"),
    [
        ("binance", 0.00004, "Filter failure: NOTIONAL"),
        ("binanceus", 0.00001, "Filter failure: NOTIONAL"),
        ("coinbase", 0.000001, "QUOTE_SIZE_TOO_SMALL"),
        ("kraken", 0.00004, "EOrder:Order minimum not met"),
    ],
)
def test_below_the_minimum(client: Any, quantity: float, words: str) -> None:
    with pytest.raises(ccxt.ExchangeError, match=words):
        client.create_order(SYMBOL, "limit", "buy", quantity, 99_500)


@pytest.mark.parametrize(
    ("venue", "error"),
    [
        ("binance", ccxt.OrderNotFound),
        ("binanceus", ccxt.OrderNotFound),
        ("coinbase", ccxt.ExchangeError),
        ("kraken", ccxt.InvalidOrder),
    ],
)
def test_unknown_order(client: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        client.fetch_order("123456", SYMBOL)


@pytest.mark.parametrize(
    ("venue", "keys", "error"),
    [
        ("binance", {"api_key": "wrong"}, ccxt.AuthenticationError),
        ("binance", {"secret": "wrong"}, ccxt.AuthenticationError),
        ("binanceus", {"secret": "wrong"}, ccxt.AuthenticationError),
        ("kraken", {"api_key": "wrong"}, ccxt.AuthenticationError),
        ("kraken", {"secret": "d3Jvbmc="}, ccxt.ExchangeError),
        ("coinbase", {"api_key": "organizations/other"}, ccxt.AuthenticationError),
    ],
)
def test_wrong_key_or_secret(
    wire: RunningWire, venue: str, keys: dict[str, str], error: type[Exception]
) -> None:
    client = wire.client(venue, **keys)
    if not venue.startswith("binance"):
        client.options["fetchMarkets"] = "fetchMarketsV3"
    with pytest.raises(error):
        client.fetch_balance()


@pytest.mark.parametrize(
    ("venue", "error"),
    [
        ("binance", ccxt.InvalidNonce),
        ("binanceus", ccxt.InvalidNonce),
        ("coinbase", ccxt.AuthenticationError),
    ],
)
def test_a_clock_that_is_not_the_virtual_one_is_refused(
    client: Any, wire: RunningWire, error: type[Exception]
) -> None:
    client.milliseconds = lambda: START_MS - 3_600_000
    client.seconds = lambda: START_MS // 1000 - 3_600
    with pytest.raises(error):
        client.fetch_balance()


@pytest.mark.parametrize("venue", ["kraken"])
def test_nonce_has_to_grow(client: Any) -> None:
    client.fetch_balance()
    client.incrementing_nonce = lambda: 1
    with pytest.raises(ccxt.InvalidNonce):
        client.fetch_balance()


@pytest.mark.parametrize("venue", ["binance"])
def test_what_only_binance_has(client: Any) -> None:
    client.create_order(SYMBOL, "limit", "buy", 0.01, 99_500)
    assert client.fetch_status()["status"] == "ok"
    assert client.fetch_trading_fees()[SYMBOL]["taker"] == 0.001
    assert len(client.fetch_orders(SYMBOL)) == 1
    assert client.sapi_get_account_apirestrictions()["enableWithdrawals"] is False
    client.cancel_all_orders(SYMBOL)
    assert client.fetch_open_orders(SYMBOL) == []


@pytest.mark.parametrize("venue", ["binanceus"])
def test_what_binance_us_has_of_its_own(client: Any) -> None:
    """Its fees, under a path of its own; ccxt's unified call asks Binance's, which is not there."""
    rows = {row["symbol"]: row for row in client.sapi_get_asset_query_trading_fee()}
    fee = client.parse_trading_fee(rows["BTCUSDT"])
    assert (fee["taker"], fee["maker"]) == (TAKER["binanceus"], MAKER["binanceus"])
    for absent in (client.fetch_trading_fees, client.sapi_get_account_apirestrictions):
        with pytest.raises(ccxt.ExchangeNotAvailable, match="No message available"):
            absent()
    assert client.fetch_status()["status"] == "ok"


@pytest.mark.parametrize("venue", ["kraken"])
def test_what_only_kraken_has(client: Any) -> None:
    client.create_order(SYMBOL, "limit", "buy", 0.01, 99_500)
    assert client.fetch_status()["status"] == "ok"
    assert client.fetch_trading_fee(SYMBOL)["taker"] == 0.004
    assert client.private_post_balance()["result"]["XXBT"] == "1.00000000"
    assert client.market("ETH/BTC")["id"] == "XETHXXBT"
    client.cancel_all_orders()
    assert client.fetch_open_orders(SYMBOL) == []


@pytest.mark.parametrize("venue", ["coinbase"])
def test_what_only_coinbase_has(client: Any) -> None:
    permissions = client.v3_private_get_brokerage_key_permissions()
    assert permissions["can_transfer"] is False
    assert client.fetch_trading_fees()[SYMBOL]["maker"] == 0.006
    assert client.v3_private_get_brokerage_products()["num_products"] in (6, "6")


def test_the_venues_differ_by_a_few_basis_points(wire: RunningWire) -> None:
    mids = []
    for venue in VENUES:
        book = wire.client(venue).fetch_order_book(SYMBOL, 5)
        mids.append((book["bids"][0][0] + book["asks"][0][0]) / 2)
    spread_bps = (max(mids) - min(mids)) / min(mids) * 10_000
    assert len(set(mids)) == len(VENUES)
    assert 0 < spread_bps < 12


# Kraken's dry run


def test_kraken_validates_an_order_without_placing_it(wire: RunningWire) -> None:
    """AddOrder with ``validate``: "Validate inputs only. Do not submit order."; no ``txid``."""
    client = wire.client("kraken")
    client.load_markets()
    order = {"pair": "XBTUSDT", "type": "buy", "ordertype": "limit", "price": "90000"}
    order |= {"volume": "0.01", "cl_ord_id": "dry-run", "validate": "true"}
    answer = client.private_post_addorder(order)
    assert answer["result"] == {"descr": {"order": "buy 0.01000000 XBTUSDT @ limit 90000"}}
    assert client.fetch_open_orders(SYMBOL) == []
    assert client.fetch_balance()["USDT"]["used"] == 0
    # Funds are no input: traders without any have seen such orders pass.
    assert "descr" in client.private_post_addorder(order | {"volume": "1000"})["result"]
    with pytest.raises(ccxt.InvalidOrder, match="minimum"):
        client.private_post_addorder(order | {"volume": "0.00001"})
    placed = client.private_post_addorder(order | {"validate": "false"})
    assert len(placed["result"]["txid"]) == 1
    assert len(client.fetch_open_orders(SYMBOL)) == 1


@every_venue
def test_the_fills_of_one_order_are_told_by_its_id(client: Any, venue: str) -> None:
    first = client.create_order(SYMBOL, "limit", "buy", 0.001, 101_000, {"timeInForce": "IOC"})
    client.create_order(SYMBOL, "limit", "buy", 0.002, 101_000, {"timeInForce": "IOC"})
    if venue == "coinbase":
        asked = client.fetch_my_trades(SYMBOL, None, None, {"order_ids": [first["id"]]})
    else:
        trades = client.fetch_order(first["id"], SYMBOL)["trades"]
        asked = client.fetch_order_trades(first["id"], SYMBOL, params={"trades": trades})
    assert [(trade["order"], trade["amount"]) for trade in asked] == [(first["id"], 0.001)]


@pytest.mark.parametrize("venue", ["binance", "binanceus"])
def test_binance_tells_the_fills_of_an_order_from_a_trade_on_and_from_no_time(client: Any) -> None:
    sent = client.create_order(SYMBOL, "limit", "buy", 0.001, 101_000, {"timeInForce": "IOC"})
    (trade,) = client.fetch_order_trades(sent["id"], SYMBOL, params={"fromId": 0})
    later = {"fromId": int(trade["id"]) + 1}
    assert client.fetch_order_trades(sent["id"], SYMBOL, params=later) == []
    with pytest.raises(ccxt.BadRequest, match="Combination of optional parameters invalid"):
        client.fetch_order_trades(sent["id"], SYMBOL, START_MS)


@pytest.mark.parametrize("venue", ["kraken"])
@pytest.mark.parametrize("number", [0, 21])
def test_kraken_tells_between_one_and_twenty_trades(client: Any, number: int) -> None:
    client.load_markets()
    ids = ",".join(f"T{one}" for one in range(number))
    with pytest.raises(ccxt.ExchangeError, match="EGeneral:Invalid arguments:txid"):
        client.privatePostQueryTrades({"txid": ids})
    assert client.privatePostQueryTrades({"txid": "T1"})["result"] == {}
