"""Orders and a venue's own rules: entries are denied, exits and stops find their way inside."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from execution_bench import Bench
from protection_bench import buy, intervals, kinds, next_run, protected, resting, stop_at
from scripted_venue import ScriptedVenue

from shared.errors import VenueUnavailable
from shared.execution import bands
from shared.execution.types import PriceBand
from shared.ledger import alerts, events
from shared.ledger.connection import Row

WIDE = PriceBand(Decimal("0.2"), Decimal(5), Decimal("0.2"), Decimal(5), 5)
# The example of Binance's "Filters".
NARROW = PriceBand(Decimal("0.2"), Decimal("1.2"), Decimal("0.8"), Decimal(5), 1)


def banded(bench: Bench, band: PriceBand, average: str) -> ScriptedVenue:
    venue = bench.venues["binance"]
    venue.price_band, venue.average = band, Decimal(average)
    return venue


def try_to_enter(bench: Bench) -> list[str]:
    """What came of each order of an entry."""
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("60"))
    return [result.detail or result.outcome for result in desk.work()]


def events_of(bench: Bench, kind: str) -> list[Row]:
    return bench.ledger.query("SELECT detail FROM events WHERE kind = %s ORDER BY event_id",
                              (kind,))  # fmt: skip


# Prices ------------------------------------------------------------------------------------------


def test_an_entry_outside_the_band_is_neither_journalled_nor_sent(bench: Bench) -> None:
    venue = banded(bench, NARROW, "83")  # up to 99.6; the ask is 100.05
    (told,) = try_to_enter(bench)
    assert told.startswith("PRICE_BAND: side=buy, after=100.15, limit=99.6, average=83")
    assert (venue.sent, bench.states()) == ([], [])
    venue.average = Decimal(84)  # up to 100.8
    assert [r.outcome for r in next_run(bench).work()] == ["FILLED"]


def test_an_entry_whose_band_nobody_knows_is_not_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue = banded(bench, NARROW, "100")

    def silent(symbol: str) -> Decimal:
        raise VenueUnavailable("binance: average price: RequestTimeout")

    monkeypatch.setattr(venue, "average_price", silent)
    assert try_to_enter(bench) == ["PRICE_BAND_UNKNOWN: venue=binance, symbol=BTC/USDT"]
    assert (venue.sent, bench.states()) == ([], [])


def test_the_band_of_a_real_market_costs_no_request(bench: Bench) -> None:
    venue = banded(bench, WIDE, "100")
    position_id = protected(bench)
    results = next_run(bench).exit(position_id, reason="target")
    assert [r.outcome for r in results] == ["FILLED"]
    assert venue.averages_asked == 0


def test_an_exit_is_put_inside_and_sells(bench: Bench) -> None:
    """The exit would sell at 99.85, the venue takes 99.80 at least, and the bid is 99.95."""
    position_id = protected(bench)
    venue = banded(bench, NARROW, "124.75")
    results = next_run(bench).exit(position_id, reason="target")
    assert [r.outcome for r in results] == ["FILLED"]
    assert venue.sent[-1].limit_price == Decimal("99.90")  # 10 bps inside
    assert venue.averages_asked == 1
    assert "EXIT_DELAYED" not in kinds(bench)


def test_an_exit_below_the_band_is_told_and_sells_when_the_average_has_followed(
    bench: Bench,
) -> None:
    position_id = protected(bench)
    venue = banded(bench, NARROW, "130")
    venue.fill_share = Decimal(0)  # nobody buys at 104.11 while the bid is 99.95
    desk = next_run(bench)
    results = desk.exit(position_id, reason="stop")
    assert [r.outcome for r in results] == ["NOT_FILLED"]
    assert venue.sent[-1].limit_price == Decimal("104.11")
    (told,) = events_of(bench, "EXIT_DELAYED")
    assert told["detail"]["why"] == ("binance: takes no sale below 104.11, and the bid is 99.95")
    done = desk.protect()
    assert (done.stops, done.naked) == (0, 1)  # a stop inside the band would trigger at once
    assert [row["seconds"] for row in intervals(bench)][-1] is None  # it is counted, and told
    assert "HIGH" in [row["severity"] for row in alerts.unsent(bench.ledger)]

    venue.average, venue.fill_share = Decimal(101), Decimal(1)
    results = next_run(bench).exit(position_id, reason="stop")
    assert [r.outcome for r in results] == ["FILLED"]


def test_an_exit_whose_band_nobody_knows_is_judged_by_the_venue(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    position_id = protected(bench)
    venue = banded(bench, NARROW, "100")

    def silent(symbol: str) -> Decimal:
        raise VenueUnavailable("binance: average price: RequestTimeout")

    monkeypatch.setattr(venue, "average_price", silent)
    results = next_run(bench).exit(position_id, reason="target")
    assert [r.outcome for r in results] == ["FILLED"]


def test_a_core_stop_20_percent_below_is_raised_into_the_band(bench: Bench) -> None:
    buy(bench)
    stop_at(bench, "80")  # its limit would be 78.40
    venue = banded(bench, NARROW, "100")
    done = next_run(bench).protect()
    assert (done.placed, done.naked) == (1, 0)
    ticket = venue.sent[-1]
    assert (ticket.stop_price, ticket.limit_price) == (Decimal("81.72"), Decimal("80.09"))
    low, high = bands.limits(NARROW, "sell", Decimal(100))
    assert low <= ticket.limit_price <= high
    (told,) = events_of(bench, "STOP_RAISED")
    assert told["detail"]["why"] == (
        "decided at 80, and the venue takes no stop so low: placed at 81.72"
    )


def test_a_raised_stop_stays_until_the_decided_one_is_above_it(bench: Bench) -> None:
    test_a_core_stop_20_percent_below_is_raised_into_the_band(bench)
    venue = bench.venues["binance"]
    sent = len(venue.sent)
    for average in ("102", "110", "95"):  # the venue does not judge again what rests
        venue.average = Decimal(average)
        assert next_run(bench).protect().replaced == 0
    assert len(venue.sent) == sent
    stop_at(bench, "90")
    venue.average = Decimal(100)
    assert next_run(bench).protect().replaced == 1
    assert [trigger for _, trigger in resting(venue)] == [Decimal("90.00")]


def test_a_core_stop_needs_no_raise_in_the_band_of_a_real_market(bench: Bench) -> None:
    buy(bench)
    stop_at(bench, "80")
    venue = banded(bench, WIDE, "100")
    next_run(bench).protect()
    assert [trigger for _, trigger in resting(venue)] == [Decimal("80.00")]
    assert venue.averages_asked == 1  # at 78.40 a fall to a quarter would matter


def test_a_resting_stop_is_not_lifted_for_one_that_the_band_keeps_out(bench: Bench) -> None:
    protected(bench)
    stop_at(bench, "98.50")
    venue = banded(bench, NARROW, "124")  # a stop would need a trigger of 101.33
    done = next_run(bench).protect()
    assert (done.replaced, done.refused, done.naked) == (0, 0, 0)
    assert [trigger for _, trigger in resting(venue)] == [Decimal("98.00")]
    assert venue.cancels == []


def test_a_stop_at_market_has_no_limit_to_be_judged(bench: Bench) -> None:
    buy(bench)
    stop_at(bench, "80")
    venue = banded(bench, NARROW, "100")
    venue.protection = "stop_market"
    next_run(bench).protect()
    assert [trigger for _, trigger in resting(venue)] == [Decimal("80.00")]
    assert venue.averages_asked == 0


# Numbers of orders -------------------------------------------------------------------------------


def test_one_stop_more_than_the_venue_keeps_is_told_and_tried_again(bench: Bench) -> None:
    """Stops of other pods have taken the room since the entry."""
    position_id = buy(bench)
    venue = bench.venues["binance"]
    venue.max_stop_orders = 0
    sent = len(venue.sent)
    for _ in range(4):
        done = next_run(bench).protect()
        assert (done.refused, done.stops, done.naked) == (1, 0, 1)
    assert len(venue.sent) == sent
    assert [row["detail"]["why"] for row in events_of(bench, "STOP_DENIED")] == [
        "STOPS_RESTING: purpose=protect, venue=binance, before=0, after=1, limit=0"
    ] * 4
    assert [row["seconds"] for row in intervals(bench)] == [None]  # open: the time is counted
    (told,) = [row for row in alerts.unsent(bench.ledger) if "naked" in row["alert_id"]]
    assert (told["severity"], told["title"]) == (
        "HIGH", "BTC/USDT on binance has no stop resting there",
    )  # fmt: skip

    desk = next_run(bench)  # what has no stop can be sold all the same
    results = desk.exit(position_id, reason="partial_profit", fraction=Decimal("0.5"))
    assert [r.outcome for r in results] == ["FILLED"]
    venue.max_stop_orders = 1
    done = desk.protect()
    assert (done.placed, done.naked) == (1, 0)


def test_nothing_is_bought_where_its_stop_would_find_no_room(bench: Bench) -> None:
    venue = bench.venues["binance"]
    venue.max_stop_orders = 0
    assert try_to_enter(bench) == [
        "STOPS_RESTING: purpose=entry, venue=binance, before=0, after=1, limit=0"
    ]
    assert venue.sent == []


def test_what_one_venue_has_no_room_for_is_bought_on_the_next(
    make_bench: Callable[..., Bench],
) -> None:
    full, free = ScriptedVenue("binance"), ScriptedVenue("kraken")
    full.max_stop_orders = 0
    free.mid = Decimal("100.02")  # the dearer one
    bench = make_bench(full, free)
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("60"))
    assert [(r.venue, r.outcome) for r in desk.work()] == [
        ("binance", "DENIED"), ("kraken", "FILLED"),
    ]  # fmt: skip


def test_a_stop_is_replaced_in_its_own_room(bench: Bench) -> None:
    protected(bench)
    venue = bench.venues["binance"]
    venue.max_stop_orders = 1
    stop_at(bench, "99")
    assert next_run(bench).protect().replaced == 1
    assert [trigger for _, trigger in resting(venue)] == [Decimal("99.00")]


# Cancels -----------------------------------------------------------------------------------------


def cancels_noted(bench: Bench) -> list[str]:
    return [row["detail"]["symbol"] for row in events_of(bench, "CANCEL_SENT")]


def test_each_cancel_is_noted_as_it_is_sent(bench: Bench) -> None:
    position_id = protected(bench)
    venue = bench.venues["binance"]
    assert cancels_noted(bench) == []
    stop_at(bench, "99")
    next_run(bench).protect()  # replaced
    assert cancels_noted(bench) == ["BTC/USDT"]
    venue.next_cancel = "fail"
    next_run(bench).exit(position_id, reason="target")  # refused, and sent all the same
    assert cancels_noted(bench) == ["BTC/USDT"] * 2
    next_run(bench).exit(position_id, reason="target")
    assert len(venue.cancels) == len(cancels_noted(bench)) == 3


def test_a_cancel_that_dies_on_its_way_counts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    protected(bench)

    def die(venue_order_id: str, symbol: str) -> None:
        raise SystemExit("killed")

    monkeypatch.setattr(bench.venues["binance"], "cancel", die)
    stop_at(bench, "99")
    desk = next_run(bench)
    with pytest.raises(SystemExit):
        desk.protect()
    assert cancels_noted(bench) == ["BTC/USDT"]


def test_a_storm_of_cancels_stops_entries_and_no_exit(bench: Bench) -> None:
    position_id = protected(bench)
    desk = bench.desk()
    desk.reconcile()
    for _ in range(60):
        events.record(bench.ledger, events.CANCEL_SENT, {"symbol": "ETH/USDT"})
    desk.add(position_id, Decimal(30), Decimal(100), "pyramid")
    assert [r.detail.split(":")[0] for r in desk.work()] == ["RATE_MESSAGES"]
    results = desk.exit(position_id, reason="target")
    assert [r.outcome for r in results] == ["FILLED"]
