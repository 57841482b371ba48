"""``trading-loop transfer`` books what a person moved, once, and takes nothing that is unclear."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import environment
from deploy.cli.main import main
from shared import config
from shared.ledger import connection
from shared.ledger.connection import Ledger

PAID_IN = ["transfer", "binance", "USDT", "250.5", "--note", "paid in on 2 May"]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> Ledger:
    for name in config.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment.variables, "__defaults__", (tmp_path / "none",))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POD", "test")
    monkeypatch.setenv("VENUES", "binance,kraken")
    monkeypatch.setenv("LOGNAME", "ada")
    return connection.connect(database_url, "test")


def test_it_is_booked_with_its_note_and_the_person(
    database_url: str, database: Ledger, capsys: Any
) -> None:
    assert main([*PAID_IN, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "booked": True, "venue": "binance", "currency": "USDT", "amount": "250.5",
        "note": "paid in on 2 May", "ledger_total": "250.5",
    }  # fmt: skip
    ledger = connection.connect(database_url, "test")
    rows = ledger.query("SELECT venue, currency, amount, note FROM transfers")
    assert rows == [
        {"venue": "binance", "currency": "USDT", "amount": Decimal("250.5"),
         "note": "paid in on 2 May"}
    ]  # fmt: skip
    event = ledger.one("SELECT detail FROM events WHERE kind = 'TRANSFER_BOOKED'")
    assert event is not None
    assert event["detail"]["booked_by"] == "person:ada"


def test_what_went_out_is_negative(database_url: str, database: Ledger, capsys: Any) -> None:
    main(PAID_IN)
    assert main(["transfer", "binance", "USDT", "-50.5", "--note", "out"]) == 0
    assert "The ledger says 200.0 USDT on binance." in capsys.readouterr().out


def test_the_same_note_books_it_once(database_url: str, database: Ledger, capsys: Any) -> None:
    main(PAID_IN)
    assert main(PAID_IN) == 0
    assert "booked under this note already" in capsys.readouterr().out
    ledger = connection.connect(database_url, "test")
    assert ledger.query("SELECT count(*) AS n FROM transfers") == [{"n": 1}]
    assert ledger.query("SELECT count(*) AS n FROM events") == [{"n": 1}]


def test_another_amount_under_the_same_note_is_refused(
    database_url: str, database: Ledger, capsys: Any
) -> None:
    main(PAID_IN)
    assert main(["transfer", "binance", "USDT", "99", "--note", "paid in on 2 May"]) == 2
    error = capsys.readouterr().err
    assert "is the note of 250.5 USDT on binance already: expected another note for 99" in error
    ledger = connection.connect(database_url, "test")
    assert ledger.query("SELECT amount FROM transfers") == [{"amount": Decimal("250.5")}]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["coinbase", "USDT", "1", "--note", "n"], "expected one of binance, kraken"),
        (["binance", "usdt", "1", "--note", "n"], "expected a currency in capitals"),
        (["binance", "USDT", "0", "--note", "n"], "expected a number other than 0"),
        (["binance", "USDT", "NaN", "--note", "n"], "expected a number other than 0"),
        (["binance", "USDT", "Infinity", "--note", "n"], "expected a number other than 0"),
        (["binance", "USDT", "1,5", "--note", "n"], "expected a number other than 0"),
        (["binance", "USDT", "1", "--note", "  "], "expected what it was"),
        (["binance", "USDT", "1"], "--note"),
    ],
)
def test_what_is_unclear_is_refused(
    database_url: str, database: Ledger, capsys: Any, arguments: list[str], expected: str
) -> None:
    try:
        code = main(["transfer", *arguments])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert code == 2
    assert expected in capsys.readouterr().err
    assert connection.connect(database_url, "test").query("SELECT 1 FROM transfers") == []
