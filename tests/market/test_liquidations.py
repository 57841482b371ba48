"""Forced liquidations: sums by window, Gate's rows, and when they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import DataUnavailable
from shared.ledger.connection import Ledger
from shared.market import ages
from shared.market.derivatives import liquidations, reading
from shared.market.derivatives.gate import MOST_ROWS
from shared.market.derivatives.liquidations import LONGEST_MS, Liquidation
from shared.run import Run
from tests.conftest import VirtualClock
from tests.market.fakes import NOW_MS, make_run
from tests.market.gate_server import GateServer, contract, gate_server, liquidation

SYMBOL = "BTC/USDT"


@pytest.fixture
def gate() -> Iterator[GateServer]:
    reading._remembered.clear()
    with gate_server() as server:
        yield server


def run_over(ledger: Ledger, gate: GateServer) -> Run:
    return make_run(ledger, simulated_wire_url=gate.base, derivatives_venue="gate")


def read(run: Run) -> Any:
    found = reading.read(run, [SYMBOL])
    assert found is not None
    return found


def forced(seconds_ago: float, side: Any, notional: float) -> Liquidation:
    return Liquidation("BTC", NOW_MS - round(seconds_ago * 1000), side, notional)


def test_sums_by_hand() -> None:
    found = [
        forced(10, "long", 500),
        forced(200, "short", 70),
        forced(299.999, "long", 1),
        forced(300, "long", 4_000),
        forced(3_599, "short", 20),
        forced(3_600, "short", 1e9),
    ]
    totals = liquidations.total(found, NOW_MS - LONGEST_MS, NOW_MS)
    assert totals.long_usdt == {5: 501, 60: 4_501}
    assert totals.short_usdt == {5: 70, 60: 90}
    assert totals.largest_usdt == 4_000
    assert totals.newest_at_ms == NOW_MS - 10_000


def test_none_known_of_is_zero_and_not_known_is_null() -> None:
    quiet = liquidations.total([], NOW_MS - LONGEST_MS, NOW_MS)
    assert liquidations.export(quiet, NOW_MS, NOW_MS) == {
        "long_5m_usdt": 0.0,
        "long_60m_usdt": 0.0,
        "short_5m_usdt": 0.0,
        "short_60m_usdt": 0.0,
        "largest_usdt": 0.0,
        "newest_at_ms": None,
        "at_ms": NOW_MS,
    }
    cut = liquidations.total([forced(10, "long", 5)], NOW_MS - 600_000, NOW_MS)
    told = liquidations.export(cut, NOW_MS, NOW_MS)
    assert (told["long_5m_usdt"], told["long_60m_usdt"]) == (5.0, None)


def test_a_recorded_squeeze_sums_up_as_in_pandas(market_data_dir: Path) -> None:
    import pandas as pd

    rows = pd.read_csv(market_data_dir / "raw/okx_liquidations/sample_2026-10-05.csv")
    rows["at_ms"] = pd.to_datetime(rows["time_utc"], utc=True).astype("datetime64[ms, UTC]")
    rows["at_ms"] = rows["at_ms"].astype("int64")
    rows["notional"] = rows["size_contracts"] * rows["bankruptcy_price"]
    until_ms = int(rows["at_ms"].max())
    assert len(rows) > 30
    for inst, of_coin in rows.groupby("inst"):
        found = [
            Liquidation(str(inst), at_ms, side, notional)
            for at_ms, side, notional in zip(
                of_coin["at_ms"], of_coin["pos_side"], of_coin["notional"], strict=True
            )
        ]
        totals = liquidations.total(found, until_ms - LONGEST_MS, until_ms)
        for minutes in (5, 60):
            recent = of_coin[of_coin["at_ms"] > until_ms - minutes * 60_000]
            by_side = recent.groupby("pos_side")["notional"].sum()
            assert totals.long_usdt[minutes] == pytest.approx(by_side.get("long", 0.0))
            assert totals.short_usdt[minutes] == pytest.approx(by_side.get("short", 0.0))


@pytest.mark.usefixtures("virtual_clock")
def test_rows_of_gate(ledger: Ledger, gate: GateServer) -> None:
    """A contract holds 0.0001 of a coin; a size above zero was a long position."""
    gate.says(
        "liq_orders",
        [
            liquidation(5, 300),
            liquidation(60, -200, left=-50),
            liquidation(400, 1_000, price="90000"),
            liquidation(7, 999, contract="DOGE_USDT"),
        ],
    )
    told = read(run_over(ledger, gate)).by_symbol[SYMBOL]["liquidations"]
    assert told == {
        "long_5m_usdt": pytest.approx(300 * 0.0001 * 100_000),
        "long_60m_usdt": pytest.approx(3_000 + 1_000 * 0.0001 * 90_000),
        "short_5m_usdt": pytest.approx(150 * 0.0001 * 100_000),
        "short_60m_usdt": pytest.approx(1_500),
        "largest_usdt": pytest.approx(9_000),
        "newest_at_ms": NOW_MS - 5_000,
        "at_ms": NOW_MS,
    }
    ((_, query),) = [one for one in gate.asked if one[0] == "liq_orders"]
    assert query == {
        "from": [str(NOW_MS // 1000 - 3_600)], "to": [str(NOW_MS // 1000)], "limit": ["1000"],
    }  # fmt: skip


@pytest.mark.usefixtures("virtual_clock")
def test_of_an_answer_that_is_full_only_what_it_reaches_back_over_counts(
    ledger: Ledger, gate: GateServer
) -> None:
    """A thousand rows of ten minutes: the last five are known, the hour is not."""
    rows = [liquidation(i * 600 // MOST_ROWS, 1) for i in range(MOST_ROWS)]
    gate.says("liq_orders", rows)
    run = run_over(ledger, gate)
    found = read(run)
    told = found.by_symbol[SYMBOL]["liquidations"]
    assert told["long_5m_usdt"] > 0 and told["long_60m_usdt"] is None
    assert "derivatives.long_60m_usdt" in found.missing[SYMBOL]
    reading._remembered.clear()
    gate.says("liq_orders", rows[::-1])
    assert "oldest first" in read(run).failures[0]


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize(
    "changed",
    [
        {"size": 0},
        {"size": "many"},
        {"left": 301},
        {"fill_price": "0"},
        {"fill_price": None},
        {"time": NOW_MS // 1000 + 6},
        {"time": "inf"},
    ],
)
def test_a_row_that_cannot_be_is_refused_by_name(
    ledger: Ledger, gate: GateServer, changed: dict[str, Any]
) -> None:
    gate.says("liq_orders", [liquidation(5, 300) | changed])
    found = read(run_over(ledger, gate))
    assert found.failures[0].startswith("derivatives.liquidations:gate: ")
    assert next(iter(changed)) in found.failures[0]
    assert found.by_symbol[SYMBOL]["liquidations"] is None
    assert "derivatives.liquidations" in found.missing[SYMBOL]


def test_they_are_asked_for_every_five_minutes(
    ledger: Ledger, gate: GateServer, virtual_clock: VirtualClock
) -> None:
    run = run_over(ledger, gate)
    asked = []
    for _ in range(11):
        read(run)
        asked.append(gate.count("liq_orders"))
        virtual_clock.advance(minutes=1)
    assert asked == [1] * 5 + [2] * 5 + [3]


def test_what_was_read_is_used_until_it_is_too_old(
    ledger: Ledger, gate: GateServer, virtual_clock: VirtualClock
) -> None:
    run = run_over(ledger, gate)
    assert read(run).by_symbol[SYMBOL]["liquidations"]["at_ms"] == NOW_MS
    gate.says("liq_orders", b"", status=500)
    virtual_clock.advance(seconds=ages.MAX_AGE_MS["liquidations"] / 1000)
    assert read(run).by_symbol[SYMBOL]["liquidations"]["at_ms"] == NOW_MS
    virtual_clock.advance(seconds=0.001)
    found = read(run)
    assert found.by_symbol[SYMBOL]["liquidations"] is None
    assert any(note.startswith("derivatives.liquidations: at_ms") for note in found.missing[SYMBOL])


@pytest.mark.parametrize(("late_ms", "fresh"), [(0, True), (1, False)])
def test_too_old_is_missing(late_ms: int, fresh: bool) -> None:
    totals = liquidations.total([], NOW_MS - LONGEST_MS, NOW_MS)
    now_ms = NOW_MS + ages.MAX_AGE_MS["liquidations"] + late_ms
    if fresh:
        assert liquidations.export(totals, NOW_MS, now_ms)
    else:
        with pytest.raises(DataUnavailable, match="liquidations: at_ms: was"):
            liquidations.export(totals, NOW_MS, now_ms)


@pytest.mark.usefixtures("virtual_clock")
def test_without_contracts_they_are_not_asked_for(ledger: Ledger, gate: GateServer) -> None:
    """What a contract holds is not known, so that nothing could be summed."""
    gate.says("contracts", [contract("ETH_USDT")])
    read(run_over(ledger, gate))
    assert gate.count("liq_orders") == 0
