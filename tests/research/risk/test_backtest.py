"""The backtest where the truth is known: generated markets, right forecasts and wrong ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deploy.research.risk import backtest, choices, plan, report, verdict
from deploy.research.risk.choices import Choice
from deploy.research.risk.days import days
from deploy.research.risk.plan import CHOSEN_UNTIL_MS, DAY_MS, HOUR_MS, Stretch
from shared.errors import DataUnavailable
from shared.market.types import Candles
from shared.risk import portfolio
from shared.risk.portfolio import TailLoss, TailRisk, tail
from tests.research.score.market import END_MS, candles

SEEN = Stretch("seen by the choices", 0, CHOSEN_UNTIL_MS)
UNSEEN = Stretch("unseen", CHOSEN_UNTIL_MS, END_MS)
ALL = Stretch("all", 0, END_MS)
NAMES = ("A", "B", "C")


@pytest.fixture(scope="module")
def market() -> dict[str, Candles]:
    """Three independent walks whose volatility never changes."""
    return {name: candles(name, 420, seed) for seed, name in enumerate(NAMES, start=1)}


@pytest.fixture(scope="module")
def right(market: dict[str, Candles]) -> backtest.Result:
    return backtest.run(market, plan.holdings(NAMES, NAMES), (SEEN, UNSEEN))


def test_a_right_model_is_not_rejected(right: backtest.Result) -> None:
    assert set(right.scores["unseen"]) == {*NAMES, "equal weights"}
    breaches, seen_days = 0, 0
    for by_method in right.scores["unseen"].values():
        assert set(by_method) == {*portfolio.METHODS, "largest"}
        for score in by_method.values():
            assert score.coverage.days == 181
            assert not score.coverage.proportion.rejects
            assert score.severity is None or 0.7 < score.severity < 1.2
        breaches += by_method["historical"].coverage.breaches
        seen_days += by_method["historical"].coverage.days
    assert 0.03 < breaches / seen_days < 0.07
    assert "is too small on none of 4 portfolios" in verdict.in_short(right)


def test_a_var_that_is_too_small_is_rejected(
    market: dict[str, Candles], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = portfolio.tail_risk

    def halved(values: Any, returns: Any) -> TailRisk:
        losses = whole(values, returns).by_method
        return TailRisk(**{n: TailLoss(o.var95_quote / 2, o.cvar95_quote / 2)
                           for n, o in losses.items()})  # fmt: skip

    monkeypatch.setattr(portfolio, "tail_risk", halved)
    result = backtest.run(market, plan.holdings(NAMES, NAMES), (SEEN, UNSEEN))
    for by_method in result.scores["unseen"].values():
        for score in by_method.values():
            assert score.coverage.rate > 0.1
            assert verdict.failures(score)[0].startswith("VaR too small")
            assert score.severity is not None
            assert score.severity > 1.2
    assert "the VaR that gates orders is TOO SMALL on A, B, C" in verdict.in_short(result)


def test_breaches_in_clusters_are_said(right: backtest.Result) -> None:
    score = right.scores["unseen"]["A"]["largest"]
    clustered = replace(
        score.coverage, independence=replace(score.coverage.independence, p_value=0.001)
    )
    said = verdict.failures(replace(score, coverage=clustered))
    assert said == ["breaches in clusters (p = 0.0010)"]


def test_a_forecast_is_what_the_gate_would_have_said_and_knows_no_future(
    market: dict[str, Candles],
) -> None:
    weights = {"A": 0.5, "B": 0.5}
    whole = days(market, weights)
    number = len(whole) // 2
    begin_ms = int(whole.begin_ms[number])
    cut = {name: _until(market[name], begin_ms) for name in weights}
    expected = portfolio.tail_risk(weights, portfolio.aligned_returns(cut))
    found = backtest.forecast(whole)
    for name, loss in expected.by_method.items():
        assert found.var95[name][number] == pytest.approx(loss.var95_quote, rel=1e-12)
        assert found.cvar95[name][number] == pytest.approx(loss.cvar95_quote, rel=1e-12)
    assert found.var95["largest"][number] == pytest.approx(expected.var95_quote, rel=1e-12)
    assert found.cvar95["largest"][number] == pytest.approx(expected.cvar95_quote, rel=1e-12)
    assert begin_ms % DAY_MS == 0


def _until(series: Candles, closed_ms: int) -> Candles:
    keep = series.open_ms + HOUR_MS <= closed_ms
    fields = ("open_ms", "open", "high", "low", "close", "volume")
    return replace(series, **{name: getattr(series, name)[keep] for name in fields})


def test_a_days_profit_is_that_of_holding(market: dict[str, Candles]) -> None:
    found = days(market, {"A": 3.0, "B": 1.0}, offset_hours=5)
    at = int(np.flatnonzero(market["A"].open_ms + HOUR_MS == found.begin_ms[7])[0])
    gains = [market[name].close[at + 24] / market[name].close[at] - 1 for name in "AB"]
    assert found.profit[7] == pytest.approx(3 * gains[0] + gains[1])
    assert (found.begin_ms % DAY_MS == 5 * HOUR_MS).all()
    assert (np.diff(found.begin_ms) == DAY_MS).all()


def test_days_around_a_hole_are_left_out_and_no_return_reaches_across_it(
    market: dict[str, Candles],
) -> None:
    whole = days(market, {"A": 1.0})
    series = market["A"]
    lost_ms = int(whole.begin_ms[200])
    keep = (series.open_ms + HOUR_MS < lost_ms - 3 * HOUR_MS) | (series.open_ms >= lost_ms)
    fields = ("open_ms", "open", "high", "low", "close", "volume")
    holed = replace(series, **{name: getattr(series, name)[keep] for name in fields})
    found = days({"A": holed}, {"A": 1.0})
    missing = set(whole.begin_ms.tolist()) - set(found.begin_ms.tolist())
    assert {lost_ms - DAY_MS, lost_ms} <= missing  # its end, and its begin
    assert len(found.by_asset) == len(whole.by_asset) - 5  # four closes lost, five returns


def test_too_short_a_history_has_no_day() -> None:
    short = {"A": candles("A", 60, seed=1)}
    with pytest.raises(DataUnavailable, match="days of A: expected some with 1500 hours before"):
        backtest.run(short, {"A": {"A": 1.0}}, (UNSEEN,))


def test_no_day_in_any_stretch_judges_nothing(market: dict[str, Candles]) -> None:
    with pytest.raises(DataUnavailable, match="stretches"):
        backtest.run(market, {"A": {"A": 1.0}}, (Stretch("later", END_MS, END_MS + DAY_MS),))


def test_the_core_sleeves_weights_are_among_the_portfolios() -> None:
    found = plan.holdings(("BTC/USDT", "ETH/USDT", "SOL/USDT", "X/USDT", "Y/USDT"))
    assert found["core weights"] == pytest.approx(
        {"BTC/USDT": 0.4, "ETH/USDT": 0.3, "SOL/USDT": 0.15, "X/USDT": 0.075, "Y/USDT": 0.075}
    )
    assert found["equal weights"]["X/USDT"] == pytest.approx(0.2)
    assert plan.holdings(("A",), ("A",)) == {"A": {"A": 1.0}}


def test_the_quantile_loss_is_least_at_the_quantile() -> None:
    profit = np.random.default_rng(1).normal(0, 1, 20_000)
    levels = np.linspace(1.0, 2.4, 29)
    losses = [choices.quantile_loss(profit, np.full(len(profit), level)) for level in levels]
    assert levels[int(np.argmin(losses))] == pytest.approx(1.645, abs=0.06)


def test_sums_are_of_every_run_of_a_day() -> None:
    assert choices.summed(np.arange(26.0)).tolist() == [276.0, 300.0, 324.0]


def test_choices_find_the_filter_where_volatility_changes_and_need_none_where_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choices, "WINDOWS", (500, 1_500))
    monkeypatch.setattr(choices, "DAILY_DECAYS", (0.8,))
    changing = days({"A": candles("A", 700, 3, regimes=True)}, {"A": 1.0})
    steady = days({"A": candles("A", 700, 4)}, {"A": 1.0})
    wild, calm = choices.measure({"A": changing}, END_MS), choices.measure({"A": steady}, END_MS)
    loss = {one.choice: one.relative_loss for one in wild}
    assert wild[0].choice.daily_decay == 0.8
    assert loss[Choice("square root", 1_500, 0.8)] < 0.95 * loss[Choice("square root", 1_500, None)]
    loss = {one.choice: one.relative_loss for one in calm}
    assert loss[Choice("square root", 1_500, None)] <= loss[Choice("square root", 1_500, 0.8)]


def test_without_a_filter_a_choice_is_the_historical_method(market: dict[str, Candles]) -> None:
    profits = days(market, {"A": 1.0}).by_asset[:, 0]
    window = profits[-portfolio.WINDOW_HOURS :]
    plain = Choice("square root", portfolio.WINDOW_HOURS, None).var95(profits)
    used = Choice("square root", portfolio.WINDOW_HOURS, 0.94).var95(profits)
    assert plain == pytest.approx(tail.historical(window).var95_quote)
    assert used == pytest.approx(tail.filtered(window).var95_quote)


def test_the_report_tells_every_figure_as_markdown_and_as_json(right: backtest.Result) -> None:
    text = report.as_markdown(right, "trading-loop risk backtest")
    document = report.as_json(right, "trading-loop risk backtest")
    assert document["verdict"] in text
    assert text.count("| A | ") == 2 * 4  # two stretches, four methods
    unseen = document["stretches"][1]
    assert unseen["days"] == ["2025-01-01", "2025-06-30"]
    found = unseen["portfolios"]["A"]["largest"]
    score = right.scores["unseen"]["A"]["largest"]
    assert found["coverage"]["breaches"] == score.coverage.breaches
    assert found["rate"] == score.coverage.breaches / 181
