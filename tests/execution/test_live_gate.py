"""What reaches the socket of a venue: nothing private without a token, an order with one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue

from deploy.local.market.source import SourceSpec
from deploy.local.wire.client import WireProcess, start_wire
from shared import clock, config
from shared.execution.desk import Desk
from shared.execution.venues import clients
from shared.ledger import arming
from shared.ledger.connection import Ledger
from tests.conftest import VirtualClock

START = datetime(2025, 5, 6, 12, tzinfo=UTC)
SYMBOLS = ("BTC/USDT",)
PUBLIC = ("exchangeInfo", "depth", "bookTicker", "ticker", "klines", "trades", "time")


@pytest.fixture
def wire() -> Iterator[WireProcess]:
    """A Binance with 10,000 USDT, as the bench's ledger has it."""
    spec = SourceSpec("simulated", SYMBOLS, clock.to_ms(START), 2, 7, None)
    with start_wire(
        spec,
        now_ms=clock.to_ms(START),
        balances={"binance": {"USDT": ScriptedVenue().account["USDT"]}},
        seed=7,
    ) as started:
        yield started


@pytest.fixture
def bench(
    ledger: Ledger,
    virtual_clock: VirtualClock,
    wire: WireProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    """Live trading as it is configured, but for the address that the clients call."""
    monkeypatch.setattr(clients, "_clients", {})
    build = clients._build

    def elsewhere(*arguments: Any) -> Any:
        client = build(*arguments)
        clients._redirect(client, f"{wire.base_url}/{client.id}")
        return client

    monkeypatch.setattr(clients, "_build", elsewhere)
    virtual_clock.set(START)
    made = Bench(ledger, virtual_clock, [ScriptedVenue()])
    keys = wire.credentials["binance"]
    made.config = config.load(
        {
            "POD": "test",
            "VENUES": "binance",
            "SYMBOLS": "BTC",
            "ENABLE_LIVE_TRADING": "true",
            "BINANCE_API_KEY": keys["api_key"],
            "BINANCE_SECRET": keys["secret"],
        }
    )
    # The virtual clock stands in for the true one, so that the venue takes the time of a request.
    monkeypatch.setattr(clock, "is_virtual", lambda: False)
    return made


def trade(bench: Bench) -> list[str]:
    """One run that reconciles, opens a position and works it; the outcomes of its orders."""
    desk = Desk.open(bench.run())
    book = desk.venues["binance"].book("BTC/USDT")
    bench.venues["binance"].mid = Decimal(str(round(book.mid, 2)))
    bench.ledger.execute("DELETE FROM prices")
    bench.see_prices()
    desk.reconcile()
    desk.enter(bench.entry("90"))
    outcomes = [result.outcome for result in desk.work()]
    desk.settle()
    return outcomes


def private_calls(wire: WireProcess) -> list[str]:
    return [route for route in wire.stats() if not any(word in route for word in PUBLIC)]


def arm(bench: Bench, pod: str = "test") -> None:
    ledger = Ledger(bench.ledger._connection, pod)
    bench.ledger.execute(
        "INSERT INTO trading_state (pod, since) VALUES (%s, now()) ON CONFLICT DO NOTHING", (pod,)
    )
    arming.arm(ledger, timedelta(hours=1), armed_by="test", reason=None, terms={})


def expire(bench: Bench) -> None:
    bench.ledger.execute("UPDATE arm_tokens SET expires_at = now() - interval '1 second'")


@pytest.mark.parametrize("token", ["none", "another pod's", "expired", "revoked"])
def test_without_a_token_a_run_trades_on_paper_and_calls_nothing_private(
    bench: Bench, wire: WireProcess, token: str
) -> None:
    if token == "another pod's":
        arm(bench, "other")
    elif token != "none":
        arm(bench)
        if token == "expired":
            expire(bench)
        else:
            arming.disarm(bench.ledger, by="test", reason=None)
    assert trade(bench) == ["FILLED"]
    assert private_calls(wire) == []
    assert wire.accounts()["binance"]["orders"] == []


def test_with_a_token_the_order_reaches_the_venue(bench: Bench, wire: WireProcess) -> None:
    arm(bench)
    assert trade(bench) == ["FILLED"]
    assert len(wire.accounts()["binance"]["orders"]) >= 1
    assert any("POST" in call for call in private_calls(wire))
