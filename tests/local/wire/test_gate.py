"""Gate's public futures endpoints on the wire, asked by an unmodified ccxt client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.local.market.funding import MAX_AGE_MS, NO_HISTORY, FundingHistory, recorded_funding
from deploy.local.wire.faults.rules import malformed, rate_limited
from deploy.local.wire.feed import Feed
from deploy.local.wire.gate import PERIOD_MS, GateFutures
from shared.calls import CallLog
from shared.config import Config
from shared.errors import DataUnavailable
from shared.market.derivatives.gate import Gate
from tests.local.wire.conftest import RunningWire
from tests.local.wire.fakes import MINUTE_MS, START_MS, FakeSource

COINS = ("BTC", "ETH", "SOL")
FALL = (100_000.0, 100_000.0, 97_000.0, 97_500.0)
RISE = (97_500.0, 101_000.0, 97_500.0, 100_800.0)
NOON = START_MS // PERIOD_MS * PERIOD_MS


def futures(
    minutes: Any = None, *, seed: int = 3, history: FundingHistory = NO_HISTORY
) -> GateFutures:
    return GateFutures(Feed(FakeSource(minutes), seed), history, START_MS)


def client(wire: RunningWire) -> tuple[Gate, CallLog]:
    calls = CallLog()
    config = Config.model_validate({"simulated_wire_url": wire.base_url})
    return Gate(config, calls), calls


def test_contracts_paid_rates_and_liquidations_over_http(wire: RunningWire) -> None:
    wire.advance(3)
    gate, calls = client(wire)
    contracts, problems = gate.contracts([*COINS, "NONE"])
    assert list(contracts) == list(COINS) and problems == []
    assert contracts["BTC"].next_at_ms == NOON + PERIOD_MS
    assert contracts["BTC"].mark_price == pytest.approx(100_500, rel=0.01)
    assert 5 < contracts["SOL"].size * contracts["SOL"].mark_price < 100
    paid = gate.last_funding("BTC")
    assert paid.at_ms == NOON and paid.rate == contracts["BTC"].rate
    sizes = {coin: contract.size for coin, contract in contracts.items()}
    now_ms = START_MS + 3 * MINUTE_MS
    found, from_ms = gate.liquidations(sizes, now_ms)
    assert from_ms == now_ms - 3_600_000
    assert all(from_ms <= one.at_ms <= now_ms for one in found)
    # the fixture's market falls by two percent in two minutes, then comes back
    by_minute = [
        {one.side for one in found if one.base == "BTC" and one.at_ms // MINUTE_MS == minute}
        for minute in range(START_MS // MINUTE_MS, now_ms // MINUTE_MS)
    ]
    assert by_minute == [{"long"}, {"long"}, {"short"}]
    assert calls.by_service["gate"].failures == 0


def test_a_coin_that_is_not_listed(wire: RunningWire) -> None:
    gate, _ = client(wire)
    with pytest.raises(DataUnavailable, match="gate: funding_rate: "):
        gate.last_funding("NONE")
    answer = requests.get(f"{wire.base_url}/gate/api/v4/futures/usdt/nothing", timeout=5)
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (rate_limited("gate", "/api/v4/futures/usdt/contracts", 30), "RateLimitExceeded"),
        (malformed("gate", "/api/v4/futures/usdt/contracts", "html"), "expected a list"),
        (malformed("gate", "/api/v4/futures/usdt/contracts", "object"), "expected a list"),
    ],
)
def test_faults_reach_it_too(wire: RunningWire, fault: dict[str, Any], message: str) -> None:
    told = requests.post(
        f"{wire.base_url}/_control/faults", json={"seed": 1, "rules": [fault]}, timeout=5
    )
    assert told.status_code == 200
    gate, calls = client(wire)
    with pytest.raises(DataUnavailable, match=f"gate: contracts: .*{message}"):
        gate.contracts(COINS)
    assert calls.by_service["gate"].failures == 1
    assert gate.contracts(COINS)[0]  # the fault strikes once


def rows(stand_in: GateFutures, endpoint: str, now_ms: int, **query: str) -> list[dict[str, Any]]:
    import json

    status, body = stand_in.answer(endpoint, query, now_ms)
    assert status == 200, body
    found: list[dict[str, Any]] = json.loads(body)
    return found


def test_the_same_question_has_the_same_answer_in_any_order() -> None:
    one, other = futures({"BTC/USDT": [FALL, RISE]}), futures({"BTC/USDT": [FALL, RISE]})
    later, sooner = START_MS + 9 * MINUTE_MS, START_MS + 2 * MINUTE_MS
    first = rows(one, "liq_orders", sooner), rows(one, "liq_orders", later)
    second = rows(other, "liq_orders", later), rows(other, "liq_orders", sooner)
    assert first == second[::-1]
    different = futures({"BTC/USDT": [FALL, RISE]}, seed=4)
    assert rows(different, "liq_orders", later) != first[1]


def test_what_has_happened_stays_as_it_was_told() -> None:
    stand_in = futures({"BTC/USDT": [FALL, RISE]})
    told = rows(stand_in, "liq_orders", START_MS + 2 * MINUTE_MS, limit="1000")
    again = rows(stand_in, "liq_orders", START_MS + 9 * MINUTE_MS, limit="1000")
    recent = [row for row in told if row["time"] >= START_MS // 1000 - 1_800]
    assert recent and all(row in again for row in recent)


def test_rows_are_newest_first_and_within_what_was_asked_for() -> None:
    stand_in = futures({"BTC/USDT": [FALL, RISE]})
    now_ms = START_MS + 2 * MINUTE_MS
    every = rows(stand_in, "liq_orders", now_ms, limit="1000")
    times = [row["time"] for row in every]
    assert times == sorted(times, reverse=True) and len(times) > 3
    assert rows(stand_in, "liq_orders", now_ms, limit="2") == every[:2]
    begun = {"from": str(START_MS // 1000)}
    late = rows(stand_in, "liq_orders", now_ms, contract="BTC_USDT", **begun)
    assert late and {row["contract"] for row in late} == {"BTC_USDT"}
    assert min(row["time"] for row in late) >= START_MS // 1000
    for row in every:
        assert row["size"] * row["order_size"] < 0  # a long position is sold, a short bought


def test_a_recorded_rate_is_told_when_it_is_paid_and_not_before() -> None:
    paid = {"BTC": [NOON - PERIOD_MS, NOON, NOON + PERIOD_MS]}
    stand_in = futures(history=FundingHistory(paid, {"BTC": [0.0003, -0.0001, 0.0009]}))
    for now_ms in (NOON, START_MS, NOON + PERIOD_MS - MINUTE_MS):
        (bitcoin,) = [
            row for row in rows(stand_in, "contracts", now_ms) if row["name"] == "BTC_USDT"
        ]
        assert float(bitcoin["funding_rate"]) == -0.0001
    told = rows(stand_in, "funding_rate", START_MS, contract="BTC_USDT", limit="2")
    assert told == [
        {"t": NOON // 1000, "r": "-0.00010000"},
        {"t": (NOON - PERIOD_MS) // 1000, "r": "0.00030000"},
    ]


def test_the_newest_recorded_rate_of_a_day() -> None:
    history = FundingHistory({"BTC": [NOON]}, {"BTC": [0.0001]})
    assert history.last("BTC", NOON - 1) is None
    assert history.last("BTC", NOON) == (NOON, 0.0001)
    assert history.last("BTC", NOON + MAX_AGE_MS) == (NOON, 0.0001)
    assert history.last("BTC", NOON + MAX_AGE_MS + 1) is None
    assert history.last("ETH", NOON) is None


def test_recorded_rates_of_a_folder(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    folder = tmp_path / "binanceusdm" / "BTC-USDT-PERP"
    folder.mkdir(parents=True)
    table = pyarrow.table({"timestamp": [NOON, NOON - PERIOD_MS], "funding_rate": [0.2, 0.1]})
    parquet.write_table(table, folder / "funding_rate-earlier.parquet")
    assert recorded_funding(str(tmp_path)) == FundingHistory(
        {"BTC": [NOON - PERIOD_MS, NOON]}, {"BTC": [0.1, 0.2]}
    )
    assert recorded_funding(str(tmp_path / "nothing")) == NO_HISTORY
    (folder / "funding_rate-later.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataUnavailable, match=r"funding_rate-later.parquet: expected a Parquet"):
        recorded_funding(str(tmp_path))
