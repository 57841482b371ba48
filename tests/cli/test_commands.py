"""The commands that talk to a ledger, against a real one."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import environment, ledgers
from deploy.cli.main import main
from deploy.local.servers import EmbeddedServers
from shared import clock, config
from shared.errors import ConfigurationError
from shared.ledger import connection, migrate, runs, state, throttles
from shared.ledger.connection import Ledger
from tests import ledger_seed as seed


@pytest.fixture(autouse=True)
def no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No ``.env``, no ledger and no variable of this machine reaches a test."""
    from deploy.local import servers

    for name in config.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment.variables, "__defaults__", (tmp_path / "none",))
    monkeypatch.setattr(servers, "DEFAULT_FOLDER", tmp_path / "local")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch, database_url: str) -> str:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POD", "test")
    return database_url


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def reopened(url: str) -> Ledger:
    return connection.connect(url, "test")


def test_halt_takes_effect_and_names_the_person(
    database: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    assert main(["halt", "--reason", "news", "--close-all", "--json"]) == 0
    assert printed(capsys)["changed"] is True
    present = state.read(reopened(database))
    assert (present.state, present.reason, present.set_by) == ("HALTED", "news", "person:ada")
    assert present.rearm_required
    assert present.close_all


def test_halting_twice_says_that_it_was_halted(database: str, capsys: Any) -> None:
    main(["halt", "--reason", "first"])
    assert main(["halt", "--reason", "second"]) == 0
    assert "was HALTED already (first)" in capsys.readouterr().out


def test_rearm_ends_a_halt_and_is_recorded(database: str, capsys: Any) -> None:
    main(["halt", "--reason", "news"])
    assert main(["rearm", "--reason", "looked into it"]) == 0
    ledger = reopened(database)
    assert state.read(ledger).state == "ACTIVE"
    kinds = ledger.query("SELECT detail->>'reason' AS reason FROM events ORDER BY event_id")
    assert [row["reason"] for row in kinds] == ["news", "looked into it"]
    assert main(["rearm", "--reason", "again"]) == 0
    assert "ACTIVE already" in capsys.readouterr().out


def test_rearm_frees_throttled_strategies_when_it_is_asked_to(
    database: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    throttles.trip(reopened(database), "BTC/USDT", "momentum", "REPEATED_ENTRIES: before=10")
    main(["halt", "--reason", "news"])
    capsys.readouterr()

    assert main(["rearm", "--throttles", "--reason", "it was a loop, mended"]) == 0
    assert capsys.readouterr().out == "momentum may buy BTC/USDT again.\n"
    ledger = reopened(database)
    assert throttles.tripped(ledger) == []
    assert state.read(ledger).state == "HALTED"  # the halt is another matter
    row = ledger.one("SELECT reenabled_by, reason FROM throttles")
    assert row == {"reenabled_by": "person:ada", "reason": "it was a loop, mended"}

    assert main(["rearm", "--throttles", "--reason", "again", "--json"]) == 0
    assert printed(capsys) == {"reenabled": []}
    throttles.trip(reopened(database), "ETH/USDT", "breakout", "REPEATED_ENTRIES: before=10")
    assert main(["rearm", "--reason", "looked into it"]) == 0
    out = capsys.readouterr().out
    assert "Trading is ACTIVE." in out
    assert "Still throttled: breakout in ETH/USDT" in out
    assert len(throttles.tripped(reopened(database))) == 1


def test_status_for_a_person(database: str, capsys: Any) -> None:
    seed.two_days(reopened(database), clock.now())
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    for text in ("ACTIVE", "PAPER", "10,149.40", "BTC/USDT", "trading_loop", "slippage warning"):
        assert text in out


def test_status_for_a_program(database: str, capsys: Any) -> None:
    seed.two_days(reopened(database), clock.now())
    assert main(["status", "--json"]) == 0
    model = printed(capsys)
    assert model["equity"]["equity_quote"] == "10149.40"
    assert model["ledger"] == "DATABASE_URL"


def test_text_of_others_is_not_markup(database: str, capsys: Any) -> None:
    main(["halt", "--reason", "[red]x[/red] [/] [link=y]"])
    assert main(["status"]) == 0
    assert "[red]x[/red] [/] [link=y]" in capsys.readouterr().out


def test_the_dashboard_as_a_file(database: str, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "page.html"
    assert main(["dashboard", "--out", str(file)]) == 0
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["dashboard", "--out", str(tmp_path / "no" / "page.html")]) == 2
    assert "--out" in capsys.readouterr().err


def test_migrate_once_and_again(
    servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("DATABASE_URL", servers.create_database("for_migrate"))
    assert main(["status"]) == 2
    assert "trading-loop migrate" in capsys.readouterr().err
    assert main(["migrate", "--json"]) == 0
    assert printed(capsys) == {"applied": [m.name for m in migrate.known()]}
    assert main(["migrate", "--json"]) == 0
    assert printed(capsys) == {"applied": []}
    servers.drop_database("for_migrate")


def test_another_pod_has_to_be_added_first(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("POD", "second")
    assert main(["rearm", "--reason", "x"]) == 2
    assert "'second'" in capsys.readouterr().err
    assert main(["migrate"]) == 0
    assert main(["halt", "--reason", "x"]) == 0


def test_without_any_ledger_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 2
    assert capsys.readouterr().err == f"trading-loop: {ledgers.NOT_FOUND}\n"


def test_an_unreachable_ledger_ends_with_3(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:hidden@127.0.0.1:1/none")
    assert main(["status"]) == 3
    assert "hidden" not in capsys.readouterr().err


def test_the_ledger_of_a_local_run_is_found_and_tells_its_own_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    """A replay that has ended: its newest event is long ago, and so is the time of the page."""
    from deploy.local.servers import DEFAULT_FOLDER

    long_ago = clock.from_ms(1_746_700_000_000)
    with EmbeddedServers(DEFAULT_FOLDER, durable=False) as servers:
        for name, at in (("replay_old", long_ago - timedelta(days=9)), ("replay_new", long_ago)):
            ledger = connection.connect(servers.create_database(name), "main")
            migrate.migrate(ledger)
            runs.start(ledger, "trading_loop", "t", at, 1)
        connection.close_all()
    assert main(["status", "--json"]) == 0
    model = printed(capsys)
    assert (model["ledger"], model["mode"]) == ("replay_new", "SIMULATED")
    assert model["as_of"] == clock.iso(long_ago)
    assert main(["halt", "--reason", "x", "--json"]) == 0
    assert printed(capsys)["state"]["since"] == clock.iso(long_ago)
    assert not clock.is_virtual()


def test_variables_of_the_process_win_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("MAX_POSITIONS=7\nKELLY_FRACTION=0.5\nREDIS_URL=\n")
    monkeypatch.setenv("MAX_POSITIONS", "3")
    found = config.load(environment.variables(file))
    assert (found.max_positions, found.kelly_fraction, found.redis_url) == (3, 0.5, None)


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("MAX_POSITION=7\n")
    with pytest.raises(ConfigurationError, match="MAX_POSITION: not a known variable"):
        environment.variables(file)
