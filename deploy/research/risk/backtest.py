"""Forecasts of each method on every recorded day, and how they did before and after the choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.research.risk import choices, coverage, plan
from deploy.research.risk.choices import Measured
from deploy.research.risk.coverage import Coverage
from deploy.research.risk.days import Days, days
from deploy.research.risk.plan import Stretch
from shared.errors import DataUnavailable
from shared.market.types import Candles
from shared.risk import portfolio
from shared.risk.portfolio import METHODS, Array

LARGEST = "largest"
JUDGED = (*METHODS, LARGEST)
_EVERY_HOURS = 6
"""Hours between the begins of day that are looked at besides midnight."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Forecasts:
    """VaR and CVaR by method for each day, in quote, as losses."""

    var95: dict[str, Array]
    cvar95: dict[str, Array]


@dataclass(frozen=True)
class Score:
    """How one method did on one portfolio.

    Attributes:
        coverage: of days from midnight to midnight UTC.
        other_rates: shares of breaches of days that begin at other hours. They overlap with those
            from midnight, so that no test is made of them.
        severity: mean loss of the broken days over the mean CVaR that was forecast for them; 1 is
            right, more is a CVaR that is too small. ``None`` without a breach.
        quantile_loss: see ``choices``, relative to the historical method's.
        mean_var_percent: of what is held.
    """

    coverage: Coverage
    other_rates: tuple[float, ...]
    severity: float | None
    quantile_loss: float
    mean_var_percent: float


@dataclass(frozen=True)
class Line:
    """What a plot shows: a portfolio's days from midnight."""

    days: Days
    forecasts: Forecasts


@dataclass(frozen=True)
class Result:
    """Everything a report tells.

    Attributes:
        scores: by stretch, portfolio and method.
        choices: measured on days before ``plan.CHOSEN_UNTIL_MS``, or empty where not asked for.
    """

    stretches: tuple[Stretch, ...]
    portfolios: dict[str, plan.Weights]
    scores: dict[str, dict[str, dict[str, Score]]]
    lines: dict[str, Line]
    choices: list[Measured]


def run(
    hours: Mapping[str, Candles],
    portfolios: dict[str, plan.Weights],
    stretches: Sequence[Stretch],
    *,
    with_choices: bool = False,
    progress: Progress = lambda text: None,
) -> Result:
    """Forecast and judge every portfolio on every stretch that has days of it.

    Raises:
        DataUnavailable: a portfolio has no day with enough history, or no stretch has any.
    """
    scores: dict[str, dict[str, dict[str, Score]]] = {stretch.name: {} for stretch in stretches}
    lines: dict[str, Line] = {}
    for name, weights in portfolios.items():
        by_hour = {
            offset: _line(days(hours, weights, offset)) for offset in range(0, 24, _EVERY_HOURS)
        }
        lines[name] = by_hour[0]
        for stretch in stretches:
            if int(lines[name].days.within(stretch).sum()) >= 2:
                scores[stretch.name][name] = _scores(by_hour, stretch)
        progress(f"{name}: {len(lines[name].days):,} days")
    if not any(scores.values()):
        raise DataUnavailable("stretches: expected days in at least one, was none")
    measured: list[Measured] = []
    if with_choices:
        midnights = {name: line.days for name, line in lines.items()}
        measured = choices.measure(midnights, plan.CHOSEN_UNTIL_MS)
        progress(f"{len(measured)} choices compared")
    return Result(tuple(stretches), portfolios, scores, lines, measured)


def forecast(portfolio_days: Days) -> Forecasts:
    """What ``shared.risk.portfolio`` would have said as each day began, with what was known."""
    var95 = {name: np.empty(len(portfolio_days)) for name in JUDGED}
    cvar95 = {name: np.empty(len(portfolio_days)) for name in JUDGED}
    names = [str(number) for number in range(len(portfolio_days.values))]
    values = dict(zip(names, portfolio_days.values.tolist(), strict=True))
    for day in range(len(portfolio_days)):
        window = portfolio_days.window(day, portfolio.WINDOW_HOURS)
        risk = portfolio.tail_risk(values, dict(zip(names, window.T, strict=True)))
        for name, loss in risk.by_method.items():
            var95[name][day], cvar95[name][day] = loss.var95_quote, loss.cvar95_quote
        var95[LARGEST][day], cvar95[LARGEST][day] = risk.var95_quote, risk.cvar95_quote
    return Forecasts(var95, cvar95)


def _line(portfolio_days: Days) -> Line:
    return Line(portfolio_days, forecast(portfolio_days))


def _scores(by_hour: Mapping[int, Line], stretch: Stretch) -> dict[str, Score]:
    midnight = by_hour[0]
    inside = midnight.days.within(stretch)
    plain = choices.quantile_loss(
        midnight.days.profit[inside], midnight.forecasts.var95[METHODS[0]][inside]
    )
    others = [line for offset, line in by_hour.items() if offset]
    return {
        method: _score(
            midnight, inside, method, plain, tuple(_rate(o, stretch, method) for o in others)
        )
        for method in JUDGED
    }


def _score(
    line: Line, inside: NDArray[np.bool_], method: str, plain: float, others: tuple[float, ...]
) -> Score:
    profit = line.days.profit[inside]
    var95, cvar95 = line.forecasts.var95[method][inside], line.forecasts.cvar95[method][inside]
    broken = profit < -var95
    severity = float(-profit[broken].mean() / cvar95[broken].mean()) if broken.any() else None
    return Score(
        coverage=coverage.judge(broken),
        other_rates=others,
        severity=severity,
        quantile_loss=choices.quantile_loss(profit, var95) / plain,
        mean_var_percent=float(100 * var95.mean() / line.days.values.sum()),
    )


def _rate(line: Line, stretch: Stretch, method: str) -> float:
    inside = line.days.within(stretch)
    return float((line.days.profit[inside] < -line.forecasts.var95[method][inside]).mean())
