"""The report of a replay, from rows that are written by hand."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from deploy.local import summary, venue_check
from deploy.local.platform import StepResult, WorkflowResult
from deploy.local.progress import Progress, read_standing
from deploy.local.tally import Tally
from deploy.local.wire.venues import coinbase_json, kraken_json
from shared.ledger.connection import Ledger
from tests.local.conftest import AT_MS

_AT = "2025-05-06T00:00:00Z"


def _position(ledger: Ledger) -> int:
    row = ledger.one(
        "INSERT INTO positions (pod, symbol, strategy, opened_at, stop_price) "
        "VALUES ('test', 'BTC/USDT', 'momentum', %s, 90) RETURNING position_id",
        (_AT,),
    )
    assert row is not None
    return int(row["position_id"])


def _intent(ledger: Ledger, position: int, number: int, **changed: Any) -> None:
    values = {
        "purpose": "entry",
        "order_type": "limit",
        "quantity": Decimal(1),
        "limit_price": Decimal(101),
        "state": "ACKNOWLEDGED",
    } | changed
    ledger.execute(
        "INSERT INTO intents (intent_id, logical_key, client_order_id, pod, position_id, venue, "
        "symbol, side, purpose, order_type, time_in_force, quantity, limit_price, decision_mid, "
        "arrival_mid, epoch, sent_at, valid_until, state) VALUES (%(id)s, %(id)s, %(id)s, 'test', "
        "%(position)s, 'binance', 'BTC/USDT', 'buy', %(purpose)s, %(order_type)s, 'IOC', "
        "%(quantity)s, %(limit_price)s, 100, 100, 1, %(at)s, %(at)s, %(state)s)",
        values | {"id": f"id{number}", "position": position, "at": _AT},
    )


def _order(
    ledger: Ledger, number: int, status: str, filled: str = "0", price: str | None = None
) -> None:
    ledger.execute(
        "INSERT INTO orders VALUES ('binance', %(number)s, %(id)s, 'test', %(status)s, 1, "
        "%(filled)s, %(price)s, %(at)s, %(at)s)",
        {"number": str(number), "id": f"id{number}", "status": status, "filled": filled}
        | {"price": price, "at": _AT},
    )


def _fill(ledger: Ledger, position: int, trade_id: str, venue: str = "binance") -> None:
    ledger.execute(
        "INSERT INTO fills VALUES (%s, %s, '1', 'id1', %s, 'test', 'BTC/USDT', 'buy', 100, 1, "
        "0.1, 'USDT', 0.1, 'taker', %s, %s)",
        (venue, trade_id, position, _AT, _AT),
    )


def test_orders_are_counted_by_what_came_of_them(ledger: Ledger) -> None:
    position = _position(ledger)
    states = ["ACKNOWLEDGED"] * 5 + ["REJECTED", "UNKNOWN", "SENDING", "DEAD"]
    for number, state in enumerate(states, 1):
        purpose = "protect" if number == 5 else "entry"
        _intent(ledger, position, number, state=state, purpose=purpose)
    _order(ledger, 1, "filled", "1", "100.1")
    _order(ledger, 2, "expired", "0.25", "100.5")
    _order(ledger, 3, "cancelled")
    _order(ledger, 4, "expired")
    _order(ledger, 5, "open")
    assert dict(summary._one(ledger, summary._ORDERS)) == {
        "placed": 9,
        "filled": 1,
        "partially_filled": 1,
        "cancelled": 2,
        "open": 1,
        "rejected": 1,
        "unknown": 2,
        "never_arrived": 1,
    }
    quality = summary._one(ledger, summary._QUALITY)
    # by hand: 10 bps on 1 x 100.1 and 50 bps on 0.25 x 100.5; 1.25 of 8 that were not protection
    assert float(quality["slippage_bps"]) == pytest.approx(
        (10 * 100.1 + 50 * 25.125) / (100.1 + 25.125)
    )
    assert float(quality["fill_rate_percent"]) == pytest.approx(100 * 1.25 / 8)


def _account(fills: list[dict[str, Any]], usdt: str, btc: str = "0", **orders: str) -> Any:
    return {
        "balances": {
            "USDT": {"free": usdt, "locked": "0"},
            "BTC": {"free": "0", "locked": btc},
        },
        "fills": fills,
        "orders": [{"client_order_id": k, "status": v} for k, v in orders.items()],
    }


def _venue_fill(number: int) -> dict[str, Any]:
    return {
        "trade_id": number,
        "order_id": 1,
        "symbol": "BTC/USDT",
        "side": "buy",
        "price": "100",
        "quantity": "1",
        "cost": "100",
        "fee": "0.1",
        "fee_currency": "USDT",
        "is_maker": False,
        "at_ms": AT_MS,
    }


def test_ledger_and_venue_agree_or_every_difference_is_named(ledger: Ledger) -> None:
    position = _position(ledger)
    _intent(ledger, position, 1)
    _order(ledger, 1, "open")
    _fill(ledger, position, "7")
    same = {"binance": _account([_venue_fill(7)], "-100.1", "1", id1="open")}
    assert venue_check.differences(ledger, same, frozenset()) == []

    digits = {"binance": _account([_venue_fill(7)], "-100.100000002", "1", id1="open")}
    assert [d["kind"] for d in venue_check.differences(ledger, digits, frozenset())] == ["balance"]

    other = {"binance": _account([_venue_fill(8)], "-100.1", "1", id1="filled", id2="open")}
    found = venue_check.differences(ledger, other, frozenset())
    assert [(d["kind"], d["name"], d["ledger"], d["at_venue"]) for d in found] == [
        ("fill", "7", "present", "absent"),
        ("fill", "8", "absent", "present"),
        ("open order", "id1", "present", "absent"),
        ("open order", "id2", "absent", "present"),
    ]


def test_fills_from_before_the_session_are_not_expected_at_the_venue(ledger: Ledger) -> None:
    position = _position(ledger)
    _intent(ledger, position, 1)
    _fill(ledger, position, "7")
    earlier = venue_check.fill_ids(ledger)
    venues = {"binance": _account([], "-100.1", "1")}
    assert venue_check.differences(ledger, venues, earlier) == []
    assert len(venue_check.differences(ledger, venues, frozenset())) == 1


def test_trade_ids_are_those_that_each_venue_tells() -> None:
    row = _venue_fill(41)
    assert venue_check.trade_id("binance", row) == "41"
    assert venue_check.trade_id("coinbase", row) == coinbase_json.trade_uuid(41)
    kraken = venue_check.trade_id("kraken", row)
    assert kraken.startswith("T") and kraken == kraken_json._txid("T", 41)


def _result(error: Exception | None = None, **changed: Any) -> WorkflowResult:
    step = StepResult("step", 2.0, "{}", "", error)
    values = {"exit_reason": None, "seconds": 1.0, "overran": False, "credits": 1} | changed
    return WorkflowResult(
        workflow="loop", trace_id="t", steps=(step,), response=None, emails=(), payload_bytes=9,
        **values,
    )  # fmt: skip


def test_tally() -> None:
    tally = Tally()
    tally.add(_result())
    tally.add(_result(ValueError("x"), credits=2))
    tally.add(_result(ValueError("x"), overran=True))
    tally.add(_result(exit_reason="LEASE_HELD: workflow=loop"))
    assert (tally.runs["loop"], tally.credits["loop"], tally.failed_runs) == (4, 5, 2)
    assert tally.overran["loop"] == 1
    assert tally.exits_as_json() == [{"workflow": "loop", "code": "LEASE_HELD", "runs": 1}]
    assert tally.times["loop", "step"].mean_ms == 2.0
    assert tally.failures_as_json() == [
        {"workflow": "loop", "error": "step: ValueError: x", "runs": 2}
    ]


def test_progress_prints_a_line_now_and_then(ledger: Ledger) -> None:
    ledger.execute("INSERT INTO equity VALUES ('test', %s, 10123.4, 10000, 123.4)", (_AT,))
    seconds = iter([0.0, 1.0, 6.0, 6.0, 7.0, 20.0, 20.0])
    printed = io.StringIO()
    progress = Progress(
        Console(file=printed, width=200),
        ledger,
        from_ms=AT_MS,
        to_ms=AT_MS + 600_000,
        start_ms=AT_MS,
        dashboard_url=None,
        seconds=lambda: next(seconds),
    )
    tally = Tally()
    with progress:
        for minute in range(4):
            progress.update(AT_MS + minute * 60_000, tally)
            tally.add(_result(ValueError("x")))
    lines = printed.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("2025-05-06T00:01:00Z  20%  equity 10,123.40  0 open")
    assert "FAILED" in lines[0] and "3 runs FAILED" in lines[1]


def test_progress_on_a_terminal_is_a_panel(ledger: Ledger) -> None:
    seconds = iter([0.0, 9.0, 9.0, 9.0])
    printed = io.StringIO()
    console = Console(file=printed, width=100, force_terminal=True)
    with Progress(
        console,
        ledger,
        from_ms=AT_MS,
        to_ms=AT_MS + 600_000,
        start_ms=AT_MS,
        dashboard_url="http://127.0.0.1:1",
        seconds=lambda: next(seconds),
    ) as progress:
        progress.update(AT_MS, Tally())
    assert "http://127.0.0.1:1/dashboard" in printed.getvalue()
    assert "unknown" in printed.getvalue()  # there is no equity yet, and it is not called 0


def test_standing_of_an_empty_ledger(ledger: Ledger) -> None:
    standing = read_standing(ledger)
    assert standing.equity_quote is None and standing.last_decision is None
    assert standing.open_positions == 0
