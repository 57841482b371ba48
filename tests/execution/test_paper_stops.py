"""A protective stop on paper: it rests in the ledger, triggers by the live book, is cancelled."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue

from shared import clock
from shared.errors import OrderRejected, VenueUnavailable
from shared.execution.desk import Desk
from shared.execution.types import OrderTicket
from shared.execution.venues.paper import PaperVenue
from shared.market.types import Book

BTC = "BTC/USDT"
PRIVATE = ("submit", "find_order", "order", "cancel", "open_orders", "fills", "balances")


class Market(ScriptedVenue):
    """A live book to write, on which every private call is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.bids: tuple[tuple[float, float], ...] = ((99.95, 1000.0),)

    def __getattribute__(self, name: str) -> Any:
        if name in PRIVATE:
            raise AssertionError(f"paper made the private call {name}")
        return super().__getattribute__(name)

    def book(self, symbol: str, depth: int = 50) -> Book:
        best = self.bids[0][0]
        return Book(symbol, self.bids, ((best + 0.1, 1000.0),), clock.now_ms())


class Paper:
    """A pod on paper; each run has a ``PaperVenue`` of its own, as in a new process."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.market = Market()
        self.market.mid = bench.venues["binance"].mid

    def venue(self) -> PaperVenue:
        return PaperVenue(self.market, self.bench.ledger)

    def run(self, *, enter: bool = False) -> Desk:
        """A run as the last step makes it: reconcile, protect, work, protect, settle."""
        desk = self.bench.desk()
        desk.venues = {"binance": self.venue()}
        assert desk.reconcile().clean
        desk.protect()
        if enter:
            desk.enter(self.bench.entry("90"))
        desk.work()
        desk.protect()
        desk.settle()
        return desk

    def stop(self) -> dict[str, Any]:
        row = self.bench.ledger.one("SELECT * FROM order_log WHERE purpose = 'protect'")
        assert row is not None
        return row

    def price(self, *bids: tuple[float, float]) -> None:
        self.market.bids = bids


@pytest.fixture
def paper(bench: Bench) -> Paper:
    made = Paper(bench)
    made.run(enter=True)
    return made


def test_a_stop_rests_for_what_was_bought(paper: Paper) -> None:
    stop = paper.stop()
    assert (stop["order_status"], stop["quantity"]) == ("open", paper.bench.held())
    venue = paper.venue()
    (resting,) = venue.open_orders([BTC])
    assert (resting.venue_order_id, resting.status) == (stop["venue_order_id"], "open")
    assert venue.open_orders(["ETH/USDT"]) == []
    held = venue.balances()["BTC"]
    assert (held.total, held.free) == (stop["quantity"], 0)
    found = venue.find_order(stop["client_order_id"], BTC, clock.now())
    assert found == resting
    paper.run()
    assert paper.stop()["order_status"] == "open"  # nothing has changed in a quiet minute


@pytest.mark.parametrize(("above", "status"), [("0.01", "open"), ("0", "filled")])
def test_it_triggers_when_the_best_bid_reaches_its_price(
    paper: Paper, above: str, status: str
) -> None:
    stop = paper.stop()
    bid = stop["stop_price"] + Decimal(above)
    paper.price((float(bid), 1000.0))
    assert paper.venue().order(stop["venue_order_id"], BTC).status == status


def test_a_triggered_stop_sells_into_the_depth_with_fees_and_ends_the_position(
    paper: Paper,
) -> None:
    stop = paper.stop()
    half = stop["quantity"] / 2
    first, second = stop["stop_price"] - 1, stop["limit_price"]
    paper.price((float(first), float(half)), (float(second), 1000.0))
    paper.run()
    fills = paper.bench.ledger.query(
        "SELECT price, quantity, fee_cost, fee_currency FROM fills WHERE side = 'sell' "
        "ORDER BY venue_trade_id"
    )
    assert sum(fill["quantity"] for fill in fills) == stop["quantity"]
    assert [fill["price"] for fill in fills] == [first, second]
    for fill in fills:
        assert fill["fee_cost"] == fill["price"] * fill["quantity"] * Decimal("0.001")
        assert fill["fee_currency"] == "USDT"
    assert paper.stop()["order_status"] == "filled"
    assert paper.bench.held() == 0
    assert paper.venue().open_orders([BTC]) == []
    assert paper.bench.ledger.one("SELECT 1 AS x FROM positions WHERE closed_at IS NULL") is None


def test_below_its_limit_it_waits_and_what_is_left_fills_later(paper: Paper) -> None:
    stop = paper.stop()
    under = float(stop["limit_price"] - 1)
    paper.price((under, 1000.0))
    assert paper.venue().order(stop["venue_order_id"], BTC).filled_quantity == 0
    part = (stop["quantity"] / 3).quantize(Decimal("0.001"))
    paper.price((float(stop["limit_price"]), float(part)), (under, 1000.0))
    venue = paper.venue()
    seen = venue.order(stop["venue_order_id"], BTC)
    assert (seen.status, seen.filled_quantity) == ("open", part)
    assert venue.order(stop["venue_order_id"], BTC) == seen  # the same book is not taken twice
    assert [fill.quantity for fill in venue.fills(BTC, stop["sent_at"])] == [part]


def test_a_partial_fill_is_remembered_and_no_trade_id_repeats(paper: Paper) -> None:
    stop = paper.stop()
    part = (stop["quantity"] / 3).quantize(Decimal("0.001"))
    price = float(stop["limit_price"])
    paper.price((price, float(part)), (price - 1, 1000.0))
    desk = paper.bench.desk()
    desk.venues = {"binance": paper.venue()}
    desk.reconcile()
    row = paper.stop()
    assert (row["order_status"], row["filled_quantity"]) == ("open", part)
    assert paper.venue().balances()["BTC"].free == 0
    paper.price((price, 1000.0))
    venue = paper.venue()
    seen = venue.order(stop["venue_order_id"], BTC)
    assert (seen.status, seen.filled_quantity) == ("filled", stop["quantity"])
    assert seen.average_price == stop["limit_price"]
    (rest,) = venue.fills(BTC, stop["sent_at"])
    assert rest.quantity == stop["quantity"] - part
    assert rest.venue_trade_id.endswith("-1")


def test_a_cancel_ends_it_once_it_is_noted(paper: Paper) -> None:
    stop = paper.stop()
    venue = paper.venue()
    venue.cancel(stop["venue_order_id"], BTC)
    assert venue.order(stop["venue_order_id"], BTC).status == "cancelled"
    assert venue.open_orders([BTC]) == []
    # A run that dies before it notes the cancel has not cancelled.
    assert len(paper.venue().open_orders([BTC])) == 1
    position_id = stop["position_id"]
    desk = paper.bench.desk()
    desk.venues = {"binance": paper.venue()}
    desk.reconcile()
    desk.exit(position_id, reason="signal")
    assert paper.bench.held() == 0
    assert paper.stop()["order_status"] == "cancelled"


def test_a_cancel_that_comes_after_the_trigger_is_too_late(paper: Paper) -> None:
    stop = paper.stop()
    paper.price((float(stop["stop_price"]), 1000.0))
    venue = paper.venue()
    venue.cancel(stop["venue_order_id"], BTC)
    assert venue.order(stop["venue_order_id"], BTC).status == "filled"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"side": "buy"}, "stops that sell"),
        ({"stop_price": Decimal("99.95")}, "would trigger at once"),
        ({"quantity": Decimal(500)}, "quantity: was 500, expected at most"),
        ({"stop_price": Decimal("97.123")}, "stop_price: was 97.123, expected a multiple"),
    ],
)
def test_a_stop_that_a_venue_would_refuse_is_refused(
    bench: Bench, changes: dict[str, Any], why: str
) -> None:
    paper = Paper(bench)
    values: dict[str, Any] = {
        "client_order_id": "s", "venue": "binance", "symbol": BTC, "side": "sell",
        "order_type": "stop_limit", "time_in_force": "GTC", "quantity": Decimal(1),
        "limit_price": Decimal(90), "stop_price": Decimal(97),
    }  # fmt: skip
    with pytest.raises(OrderRejected, match=why):
        paper.venue().submit(OrderTicket(**(values | changes)))


def test_a_stop_at_the_market_takes_any_price(bench: Bench) -> None:
    """As on Kraken, whose stops have no limit."""
    paper = Paper(bench)
    market = PaperVenue(paper.market, bench.ledger, protection="stop_market")
    desk = bench.desk()
    desk.venues = {"binance": market}
    desk.reconcile()
    desk.enter(bench.entry("90"))
    desk.work()
    desk.protect()
    stop = paper.stop()
    assert stop["order_type"] == "stop_market"
    paper.price((float(stop["limit_price"]) / 2, 1000.0))
    assert paper.venue().order(stop["venue_order_id"], BTC).status == "filled"


def test_an_order_of_another_venue_or_none_is_not_known(paper: Paper) -> None:
    with pytest.raises(VenueUnavailable, match="paper knows none"):
        paper.venue().order("paper-nothing", BTC)
    with pytest.raises(VenueUnavailable, match="paper knows none"):
        paper.venue().order("7", BTC)
    assert paper.venue().find_order("nothing", BTC, clock.now() - timedelta(hours=1)) is None
