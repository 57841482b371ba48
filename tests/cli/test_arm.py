"""Arming live trading: what it asks for, what it refuses, what a token is worth."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import environment
from deploy.cli.main import main
from deploy.local.wire.client import key_variables, make_credentials
from shared import config
from shared.errors import OrderDenied
from shared.execution.venues import clients
from shared.ledger import arming, connection, migrate, state
from shared.ledger.connection import Ledger
from tests.execution.capture_server import Capture, listen
from tests.ledger_seed import pass_phases

CREDENTIALS = make_credentials(11)
ARM = ["arm", "--live", "--hours", "6", "--yes"]
HARMLESS: dict[str, Any] = {
    "GET /binance/sapi/v1/account/apiRestrictions": {"enableWithdrawals": False},
    "GET /coinbase/api/v3/brokerage/key_permissions": {"can_trade": True, "can_transfer": False},
    "POST /kraken/0/private/GetApiKeyInfo": {
        "error": [],
        "result": {"permissions": ["query-funds", "modify-trades"]},
    },
}
MAY_WITHDRAW: dict[str, Any] = {
    "GET /binance/sapi/v1/account/apiRestrictions": {"enableWithdrawals": True},
    "GET /coinbase/api/v3/brokerage/key_permissions": {"can_trade": True, "can_transfer": True},
    "POST /kraken/0/private/GetApiKeyInfo": {
        "error": [],
        "result": {"permissions": ["query-funds", "withdraw-funds"]},
    },
}


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> dict[str, str]:
    """All that arming asks for; nothing of this machine."""
    for name in config.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment.variables, "__defaults__", (tmp_path / "none",))
    values = {
        "DATABASE_URL": database_url,
        "POD": "test",
        "ENABLE_LIVE_TRADING": "true",
        "DASHBOARD_TOKEN": "dashboard-secret",
        "KILL_SWITCH_TOKEN": "kill-secret",
    }
    values |= key_variables(CREDENTIALS)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    pass_phases(connection.connect(database_url, "test"))
    return values


@pytest.fixture
def venues(monkeypatch: pytest.MonkeyPatch) -> Iterator[Capture]:
    """The clients as they are built for live trading, but for the address that they call."""
    monkeypatch.setattr(clients, "_clients", {})
    build = clients._build

    def elsewhere(*arguments: Any) -> Any:
        client = build(*arguments)
        clients._redirect(client, f"{captured.base_url}/{client.id}")
        return client

    monkeypatch.setattr(clients, "_build", elsewhere)
    with listen(dict(HARMLESS)) as captured:
        yield captured


def reopened(url: str) -> Ledger:
    return connection.connect(url, "test")


def test_a_pod_is_armed_after_each_venue_was_asked_about_its_key(
    database_url: str, venues: Capture, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    assert main([*ARM, "--reason", "first day", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["armed"] is True
    assert printed["terms"]["venues"] == ["binance", "coinbase", "kraken"]
    assert {request.path for request in venues.requests} == {
        "/" + route.split("/", 2)[2] for route in HARMLESS
    }
    ledger = reopened(database_url)
    token = arming.current(ledger)
    assert token is not None
    assert token.armed_by == "person:ada"
    assert token.expires_at - token.armed_at == timedelta(hours=6)
    (event,) = ledger.query("SELECT kind, detail FROM events WHERE kind <> 'PHASE_PASSED'")
    assert (event["kind"], event["detail"]["reason"]) == ("LIVE_ARMED", "first day")
    (alert,) = ledger.query("SELECT severity, title FROM alerts")
    assert alert["severity"] == "HIGH"
    assert "armed until" in alert["title"]


@pytest.mark.parametrize("route", sorted(HARMLESS))
def test_one_key_that_may_withdraw_is_enough_to_refuse(
    database_url: str, venues: Capture, capsys: Any, route: str
) -> None:
    venues.answers = HARMLESS | {route: MAY_WITHDRAW[route]}
    assert main(ARM) == 1
    venue = route.split("/")[1]
    assert f"{venue} key: may withdraw" in capsys.readouterr().err
    assert arming.current(reopened(database_url)) is None


@pytest.mark.parametrize("answer", [{}, {"result": {}, "error": []}, {"error": ["EAPI:Invalid"]}])
def test_an_answer_that_names_no_permission_refuses(
    database_url: str, venues: Capture, capsys: Any, answer: dict[str, Any]
) -> None:
    venues.answers = dict.fromkeys(HARMLESS, answer)
    assert main(ARM) == 1
    assert capsys.readouterr().err.count(" key: ") == 3
    assert arming.current(reopened(database_url)) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ENABLE_LIVE_TRADING": "false"}, "ENABLE_LIVE_TRADING is not true"),
        (
            {"ENABLE_LIVE_TRADING": "", "SIMULATED_WIRE_URL": "http://127.0.0.1:9"},
            "SIMULATED_WIRE_URL is http://127.0.0.1:9",
        ),
        ({"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        ({"KRAKEN_SECRET": ""}, "set KRAKEN_API_KEY and KRAKEN_SECRET"),
        ({"KILL_SWITCH_TOKEN": ""}, "KILL_SWITCH_TOKEN not set"),
        ({"VENUES": "binanceus", "BINANCE_SECRET": ""}, "set BINANCE_API_KEY and BINANCE_SECRET"),
    ],
)
def test_what_is_missing_is_named_and_no_venue_is_asked(
    database_url: str,
    venues: Capture,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    told: str,
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert main(ARM) == 1
    assert told in capsys.readouterr().err
    assert venues.requests == []
    assert arming.current(reopened(database_url)) is None


def test_the_stand_ins_and_live_trading_exclude_each_other(
    venues: Capture, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMULATED_WIRE_URL", "http://127.0.0.1:9")
    assert main(ARM) == 2
    assert "expected to be unset where ENABLE_LIVE_TRADING is true" in capsys.readouterr().err
    assert venues.requests == []


def test_a_halt_has_to_be_ended_first(database_url: str, venues: Capture, capsys: Any) -> None:
    ledger = reopened(database_url)
    state.tighten(ledger, "HALTED", reason="fell 21 %", set_by="test", rearm_required=True)
    assert main(ARM) == 1
    assert "HALTED: fell 21 %" in capsys.readouterr().err
    assert venues.requests == []
    assert arming.current(reopened(database_url)) is None


def test_a_ledger_without_a_migration_is_refused(
    database_url: str, venues: Capture, capsys: Any
) -> None:
    newest = max(migration.version for migration in migrate.known())
    reopened(database_url).execute("DELETE FROM schema_migrations WHERE version = %s", (newest,))
    assert main(ARM) == 1
    assert "trading-loop migrate" in capsys.readouterr().err
    assert arming.current(reopened(database_url)) is None


def hold(ledger: Ledger, mode: str | None) -> None:
    """An open position with one order that was sent in ``mode``."""
    ledger.execute(
        "INSERT INTO positions (pod, symbol, strategy, opened_at, stop_price) "
        "VALUES ('test', 'BTC/USDT', 'momentum', now(), 90)"
    )
    ledger.execute(
        "INSERT INTO intents (intent_id, logical_key, client_order_id, pod, position_id, venue, "
        "symbol, side, purpose, order_type, time_in_force, quantity, limit_price, decision_mid, "
        "arrival_mid, epoch, sent_at, valid_until, state) SELECT 'i', 'i', 'i', 'test', "
        "position_id, 'binance', 'BTC/USDT', 'buy', 'entry', 'limit', 'IOC', 1, 100, 100, 100, 1, "
        "now(), now(), 'ACKNOWLEDGED' FROM positions"
    )
    ledger.execute(
        "INSERT INTO orders VALUES ('binance', '7', 'i', 'test', 'filled', 1, 1, 100, now(), now())"
    )
    ledger.execute("UPDATE intents SET mode = %s", (mode,))


@pytest.mark.parametrize("mode", ["paper", "simulated", None])
def test_a_position_that_was_not_bought_live_has_to_be_closed_first(
    database_url: str, venues: Capture, capsys: Any, mode: str | None
) -> None:
    hold(reopened(database_url), mode)
    assert main(ARM) == 1
    assert "not bought live: 1 (BTC/USDT)" in capsys.readouterr().err
    assert arming.current(reopened(database_url)) is None


@pytest.mark.parametrize("hours", ["0", "-1", "168.01", "nan", "inf", "many"])
def test_hours_have_bounds(capsys: Any, hours: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["arm", "--live", f"--hours={hours}", "--yes"])
    assert ended.value.code == 2
    assert f"at most 168, was '{hours}'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--hours", "6"], ["--live"]])
def test_live_and_hours_have_to_be_said(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["arm", *arguments])


class Terminal(io.StringIO):
    """Standard input at which a person sits."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "armed"), [("test\n", True), ("yes\n", False), ("", False)])
def test_a_person_types_the_name_of_the_pod(
    database_url: str,
    venues: Capture,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    armed: bool,
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert main(ARM[:-1]) == (0 if armed else 1)
    asked = capsys.readouterr().err
    for word in ("Pod test", "binance, coinbase, kraken", "10000 USDT", "100 USDT", "50 USDT"):
        assert word in asked
    assert (arming.current(reopened(database_url)) is not None) == armed


def test_without_a_person_it_has_to_be_said_on_the_command_line(
    venues: Capture, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("test\n"))
    assert main(ARM[:-1]) == 2
    assert "--yes" in capsys.readouterr().err
    assert venues.requests == []


def test_the_newest_token_takes_the_place_of_the_one_before(
    database_url: str, venues: Capture
) -> None:
    main(ARM)
    main(["arm", "--live", "--hours", "0.5", "--yes"])
    token = arming.current(reopened(database_url))
    assert token is not None
    assert token.expires_at - token.armed_at == timedelta(minutes=30)


def test_disarming_revokes_and_is_recorded(database_url: str, venues: Capture, capsys: Any) -> None:
    main(ARM)
    assert main(["disarm", "--reason", "enough"]) == 0
    assert "is disarmed" in capsys.readouterr().out
    ledger = reopened(database_url)
    assert arming.current(ledger) is None
    kinds = ledger.query("SELECT kind, detail->>'reason' AS why FROM events ORDER BY event_id")
    assert (kinds[-1]["kind"], kinds[-1]["why"]) == ("LIVE_DISARMED", "enough")
    assert main(["disarm"]) == 0
    assert "was not armed" in capsys.readouterr().out


def test_disarming_names_what_is_still_open_on_a_venue(
    database_url: str, venues: Capture, capsys: Any
) -> None:
    hold(reopened(database_url), "live")
    assert main(ARM) == 0
    assert main(["disarm"]) == 0
    assert "Still open on a venue" in capsys.readouterr().err


def test_the_status_says_until_when(database_url: str, venues: Capture, capsys: Any) -> None:
    main(["status"])
    assert "not armed: ENABLE_LIVE_TRADING alone is paper" in capsys.readouterr().out
    main(ARM)
    token = arming.current(reopened(database_url))
    assert token is not None
    capsys.readouterr()
    main(["status"])
    assert f"armed until {token.expires_at:%Y-%m-%d %H:%M} UTC" in capsys.readouterr().out


def test_a_token_of_another_pod_does_not_count(database_url: str, venues: Capture) -> None:
    main(ARM)
    other = connection.connect(database_url, "other")
    assert arming.current(other) is None
    assert arming.disarm(other, by="test", reason=None) is False
    assert arming.current(reopened(database_url)) is not None


def test_nothing_secret_is_printed(
    venues: Capture, capsys: Any, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main([*ARM, "--json"])
    venues.answers = dict.fromkeys(HARMLESS, {})
    main(ARM)
    monkeypatch.setenv("COINBASE_SECRET", "-----BEGIN EC PRIVATE KEY-----\nno\n-----END")
    clients._clients.clear()
    main(ARM)
    shown = "".join(capsys.readouterr())
    assert "cannot sign" in shown
    for name, value in variables.items():
        if name in config.SECRET_VARIABLES:
            assert value not in shown, name


@pytest.mark.parametrize("phase", ["setup", "install", "test"])
def test_a_phase_that_is_open_keeps_live_trading_from_starting(
    database_url: str, venues: Capture, capsys: Any, phase: str
) -> None:
    ledger = reopened(database_url)
    ledger.execute("DELETE FROM phases WHERE phase = %s", (phase,))
    with pytest.raises(OrderDenied, match=f"PHASE_OPEN: pod=test, phases={phase}"):
        arming.arm(ledger, timedelta(hours=1), armed_by="test", reason=None, terms={})
    assert main(ARM) == 1
    said = capsys.readouterr().err
    assert f"phases: not passed: {phase} (`trading-loop phase {phase}`)" in said
    assert venues.requests == []
    assert arming.current(reopened(database_url)) is None


def test_the_phases_of_another_pod_do_not_count(database_url: str, venues: Capture) -> None:
    reopened(database_url).execute("UPDATE phases SET pod = 'other'")
    assert main(ARM) == 1
    assert arming.current(reopened(database_url)) is None


def test_what_is_agreed_to_is_bounded_by_the_stage(
    database_url: str, venues: Capture, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_POSITION_SIZE", "5000")
    assert main([*ARM, "--json"]) == 0
    terms = json.loads(capsys.readouterr().out)["terms"]
    assert (terms["stage"], terms["max_exposure_quote"]) == (1, "100")
    assert (terms["max_position_quote"], terms["position_size_percent"]) == ("100", "1")
