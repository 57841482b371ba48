"""A venue's own rules over HTTP: what the unmodified client reads of them, and who refuses by them.

The venues' verdicts come from their stand-ins, which judge by averages and counts of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from contract_venue import BTC, VENUES, on_wire, ticket
from wire_bench import OPENING_USDT, SYMBOL, WireBench

from deploy.local.market.source import SourceSpec
from deploy.local.wire.client import WireProcess, start_wire
from shared import clock
from shared.errors import OrderRejected, VenueUnavailable
from shared.execution import bands
from shared.execution.rounding import ceil_to, floor_to
from shared.execution.types import PriceBand, Side
from shared.execution.venues import ccxt_loader, clients, dialects
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.ledger.connection import Ledger
from tests.conftest import DEFAULT_START, VirtualClock
from tests.peg_rows import tell_worth

START = DEFAULT_START + timedelta(hours=12)
WIDE = PriceBand(Decimal("0.2"), Decimal(5), Decimal("0.2"), Decimal(5), 5)
BY_FILTERS = ("binance", "binanceus")


@pytest.fixture(scope="module")
def process() -> Iterator[tuple[WireProcess, int]]:
    """A wire and the snapshot of its beginning."""
    spec = SourceSpec("simulated", (BTC, "ETH/USDT", "SOL/USDT"), clock.to_ms(START), 6, 7, None)
    balances = {name: {"USDT": OPENING_USDT} for name in VENUES}
    with start_wire(spec, now_ms=clock.to_ms(START), balances=balances, seed=7) as started:
        yield started, started.snapshot()


@pytest.fixture
def wire(
    process: tuple[WireProcess, int], virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> WireProcess:
    """The wire as it was at the start, and clients that know nothing of it yet."""
    started, beginning = process
    started.restore(beginning)
    virtual_clock.set(START)
    monkeypatch.setattr(clients, "_clients", {})
    return started


@pytest.fixture(params=BY_FILTERS)
def bench(
    request: pytest.FixtureRequest, wire: WireProcess, ledger: Ledger, virtual_clock: VirtualClock
) -> WireBench:
    tell_worth(ledger)
    return WireBench(ledger, virtual_clock, wire, request.param)


@pytest.mark.parametrize("name", VENUES)
def test_the_rules_that_each_venue_tells(wire: WireProcess, name: str) -> None:
    rules = on_wire(name, wire).rules(BTC)
    expected = (WIDE, 200, 5) if name in BY_FILTERS else (None, None, None)
    assert (rules.price_band, rules.max_orders, rules.max_stop_orders) == expected
    assert rules.unread_filters == ()


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("binance", ["GET /api/v3/referencePrice"]),
        ("binanceus", ["GET /api/v3/avgPrice"]),
    ],
)
def test_the_average_is_asked_for_where_the_venue_has_it(
    wire: WireProcess, name: str, asked: list[str]
) -> None:
    venue = on_wire(name, wire)
    venue.rules(BTC)
    before = wire.stats()
    average = venue.average_price(BTC)
    book = venue.book(BTC)
    assert abs(average / Decimal(str(book.mid)) - 1) < Decimal("0.01")
    new = {route for route, count in wire.stats().items() if count > before.get(route, 0)}
    assert [route for route in new if "rice" in route] == [f"{name} {asked[0]}"]


@pytest.mark.parametrize("name", ["coinbase", "kraken"])
def test_a_venue_without_a_band_has_no_average(wire: WireProcess, name: str) -> None:
    with pytest.raises(VenueUnavailable, match="BTC/USDT has no price band"):
        on_wire(name, wire).average_price(BTC)


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("name", BY_FILTERS)
def test_our_verdict_is_the_venues_at_each_end_and_one_tick_past_it(
    wire: WireProcess, name: str, side: Side
) -> None:
    wire.configure_venue(name, price_collar_percent=3)
    venue = on_wire(name, wire)
    if side == "sell":
        venue.submit(ticket(venue, quantity="0.01"))
    rules = venue.rules(BTC)
    assert rules.price_band == PriceBand(*[Decimal("0.97"), Decimal("1.03")] * 2, 5)
    low, high = bands.limits(rules.price_band, side, venue.average_price(BTC))
    first, last = ceil_to(low, rules.price_tick), floor_to(high, rules.price_tick)
    for price in (first, last):
        venue.submit(ticket(venue, side, "0.001", limit_price=price))
    for price in (first - rules.price_tick, last + rules.price_tick):
        with pytest.raises(OrderRejected, match=f"{name}: a filter of the symbol failed"):
            venue.submit(ticket(venue, side, "0.001", limit_price=price))


def test_an_entry_past_the_band_never_leaves(bench: WireBench) -> None:
    bench.wire.configure_venue(bench.venue, price_collar_percent="0.02")
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry(desk))
    (result,) = desk.work()
    assert result.detail.startswith("PRICE_BAND: side=buy")
    assert (bench.intents(), bench.account()["orders"]) == ([], [])


def bought(bench: WireBench) -> int:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry(desk))
    assert [result.outcome for result in desk.work()] == ["FILLED"]
    row = bench.ledger.one("SELECT position_id FROM positions")
    assert row is not None
    return int(row["position_id"])


def orders(bench: WireBench) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = bench.account()["orders"]
    return listed


def test_a_stop_20_percent_below_rests_inside_a_band_of_10_percent(bench: WireBench) -> None:
    bench.wire.configure_venue(bench.venue, price_collar_percent=10)
    bought(bench)
    bench.ledger.execute("UPDATE positions SET stop_price = stop_price * 0.8 / 0.98")
    desk = bench.desk()
    desk.reconcile()
    done = desk.protect()
    assert (done.placed, done.stops, done.naked, done.refused) == (1, 1, 0, 0)
    row = bench.ledger.one("SELECT limit_price, stop_price FROM intents WHERE purpose = 'protect'")
    assert row is not None
    average = desk.venues[bench.venue].average_price(SYMBOL)
    assert Decimal("0.9") < row["limit_price"] / average < Decimal("0.905")
    assert row["limit_price"] < row["stop_price"] < average


def test_an_exit_sells_in_a_band_of_half_a_percent(bench: WireBench) -> None:
    bench.wire.configure_venue(bench.venue, price_collar_percent="0.5")
    position_id = bought(bench)
    desk = bench.desk()
    desk.reconcile()
    results = desk.exit(position_id, reason="stop")
    assert [result.outcome for result in results] == ["FILLED"]
    assert desk.settle() == [position_id]


def test_the_venue_and_the_gate_count_the_same_stops(bench: WireBench) -> None:
    """Another pod of the account has five stops there: the venue takes no sixth, nor do we send."""
    venue = on_wire(bench.venue, bench.wire)
    position_id = bought(bench)
    stop = five_stops(venue)
    with pytest.raises(OrderRejected, match="a filter of the symbol failed"):
        venue.submit(stop)
    note_as_another_pods(bench.ledger, position_id)
    sent = len(orders(bench))
    done = bench.desk().protect()
    assert (done.refused, done.stops, done.naked) == (1, 0, 1)
    assert len(orders(bench)) == sent
    told = bench.ledger.one("SELECT detail FROM events WHERE kind = 'STOP_DENIED'")
    assert told is not None
    expected = "before=5, after=6, limit=5"
    assert told["detail"]["why"] == (
        f"STOPS_RESTING: purpose=protect, venue={bench.venue}, {expected}"
    )


def five_stops(venue: CcxtVenue) -> Any:
    """Five stops rest; returns a further one."""
    venue.submit(ticket(venue, quantity="0.01"))
    trigger = floor_to(Decimal(str(venue.book(BTC).mid)) * Decimal("0.97"), Decimal("0.01"))
    made = [
        ticket(
            venue, "sell", "0.0005", order_type="stop_limit", time_in_force="GTC",
            stop_price=trigger, limit_price=trigger - 10,
        )
        for _ in range(6)
    ]  # fmt: skip
    for one in made[:5]:
        venue.submit(one)
    return made[5]


def note_as_another_pods(ledger: Ledger, position_id: int) -> None:
    """The ledger knows the five as those of a pod that was made from ours."""
    ledger.execute(
        "INSERT INTO pods (pod, base, settings, created_at, created_by) "
        "VALUES ('other', 'test', '{}', now(), 'test')"
    )
    ledger.execute(
        "INSERT INTO intents SELECT (jsonb_populate_record(i, jsonb_build_object('intent_id', "
        "'other' || n, 'client_order_id', 'other' || n, 'logical_key', 'other' || n, "
        "'pod', 'other', 'purpose', 'protect', 'side', 'sell', 'order_type', 'stop_limit', "
        "'state', 'UNKNOWN'))).* FROM intents i, generate_series(1, 5) AS n "
        "WHERE i.position_id = %s",
        (position_id,),
    )


# What Binance's reference price may be -----------------------------------------------------------


class Answers:
    """A client whose public endpoints answer as they are told."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        def call(asked: dict[str, str]) -> Any:
            assert asked == {"symbol": "BTCUSDT"}
            answer = self._answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


AVERAGE = {"mins": "5", "price": "99.5", "closeTime": 1}


@pytest.mark.parametrize(
    ("reference", "minutes", "expected"),
    [
        ({"symbol": "BTCUSDT", "referencePrice": "100.25"}, 5, "100.25"),
        ({"symbol": "BTCUSDT", "referencePrice": None}, 5, "99.5"),
        ("-2043", 5, "99.5"),
        ("-2043", 0, "99.75"),
    ],
)
def test_the_reference_price_comes_before_the_average(
    reference: Any, minutes: int, expected: str
) -> None:
    if reference == "-2043":
        words = 'binance {"code":-2043,"msg":"This symbol doesn\'t have a reference price."}'
        reference = ccxt_loader.errors().ExchangeError(words)
    client = Answers(
        publicGetReferencePrice=reference,
        publicGetAvgPrice=AVERAGE,
        publicGetTickerPrice={"price": "99.75"},
    )
    dialect = dialects.DIALECTS["binance"]
    assert dialect.average_price(client, "BTCUSDT", minutes) == expected


def test_a_failure_is_no_missing_reference_price() -> None:
    client = Answers(publicGetReferencePrice=ccxt_loader.errors().RequestTimeout("binance"))
    with pytest.raises(ccxt_loader.errors().RequestTimeout):
        dialects.DIALECTS["binance"].average_price(client, "BTCUSDT", 5)
    other = Answers(publicGetAvgPrice=AVERAGE | {"mins": "1"})
    with pytest.raises(ValueError, match="expected 5 minutes, was '1'"):
        dialects.DIALECTS["binanceus"].average_price(other, "BTCUSDT", 5)
