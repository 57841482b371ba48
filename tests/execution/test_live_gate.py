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
from shared.errors import ConfigurationError, OrderDenied
from shared.execution.desk import Desk
from shared.execution.venues import clients, live
from shared.ledger import arming
from shared.ledger.connection import Ledger
from tests.conftest import VirtualClock
from tests.ledger_seed import pass_phases

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


def open_desk(bench: Bench) -> Desk:
    """The desk of a new run, with the prices of this minute in the ledger."""
    desk = Desk.open(bench.run())
    book = desk.venues["binance"].book("BTC/USDT")
    bench.venues["binance"].mid = Decimal(str(round(book.mid, 2)))
    bench.ledger.execute("DELETE FROM prices WHERE symbol = 'BTC/USDT'")
    bench.see_prices()
    return desk


def next_minute(bench: Bench, wire: WireProcess) -> None:
    bench.time.advance(minutes=1)
    wire.advance(bench.time.now_ms)


def trade(bench: Bench) -> list[str]:
    """One run that reconciles, opens a position and works it; the outcomes of its orders."""
    desk = open_desk(bench)
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
    pass_phases(ledger)
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


def end_token(bench: Bench, how: str) -> None:
    if how == "expired":
        expire(bench)
    else:
        arming.disarm(bench.ledger, by="test", reason=None)


def position_of(bench: Bench) -> int:
    row = bench.ledger.one("SELECT position_id FROM positions WHERE closed_at IS NULL")
    assert row is not None
    return int(row["position_id"])


def sent(wire: WireProcess, side: str) -> int:
    orders = wire.accounts()["binance"]["orders"]
    return sum(order["side"] == side for order in orders)


@pytest.mark.parametrize("token", ["expired", "revoked"])
def test_what_is_live_is_left_live_without_a_token_and_nothing_is_bought(
    bench: Bench, wire: WireProcess, token: str
) -> None:
    arm(bench)
    assert trade(bench) == ["FILLED"]
    end_token(bench, token)
    next_minute(bench, wire)
    desk = open_desk(bench)
    assert {venue.mode for venue in desk.venues.values()} == {"live"}
    assert desk.reconcile().clean
    with pytest.raises(OrderDenied, match="LIVE_NOT_ARMED"):
        desk.enter(bench.entry("20"))
    with pytest.raises(OrderDenied, match="LIVE_NOT_ARMED"):
        desk.add(position_of(bench), Decimal(20), bench.entry().decision_mid, "pyramid")
    desk.protect()
    (stop,) = desk.venues["binance"].open_orders(["BTC/USDT"])
    assert (stop.side, stop.status) == ("sell", "open")
    outcomes = [r.outcome for r in desk.exit(position_of(bench), reason="stop")]
    assert outcomes == ["FILLED"]
    assert desk.settle() != []
    assert (sent(wire, "buy"), sent(wire, "sell")) == (1, 2)
    titles = [row["title"] for row in bench.ledger.query("SELECT title FROM alerts")]
    assert titles.count("Live trading is not armed, and something is still live") == 1
    next_minute(bench, wire)
    assert {venue.mode for venue in open_desk(bench).venues.values()} == {"paper"}


@pytest.mark.parametrize("what", ["an intent without an outcome", "an order that may fill"])
def test_an_order_that_may_be_live_keeps_runs_live(bench: Bench, what: str) -> None:
    """Only there can anybody ask what became of it."""
    arm(bench)
    assert trade(bench) == ["FILLED"]
    expire(bench)
    bench.ledger.execute("UPDATE positions SET closed_at = now(), close_reason = 'stop'")
    assert live.mode_of(bench.run()) == "paper"
    if what == "an intent without an outcome":
        bench.ledger.execute("UPDATE intents SET state = 'UNKNOWN'")
    else:
        bench.ledger.execute("UPDATE orders SET status = 'open'")
    assert live.mode_of(bench.run()) == "live"
    bench.ledger.execute("UPDATE intents SET mode = 'simulated'")
    assert live.mode_of(bench.run()) == "paper"


def test_disarming_stops_the_run_that_is_under_way(bench: Bench, wire: WireProcess) -> None:
    """Its venues were opened with a token; the gate asks for it again before each buy."""
    arm(bench)
    desk = open_desk(bench)
    desk.reconcile()
    desk.enter(bench.entry("90"))
    arming.disarm(bench.ledger, by="test", reason=None)
    (denied,) = desk.work()
    assert (denied.outcome, denied.detail.split(":")[0]) == ("DENIED", "LIVE_NOT_ARMED")
    assert wire.accounts()["binance"]["orders"] == []


def test_the_switch_is_stronger_than_what_is_held(bench: Bench, wire: WireProcess) -> None:
    arm(bench)
    assert trade(bench) == ["FILLED"]
    asked = private_calls(wire)
    bench.config = bench.config.model_copy(update={"enable_live_trading": False})
    with pytest.raises(ConfigurationError, match=r"ENABLE_LIVE_TRADING is false, expected true"):
        Desk.open(bench.run())
    assert private_calls(wire) == asked


def test_what_the_stand_ins_sold_us_is_not_sold_at_the_real_venue(
    bench: Bench, wire: WireProcess
) -> None:
    """It has keys, a token and an account that may hold the same coin."""
    arm(bench)
    assert trade(bench) == ["FILLED"]
    bench.ledger.execute("UPDATE intents SET mode = 'simulated'")
    with pytest.raises(ConfigurationError, match="were simulated, and this run is live"):
        Desk.open(bench.run())
    assert sent(wire, "sell") == 0
