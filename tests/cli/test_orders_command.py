"""``trading-loop orders`` and ``trading-loop cancel``, against a real ledger."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import environment
from deploy.cli.main import main
from shared import clock, config
from shared.execution.entries import parents
from shared.execution.entries.parents import NewParent
from shared.ledger import connection
from shared.ledger.connection import Ledger

PARENT = "entry:test:d1"


@pytest.fixture
def ledger_of_commands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str
) -> Ledger:
    """The ledger that the commands find, through the environment alone."""
    for name in config.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment.variables, "__defaults__", (tmp_path / "none",))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POD", "test")
    monkeypatch.setenv("LOGNAME", "ada")
    return connection.connect(database_url, "test")


@pytest.fixture
def working(ledger_of_commands: Ledger) -> Ledger:
    """A parent of ten slices of 0.1: one is filled, one lies unknown, and a stop rests."""
    ledger = ledger_of_commands
    row = ledger.one(
        "INSERT INTO positions (pod, symbol, strategy, opened_at, stop_price) "
        "VALUES ('test', 'BTC/USDT', 'momentum', %s, 98) RETURNING position_id",
        (clock.now(),),
    )
    assert row is not None
    position_id = int(row["position_id"])
    parents.insert(
        ledger,
        NewParent(
            PARENT, position_id, None, "BTC/USDT", "buy", "entry", "momentum", Decimal(1),
            Decimal(100), "normal", 10, 60,
        ),
    )  # fmt: skip
    intent(ledger, position_id, "tl1", "ACKNOWLEDGED", 0, "filled", "0.1")
    intent(ledger, position_id, "tl2", "UNKNOWN", 1)
    intent(ledger, position_id, "tl3", "ACKNOWLEDGED", None, "open", "0")
    return ledger


def intent(
    ledger: Ledger,
    position_id: int,
    name: str,
    state: str,
    number: int | None,
    status: str | None = None,
    filled: str | None = None,
) -> None:
    is_stop = number is None
    now = clock.now()
    ledger.execute(
        "INSERT INTO intents (intent_id, logical_key, client_order_id, pod, position_id, "
        "parent_id, slice, venue, symbol, side, purpose, order_type, time_in_force, quantity, "
        "limit_price, stop_price, decision_mid, arrival_mid, epoch, sent_at, valid_until, state, "
        "error) VALUES (%s, %s, %s, 'test', %s, %s, %s, 'kraken', 'BTC/USDT', %s, %s, %s, %s, "
        "0.1, 100, %s, 100, 100, 1, %s, %s, %s, %s)",
        (
            *(name, name, name, position_id, None if is_stop else PARENT, number),
            *(("sell", "protect", "stop_limit", "GTC") if is_stop else ("buy", "entry", "limit")),
            *(() if is_stop else ("IOC",)),
            *(98 if is_stop else None, now - timedelta(minutes=3), now, state),
            "[red]RequestTimeout" if state == "UNKNOWN" else None,
        ),
    )
    if status is not None:
        ledger.execute(
            "INSERT INTO orders VALUES ('kraken', %s, %s, 'test', %s, 0.1, %s, 100, %s, %s)",
            (f"v-{name}", name, status, filled, now, now),
        )


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_orders_for_a_program(working: Ledger, capsys: Any) -> None:
    assert main(["orders", "--json"]) == 0
    found = printed(capsys)
    (parent,) = found["parents"]
    assert parent["parent_id"] == PARENT
    assert Decimal(parent["filled_quantity"]) == Decimal("0.1")
    assert Decimal(parent["in_flight_quantity"]) == Decimal("0.1")
    assert (parent["slices_sent"], parent["orders_sent"]) == (2, 2)
    assert [order["client_order_id"] for order in found["open_orders"]] == ["tl3"]
    assert [order["client_order_id"] for order in found["unknown_intents"]] == ["tl2"]


def test_orders_for_a_person(working: Ledger, capsys: Any) -> None:
    assert main(["orders"]) == 0
    out = capsys.readouterr().out
    for text in ("Working parents", PARENT, "2/10", "Open orders", "tl3", "protect",
                 "Unknown outcomes", "tl2", "[red]RequestTimeout"):  # fmt: skip
        assert text in out


def test_nothing_under_way(ledger_of_commands: Ledger, capsys: Any) -> None:
    assert main(["orders"]) == 0
    assert capsys.readouterr().out == "Nothing is under way.\n"


def test_another_pod_sees_nothing(working: Ledger, capsys: Any) -> None:
    from shared.ledger import underway

    other = underway.gather(Ledger(working._connection, "other"))
    assert other == {"parents": [], "open_orders": [], "unknown_intents": []}


def test_cancel_ends_a_parent_and_names_the_person(
    working: Ledger, database_url: str, capsys: Any
) -> None:
    assert main(["cancel", PARENT, "--reason", "news", "--json"]) == 0
    assert printed(capsys) == {
        "changed": True, "parent_id": PARENT, "state": "CANCELLED",
        "ended_reason": "person:ada: news",
    }  # fmt: skip
    assert parents.working(connection.connect(database_url, "test")) == []


def test_cancelling_twice_says_why_it_had_ended(working: Ledger, capsys: Any) -> None:
    main(["cancel", PARENT, "--reason", "first"])
    assert main(["cancel", PARENT, "--reason", "second"]) == 0
    assert "it was CANCELLED already (person:ada: first)" in capsys.readouterr().out


def test_an_unknown_parent_is_wrong_usage(working: Ledger, capsys: Any) -> None:
    assert main(["cancel", "entry:test:none", "--reason", "x"]) == 2
    assert "expected a parent order of pod 'test', was 'entry:test:none'" in capsys.readouterr().err
