"""Each check at its limit, one unit past it, and without what it needs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from shared import clock
from shared.config import Config
from shared.ledger import migrate
from shared.safety import checks
from shared.safety.checks import market as market_checks
from shared.safety.checks import orders, portfolio, system
from shared.safety.checks.base import Result
from shared.safety.checks.volatility import VIX_LIMIT, vix
from shared.safety.facts import Facts, Scan
from tests.safety.world import PAIRS, calls, facts, market, settings

pytestmark = pytest.mark.usefixtures("virtual_clock")

Check = Callable[[Facts, Config], Result]


def minutes_ago(minutes: float) -> Any:
    return clock.now() - timedelta(minutes=minutes)


def scan(**changes: Any) -> Scan:
    return Scan(clock.now(), [market(pair, **changes) for pair in PAIRS], {})


def quoted(mid: float) -> dict[str, Any]:
    def at(price: float) -> dict[str, float]:
        return {"bid": price, "ask": price}

    return {"venues": {"a": at(100.0), "b": at(100.0), "c": at(mid)}}


CASES: list[tuple[Check, dict[str, Any], str]] = [
    # three tiers: 10 % no new risk, 20 % halt
    (portfolio.drawdown, {"equity": 9_000, "mark": 10_000}, "OK"),
    (portfolio.drawdown, {"equity": "8999.99", "mark": 10_000}, "WARNING"),
    (portfolio.drawdown, {"equity": 8_000, "mark": 10_000}, "WARNING"),
    (portfolio.drawdown, {"equity": "7999.99", "mark": 10_000}, "CRITICAL"),
    (portfolio.drawdown, {"equity_at": None}, "UNKNOWN"),
    # MAX_DAILY_LOSS is 50; 5 % of 10,000 would be 500
    (portfolio.daily_loss, {"equity": 9_950, "day_start": 10_000}, "OK"),
    (portfolio.daily_loss, {"equity": "9949.99", "day_start": 10_000}, "CRITICAL"),
    (portfolio.daily_loss, {"equity": "9949.99", "rolling_start": 10_000}, "CRITICAL"),
    # where 5 % of the equity is less than 50, it binds
    (portfolio.daily_loss, {"equity": 95, "day_start": 100}, "OK"),
    (portfolio.daily_loss, {"equity": "94.99", "day_start": 100}, "CRITICAL"),
    (portfolio.exposure, {"positions_quote": Decimal(10_000)}, "OK"),
    (portfolio.exposure, {"positions_quote": Decimal("10000.01")}, "CRITICAL"),
    (portfolio.exposure, {"tactical_positions": 5}, "OK"),
    (portfolio.exposure, {"tactical_positions": 6}, "CRITICAL"),
    (system.api_health, {"calls": {"binance": calls(failures=5)}}, "OK"),
    (system.api_health, {"calls": {"binance": calls(failures=6)}}, "CRITICAL"),
    (system.api_health, {"calls": {}}, "UNKNOWN"),
    (
        system.api_health,
        {"calls": {n: calls(n, failures=3) for n in ("binance", "kraken")}},
        "CRITICAL",
    ),
    (
        system.api_health,
        {"calls": {"binance": calls(), "openai": calls("openai", failures=99)}},
        "OK",
    ),
    (system.database_health, {"statement_ms": 250.0}, "OK"),
    (system.database_health, {"statement_ms": 250.1}, "WARNING"),
    (system.database_health, {"statement_ms": 1_000.1}, "CRITICAL"),
    (system.database_health, {"schema_version": 999}, "CRITICAL"),
    (system.latency, {"calls": {"binance": calls(mean_latency_ms=2_000.0)}}, "OK"),
    (system.latency, {"calls": {"binance": calls(mean_latency_ms=2_000.1)}}, "WARNING"),
    (system.latency, {"calls": {"binance": calls(mean_latency_ms=8_000.1)}}, "CRITICAL"),
    (system.latency, {"slowest_run_ms": 30_000.0}, "OK"),
    (system.latency, {"slowest_run_ms": 30_001.0}, "WARNING"),
    (system.latency, {"slowest_run_ms": 50_001.0}, "CRITICAL"),
    (system.latency, {"calls": {}}, "UNKNOWN"),
    (market_checks.liquidity, {"scan": None}, "UNKNOWN"),
    (orders.slippage, {"slippage_bps": Decimal(50)}, "OK"),
    (orders.slippage, {"slippage_bps": Decimal("50.01")}, "WARNING"),
    (orders.failure_rate, {"failed_intents_last_hour": 1}, "OK"),
    (orders.failure_rate, {"failed_intents_last_hour": 2}, "WARNING"),
    (orders.failure_rate, {"failed_intents_last_hour": 6}, "CRITICAL"),
    (orders.failure_rate, {"failed_runs_last_hour": 6}, "OK"),
    (orders.failure_rate, {"failed_runs_last_hour": 7}, "WARNING"),
    (orders.failure_rate, {"failed_runs_last_hour": 31}, "CRITICAL"),
    (
        orders.failure_rate,
        {"intents_last_hour": 4, "failed_intents_last_hour": 4, "runs_last_hour": 4},
        "OK",
    ),
    (
        orders.regulatory_limits,
        {"holdings": [{"symbol": "DOGE/USDT", "quantity": "1"}]},
        "CRITICAL",
    ),
    (
        orders.regulatory_limits,
        {"holdings": [{"symbol": "BTC/USDT", "quantity": "-0.001"}]},
        "CRITICAL",
    ),
    (orders.regulatory_limits, {"holdings": None}, "OK"),
    (orders.regulatory_limits, {"ordered_markets": [["ftx", "BTC/USDT"]]}, "CRITICAL"),
    (orders.exchange_limits, {"orders_last_minute": {"kraken": 48}}, "OK"),
    (orders.exchange_limits, {"orders_last_minute": {"kraken": 49}}, "WARNING"),
    (orders.exchange_limits, {"orders_last_minute": {"kraken": 61}}, "CRITICAL"),
    (orders.exchange_limits, {"orders_last_minute": None}, "OK"),
    (orders.exchange_limits, {"calls": {"binance": calls(rate_limited=1)}}, "WARNING"),
    (orders.exchange_limits, {"calls": {"binance": calls(rate_limited=6)}}, "CRITICAL"),
]


@pytest.mark.parametrize(("check", "changes", "status"), CASES)
def test_limits(check: Check, changes: dict[str, Any], status: str) -> None:
    result = check(facts(**changes), settings())
    assert result.status == status, result


@pytest.mark.parametrize(
    ("check", "changes", "status"),
    [
        (market_checks.liquidity, {"spread_bps": 50.0}, "OK"),
        (market_checks.liquidity, {"spread_bps": 50.1}, "WARNING"),
        (market_checks.liquidity, {"spread_bps": 200.1}, "CRITICAL"),
        (market_checks.liquidity, {"depth_quote": {"bid": 1_000.0, "ask": 9_000.0}}, "OK"),
        (market_checks.liquidity, {"depth_quote": {"bid": 999.9, "ask": 9_000.0}}, "WARNING"),
        (market_checks.liquidity, {"spread_bps": None}, "UNKNOWN"),
        (market_checks.anomalies, {"anomaly": "PRICE_JUMP"}, "WARNING"),
        (market_checks.anomalies, quoted(101.0), "OK"),
        (market_checks.anomalies, quoted(101.1), "WARNING"),
        (market_checks.anomalies, quoted(103.1), "CRITICAL"),
    ],
)
def test_market_limits(check: Check, changes: dict[str, Any], status: str) -> None:
    result = check(facts(scan=scan(**changes)), settings())
    assert result.status == status, result


@pytest.mark.parametrize(
    ("worth", "detail"),
    [
        (0.99, "none"),
        (0.9899, "USDT is worth 0.9899 by kraken USDT/USD"),
        (1.01, "none"),
        (1.0101, "USDT is worth 1.0101 by kraken USDT/USD"),
    ],
)
def test_a_peg_is_lost(worth: float, detail: str) -> None:
    seen = Scan(clock.now(), [market(pair) for pair in PAIRS], {"kraken USDT/USD": worth})
    result = market_checks.anomalies(facts(scan=seen), settings())
    assert (result.status, result.detail) == ("OK" if detail == "none" else "WARNING", detail)


@pytest.mark.parametrize(("minutes", "status"), [(3, "OK"), (3.1, "CRITICAL")])
def test_a_silent_scanner(minutes: float, status: str) -> None:
    old = Scan(minutes_ago(minutes), [market(pair) for pair in PAIRS], {})
    assert market_checks.anomalies(facts(scan=old), settings()).status == status


def test_prices_that_stand_still_everywhere() -> None:
    frozen = Scan(minutes_ago(5), [market(pair) for pair in PAIRS], {})
    assert market_checks.anomalies(facts(earlier_scan=frozen), settings()).status == "WARNING"
    one_moved = Scan(minutes_ago(5), [market(p, price=100.0 + (p == PAIRS[0])) for p in PAIRS], {})
    assert market_checks.anomalies(facts(earlier_scan=one_moved), settings()).status == "OK"


@pytest.mark.parametrize(("minutes", "status"), [(15, "OK"), (15.1, "UNKNOWN")])
@pytest.mark.parametrize("check", [portfolio.drawdown, portfolio.daily_loss, portfolio.exposure])
def test_old_equity_proves_nothing(check: Check, minutes: float, status: str) -> None:
    assert check(facts(equity_at=minutes_ago(minutes)), settings()).status == status


@pytest.mark.parametrize(("minutes", "status"), [(5, "OK"), (5.1, "WARNING")])
def test_a_run_that_never_ended(minutes: float, status: str) -> None:
    stuck = facts(oldest_running_at=minutes_ago(minutes))
    assert system.database_health(stuck, settings()).status == status


def test_the_two_regions_of_binance_exclude_each_other() -> None:
    both = settings(VENUES="binance,binanceus")
    assert orders.regulatory_limits(facts(), both).status == "CRITICAL"


def test_no_orders_yet_is_fine_and_has_no_value() -> None:
    result = orders.slippage(facts(slippage_bps=None), settings())
    assert (result.status, result.value) == ("OK", None)
    assert "no orders" in result.detail


def test_the_schema_version_is_that_of_the_migrations() -> None:
    assert max(m.version for m in migrate.known()) == system.SCHEMA_VERSION


def test_there_are_thirteen_checks() -> None:
    assert len(checks.CHECKS) == 13


def closes(volatility: float, count: int) -> Any:
    """Closes that go up and down by turns by a log return of ``volatility``."""
    return 100 * np.exp(volatility * (np.arange(count) % 2))


def test_the_index_is_20_where_the_day_is_like_its_year() -> None:
    daily = 0.04
    hourly = daily / 24**0.5
    index = vix(closes(hourly, 25), closes(daily, 400))
    # the samples hold 24 and 7 alternating returns: variances n / (n - 1) and (1 - 1/49) 7 / 6
    expected = 20 * (24 / 23) ** 0.5 / ((1 - 1 / 49) * 7 / 6) ** 0.5
    assert index == pytest.approx(expected)


def test_the_index_doubles_with_the_hourly_volatility_and_halves_with_the_years() -> None:
    base = vix(closes(0.01, 25), closes(0.04, 400))
    assert base is not None
    assert vix(closes(0.02, 25), closes(0.04, 400)) == pytest.approx(2 * base)
    assert vix(closes(0.01, 25), closes(0.08, 400)) == pytest.approx(base / 2)


@pytest.mark.parametrize(
    ("hours", "days", "known"), [(25, 31, True), (24, 31, False), (25, 30, False)]
)
def test_the_index_needs_a_day_and_a_month(hours: int, days: int, known: bool) -> None:
    assert (vix(closes(0.01, hours), closes(0.04, days)) is not None) == known


def test_the_index_has_no_value_where_nothing_ever_moved() -> None:
    assert vix(closes(0.01, 25), closes(0.0, 400)) is None


def test_the_limit_of_the_index_is_the_documents() -> None:
    assert VIX_LIMIT == 35
