"""``trading-loop universe``, against a real ledger; --refresh against venues over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import environment
from deploy.cli.main import main
from deploy.local.market.source import SourceSpec
from deploy.local.wire.client import WireProcess, start_wire
from shared import clock, config
from shared.ledger import connection, universes
from shared.ledger.connection import Ledger

AT_MS = 1_746_532_800_000  # 2025-05-06 12:00 UTC
BASES = ("BTC", "ETH", "SOL", "XRP", "DOGE")


@pytest.fixture
def ledger_of_commands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str
) -> Ledger:
    """The ledger that the commands find, of a pod that chooses its symbols."""
    for name in config.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment.variables, "__defaults__", (tmp_path / "none",))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POD", "test")
    monkeypatch.setenv("SYMBOLS", "auto")
    monkeypatch.setenv("UNIVERSE_SIZE", "2")
    return connection.connect(database_url, "test")


@pytest.fixture(scope="module")
def wire() -> Iterator[WireProcess]:
    """Four venues with five symbols each."""
    spec = SourceSpec("simulated", tuple(f"{b}/USDT" for b in BASES), AT_MS, 1, 7, None)
    names = ("binance", "binanceus", "coinbase", "kraken")
    balances = {name: {"USDT": Decimal(1_000)} for name in names}
    with start_wire(spec, now_ms=AT_MS, balances=balances, seed=7) as started:
        yield started


@pytest.fixture
def venues(wire: WireProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[WireProcess]:
    monkeypatch.setenv("SIMULATED_WIRE_URL", wire.base_url)
    clock.install(lambda: AT_MS)
    yield wire
    clock.install(None)


def chosen(ledger: Ledger, *symbols: str, excluded: list[list[Any]] | None = None) -> None:
    settings = config.load({"POD": "test", "SYMBOLS": "auto"})
    members = [
        {
            "symbol": symbol, "rank": rank, "quote_volume": 12_345_678.0, "spread_bps": 1.5,
            "age_days": 182.5, "volatility_percent": 61.2, "backups": ["kraken"],
        }
        for rank, symbol in enumerate(symbols, start=1)
    ]  # fmt: skip
    universes.store(ledger, settings, members=members, excluded=excluded or [], limits={})


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["universe", "--json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_members_and_what_was_left_out_are_shown(
    ledger_of_commands: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen(ledger_of_commands, "BTC/USDT", "OLD/USDT")
    chosen(
        ledger_of_commands, "BTC/USDT", "ETH/USDT",
        excluded=[
            ["USDC/USDT", "KIND_STABLECOIN", None, None],
            ["NEW/USDT", "AGE_SHORT", 12.5, 180.0],
            ["ODD/USDT", "HISTORY_MISSING", "binance: candles: NetworkError", None],
        ],
    )  # fmt: skip
    assert main(["universe"]) == 0
    text = capsys.readouterr().out
    for expected in (
        "2 symbols of binance", "BTC/USDT", "12.35", "61.2", "kraken", "NEW/USDT", "AGE_SHORT",
        "12.5", "180", "KIND_STABLECOIN", "HISTORY_MISSING", "Joined: ETH/USDT", "Left: OLD/USDT",
    ):  # fmt: skip
        assert expected in text
    found = printed(capsys)
    assert found["symbols"] == ["BTC/USDT", "ETH/USDT"]
    assert found["excluded"][1] == {
        "symbol": "NEW/USDT", "reason": "AGE_SHORT", "value": 12.5, "limit": 180.0,
    }  # fmt: skip


def test_the_less_traded_are_hidden_unless_asked_for(
    ledger_of_commands: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    many = [[f"S{number}/USDT", "VOLUME_LOW", 1.0, 2.0] for number in range(40)]
    chosen(ledger_of_commands, "BTC/USDT", excluded=many)
    main(["universe"])
    text = capsys.readouterr().out
    assert "S29/USDT" in text
    assert "S30/USDT" not in text
    assert "and 10 less traded ones" in text
    main(["universe", "--all"])
    assert "S39/USDT" in capsys.readouterr().out


def test_a_failure_is_shown(ledger_of_commands: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    universes.keep_progress(ledger_of_commands, None, failure="binance: listing: [down]")
    assert main(["universe"]) == 0
    text = capsys.readouterr().out
    assert "No universe has been chosen yet: nothing is bought." in text
    assert "binance: listing: [down]" in text


def test_what_is_held_outside_is_shown(
    ledger_of_commands: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger_of_commands.execute(
        "INSERT INTO positions (pod, symbol, strategy, opened_at, stop_price) "
        "VALUES ('test', 'ZZZ/USDT', 'momentum', %s, 1)",
        (clock.now(),),
    )
    chosen(ledger_of_commands, "BTC/USDT")
    main(["universe"])
    assert "Held and only sold: ZZZ/USDT" in capsys.readouterr().out


def test_configured_symbols_are_named(
    ledger_of_commands: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SYMBOLS", "BTC,ETH")
    assert printed(capsys)["source"] == "configured"
    assert main(["universe"]) == 0
    assert "BTC/USDT, ETH/USDT" in capsys.readouterr().out
    assert main(["universe", "--refresh"]) == 2
    assert "SYMBOLS: expected auto for --refresh, was BTC,ETH" in capsys.readouterr().err


def test_refresh_chooses_at_once(
    ledger_of_commands: Ledger, venues: WireProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(capsys, "--refresh")
    assert found["symbols"] == ["BTC/USDT", "ETH/USDT"]
    assert found["being_chosen_since"] is None
    member = found["members"][0]
    assert member["backups"] == ["coinbase", "kraken"]
    assert 181 <= member["age_days"] < 183
    reasons = {one["symbol"]: one["reason"] for one in found["excluded"]}
    assert reasons == {
        "SOL/USDT": "RANK_LOW",
        "XRP/USDT": "RANK_LOW",
        "DOGE/USDT": "RANK_LOW",
        "BNB/USDT": "BACKUPS_FEW",
        "USDC/USDT": "KIND_STABLECOIN",
    }


def test_a_refresh_that_fails_changes_nothing(
    ledger_of_commands: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen(ledger_of_commands, "BTC/USDT")
    monkeypatch.setenv("SIMULATED_WIRE_URL", "http://127.0.0.1:9")
    assert main(["universe", "--refresh"]) == 1
    assert "binance: listing:" in capsys.readouterr().err
    assert printed(capsys)["symbols"] == ["BTC/USDT"]
