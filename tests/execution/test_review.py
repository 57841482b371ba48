"""What could lose money: each test is a fault that was found by reading the code line by line."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue

from shared import cache, calls, clock
from shared.errors import ConfigurationError, DataUnavailable, LeaseLost, VenueUnavailable
from shared.execution import execute, sending
from shared.execution.desk import Desk
from shared.execution.entries import parents, slices
from shared.execution.exits import leaving
from shared.execution.reconciling import reconcile
from shared.execution.types import OrderTicket, VenueFill, VenueOrder
from shared.execution.venues import registry
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.execution.venues.dialects import DIALECTS
from shared.execution.venues.markets import Catalogue
from shared.execution.venues.paper import PaperVenue
from shared.ledger import equity

BTC = "BTC/USDT"


def position_of(bench: Bench) -> int:
    row = bench.ledger.one("SELECT position_id FROM positions WHERE closed_at IS NULL")
    assert row is not None
    return int(row["position_id"])


def open_position(bench: Bench) -> int:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    assert [result.outcome for result in desk.work()] == ["FILLED"]
    return position_of(bench)


def answers_at_once(bench: Bench) -> None:
    """As Binance does: the answer to an order tells at once what it has filled."""
    venue = bench.venues["binance"]
    submit = venue.submit

    def answer(ticket: OrderTicket) -> VenueOrder:
        submit(ticket)
        return venue.orders[ticket.client_order_id]

    venue.submit = answer  # type: ignore[method-assign]


# An order that the venue calls filled, and fills that are not in the ledger -----------------------


def test_fills_are_fetched_after_a_death_between_answer_and_fills(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_at_once(bench)
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sending, "import_fills", _die)
        desk.work()
    later = bench.desk()
    later.reconcile()
    later.settle()
    assert bench.held() == bench.venues["binance"].account["BTC"] > 0
    assert bench.ledger.one("SELECT closed_at FROM positions") == {"closed_at": None}


def test_fills_that_could_not_be_read_are_asked_for_again(bench: Bench) -> None:
    answers_at_once(bench)
    venue = bench.venues["binance"]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    fills = venue.fills
    venue.fills = _unavailable  # type: ignore[method-assign]
    desk.work()
    assert bench.held() == 0
    found = bench.desk().reconcile()
    assert not found.clean
    assert found.unread == [f"binance: fills of {venue.sent[0].client_order_id}"]
    venue.fills = fills  # type: ignore[method-assign]
    bench.desk().reconcile()
    assert bench.held() == venue.account["BTC"] > 0


def test_a_sale_without_its_fills_is_not_sold_again(bench: Bench) -> None:
    position_id = open_position(bench)
    answers_at_once(bench)
    venue = bench.venues["binance"]
    venue.fills = _unavailable  # type: ignore[method-assign]
    for _ in range(3):
        desk = bench.desk()
        desk.reconcile()
        desk.exit(position_id, reason="stop")
    assert [ticket.side for ticket in venue.sent] == ["buy", "sell"]


def test_a_paper_order_that_died_before_its_fills_does_not_block_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paper() -> Desk:
        """The desk of a new process, whose paper venue remembers nothing."""
        return Desk(bench.desk()._run, {"binance": PaperVenue(bench.venues["binance"], ledger)})

    ledger = bench.ledger
    desk = paper()
    desk.reconcile()
    desk.enter(bench.entry())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sending, "import_fills", _die)
        desk.work()
    assert ledger.query("SELECT status FROM orders") == [{"status": "open"}]
    assert paper().reconcile().clean
    assert ledger.query("SELECT status FROM orders") == [{"status": "expired"}]


def _die(*_: Any) -> bool:
    raise KeyboardInterrupt


def _unavailable(symbol: str, since: Any) -> list[VenueFill]:
    raise VenueUnavailable("binance: fills: RequestTimeout")


# What an answer proves --------------------------------------------------------------------------


def test_an_answer_from_before_the_quarantine_is_no_proof_of_death(bench: Bench) -> None:
    """The query came back empty, then the process stood still until the quarantine was over."""
    venue = bench.venues["binance"]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    venue.next_submit, venue.hides_orders = "lose answer", True
    desk.work()
    find = venue.find_order

    def slow(*arguments: Any) -> VenueOrder | None:
        answer = find(*arguments)
        bench.time.advance(minutes=10)
        return answer

    venue.find_order = slow  # type: ignore[method-assign]
    later = bench.desk()
    assert later.reconcile(compare_accounts=False).still_unknown
    assert bench.states() == ["UNKNOWN"]
    venue.find_order, venue.hides_orders = find, False  # type: ignore[method-assign]
    bench.desk().reconcile()
    assert bench.held() == venue.account["BTC"] > 0


def test_an_order_that_another_run_is_sending_is_not_foreign(bench: Bench) -> None:
    """Its intent is committed, its answer is not there yet, and it rests on the venue."""
    venue = bench.venues["binance"]
    desk = bench.desk()

    def submit(ticket: OrderTicket) -> VenueOrder:
        resting = VenueOrder(
            "binance-9", ticket.client_order_id, BTC, "buy", "open", ticket.quantity, Decimal(0),
            None,
        )  # fmt: skip
        venue.resting.append(resting)
        raise KeyboardInterrupt

    desk.reconcile()
    desk.enter(bench.entry())
    original, venue.submit = venue.submit, submit  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        desk.work()
    venue.submit = original  # type: ignore[method-assign]
    # another run has read the unresolved intents just before this one was written
    found = reconcile.Reconciliation()
    reconcile.compare(desk._run, {venue.name: venue}, found)
    assert found.foreign_orders == []


# What another workflow does meanwhile ------------------------------------------------------------


def test_a_slice_of_a_parent_that_was_ended_meanwhile_is_not_bought(bench: Bench) -> None:
    """The position manager leaves the position after the trading loop has read its parents."""
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry(urgency="normal"))
    (parent,) = parents.working(bench.ledger)
    leaving.leave(
        bench.run("position_manager"), bench.venues, parent.position_id, reason="stop",
        fraction=Decimal(1),
    )  # fmt: skip
    (result,) = slices.work(bench.run(), bench.venues, parent, may_buy=True)
    assert (result.outcome, result.detail.split(":")[0]) == ("DENIED", "PARENT_ENDED")
    assert bench.venues["binance"].sent == []


def test_nothing_is_added_to_a_position_that_is_being_left(bench: Bench) -> None:
    position_id = open_position(bench)
    bench.venues["binance"].fill_share = Decimal("0.5")
    desk = bench.desk()
    desk.exit(position_id, reason="stop")
    with pytest.raises(DataUnavailable):
        desk.add(position_id, Decimal(20), Decimal(100), "pyramid")


def test_a_run_that_lost_its_lease_neither_leaves_nor_cancels_nor_closes(bench: Bench) -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry(urgency="normal"))
    desk.work()
    bench.ledger.execute("UPDATE leases SET epoch = epoch + 1, holder = 'another run'")
    with pytest.raises(LeaseLost):
        desk.exit(position_of(bench), reason="stop")
    with pytest.raises(LeaseLost):
        desk.cancel_entries("drill")
    rows = bench.ledger.query(
        "SELECT p.exit_reason, o.state FROM positions p JOIN parent_orders o USING (position_id)"
    )
    assert rows == [{"exit_reason": None, "state": "WORKING"}]
    bench.ledger.execute("UPDATE parent_orders SET state = 'EXPIRED'")
    bench.ledger.execute("UPDATE positions SET exit_reason = 'time'")
    bench.venues["binance"].mid = Decimal("0.5")  # what is held is dust
    bench.ledger.execute("UPDATE prices SET bid = 0.5")
    with pytest.raises(LeaseLost):
        desk.settle()


# Positions that would never end ------------------------------------------------------------------


def test_a_position_that_never_was_more_than_dust_is_closed_once_it_is_to_be_left(
    bench: Bench,
) -> None:
    """0.045 BTC are worth 4.50: bought by half a slice, and below the minimum of 5 to sell."""
    bench.venues["binance"].fill_share = Decimal("0.45")
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry(urgency="normal"))
    desk.work()
    position_id = position_of(bench)
    later = bench.desk()
    assert later.settle() == []
    assert later.exit(position_id, reason="time") == []
    assert later.settle() == [position_id]
    row = bench.ledger.one("SELECT close_reason, dust_quantity, pnl_quote, fees_quote FROM trades")
    assert row is not None
    assert row["close_reason"] == "time"
    assert row["dust_quantity"] == bench.venues["binance"].account["BTC"] > 0
    assert row["pnl_quote"] == -row["fees_quote"]  # what it cost is still there


def test_a_fee_in_a_third_currency_stops_neither_the_run_nor_the_exit(bench: Bench) -> None:
    """Binance takes its fees in BNB where the account is set so: 0.0001 BNB at 100 are 0.01."""
    venue = bench.venues["binance"]
    fetch = venue.fills

    def in_bnb(symbol: str, since: Any) -> list[VenueFill]:
        return [
            replace(f, fee_cost=Decimal("0.0001"), fee_currency="BNB") for f in fetch(symbol, since)
        ]

    venue.fills = in_bnb  # type: ignore[method-assign]
    position_id = open_position(bench)
    assert bench.ledger.query("SELECT fee_quote FROM fills") == [{"fee_quote": Decimal("0.01")}]
    desk = bench.desk()
    desk.reconcile()
    assert [r.outcome for r in desk.exit(position_id, reason="stop")] == ["FILLED"]
    # bought 0.895 at 100.05, sold at 99.95, twice 0.01 in fees
    worth = equity.value(desk._run, desk.quotes([BTC])).equity_quote
    assert worth == Decimal(10_000) - Decimal("0.895") * Decimal("0.1") - Decimal("0.02")


def test_a_fee_without_a_price_keeps_no_fill_out_of_the_ledger(bench: Bench) -> None:
    """What was bought is known at once; what its fee is worth, as soon as somebody tells."""
    venue = bench.venues["binance"]
    fetch, quotes = venue.fills, venue.quotes
    venue.fills = lambda symbol, since: [  # type: ignore[method-assign]
        replace(f, fee_cost=Decimal("0.0001"), fee_currency="BNB") for f in fetch(symbol, since)
    ]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    venue.quotes = lambda symbols: {}  # type: ignore[method-assign]
    assert [r.outcome for r in desk.work()] == ["FILLED"]
    assert bench.held() == venue.account["BTC"] > 0
    assert bench.ledger.query("SELECT fee_quote FROM fills") == [{"fee_quote": None}]
    assert bench.ledger.query("SELECT title FROM alerts") == [
        {"title": "binance: no price of BNB/USDT for a fee"}
    ]
    with pytest.raises(DataUnavailable):  # not worth nothing: not known
        equity.value(desk._run, {})
    bench.desk().reconcile(compare_accounts=False)
    assert bench.ledger.query("SELECT fee_quote FROM fills") == [{"fee_quote": None}]
    venue.quotes = quotes  # type: ignore[method-assign]
    bench.desk().reconcile(compare_accounts=False)
    assert bench.ledger.query("SELECT fee_quote FROM fills") == [{"fee_quote": Decimal("0.01")}]
    assert bench.ledger.query("SELECT 1 FROM events WHERE kind = 'FEE_UNVALUED'") != []


@pytest.mark.parametrize(
    "answer", [{"status": "closed", "filled": None}, {"status": "resting", "filled": 0.0}]
)
def test_an_answer_with_an_id_and_little_else_is_an_order(answer: dict[str, Any]) -> None:
    """Neither a failed run nor an order of unknown outcome: it is asked for by its id."""
    whole = {"id": "7", "symbol": BTC, "side": "buy", "amount": 1.0, "average": None,
             "clientOrderId": "mine"} | answer  # fmt: skip
    log = calls.CallLog()
    client = SimpleNamespace(create_order=lambda *_: whole)
    rules = ScriptedVenue().rules(BTC)
    catalogue = cast("Catalogue", SimpleNamespace(loaded=True, rules=lambda _: rules))
    venue = CcxtVenue("binance", client, DIALECTS["binance"], catalogue, log)
    order = venue.submit(
        OrderTicket("mine", "binance", BTC, "buy", "limit", "IOC", Decimal(1), Decimal(100))
    )
    assert (order.venue_order_id, order.status, order.filled_quantity) == ("7", "open", 0)


@pytest.mark.parametrize(("name", "listed"), [("binance", True), ("kraken", False)])
def test_the_token_that_fees_are_taken_in_has_a_price(name: str, listed: bool) -> None:
    known: dict[str, Any] = {s: {"symbol": s} for s in (BTC, "BNB/USDT", "BNB/BTC", "DOGE/USDT")}
    seen: list[str] = []
    client = SimpleNamespace(
        markets=None, apiKey=None, load_markets=lambda: known,
        set_markets=lambda wanted: seen.extend(market["symbol"] for market in wanted),
    )  # fmt: skip
    Catalogue(name, client, (BTC,), cache.Cache(None, "test", calls.CallLog())).ensure()
    assert set(seen) == ({BTC, "BNB/USDT"} if listed else {BTC})


# Old permissions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "sends"), [(1, 1), (60, 0)])
def test_the_decision_of_an_event_that_is_repeated_hours_later_is_not_carried_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, minutes: int, sends: int
) -> None:
    bench.ledger.execute(
        "INSERT INTO decisions (decision_id, pod, run_id, at, symbol, action, source, confidence, "
        "size_fraction, reasoning, inputs) VALUES ('d1', 'test', %s, %s, %s, 'BUY', 'ensemble', "
        "0.8, 1, 'test', '{}')",
        (bench.run().run_id, clock.now(), BTC),
    )
    bench.time.advance(minutes=minutes)
    bench.see_prices()
    trailing = {"enabled": True, "activation": 103.0, "distance_percent": 1.0}
    exits = {"stopLoss": 98.0, "takeProfit": 105.0, "trailingStop": trailing,
             "timeStop": clock.now_ms() + 86_400_000}  # fmt: skip
    risk = {"approved": True, "decision_id": "d1", "action": "BUY", "symbol": BTC, "size": 60.0,
            "exits": exits, "reasoning": []}  # fmt: skip
    final = {"symbol": BTC, "strategy": "momentum", "mid": 100.0, "urgency": "high"}
    run = bench.run()
    run.steps = {
        "signal_generator": {"$return_value": {"finalDecision": final}},
        "risk_management": {"$return_value": risk},
    }
    monkeypatch.setattr(Desk, "open", lambda run: Desk(run, bench.venues))
    export = execute.execute(run)
    sides = [ticket.side for ticket in bench.venues["binance"].sent]
    assert sides == ["buy", "sell"] * sends  # and the stop that protects it
    assert export["reason"].startswith("working" if sends else "DENIED DECISION_STALE")


def test_a_parent_is_not_called_filled_because_no_venue_answers(bench: Bench) -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())

    def rules(symbol: str) -> Any:
        raise VenueUnavailable("binance: markets: ExchangeNotAvailable")

    bench.venues["binance"].rules = rules  # type: ignore[method-assign]
    assert desk.work() == []
    assert bench.ledger.query("SELECT state FROM parent_orders") == [{"state": "WORKING"}]


@pytest.mark.parametrize(
    ("then", "order_id", "now", "refused_as"),
    [
        ("paper", "paper-1", "paper", None),
        ("paper", "paper-1", "simulated", "paper"),
        ("paper", "paper-1", "live", "paper"),
        ("simulated", "binance-1", "simulated", None),
        ("simulated", "binance-1", "paper", "simulated"),
        ("simulated", "binance-1", "live", "simulated"),
        ("live", "binance-1", "live", None),
        ("live", "binance-1", "simulated", "live"),
        (None, "paper-1", "paper", None),  # before the column of modes
        (None, "paper-1", "simulated", "paper"),
        (None, "binance-1", "simulated", None),
        (None, "binance-1", "live", "simulated"),
        ("live", None, "paper", "live"),  # sent, and nobody knows its outcome
        ("paper", None, "live", "paper"),
    ],
)
def test_a_position_is_managed_in_the_mode_that_it_was_opened_in(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    then: str | None,
    order_id: str | None,
    now: str,
    refused_as: str | None,
) -> None:
    """Otherwise stand-ins' coins would be sold at a real venue, or real ones on paper."""
    open_position(bench)
    bench.ledger.execute("UPDATE intents SET mode = %s", (then,))
    if order_id is None:
        bench.ledger.execute("UPDATE intents SET state = 'UNKNOWN'")
        bench.ledger.execute("DELETE FROM orders")
    else:
        bench.ledger.execute("UPDATE orders SET venue_order_id = %s", (order_id,))
    bench.config = bench.config.model_copy(update={"enable_live_trading": True})
    run = bench.run()
    monkeypatch.setattr(registry.live, "mode_of", lambda run: now)
    monkeypatch.setattr(registry, "_open", lambda *_, **__: None)
    if refused_as is not None:
        with pytest.raises(
            ConfigurationError, match=f"closed first, by a run that is {refused_as}"
        ):
            registry.open_venues(run)
        bench.ledger.execute("UPDATE positions SET closed_at = now(), close_reason = 'stop'")
    assert set(registry.open_venues(run)) == {"binance"}


def test_a_position_is_not_held_up_by_an_order_that_never_was(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_position(bench)
    bench.ledger.execute("DELETE FROM orders")
    bench.ledger.execute("UPDATE intents SET mode = 'live', state = 'REJECTED'")
    monkeypatch.setattr(registry, "_open", lambda *_, **__: None)
    assert set(registry.open_venues(bench.run())) == {"binance"}
