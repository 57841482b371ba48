"""A slice over two venues by unmodified ccxt and real HTTP: neither could pay for it alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from deploy.local.market.source import SourceSpec
from deploy.local.wire.client import WireProcess, key_variables, start_wire
from shared import cache, calls, clock, config
from shared.execution.desk import Desk
from shared.execution.types import EntryOrder, Exits
from shared.ledger import leases, runs
from shared.ledger.connection import Ledger
from shared.run import Run
from tests.peg_rows import tell_worth

START = datetime(2025, 5, 6, 12, tzinfo=UTC)
BTC = "BTC/USDT"
CASH = Decimal(60_000)
VENUES = ("binance", "kraken")


@pytest.fixture
def wire() -> Iterator[WireProcess]:
    clock.install(lambda: clock.to_ms(START))
    spec = SourceSpec("simulated", (BTC,), clock.to_ms(START), 6, 7, None)
    balances = {name: {"USDT": CASH} for name in VENUES}
    with start_wire(spec, now_ms=clock.to_ms(START), balances=balances, seed=7) as started:
        yield started
    clock.install(None)


@pytest.fixture
def run(wire: WireProcess, ledger: Ledger) -> Run:
    settings = config.load(
        key_variables(wire.credentials)
        | {
            "POD": "test",
            "VENUES": ",".join(VENUES),
            "SYMBOLS": "BTC",
            "SIMULATED_WIRE_URL": wire.base_url,
            "MAX_POSITION_SIZE": "100000",
            "POSITION_SIZE_PERCENT": "90",
        }
    )
    epoch = leases.acquire(ledger, "trading_loop", "t1")
    assert epoch is not None
    run_id = runs.start(ledger, "trading_loop", "t1", clock.now(), epoch)
    assert run_id is not None
    log = calls.CallLog()
    return Run(
        settings, ledger, cache.Cache(None, "test", log), log, "trading_loop", "test", "t1",
        clock.now(), run_id, epoch,
    )  # fmt: skip


def see(run: Run, desk: Desk) -> Decimal:
    """Balances, prices and equity as the loop has them by now; returns the mid."""
    tell_worth(run.ledger)
    for name, venue in desk.venues.items():
        quote = venue.quotes([BTC])[BTC]
        bid, ask = Decimal(str(quote.bid)), Decimal(str(quote.ask))
        run.ledger.execute(
            "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
            "VALUES ('test', %s, 'USDT', %s, %s, 'opening balance')",
            (name, CASH, clock.now()),
        )
        run.ledger.execute(
            "INSERT INTO prices VALUES ('test', %s, %s, %s, %s, %s, %s, %s, 1e10)",
            (name, BTC, bid, ask, clock.now(), bid, ask),
        )
    run.ledger.execute(
        "INSERT INTO equity VALUES ('test', %s, %s, %s, 0)", (clock.now(), 2 * CASH, 2 * CASH)
    )
    return (bid + ask) / 2


def test_two_venues_pay_for_one_slice(run: Run) -> None:
    desk = Desk.open(run)
    mid = see(run, desk)
    assert desk.reconcile().clean
    exits = Exits(
        mid * Decimal("0.98"), mid * Decimal("1.05"), mid * Decimal("1.03"), Decimal(1),
        clock.now() + timedelta(hours=24),
    )  # fmt: skip
    size = Decimal(90_000)
    desk.enter(EntryOrder(None, BTC, size, mid, "momentum", "tactical", "high", exits))
    results = desk.work()
    assert sorted(result.venue for result in results) == ["binance", "kraken"]
    assert all(result.filled_quantity > 0 for result in results)
    parent = run.ledger.one("SELECT quantity FROM parent_orders")
    assert parent is not None
    assert sum(result.quantity for result in results) <= parent["quantity"]
    spent = sum(result.filled_quantity * (result.average_price or 0) for result in results)
    assert spent > CASH  # more than either venue had
    found = desk.reconcile()
    assert (found.differences, found.foreign_orders, found.still_unknown) == ([], [], [])
