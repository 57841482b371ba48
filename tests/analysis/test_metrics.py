"""Metrics against the published test tables of empyrical, and against their own symmetries.

Expected values: quantopian/empyrical, empyrical/tests/test_stats.py (Apache-2.0), the cases of
``cum_returns_final``, ``max_drawdown``, ``annual_volatility``, ``sharpe_ratio``, ``sortino_ratio``,
``calmar_ratio`` and ``value_at_risk``. Theirs annualise by 252 days, 52 weeks and 12 months.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.analysis import metrics as m

BENCHMARK = np.array([0.0, 1, 0, 1, 0, 1, 0, 1, 0]) / 100
POSITIVE = np.array([1.0, 2, 1, 1, 1, 1, 1, 1, 1]) / 100
NEGATIVE = np.array([0.0, -6, -7, -1, -9, -2, -6, -8, -5]) / 100
MIXED = np.array([1.0, 10, -4, 2, 3, 2, 1, -10]) / 100  # theirs begins with a missing value
PERIODIC = np.array([0.0, 1, 10, -4, 2, 3, 2, 1, -10]) / 100
FLAT = np.full(9, 0.01)
ONE = np.array([0.01])
EMPTY = np.array([])
TABLE_1 = np.array(
    [-0.00171614, 0.01322056, 0.03063862, -0.01422057, -0.00489779, 0.01268925, -0.03357711,
     0.01797036]
)  # fmt: skip
TABLE_2 = np.array(
    [0.01846232, 0.00793951, -0.01448395, 0.00422537, -0.00339611, 0.03756813, 0.0151531,
     0.03549769]
)  # fmt: skip


def same(actual: float | None, expected: float | None) -> None:
    if expected is None:
        assert actual is None
    else:
        assert actual == pytest.approx(expected, abs=5e-9, rel=1e-9)


@pytest.mark.parametrize(
    ("returns", "periods", "expected"),
    [
        (EMPTY, 252, None),
        (ONE, 252, None),
        (FLAT, 252, None),
        (MIXED, 252, 1.7238613961706866),
        (POSITIVE, 252, 52.915026221291804),
        (NEGATIVE, 252, -24.406808633910085),
    ],
)
def test_sharpe(returns: Any, periods: float, expected: float | None) -> None:
    same(m.sharpe_ratio(returns, periods), expected)


@pytest.mark.parametrize(
    ("returns", "periods", "expected"),
    [
        (EMPTY, 252, None),
        (ONE, 252, None),
        (POSITIVE, 252, None),  # empyrical says infinite; here: undefined
        (BENCHMARK, 252, None),
        (MIXED, 252, 2.605531251673693),
        (NEGATIVE, 252, -13.532743075043401),
        (PERIODIC, 52, 1.1158901056866439),
        (PERIODIC, 12, 0.53605626741889756),
        (TABLE_1, 252, 3.0639640966566306),
        (TABLE_2, 252, 38.090963117002495),
        (TABLE_1, 52, 1.3918264112070571),
        (TABLE_2, 12, 8.3121296084492844),
    ],
)
def test_sortino(returns: Any, periods: float, expected: float | None) -> None:
    # Their mean return is annualised by the period, their downside deviation by its root.
    same(m.sortino_ratio(returns, periods), expected)


@pytest.mark.parametrize(
    ("returns", "periods", "expected"),
    [
        (EMPTY, 252, None),
        (ONE, 252, None),
        (POSITIVE, 252, None),
        (PERIODIC, 252, 19.135925373194233),  # their missing first value counts as a period
        (PERIODIC, 52, 2.4690830513998208),
        (PERIODIC, 12, 0.52242061386048144),
    ],
)
def test_calmar(returns: Any, periods: float, expected: float | None) -> None:
    same(m.calmar_ratio(returns, periods), expected)


@pytest.mark.parametrize(
    ("returns", "periods", "expected"),
    [
        (ONE, 252, None),
        (FLAT, 252, 0.0),
        (MIXED, 252, 0.9136465399704637),
        (PERIODIC, 52, 0.38851569394870583),
        (PERIODIC, 12, 0.18663690238892558),
    ],
)
def test_volatility(returns: Any, periods: float, expected: float | None) -> None:
    same(m.annual_volatility(returns, periods), expected)


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        (EMPTY, None),  # empyrical: not a number
        (ONE, 0.0),
        (BENCHMARK, 0.0),
        (MIXED, 0.1),
        (POSITIVE, 0.0),
        (NEGATIVE, 0.36590730349873601),
        (np.array([10.0, -10, 10]) / 100, 0.10),
    ],
)
def test_max_drawdown(returns: Any, expected: float | None) -> None:
    same(m.max_drawdown(np.concatenate(([1.0], np.cumprod(1 + returns)))), expected)


@pytest.mark.parametrize(
    ("returns", "tail", "expected"),
    [
        ([1.0, 2.0], 0.0, 1.0),
        ([1.0, 2.0], 0.3, 1.3),
        ([1.0, 2.0], 1.0, 2.0),
        ([1, 81, 82, 83, 84, 85], 0.1, 41),
        ([1, 81, 82, 83, 84, 85], 0.2, 81),
        ([1, 81, 82, 83, 84, 85], 0.3, 81.5),
    ],
)
def test_value_at_risk(returns: list[float], tail: float, expected: float) -> None:
    same(m.value_at_risk(np.array(returns, dtype=float), tail), -expected)


@pytest.mark.parametrize(
    ("returns", "expected"), [(MIXED, 0.03893), (NEGATIVE, -0.36590), (ONE, 0.01)]
)
def test_total_return(returns: Any, expected: float) -> None:
    curve = 100 * np.concatenate(([1.0], np.cumprod(1 + returns)))
    got = m.equity_metrics(hours(len(curve)), curve)["total_return_percent"]
    assert got == pytest.approx(100 * expected, abs=1e-2)


def hours(count: int) -> Any:
    return np.arange(count, dtype=np.int64) * m.HOUR_MS


def curve_of(returns: Any) -> Any:
    return 1000 * np.concatenate(([1.0], np.cumprod(1 + returns)))


def test_equity_metrics_is_made_of_hourly_returns_of_a_year_of_8760_hours() -> None:
    returns = np.tile(MIXED, 5)
    got = m.equity_metrics(hours(len(returns) + 1), curve_of(returns))
    assert got["hourly_returns"] == 40
    same(got["sharpe"], m.sharpe_ratio(returns, 8760))
    same(got["sortino"], m.sortino_ratio(returns, 8760))
    same(got["volatility_percent"], 100 * float(np.std(returns, ddof=1)) * 8760**0.5)
    same(got["var95_percent"], 10.0)


def test_points_between_the_hours_change_drawdown_and_nothing_else() -> None:
    curve = curve_of(np.tile(MIXED, 5))
    coarse = m.equity_metrics(hours(len(curve)), curve)
    between = hours(len(curve))[1:] - m.HOUR_MS // 2
    times = np.concatenate((hours(len(curve)), between))
    order = np.argsort(times)
    fine = m.equity_metrics(
        times[order], np.concatenate((curve, np.full(len(between), 500.0)))[order]
    )
    for name in ("sharpe", "sortino", "calmar", "volatility_percent", "total_return_percent"):
        assert fine[name] == coarse[name]  # type: ignore[literal-required]
    assert fine["max_drawdown_percent"] > coarse["max_drawdown_percent"]  # type: ignore[operator]


@pytest.mark.parametrize(("count", "defined"), [(24, False), (25, True)])
def test_ratios_need_enough_hours(count: int, defined: bool) -> None:
    curve = curve_of(np.resize(MIXED, count - 1))
    got = m.equity_metrics(hours(count), curve)
    names = ("sharpe", "sortino", "calmar", "volatility_percent", "var95_percent")
    assert all((got[n] is not None) == defined for n in names)  # type: ignore[literal-required]
    assert got["max_drawdown_percent"] is not None


def test_nothing_measured_is_undefined_and_not_zero() -> None:
    got = m.equity_metrics([], [])
    assert {k for k, v in got.items() if v is not None} == {"points", "hourly_returns"}


def test_a_flat_curve_has_no_sharpe() -> None:
    got = m.equity_metrics(hours(50), np.full(50, 1000.0))
    assert (got["sharpe"], got["sortino"], got["calmar"]) == (None, None, None)
    assert got["volatility_percent"] == 0.0


@pytest.mark.parametrize(
    ("times", "equity", "message"),
    [
        ([1, 2], [1.0], "one length"),
        ([2, 1], [1.0, 1.0], "ascending"),
        ([1, 2], [1.0, 0.0], r"equity\[1\]"),
        ([1, 2], [float("nan"), 1.0], r"equity\[0\]"),
    ],
)
def test_malformed_curves_are_refused(times: Any, equity: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        m.equity_metrics(times, equity)


series = st.lists(st.floats(-0.05, 0.05), min_size=30, max_size=60).filter(
    lambda r: float(np.std(r)) > 1e-4
)


@settings(max_examples=30, deadline=None)
@given(series, st.floats(0.01, 1000))
def test_the_size_of_the_account_changes_no_ratio(returns: list[float], factor: float) -> None:
    curve = curve_of(np.array(returns))
    one = m.equity_metrics(hours(len(curve)), curve)
    other = m.equity_metrics(hours(len(curve)), factor * curve)
    for name, value in one.items():
        again = other[name]  # type: ignore[literal-required]
        assert (again is None) == (value is None)
        if value is not None:
            assert again == pytest.approx(value, rel=1e-6, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(series, st.floats(0.0001, 0.01))
def test_better_returns_raise_sharpe_and_never_deepen_the_drawdown(
    returns: list[float], gift: float
) -> None:
    plain, raised = np.array(returns), np.array(returns) + gift
    assert m.sharpe_ratio(raised, 1) > m.sharpe_ratio(plain, 1)  # type: ignore[operator]
    assert m.max_drawdown(curve_of(raised)) <= m.max_drawdown(curve_of(plain)) + 1e-12  # type: ignore[operator]


@settings(max_examples=30, deadline=None)
@given(series, st.randoms(use_true_random=False))
def test_order_matters_to_drawdown_only(returns: list[float], random: Any) -> None:
    shuffled = list(returns)
    random.shuffle(shuffled)
    same(m.sharpe_ratio(np.array(returns), 8760), m.sharpe_ratio(np.array(shuffled), 8760))
    same(m.value_at_risk(np.array(returns)), m.value_at_risk(np.array(shuffled)))


def trade(pnl: str, *, hour: int = 3, day: int = 6, **other: Any) -> dict[str, Any]:
    row = {
        "pnl_quote": Decimal(pnl),
        "return_percent": Decimal(pnl) / 10,
        "symbol": "BTC/USDT",
        "strategy": "momentum",
        "opened_at": datetime(2025, 1, day, hour, 30, tzinfo=UTC),
    }
    return row | other


def test_trade_metrics() -> None:
    got = m.trade_metrics([trade("30"), trade("10"), trade("-20"), trade("0")])
    assert got == {
        "trades": 4,
        "wins": 2,
        "losses": 1,
        "win_rate_percent": 50.0,
        "average_win_quote": 20.0,
        "average_loss_quote": -20.0,
        "profit_factor": 2.0,
        "expectancy_quote": 5.0,
        "average_return_percent": 0.5,
        "best_quote": 30.0,
        "worst_quote": -20.0,
        "total_pnl_quote": 20.0,
    }


def test_without_a_loss_there_is_no_profit_factor() -> None:
    assert m.trade_metrics([trade("5")])["profit_factor"] is None


def test_no_trades() -> None:
    got = m.trade_metrics([])
    assert (got["trades"], got["win_rate_percent"], got["expectancy_quote"]) == (0, None, None)


def test_breakdowns() -> None:
    rows = [
        trade("1"),
        trade("2", hour=23, day=5, symbol="ETH/USDT", strategy="arbitrage"),
        trade("4", hour=23, day=6),
    ]
    totals = {k: v["total_pnl_quote"] for k, v in m.by_hour(rows).items()}
    assert totals == {"03": 1, "23": 6}
    assert {k: v["trades"] for k, v in m.by_weekday(rows).items()} == {"Monday": 2, "Sunday": 1}
    assert list(m.by_symbol(rows)) == ["BTC/USDT", "ETH/USDT"]
    assert m.by_strategy(rows)["arbitrage"]["total_pnl_quote"] == 2
