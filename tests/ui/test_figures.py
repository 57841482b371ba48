"""The figures of the dashboard, against numbers worked out by hand."""

from __future__ import annotations

import json as json_module
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from shared import config
from shared.ledger import alerts, arming, migrate, runs
from shared.ledger.connection import Ledger, json
from shared.ui import dashboard
from tests import ledger_seed as seed

NOW = datetime(2025, 5, 8, 14, 30, tzinfo=UTC)
SETTINGS = config.load({"POD": "test"})


def gather(ledger: Ledger) -> dashboard.Model:
    return dashboard.gather(ledger, SETTINGS, NOW)


def mark(ledger: Ledger, at: datetime, equity: int) -> None:
    ledger.execute(
        "INSERT INTO equity VALUES (%s, %s, %s, %s, 100)", (ledger.pod, at, equity, equity - 100)
    )


def test_an_empty_ledger_has_unknowns_and_no_zeros(ledger: Ledger) -> None:
    model = gather(ledger)
    assert set(model["equity"].values()) == {None}
    assert model["risk"]["exposure_percent"] is None
    assert model["risk"]["max_day_loss_quote"] is None
    assert model["performance_24h"]["pnl_quote"] is None
    assert model["performance_24h"]["win_rate_percent"] is None
    assert model["execution_24h"]["slippage_bps"] is None
    assert model["breaker"]["status"] is None
    assert model["decisions_24h"] == {"BUY": 0, "SELL": 0, "HOLD": 0}
    assert model["positions"] == model["trades"] == model["curve"] == []


def test_equity_counts_the_day_from_midnight_and_the_fall_from_the_peak(ledger: Ledger) -> None:
    mark(ledger, NOW - timedelta(days=3), 8_000)
    mark(ledger, NOW - timedelta(days=2), 12_500)
    mark(ledger, datetime(2025, 5, 7, 23, 59, tzinfo=UTC), 10_400)
    mark(ledger, datetime(2025, 5, 8, 0, 1, tzinfo=UTC), 10_500)
    mark(ledger, NOW, 10_000)
    equity = gather(ledger)["equity"]
    assert equity["day_pnl_quote"] == -400
    assert float(equity["day_return_percent"]) == pytest.approx(-100 * 400 / 10_400)
    assert equity["drawdown_percent"] == 20  # of 12,500
    assert equity["total_pnl_quote"] == 2_000
    assert equity["return_total_percent"] == 25
    assert equity["cash_quote"] == 9_900


def test_a_deposit_is_no_profit(ledger: Ledger) -> None:
    mark(ledger, NOW - timedelta(hours=10), 1_000)
    ledger.execute(
        "INSERT INTO transfers (pod, venue, currency, amount, at, note) "
        "VALUES ('test', 'binance', 'USDT', 500, %s, 'deposit')",
        (NOW - timedelta(hours=5),),
    )
    mark(ledger, NOW, 1_500)
    model = gather(ledger)
    assert model["equity"]["day_pnl_quote"] == 0
    assert model["equity"]["total_pnl_quote"] == 0
    assert [point["equity_quote"] for point in model["curve"]] == [1_500, 1_500]


def test_the_curve_is_short_keeps_its_ends_and_its_deepest_fall(ledger: Ledger) -> None:
    mark(ledger, NOW - timedelta(days=30), 2_000)  # a peak long before the window
    with ledger.transaction():
        for minute in range(1_000):
            mark(ledger, NOW - timedelta(minutes=999 - minute), 500 if minute == 501 else 1_000)
    curve = gather(ledger)["curve"]
    assert len(curve) <= 240
    assert curve[-1]["at"] == NOW
    assert curve[-1]["equity_quote"] == 1_000
    assert max(point["drawdown_percent"] for point in curve) == 75  # 500 of 2,000
    assert curve[0]["drawdown_percent"] == 50


def test_an_open_position_is_valued_at_the_newest_mid_with_fees(ledger: Ledger) -> None:
    mark(ledger, NOW, 1_000)
    at = NOW - timedelta(hours=1)
    position_id = seed.open_row(ledger, "ETH/USDT", "momentum", at, Decimal(1_960))
    seed.fill(ledger, position_id, "ETH/USDT", "buy", Decimal(2_000), Decimal("0.05"), at)
    seed.quote(ledger, "ETH/USDT", Decimal(2_100), NOW)
    model = gather(ledger)
    (position,) = model["positions"]
    # 0.05 at 2,100 is 105; paid were 100 and a fee of 0.1 percent
    assert position["value_quote"] == 105
    assert position["pnl_quote"] == Decimal("4.90")
    assert position["pnl_percent"] == Decimal("4.90")
    assert float(position["to_stop_percent"]) == pytest.approx(100 * 140 / 2_100)
    assert model["risk"]["exposure_percent"] == Decimal("10.5")
    # 2 percent of 1,000 is less than MAX_POSITION_SIZE, 5 percent as much as MAX_DAILY_LOSS
    assert model["risk"]["max_position_quote"] == 20
    assert model["risk"]["max_day_loss_quote"] == 50


def test_a_position_without_a_price_leaves_value_and_exposure_unknown(ledger: Ledger) -> None:
    mark(ledger, NOW, 1_000)
    position_id = seed.open_row(ledger, "ETH/USDT", "momentum", NOW, Decimal(1_960))
    seed.fill(ledger, position_id, "ETH/USDT", "buy", Decimal(2_000), Decimal("0.05"), NOW)
    model = gather(ledger)
    assert model["positions"][0]["pnl_quote"] is None
    assert model["risk"]["exposure_quote"] is None


def closed(ledger: Ledger, symbol: str, strategy: str, leave: str, hours_ago: float) -> None:
    """A trade of one unit, bought at 100 without fees and sold at ``leave``."""
    at = NOW - timedelta(hours=hours_ago)
    position_id = seed.open_row(ledger, symbol, strategy, at, Decimal(90))
    for side, price in (("buy", "100"), ("sell", leave)):
        seed.fill(
            *(ledger, position_id, symbol, side, Decimal(price), Decimal(1), at),
            mid=Decimal(100),
            fee_percent=Decimal(0),
        )
    ledger.execute(
        "UPDATE positions SET closed_at = %s, close_reason = 'TIME_STOP' WHERE position_id = %s",
        (at, position_id),
    )


def test_performance_and_strategies(ledger: Ledger) -> None:
    closed(ledger, "A/USDT", "momentum", "106", 1)
    closed(ledger, "B/USDT", "momentum", "98", 2)
    closed(ledger, "C/USDT", "arbitrage", "97", 3)
    closed(ledger, "D/USDT", "arbitrage", "150", 30)  # not in 24 h, but in 7 days
    model = gather(ledger)
    day = model["performance_24h"]
    assert (day["trades"], day["wins"], day["pnl_quote"]) == (3, 1, 1)
    assert float(day["win_rate_percent"]) == pytest.approx(100 / 3)
    assert day["profit_factor"] == Decimal("1.2")  # 6 won, 5 lost
    assert (day["average_win_quote"], day["average_loss_quote"]) == (6, Decimal("-2.5"))
    first, second, *others = model["strategies"]
    assert (first["strategy"], first["pnl_quote"]) == ("arbitrage", 47)
    assert first["return_percent"] == Decimal("23.5")
    assert (second["strategy"], second["pnl_quote"]) == ("momentum", 4)
    assert second["weight_percent"] == 25
    assert {row["pnl_quote"] for row in others} == {None}


def test_slippage_is_weighted_by_money(ledger: Ledger) -> None:
    closed(ledger, "A/USDT", "momentum", "106", 1)
    closed(ledger, "B/USDT", "momentum", "98", 2)
    # Sold above the decision's mid of 100 is better, below it is worse.
    expected = 10_000 * (-0.06 * 106 + 0.02 * 98) / (200 + 106 + 98)
    assert float(gather(ledger)["execution_24h"]["slippage_bps"]) == pytest.approx(expected)


def test_without_a_loss_there_is_no_profit_factor(ledger: Ledger) -> None:
    closed(ledger, "A/USDT", "momentum", "106", 1)
    assert gather(ledger)["performance_24h"]["profit_factor"] is None


def test_unresolved_orders_are_counted(ledger: Ledger) -> None:
    closed(ledger, "A/USDT", "momentum", "106", 1)
    ledger.execute("UPDATE intents SET state = 'UNKNOWN' WHERE side = 'sell'")
    assert gather(ledger)["execution_24h"]["unresolved"] == 1


def test_an_old_order_in_doubt_is_still_counted(ledger: Ledger) -> None:
    closed(ledger, "A/USDT", "momentum", "106", 30)
    ledger.execute("UPDATE intents SET state = 'UNKNOWN' WHERE side = 'sell'")
    day = gather(ledger)["execution_24h"]
    assert (day["orders_sent"], day["unresolved"]) == (0, 1)


def test_execution_of_a_week_by_venue_symbol_and_hour(ledger: Ledger) -> None:
    closed(ledger, "A/USDT", "momentum", "106", 1)  # at 13:30, sold 6 above the decision's mid
    closed(ledger, "B/USDT", "momentum", "98", 50)  # at 12:30 of another day, sold 2 below
    closed(ledger, "C/USDT", "momentum", "50", 24 * 8)
    week = gather(ledger)["execution_7d"]
    assert week["orders_sent"] == 4
    assert list(week["by_venue"]) == ["binance"]
    assert list(week["by_symbol"]) == ["A/USDT", "B/USDT"]
    assert list(week["by_hour"]) == ["12", "13"]
    slippage = week["by_hour"]["13"]["slippage_bps"]
    assert float(slippage) == pytest.approx(-600 * 106 / 206)
    assert week["shortfall"]["parents"] == 0


def test_the_arm_token_in_force_is_told(ledger: Ledger) -> None:
    assert gather(ledger)["armed"] is None
    seed.pass_phases(ledger)
    token = arming.arm(ledger, timedelta(hours=1), armed_by="ada", reason=None, terms={})
    assert gather(ledger)["armed"] == {"until": token.expires_at, "by": "ada"}
    arming.disarm(ledger, by="ada", reason=None)
    assert gather(ledger)["armed"] is None


def test_workflows_services_and_breaker(ledger: Ledger) -> None:
    for minute, error in ((3, None), (2, "boom"), (1, None)):
        at = NOW - timedelta(minutes=minute)
        run_id = runs.start(ledger, "trading_loop", f"t{minute}", at, 1)
        assert run_id is not None
        runs.finish(ledger, run_id, 1, duration_ms=100.0 * minute, error=error)
        ledger.execute(
            "INSERT INTO venue_calls "
            "VALUES ('test', %s, 'kraken', %s, %s, 1, 0, %s, 90, 'Timeout')",
            (run_id, at, minute, 10.0 * minute),
        )
    checks = {
        "latency": {"status": "OK", "detail": "fine"},
        "slippage": {"status": "UNKNOWN", "detail": "no orders"},
    }
    ledger.execute(
        "INSERT INTO health VALUES ('test', %s, 'DEGRADED', %s, '[]', '{}')", (NOW, json(checks))
    )
    model = gather(ledger)
    (workflow,) = model["workflows"]
    assert (workflow["status"], workflow["duration_ms"]) == ("DONE", 100.0)
    assert (workflow["runs"], workflow["failures"]) == (3, 1)
    (service,) = model["services"]
    assert (service["calls"], service["failures"]) == (6, 3)
    assert service["mean_latency_ms"] == pytest.approx((30 * 3 + 20 * 2 + 10 * 1) / 6)
    assert [check["name"] for check in model["breaker"]["checks"]] == ["slippage", "latency"]
    assert [check["tone"] for check in model["breaker"]["checks"]] == ["warn", "up"]


def test_decisions_to_trade_are_not_drowned_in_holds(ledger: Ledger) -> None:
    run_id = runs.start(ledger, "trading_loop", "t", NOW, 1)
    for minute in range(30):
        ledger.execute(
            "INSERT INTO decisions VALUES "
            "(%s, 'test', %s, %s, NULL, %s, 'ensemble', NULL, 0, 0, NULL, 'why', '{}')",
            (
                f"d{minute}",
                run_id,
                NOW - timedelta(minutes=minute),
                "BUY" if minute == 25 else "HOLD",
            ),
        )
        ledger.execute(
            "INSERT INTO risk_checks VALUES (%s, 'test', %s, false, 0, '{}', '{}', '[]', '{}')",
            (f"d{minute}", NOW),
        )
    model = gather(ledger)
    assert [(row["action"], row["approved"]) for row in model["decisions"]] == [
        ("HOLD", None),  # nothing was asked of risk management
        ("BUY", False),
    ]
    assert model["decisions_24h"] == {"BUY": 1, "SELL": 0, "HOLD": 29}


def test_rows_of_another_pod_stay_out(ledger: Ledger) -> None:
    other = Ledger(ledger._connection, "other")
    migrate.migrate(other)
    seed.two_days(other, NOW)
    alerts.put(other, "x", "INFO", "of another pod", "")
    model = gather(ledger)
    assert model["equity"]["equity_quote"] is None
    for name in ("curve", "positions", "trades", "decisions", "workflows", "services", "alerts"):
        assert model[name] == [], name
    assert model["market"]["at"] is None
    assert model["execution_24h"]["orders_sent"] == 0
    assert model["execution_7d"]["by_venue"] == {}


def test_the_model_is_json_with_exact_decimals(ledger: Ledger) -> None:
    seed.two_days(ledger, NOW)
    model = dashboard.as_json(gather(ledger))
    assert json_module.loads(json_module.dumps(model, allow_nan=False)) == model
    assert model["equity"]["equity_quote"] == "10149.40"
    assert model["as_of"] == "2025-05-08T14:30:00Z"


def test_newest_is_the_time_of_the_newest_event(ledger: Ledger) -> None:
    assert dashboard.newest(ledger) is None
    runs.start(ledger, "trading_loop", "a", NOW, 1)
    runs.start(ledger, "circuit_breaker", "b", NOW - timedelta(minutes=1), 1)
    assert dashboard.newest(ledger) == NOW
