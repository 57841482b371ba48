"""The portfolio risk of a purchase: 20 assets x 1,000 hours, ours beside the packages' parts of it.

``python -m benchmarks.risk_step [--rounds 25] [--json]``

- ours: what ``risk_management`` calculates of one decision: VaR and CVaR by three methods with and
  without the trade, correlations with each holding and with all, expected Sharpe and Sortino,
  Markowitz weights from the shrunk covariance, capped.
- its parts, each alone.
- scikit-learn's Ledoit-Wolf on the same returns, beside ours. All of ours is bounded in its units,
  because a busy machine slows both alike; on an idle one all of it takes 2 ms, of 4 that it may.
- scipy's SLSQP on the same capped problem, its gradient given, beside ours. PyPortfolioOpt, whose
  weights ours are held equal to in the tests, took 16 ms for it where it was measured, skfolio 20.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import timing
from shared.analysis import metrics
from shared.risk import portfolio
from shared.risk.portfolio import markowitz

ASSETS, HOURS = 20, 1_000
CAP = 0.2
_WHOLE, _COVARIANCE, _WEIGHTS = "ours, all of it", "ours, Ledoit-Wolf", "ours, weights"
_SCIKIT_LEARN, _SCIPY = "scikit-learn, Ledoit-Wolf", "scipy, SLSQP"
RATIOS = (
    ("all of it to scikit-learn's covariance", _WHOLE, _SCIKIT_LEARN, 8.0),
    ("covariance to scikit-learn's", _COVARIANCE, _SCIKIT_LEARN, 1.0),
    ("weights to scipy's", _WEIGHTS, _SCIPY, 1.0),
)
"""Name, ours, theirs, and how many times as long as theirs ours may take."""

Returns = dict[str, portfolio.Array]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; the exit code is 1 where a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.risk_step")
    parser.add_argument("--rounds", type=int, default=25, help="default: 25")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    result = measure(args.rounds)
    if args.json:
        timing.print_json(result)
    else:
        _print(result)
    return 0 if result["within_bounds"] else 1


def measure(rounds: int) -> dict[str, Any]:
    """Medians in milliseconds, and what ours takes of the packages' time."""
    returns = make_returns()
    table = np.array(list(returns.values())).T
    covariance = portfolio.ledoit_wolf(table).covariance
    ours: dict[str, Callable[[], object]] = {
        _WHOLE: lambda: whole_step(returns),
        "ours, one tail": lambda: portfolio.tail_risk(_held(returns, 0.0), returns),
        "ours, correlations": lambda: portfolio.correlations("S0", returns),
        _COVARIANCE: lambda: portfolio.ledoit_wolf(table),
        _WEIGHTS: lambda: markowitz.weights(covariance, cap=CAP),
    }
    medians = timing.medians_ms(ours | _peers(table, covariance), rounds)
    ratios = {
        name: {"ratio": medians[mine] / medians[theirs], "bound": bound}
        for name, mine, theirs, bound in RATIOS
        if theirs in medians
    }
    return {
        "assets": ASSETS,
        "hours": HOURS,
        "rounds": rounds,
        "medians_ms": medians,
        "ratios": ratios,
        "within_bounds": all(one["ratio"] <= one["bound"] for one in ratios.values()),
    }


def whole_step(returns: Returns) -> list[object]:
    """Everything that is estimated of one purchase, as ``shared.risk.measures`` does it."""
    before, after = _held(returns, 0.0), _held(returns, 100.0)
    expected = portfolio.portfolio_returns(after, returns, 10_000.0)
    return [
        portfolio.tail_risk(before, returns),
        portfolio.tail_risk(after, returns),
        portfolio.correlations("S0", returns),
        portfolio.correlation_with_portfolio("S0", before, returns),
        portfolio.volatility_annualised_percent(returns["S0"]),
        metrics.sharpe_ratio(expected, metrics.HOURS_PER_YEAR),
        metrics.sortino_ratio(expected, metrics.HOURS_PER_YEAR),
        markowitz.minimum_variance(returns, cap=CAP),
    ]


def make_returns() -> Returns:
    """Heavy-tailed hours with one common factor, the same in every run."""
    random = np.random.default_rng(1)
    common = random.standard_t(4, HOURS) * 0.003
    return {
        f"S{number}": common * random.uniform(0.5, 1.5) + random.standard_t(4, HOURS) * 0.003
        for number in range(ASSETS)
    }


def _held(returns: Returns, candidate_quote: float) -> dict[str, float]:
    """100 of each but the candidate, which is the first."""
    return dict.fromkeys(returns, 100.0) | {"S0": candidate_quote}


def _peers(table: portfolio.Array, covariance: portfolio.Array) -> dict[str, Callable[[], object]]:
    """What of the packages of ``make setup-research`` does a part of it; none without them."""
    try:
        from scipy.optimize import minimize
        from sklearn.covariance import ledoit_wolf
    except ImportError:
        print("scikit-learn is not installed: make setup-research", file=sys.stderr)
        return {}
    unit = float(np.trace(covariance)) / ASSETS
    scaled, start = covariance / unit, np.full(ASSETS, 1 / ASSETS)
    whole = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(ASSETS)}

    def slsqp() -> object:
        return minimize(
            lambda w: 0.5 * w @ scaled @ w,
            start,
            jac=lambda w: scaled @ w,
            bounds=[(0, CAP)] * ASSETS,
            constraints=[whole],
            method="SLSQP",
            options={"ftol": 1e-12},
        )

    return {_SCIKIT_LEARN: lambda: ledoit_wolf(table), _SCIPY: slsqp}


def _print(result: dict[str, Any]) -> None:
    title = (
        f"Portfolio risk of {result['assets']} assets x {result['hours']:,} hours; medians of "
        f"{result['rounds']} rounds"
    )
    whole = result["medians_ms"][_WHOLE]
    rows = [(name, ms, ms / whole) for name, ms in result["medians_ms"].items()]
    timing.print_table(title, ("", "ms", "of the step"), rows)
    for name, one in result["ratios"].items():
        print(f"{name}: {one['ratio']:.2f} (bound: {one['bound']:g})")


if __name__ == "__main__":
    sys.exit(main())
