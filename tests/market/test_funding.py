"""Funding rates: what they mean, when they are asked for, and when they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.calls import CallLog
from shared.config import Config
from shared.errors import DataUnavailable
from shared.execution.venues import clients
from shared.ledger.connection import Ledger
from shared.market import ages
from shared.market.derivatives import funding, reading
from shared.market.derivatives.funding import HOUR_MS, Contract, Paid
from shared.market.derivatives.gate import Gate
from shared.run import Run
from tests.conftest import VirtualClock
from tests.market.fakes import NOW_MS, make_run
from tests.market.gate_server import (
    HOUR_S,
    NOW_S,
    SYMBOLS,
    GateServer,
    contract,
    gate_server,
    liquidation,
)


@pytest.fixture
def gate() -> Iterator[GateServer]:
    reading._remembered.clear()
    with gate_server() as server:
        yield server


def run_over(ledger: Ledger, gate: GateServer, redis_url: str | None = None) -> Run:
    return make_run(
        ledger, redis_url=redis_url, simulated_wire_url=gate.base, derivatives_venue="gate"
    )


def read(run: Run) -> reading.Derivatives:
    found = reading.read(run, SYMBOLS)
    assert found is not None
    return found


def perpetual(**changed: Any) -> Contract:
    values = {
        "rate": 0.0002,
        "interval_ms": 8 * HOUR_MS,
        "next_at_ms": NOW_MS + HOUR_MS,
        "mark_price": 100.0,
        "size": 0.1,
    }
    return Contract.model_validate(values | changed)


@pytest.mark.parametrize(("hours", "per_eight_hours"), [(1, 0.0016), (4, 0.0004), (8, 0.0002)])
def test_rates_of_other_periods_are_told_for_eight_hours_and_a_year(
    hours: int, per_eight_hours: float
) -> None:
    told = funding.export(perpetual(interval_ms=hours * HOUR_MS), None, NOW_MS, NOW_MS)
    assert told["funding_rate_8h"] == pytest.approx(per_eight_hours)
    assert told["funding_annualised_percent"] == pytest.approx(per_eight_hours * 3 * 365 * 100)
    assert told["funding_last_rate_8h"] is None


@pytest.mark.parametrize(
    ("paid_hours_ago", "is_the_last"), [(7, True), (7.01, False), (15, False), (0, True)]
)
def test_a_payment_before_the_last_one_is_not_told(
    paid_hours_ago: float, is_the_last: bool
) -> None:
    paid = Paid(rate=-0.0001, at_ms=NOW_MS - round(paid_hours_ago * HOUR_MS))
    told = funding.export(perpetual(), paid, NOW_MS, NOW_MS)["funding_last_rate_8h"]
    assert told == (-0.0001 if is_the_last else None)


def test_a_rate_whose_period_is_over_is_missing() -> None:
    over = perpetual(next_at_ms=NOW_MS)
    with pytest.raises(DataUnavailable, match="funding: next_at_ms: was"):
        funding.export(over, None, NOW_MS, NOW_MS)
    assert funding.export(over, None, NOW_MS - 1, NOW_MS - 1)


@pytest.mark.usefixtures("virtual_clock")
def test_funding_as_the_scan_exports_it(ledger: Ledger, gate: GateServer) -> None:
    run = run_over(ledger, gate)
    first = read(run)
    assert first.failures == []
    assert first.by_symbol["BTC/USDT"]["venue"] == "gate"
    assert first.by_symbol["BTC/USDT"]["funding"] == {
        "funding_rate_8h": pytest.approx(0.0002),
        "funding_last_rate_8h": None,  # is asked for in the next run
        "funding_annualised_percent": pytest.approx(21.9),
        "funding_next_at_ms": NOW_MS + 6 * HOUR_MS,
        "funding_at_ms": NOW_MS,
        "mark_price": 100_000.0,
    }
    assert first.missing["BTC/USDT"] == ["derivatives.funding_last_rate_8h"]
    second = read(run)
    assert second.by_symbol["ETH/USDT"]["funding"]["funding_last_rate_8h"] == 0.0001
    assert second.missing == {"BTC/USDT": [], "ETH/USDT": []}
    assert gate.count("contracts") == 1  # one request for all symbols
    assert [query["contract"] for name, query in gate.asked if name == "funding_rate"] == [
        ["BTC_USDT"], ["ETH_USDT"],
    ]  # fmt: skip


def test_it_is_asked_for_every_quarter_of_an_hour_and_when_a_period_ends(
    ledger: Ledger, gate: GateServer, redis_url: str, virtual_clock: VirtualClock
) -> None:
    gate.says("contracts", [contract(funding_next_apply=NOW_S + 20 * 60)])
    run = run_over(ledger, gate, redis_url)
    asked = []
    for _ in range(22):
        read(run)
        asked.append(gate.count("contracts"))
        virtual_clock.advance(minutes=1)
    assert asked[:15] == [1] * 15
    assert asked[15:20] == [2] * 5
    assert asked[20] == 3  # its period has just ended
    assert asked[21] == 4  # and Gate has not turned the page yet


@pytest.mark.usefixtures("virtual_clock")
def test_another_process_takes_it_from_redis(
    ledger: Ledger, gate: GateServer, redis_url: str
) -> None:
    run = run_over(ledger, gate, redis_url)
    told = read(run).by_symbol
    reading._remembered.clear()
    assert read(run).by_symbol["BTC/USDT"]["liquidations"] == told["BTC/USDT"]["liquidations"]
    assert gate.count("contracts") == gate.count("liq_orders") == 1
    for poison in (b"", b"{", b'{"contracts": {"BTC": {"rate": 7}}}'):
        run.cache.set(reading._KEY, poison, 60)
        reading._remembered.clear()
        assert read(run).by_symbol["BTC/USDT"]["funding"] is not None


def test_a_source_that_fails_has_a_minute_of_rest_and_is_counted(
    ledger: Ledger, gate: GateServer, virtual_clock: VirtualClock
) -> None:
    gate.says("contracts", b"<html>", status=502)
    run = run_over(ledger, gate)
    found = read(run)
    assert found.by_symbol["BTC/USDT"] == {"venue": "gate", "funding": None, "liquidations": None}
    assert found.missing["BTC/USDT"] == ["derivatives:no contract of BTC is known"]
    assert found.failures == ["derivatives.funding:gate: contracts: ExchangeNotAvailable"]
    assert run.calls.by_service["gate"].failures == 1
    virtual_clock.advance(seconds=59)
    assert read(run).failures == [] and gate.count("contracts") == 1
    gate.says("contracts", [contract()])
    virtual_clock.advance(seconds=1)
    assert read(run).by_symbol["BTC/USDT"]["funding"] is not None


@pytest.mark.usefixtures("virtual_clock")
def test_a_rate_limit_is_counted_as_one(ledger: Ledger, gate: GateServer) -> None:
    gate.says("contracts", {"label": "TOO_MANY_REQUESTS", "message": "slow down"}, status=429)
    run = run_over(ledger, gate)
    assert read(run).failures == ["derivatives.funding:gate: contracts: RateLimitExceeded"]
    assert run.calls.by_service["gate"].rate_limited == 1


@pytest.mark.parametrize(("late_ms", "fresh"), [(0, True), (1, False)])
def test_too_old_is_missing(late_ms: int, fresh: bool) -> None:
    fetched_ms = NOW_MS - ages.MAX_AGE_MS["funding"] - late_ms
    if fresh:
        assert funding.export(perpetual(), None, fetched_ms, NOW_MS)
    else:
        with pytest.raises(DataUnavailable, match="funding: at_ms: was"):
            funding.export(perpetual(), None, fetched_ms, NOW_MS)


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"funding_rate": None}, "funding_rate: was None, expected a number"),
        ({"funding_rate": "nan"}, "funding_rate: was 'nan', expected a number"),
        ({"funding_rate": "0.11"}, "rate: was 0.11"),
        ({"funding_rate": "-0.11"}, "rate: was -0.11"),
        ({"funding_interval": 60}, "interval_ms: was 60000"),
        ({"funding_interval": 2 * 86_400}, "interval_ms: was"),
        ({"mark_price": "0"}, "mark_price: was 0.0"),
        ({"quanto_multiplier": "-1"}, "size: was -1.0"),
        ({"funding_next_apply": 0}, "next_at_ms: was 0"),
    ],
)
def test_a_malformed_contract_is_named_and_spoils_no_other(
    ledger: Ledger, gate: GateServer, changed: dict[str, Any], message: str
) -> None:
    gate.says("contracts", [contract(**changed), contract("ETH_USDT")])
    found = read(run_over(ledger, gate))
    (failure,) = found.failures
    assert failure.startswith(f"derivatives.funding:BTC: gate: {message}")
    assert found.by_symbol["BTC/USDT"]["funding"] is None
    assert found.by_symbol["ETH/USDT"]["funding"] is not None


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize("body", [{}, {"items": []}, [1, 2], b"", b"<html>", b"[{"])
def test_an_answer_of_another_shape_is_refused(ledger: Ledger, gate: GateServer, body: Any) -> None:
    gate.says("contracts", body)
    run = run_over(ledger, gate)
    found = read(run)
    assert found.failures[0].startswith("derivatives.funding:gate: contracts: ")
    assert found.by_symbol["BTC/USDT"]["funding"] is None
    assert run.calls.by_service["gate"].failures == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, 1e306])
    | st.floats()
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=3,
)


@given(field=st.sampled_from([*contract(), *liquidation(1, 1), "t", "r"]), value=JSON)
def test_whatever_gate_says_only_data_unavailable_is_raised(field: str, value: Any) -> None:
    """A bug of a parser must not end the scan."""
    answers = {
        "publicFuturesGetSettleContracts": [contract() | {field: value}],
        "publicFuturesGetSettleFundingRate": [{"t": NOW_S, "r": "0.1"} | {field: value}],
        "publicFuturesGetSettleLiqOrders": [liquidation(1, 1) | {field: value}],
    }
    gate = object.__new__(Gate)
    gate._calls = CallLog()
    gate._client = SimpleNamespace(**{name: _always(rows) for name, rows in answers.items()})
    contracts, _ = gate.contracts(["BTC"])
    assert set(contracts) <= {"BTC"}
    with suppress(DataUnavailable):
        gate.last_funding("BTC")
    with suppress(DataUnavailable):
        gate.liquidations({"BTC": 0.0001}, NOW_MS)


def _always(rows: Any) -> Any:
    return lambda _: rows


@pytest.mark.usefixtures("virtual_clock")
def test_a_coin_without_a_contract_is_named(
    ledger: Ledger, gate: GateServer, redis_url: str
) -> None:
    gate.says("contracts", [contract(name=["BTC_USDT"])])
    run = run_over(ledger, gate, redis_url)
    for _ in range(3):
        assert read(run).missing["ETH/USDT"] == ["derivatives:no contract of ETH is known"]
        reading._remembered.clear()
    assert gate.count("contracts") == 1  # which Redis remembers, although there is nothing


def test_a_coin_that_joins_is_asked_for_at_once(
    ledger: Ledger, gate: GateServer, virtual_clock: VirtualClock
) -> None:
    run = run_over(ledger, gate)
    reading.read(run, ["BTC/USDT"])
    virtual_clock.advance(minutes=2)
    found = reading.read(run, SYMBOLS)
    assert found is not None and found.by_symbol["ETH/USDT"]["funding"] is not None


@pytest.mark.usefixtures("virtual_clock")
def test_the_last_payments_of_many_coins_are_spread_over_runs(
    ledger: Ledger, gate: GateServer
) -> None:
    coins = [f"C{number}" for number in range(7)]
    gate.says("contracts", [contract(f"{coin}_USDT") for coin in coins])
    run = run_over(ledger, gate)
    asked = []
    for _ in range(5):
        reading.read(run, [f"{coin}/USDT" for coin in coins])
        asked.append(gate.count("funding_rate"))
    assert asked == [0, 3, 6, 7, 7]


def test_a_payment_that_is_not_told_is_asked_for_seldom(
    ledger: Ledger, gate: GateServer, virtual_clock: VirtualClock
) -> None:
    gate.says("funding_rate", [{"t": NOW_S - 9 * HOUR_S, "r": "0.0001"}])
    gate.says("contracts", [contract()])
    run = run_over(ledger, gate)
    for _ in range(9):
        found = reading.read(run, ["BTC/USDT"])
        virtual_clock.advance(minutes=1)
    assert found is not None and found.missing["BTC/USDT"] == ["derivatives.funding_last_rate_8h"]
    assert gate.count("funding_rate") == 2


def test_off_asks_nobody(ledger: Ledger, gate: GateServer) -> None:
    run = make_run(ledger, simulated_wire_url=gate.base, derivatives_venue="off")
    assert reading.read(run, SYMBOLS) is None
    assert gate.asked == []


def test_live_goes_to_gate_and_the_simulated_wire_to_this_machine() -> None:
    live = clients.client(Config(), "gate", private=False)
    assert live.urls["api"]["public"]["futures"] == "https://api.gateio.ws/api/v4"
    assert (live.apiKey or None, live.secret or None) == (None, None)
    wired = Config.model_validate({"simulated_wire_url": "http://127.0.0.1:1"})
    there = clients.client(wired, "gate", private=False).urls["api"]
    assert there["public"]["futures"] == "http://127.0.0.1:1/gate/api/v4"
