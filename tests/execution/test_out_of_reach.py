"""A venue that is out of reach is replaced by its backup; what is wrong with the ledger is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue
from test_late_orders import amended

from shared.errors import OrderDenied
from shared.execution.reconciling.amending import LATE_ORDER

WHOLE = Decimal("0.895")  # what 90 USDT buy at the collar's worst price


def two_venues(make_bench: Callable[..., Bench]) -> tuple[Bench, ScriptedVenue, ScriptedVenue]:
    binance, kraken = ScriptedVenue("binance"), ScriptedVenue("kraken")
    kraken.fee_bps = Decimal(40)  # dearer, so that it is only the backup
    return make_bench(binance, kraken), binance, kraken


def test_the_backup_takes_an_entry_while_the_first_venue_is_down(
    make_bench: Callable[..., Bench],
) -> None:
    bench, binance, kraken = two_venues(make_bench)
    binance.down = True
    desk = bench.desk()
    found = desk.reconcile()
    assert (found.clean, found.silent) == (False, ["binance"])
    desk.enter(bench.entry())
    assert [(result.venue, result.outcome) for result in desk.work()] == [("kraken", "FILLED")]
    assert (len(binance.sent), len(kraken.sent)) == (0, 1)


def test_an_unknown_order_of_the_venue_that_is_down_is_not_sent_elsewhere(
    make_bench: Callable[..., Bench],
) -> None:
    bench, binance, kraken = two_venues(make_bench)
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    binance.next_submit = "lose answer"
    assert [result.outcome for result in desk.work()] == ["UNKNOWN"]
    binance.down = True
    for _ in range(3):
        later = bench.desk()
        later.reconcile()
        assert [result.outcome for result in later.work()] in ([], ["DENIED"])
    assert kraken.sent == []
    binance.down = False
    bench.desk().reconcile()
    assert bench.held() == binance.account["BTC"] == WHOLE


@pytest.mark.parametrize("wrong", ["difference", "foreign order"])
def test_what_is_wrong_on_one_venue_stops_all(make_bench: Callable[..., Bench], wrong: str) -> None:
    bench, binance, kraken = two_venues(make_bench)
    if wrong == "difference":
        binance.account["USDT"] -= Decimal(1)
    else:
        binance.foreign_order()
    desk = bench.desk()
    found = desk.reconcile()
    desk.enter(bench.entry())
    assert not found.allows_risk_on("kraken")
    assert desk.work() == []
    assert kraken.sent == []


def test_a_fill_that_shows_after_its_order_was_over_is_found_by_the_balances(bench: Bench) -> None:
    """The venue first calls the order cancelled without a fill, and shows its fill later."""
    binance = bench.venues["binance"]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    real_order, real_fills = binance.order, binance.fills

    def lagging(venue_order_id: str, symbol: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
        order = real_order(venue_order_id, symbol)
        nothing = replace(order, filled_quantity=Decimal(0), average_price=None)
        return replace(nothing, status="cancelled")

    binance.order = lagging  # type: ignore[method-assign]
    binance.fills = lambda symbol, since: []  # type: ignore[method-assign]
    assert [result.outcome for result in desk.work()] == ["NOT_FILLED"]
    desk.cancel_entries("a person")
    desk.settle()
    assert bench.held() == 0

    binance.order, binance.fills = real_order, real_fills  # type: ignore[method-assign]
    found = bench.desk().reconcile()
    intent_id = binance.sent[0].client_order_id
    assert (found.amended, found.differences) == ([intent_id], [])
    assert amended(bench) == [(intent_id, "ACKNOWLEDGED")]
    assert bench.held() == binance.account["BTC"] == WHOLE
    (position,) = bench.ledger.query("SELECT closed_at, exit_reason FROM positions")
    assert position == {"closed_at": None, "exit_reason": LATE_ORDER}
    assert bench.desk().reconcile().clean


def test_nothing_is_bought_for_a_position_that_is_being_left(bench: Bench) -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    desk.work()
    bench.ledger.execute("UPDATE positions SET exit_reason = 'stop'")
    with pytest.raises(OrderDenied, match="POSITION_LEAVING: symbol=BTC/USDT, why=stop"):
        bench.desk().enter(bench.entry())
