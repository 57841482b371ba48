"""A session: what it sets, what it replaces, and that it gives everything back."""

from __future__ import annotations

import base64
import os
from decimal import Decimal
from typing import Any

import pytest
import redis

from deploy.local import accounts
from deploy.local.scheduler import Tick
from deploy.local.session import LocalSession, SessionOptions
from deploy.local.wire.client import WireProcess
from shared import clock, config
from shared.ledger.connection import Ledger
from tests.local.conftest import AT_MS, MakeProject, spec

_STEP = "import os\ndef handler(pd):\n    return dict(os.environ)\n"


def _options(project: Any, **changed: Any) -> SessionOptions:
    return SessionOptions(
        **{"spec": spec(10), "database": "replay_session_test", "fresh": True, "root": project.root}
        | changed
    )


@pytest.mark.usefixtures("fake_wire")
def test_environment_is_the_sessions_and_is_given_back(
    make_project: MakeProject, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_POSITIONS", "3")
    monkeypatch.setenv("BINANCE_API_KEY", "of the developer")
    real = {"BINANCE_SECRET": "real", "ENABLE_LIVE_TRADING": "true", "OPENAI_API_KEY": "sk-real"}
    project = make_project(loop=[_STEP])
    with LocalSession(_options(project), variables | real | {"LOG_LEVEL": "error"}) as session:
        seen = session.run_workflow("loop", AT_MS).export_of("step_0")
        assert clock.now_ms() == AT_MS and clock.is_virtual()
        assert config.load(os.environ).trading_mode == "simulated"
    assert seen["ENABLE_LIVE_TRADING"] == "false"
    assert seen["LOG_LEVEL"] == "error"
    assert seen["SYMBOLS"] == "BTC,ETH"
    assert seen["OPENAI_API_KEY"] != "sk-real" and seen["BINANCE_SECRET"] != "real"
    assert seen["DATABASE_URL"].endswith("/replay_session_test")
    assert "MAX_POSITIONS" not in seen
    assert len(base64.b64decode(seen["KRAKEN_SECRET"], validate=True)) == 64
    assert "BEGIN EC PRIVATE KEY" in seen["COINBASE_SECRET"]
    assert os.environ["MAX_POSITIONS"] == "3"
    assert os.environ["BINANCE_API_KEY"] == "of the developer"
    assert "SIMULATED_WIRE_URL" not in os.environ
    assert not clock.is_virtual()


@pytest.mark.usefixtures("fake_wire")
def test_without_models_there_are_no_keys(
    make_project: MakeProject, variables: dict[str, str]
) -> None:
    project = make_project(loop=[_STEP])
    with LocalSession(
        _options(project, models="none"), variables | {"OPENAI_API_KEY": "sk-real"}
    ) as session:
        seen = session.run_workflow("loop", AT_MS).export_of("step_0")
    assert "OPENAI_API_KEY" not in seen and "ANTHROPIC_API_KEY" not in seen


@pytest.mark.usefixtures("fake_wire")
def test_opening_balances_are_written_once(
    make_project: MakeProject, variables: dict[str, str]
) -> None:
    project = make_project(loop=[_STEP])
    for fresh in (True, False):
        with LocalSession(_options(project, fresh=fresh), variables) as session:
            rows = session.ledger.query("SELECT venue, currency, amount FROM transfers ORDER BY 1")
            assert session.wire.balances == accounts.held(session.ledger)
    assert [(r["venue"], r["currency"], r["amount"]) for r in rows] == [
        ("binance", "USDT", Decimal("3333.34")),
        ("coinbase", "USDT", Decimal("3333.33")),
        ("kraken", "USDT", Decimal("3333.33")),
    ]


@pytest.mark.usefixtures("fake_wire")
def test_time_moves_to_the_tick(make_project: MakeProject, variables: dict[str, str]) -> None:
    project = make_project(
        loop=["from shared import clock\ndef handler(pd): return clock.now_ms()\n"]
    )
    with LocalSession(_options(project), variables) as session:
        later = AT_MS + 60_000
        assert session.run_workflow("loop", later).export_of("step_0") == later
        assert session.wire.advanced == [AT_MS, later]


@pytest.mark.usefixtures("fake_wire")
def test_what_an_earlier_replay_cached_is_gone(
    make_project: MakeProject, variables: dict[str, str]
) -> None:
    project = make_project(loop=[_STEP])
    client = redis.Redis.from_url(variables["REDIS_URL"])
    session = LocalSession(_options(project), variables)
    client.set(f"{session.pod}:candles", b"of the future")
    client.set("main:candles", b"of another pod")
    with session:
        assert session.pod != "main"  # on servers that a real pod may share
        assert client.get(f"{session.pod}:candles") is None
        assert client.get("main:candles") == b"of another pod"


def test_a_failed_start_leaves_nothing_behind(
    make_project: MakeProject, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> WireProcess:
        raise RuntimeError("no wire")

    monkeypatch.setattr("deploy.local.session.start_wire", fail)
    with pytest.raises(RuntimeError, match="no wire"):
        LocalSession(_options(make_project(loop=[_STEP])), variables).__enter__()
    assert not clock.is_virtual() and "SIMULATED_WIRE_URL" not in os.environ


def test_real_stand_ins_hold_the_opening_balances(
    make_project: MakeProject, variables: dict[str, str]
) -> None:
    project = make_project(loop=[_STEP])
    with LocalSession(_options(project), variables) as session:
        session.run_tick(Tick(AT_MS + 60_000, project.workflow("loop")))
        venues = session.wire.accounts()
        balances = {venue: account["balances"] for venue, account in venues.items()}
        assert balances.pop("binanceus") == {}  # a session trades on the three others
        assert {venue: Decimal(held["USDT"]["free"]) for venue, held in balances.items()} == {
            "binance": Decimal("3333.34"),
            "coinbase": Decimal("3333.33"),
            "kraken": Decimal("3333.33"),
        }
        assert session.settings.simulated_wire_url == session.wire.base_url


def test_equal_shares_add_up_to_the_last_cent() -> None:
    shares = accounts.equal_shares(Decimal("100.01"), ("a", "b", "c"), "USDT")
    assert sum(share["USDT"] for share in shares.values()) == Decimal("100.01")
    assert shares["b"]["USDT"] == Decimal("33.33")


def test_accounts_have_pipedreams_field_names() -> None:
    found = accounts.connected(
        {
            "DATABASE_URL": "postgresql://user:p%40ss@db.example:5433/ledger",
            "OPENAI_API_KEY": "sk-1",
            "SLACK_BOT_TOKEN": "xoxb-1",
        }
    )
    assert found["postgresql"] == {
        "user": "user",
        "password": "p@ss",
        "host": "db.example",
        "port": "5433",
        "database": "ledger",
    }
    assert found["openai"] == {"api_key": "sk-1"}
    assert found["slack_bot"] == {"bot_token": "xoxb-1"}


def test_held_adds_up_transfers(ledger: Ledger) -> None:
    accounts.fund(ledger, {"kraken": {"USDT": Decimal("1.5")}})
    accounts.fund(ledger, {"kraken": {"USDT": Decimal("9")}})
    assert accounts.held(ledger) == {"kraken": {"USDT": Decimal("1.5")}}


@pytest.mark.usefixtures("fake_wire")
def test_symbols_that_the_loop_chooses_are_left_to_it(
    make_project: MakeProject, variables: dict[str, str]
) -> None:
    project = make_project(loop=[_STEP])
    with LocalSession(_options(project), variables | {"SYMBOLS": "auto"}) as session:
        assert session.run_workflow("loop", AT_MS).export_of("step_0")["SYMBOLS"] == "AUTO"
        assert session.settings.chooses_symbols
