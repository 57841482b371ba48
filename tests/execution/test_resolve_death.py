"""DEAD needs four proofs at once; each of them alone keeps an order UNKNOWN."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue
from test_resolve import leave_unknown

from shared import clock
from shared.errors import LeaseLost, VenueUnavailable
from shared.execution.types import VenueFill, VenueOrder
from shared.ledger import state


def after_quarantine(bench: Bench) -> Any:
    bench.time.advance(minutes=5)
    return bench.desk().reconcile(compare_accounts=False)


def trade(venue: ScriptedVenue, order: VenueOrder, quantity: str = "0.5") -> None:
    """An order of the account that this system's own answers have not shown is filled."""
    venue.orders[order.venue_order_id] = order
    venue.executions.append(
        VenueFill(
            f"t-{order.venue_order_id}", order.venue_order_id, order.symbol, order.side, venue.mid,
            Decimal(quantity), Decimal(0), "USDT", "taker", clock.now(),
        )
    )  # fmt: skip


def order_of(client_order_id: str | None, venue_order_id: str = "x-1") -> VenueOrder:
    return VenueOrder(
        venue_order_id, client_order_id, "BTC/USDT", "buy", "filled", Decimal("0.5"),
        Decimal("0.5"), Decimal(100),
    )  # fmt: skip


def test_all_four_together_are_proof(bench: Bench) -> None:
    intent_id = leave_unknown(bench)
    assert after_quarantine(bench).resolved == [intent_id]
    assert bench.states() == ["DEAD"]
    assert bench.ledger.query("SELECT 1 FROM events WHERE kind = 'ORDER_DEAD'") != []
    assert bench.desk().reconcile().clean


@pytest.mark.parametrize("currency", ["BTC", "USDT"])
def test_a_balance_that_moved_is_no_proof_of_death(bench: Bench, currency: str) -> None:
    venue = bench.venues["binance"]
    intent_id = leave_unknown(bench)
    venue.account[currency] = venue.account.get(currency, Decimal(0)) + Decimal("0.001")
    for _ in range(2):
        assert after_quarantine(bench).still_unknown == [intent_id]
    row = bench.ledger.one("SELECT body FROM alerts")
    assert row is not None
    assert f"balances differ: {currency} is" in row["body"]
    venue.account[currency] -= Decimal("0.001")
    assert after_quarantine(bench).resolved == [intent_id]


def test_a_currency_of_another_symbol_does_not_matter(bench: Bench) -> None:
    leave_unknown(bench)
    bench.venues["binance"].account["ETH"] = Decimal(1)
    after_quarantine(bench)
    assert bench.states() == ["DEAD"]


@pytest.mark.parametrize("unread", ["find_order", "fills", "balances"])
def test_what_cannot_be_read_is_no_proof_of_death(bench: Bench, unread: str) -> None:
    venue: Any = bench.venues["binance"]
    intent_id = leave_unknown(bench)
    original = getattr(venue, unread)
    setattr(venue, unread, unavailable)
    assert after_quarantine(bench).still_unknown == [intent_id]
    assert bench.states() == ["UNKNOWN"]
    setattr(venue, unread, original)
    assert after_quarantine(bench).resolved == [intent_id]


def unavailable(*_: Any) -> Any:
    raise VenueUnavailable("binance: RequestTimeout")


def test_a_fill_shows_an_order_that_no_query_by_our_id_shows(bench: Bench) -> None:
    """The venue's index by client id lags for hours; its fills carry the venue's id."""
    venue = bench.venues["binance"]
    intent_id = leave_unknown(bench, "lose answer")
    venue.hides_orders = True
    bought = venue.account["BTC"]
    # balances are made to agree, so that the fills alone speak
    venue.account["BTC"], cash = Decimal(0), venue.account["USDT"]
    venue.account["USDT"] = Decimal(10_000)
    assert after_quarantine(bench).resolved == [intent_id]
    venue.account |= {"BTC": bought, "USDT": cash}
    assert bench.states() == ["ACKNOWLEDGED"]
    assert bench.held() == bought > 0


def test_a_fill_whose_order_cannot_be_read_is_no_proof_of_death(bench: Bench) -> None:
    venue = bench.venues["binance"]
    intent_id = leave_unknown(bench)
    trade(venue, order_of(None))
    venue.order = unavailable  # type: ignore[method-assign]
    assert after_quarantine(bench).still_unknown == [intent_id]
    assert state.read(bench.ledger).state == "ACTIVE"  # it may be ours: nobody is accused


@pytest.mark.parametrize("client_order_id", [None, "somebody-else"])
def test_a_fill_of_somebody_elses_order_halts_once(
    bench: Bench, client_order_id: str | None
) -> None:
    venue = bench.venues["binance"]
    leave_unknown(bench)
    trade(venue, order_of(client_order_id))
    venue.account["BTC"] = Decimal("0.5")
    found = after_quarantine(bench)
    assert found.foreign_orders == ["x-1"]
    trading = state.read(bench.ledger)
    assert (trading.state, trading.rearm_required) == ("HALTED", True)
    assert bench.states() == ["UNKNOWN"]  # as long as the balances differ by it
    # a person books what was bought and re-arms: the order that is over halts nobody again
    bench.ledger.execute(
        "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
        "VALUES ('test', 'binance', 'BTC', 0.5, %s, 'bought by hand')",
        (clock.now(),),
    )
    state.rearm(bench.ledger, reason="looked into it", set_by="test")
    assert after_quarantine(bench).foreign_orders == []
    assert state.read(bench.ledger).state == "ACTIVE"
    assert bench.states() == ["DEAD"]


def test_an_order_filled_by_another_pod_is_not_foreign(bench: Bench) -> None:
    """Two pods of one ledger on one account: known by any of them is known."""
    venue = bench.venues["binance"]
    leave_unknown(bench)
    as_other_pod(bench, "tl-other")
    trade(venue, order_of("tl-other"))
    found = after_quarantine(bench)
    assert found.foreign_orders == []
    assert state.read(bench.ledger).state == "ACTIVE"
    assert bench.ledger.query("SELECT 1 FROM fills") == []  # not ours to book either


def as_other_pod(bench: Bench, client_order_id: str) -> None:
    bench.ledger.execute(
        "INSERT INTO intents SELECT (jsonb_populate_record(i, jsonb_build_object("
        "'intent_id', %(id)s::text, 'client_order_id', %(id)s::text, 'logical_key', %(id)s::text, "
        "'pod', 'other', 'state', 'UNKNOWN'))).* FROM intents i LIMIT 1",
        {"id": client_order_id},
    )


def test_a_run_that_lost_its_lease_buries_nothing(bench: Bench) -> None:
    leave_unknown(bench)
    bench.time.advance(minutes=5)
    desk = bench.desk()
    bench.ledger.execute("UPDATE leases SET epoch = epoch + 1, holder = 'another run'")
    with pytest.raises(LeaseLost):
        desk.reconcile()
    assert bench.states() == ["UNKNOWN"]


def test_a_stop_that_filled_meanwhile_does_not_keep_an_order_unknown(
    make_bench: Callable[..., Bench],
) -> None:
    """Open orders come first: what they have filled is in the ledger when balances are judged."""
    bench = make_bench(ScriptedVenue())
    venue = bench.venues["binance"]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("60"))
    fills = venue.fills
    venue.fills = lambda symbol, since: []  # type: ignore[method-assign]
    desk.work()  # filled, and the fills have not been told yet
    venue.fills = fills  # type: ignore[method-assign]
    row = bench.ledger.one("SELECT intent_id FROM intents")
    assert row is not None
    bench.ledger.execute(
        "INSERT INTO intents SELECT (jsonb_populate_record(i, jsonb_build_object('intent_id', "
        "'gone', 'client_order_id', 'gone', 'logical_key', 'gone', 'state', 'UNKNOWN'))).* "
        "FROM intents i"
    )
    assert after_quarantine(bench).resolved == ["gone"]
    assert venue.executions[0].quantity == bench.held()
