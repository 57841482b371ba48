"""The hourly care of market data: candles from the cache into the ledger, old scans out of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared import clock
from shared.analysis import housekeeping
from shared.errors import LeaseLost
from shared.ledger import leases
from shared.ledger.connection import Ledger
from shared.market.candles import candle_store, history
from shared.market.candles.candle_refresh import refresh
from shared.market.candles.candle_store import CandleStore
from shared.run import Run
from tests.conftest import VirtualClock
from tests.market.fakes import NOW_MS, healthy_venue, make_run

SYMBOL = "BTC/USDT"


@pytest.fixture
def run(ledger: Ledger, redis_url: str, virtual_clock: VirtualClock) -> Run:
    candle_store._remembered.clear()
    return make_run(ledger, redis_url=redis_url)


def test_what_the_cache_has_is_kept_once(run: Run) -> None:
    venue = healthy_venue()
    found = refresh(venue, SYMBOL, {}, NOW_MS)
    CandleStore(run.cache).write("binance", {SYMBOL: found})
    count = sum(len(window) for window in found.windows.values())
    assert housekeeping.keep_house(run)["candles_kept"] == count
    assert housekeeping.keep_house(run)["candles_kept"] == 0
    kept = history.read(run.ledger, "binance", SYMBOL, "1h", 0, NOW_MS)
    assert kept.close.tolist() == found.windows["1h"].close.tolist()


def test_a_first_hour_takes_several_statements(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT_AT_ONCE", 1_200)
    found = refresh(healthy_venue(), SYMBOL, {}, NOW_MS)
    CandleStore(run.cache).write("binance", {SYMBOL: found})
    count = sum(len(window) for window in found.windows.values())
    assert housekeeping.keep_house(run)["candles_kept"] == count
    monkeypatch.setattr(housekeeping, "KEEPING_SECONDS", -1.0)
    assert housekeeping.keep_house(run)["candles_kept"] == 0


def test_an_empty_cache_keeps_nothing(run: Run) -> None:
    assert housekeeping.keep_house(run) == {
        "candles_kept": 0,
        "candles_deleted": 0,
        "scans_deleted": 0,
    }


def test_old_scans_go_and_only_those_of_the_pod(run: Run) -> None:
    for pod, days in (("test", 0), ("test", 89), ("test", 91), ("test", 92), ("other", 400)):
        run.ledger.execute(
            "INSERT INTO scans (pod, run_id, at, parameters_version, next_action, payload) "
            "VALUES (%s, %s, %s, 1, 'WAIT', '{}')",
            (pod, run.run_id, clock.now() - timedelta(days=days)),
        )
    assert housekeeping.keep_house(run)["scans_deleted"] == 2
    left = run.ledger.query("SELECT pod, at FROM scans ORDER BY at")
    assert [row["pod"] for row in left] == ["other", "test", "test"]


def test_without_the_lease_nothing_is_deleted(run: Run) -> None:
    run.ledger.execute(
        "INSERT INTO scans (pod, run_id, at, parameters_version, next_action, payload) "
        "VALUES ('test', %s, %s, 1, 'WAIT', '{}')",
        (run.run_id, clock.now() - timedelta(days=400)),
    )
    leases.release(run.ledger, run.workflow, run.epoch)
    with pytest.raises(LeaseLost):
        housekeeping.keep_house(run)
    assert len(run.ledger.query("SELECT 1 FROM scans")) == 1
