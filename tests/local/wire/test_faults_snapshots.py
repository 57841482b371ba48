"""Going back to a snapshot: everything that a venue and the fault layer remember, and no more."""

from __future__ import annotations

import time
from typing import Any

import ccxt
import pytest

from deploy.local.wire.client import WireFailed, WireProcess
from deploy.local.wire.faults import rules
from deploy.local.wire.snapshots import MOST_SNAPSHOTS
from tests.local.wire.conftest import RunningWire
from tests.local.wire.fakes import START_MS
from tests.local.wire.test_faults import ORDER, SYMBOL, VENUES, buy, control, orders, ready_client

__all__ = ["control"]  # the fixture


@pytest.mark.parametrize("venue", VENUES)
def test_orders_fills_books_and_balances_go_back(
    wire: RunningWire, control: WireProcess, venue: str
) -> None:
    client = ready_client(wire, venue)
    buy(client, client_id="resting")
    buy(client, 101_000, "taking")
    before, book = control.accounts(), client.fetch_order_book(SYMBOL)
    kept = control.snapshot()
    for _ in range(3):  # a snapshot is not used up by going back
        wire.advance(1)
        buy(client, 103_000, "taking-more")
        for order in client.fetch_open_orders(SYMBOL):
            client.cancel_order(order["id"], SYMBOL)
        assert control.accounts() != before
        control.restore(kept)
        assert control.accounts() == before
        assert client.fetch_order_book(SYMBOL) == book


@pytest.mark.parametrize("venue", VENUES)
def test_what_happens_after_going_back_is_what_happened_before(
    wire: RunningWire, control: WireProcess, venue: str
) -> None:
    client = ready_client(wire, venue)
    buy(client, 98_500, "resting")
    kept = control.snapshot()
    seen = []
    for _ in range(2):
        buy(client, 101_000, "taking")
        wire.advance(3)
        seen.append(control.accounts())
        control.restore(kept)
    assert seen[0] == seen[1]
    assert len(seen[0][venue]["fills"]) >= 2


def test_a_used_nonce_is_new_again(wire: RunningWire, control: WireProcess) -> None:
    client = ready_client(wire, "kraken")
    client.incrementing_nonce = lambda: START_MS + 5
    kept = control.snapshot()
    client.fetch_balance()
    with pytest.raises(ccxt.InvalidNonce):
        client.fetch_balance()
    control.restore(kept)
    client.fetch_balance()


def test_a_venues_conditions_go_back(wire: RunningWire, control: WireProcess) -> None:
    client = ready_client(wire, "kraken")
    kept = control.snapshot()
    control.configure_venue("kraken", status="cancel_only", query_lag_ms=3_000)
    with pytest.raises(ccxt.BaseError):
        buy(client)
    assert orders(control, "kraken") == 0
    control.restore(kept)
    buy(client)
    assert orders(control, "kraken") == 1


@pytest.mark.parametrize(
    ("venue", "settings", "words"),
    [
        ("mtgox", {}, "venue: expected one of binance"),
        ("kraken", {"statuss": "online"}, "statuss: expected one of"),
        ("kraken", {"query_lag_ms": -1}, "query_lag_ms"),
    ],
)
def test_a_wrong_condition_is_told(
    control: WireProcess, venue: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(WireFailed, match=words):
        control.configure_venue(venue, **settings)


def test_late_requests_and_counters_go_back(wire: RunningWire, control: WireProcess) -> None:
    client = ready_client(wire, "coinbase")
    control.faults([rules.late("coinbase", ORDER["coinbase"], 30_000, times=2)])
    with pytest.raises(ccxt.NetworkError):
        buy(client)
    kept, told = control.snapshot(), control.injected()
    for _ in range(2):
        wire.advance(1)
        assert len(control.accounts()["coinbase"]["orders"]) == 1
        control.clear_faults()
        control.restore(kept)
        assert control.injected() == told
        assert control.accounts()["coinbase"]["orders"] == []
    with pytest.raises(ccxt.NetworkError):
        buy(client, client_id="another")
    buy(client, client_id="a-third")


def test_a_snapshot_that_there_is_not(control: WireProcess) -> None:
    first = control.snapshot()
    for _ in range(MOST_SNAPSHOTS):
        last = control.snapshot()
    control.restore(last)
    for unknown in (first, last + 1):
        with pytest.raises(WireFailed, match="id: expected one of the newest"):
            control.restore(unknown)


def test_it_is_fast_with_a_day_of_orders(wire: RunningWire) -> None:
    """A sweep goes back thousands of times: a tenth of a second each would be minutes."""
    client: Any = ready_client(wire, "binance")
    for number in range(40):
        order = client.create_order(SYMBOL, "limit", "buy", 0.002, 101_000 - 2_000 * (number % 2))
    assert order["status"] == "open"
    started = time.process_time()
    for _ in range(10):
        wire.wire.restore(wire.wire.snapshot())
    each = (time.process_time() - started) / 10
    print(f"snapshot and restore with 40 orders: {each * 1000:.1f} ms")
    assert each < 0.1
