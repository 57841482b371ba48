"""The thirteen checks, and a run through all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from shared.errors import LedgerUnavailable
from shared.ledger import universes
from shared.run import Run
from shared.safety.checks import market, orders, portfolio, system
from shared.safety.checks.base import Result, unknown
from shared.safety.checks.volatility import volatility
from shared.safety.facts import Facts

Check = Callable[[Run, Facts], Result]

CHECKS: Mapping[str, Check] = {
    "drawdown": lambda run, facts: portfolio.drawdown(facts, run.config),
    "daily_loss": lambda run, facts: portfolio.daily_loss(facts, run.config),
    "exposure": lambda run, facts: portfolio.exposure(facts, run.config),
    "api_health": lambda run, facts: system.api_health(facts, run.config),
    "database_health": lambda run, facts: system.database_health(facts, run.config),
    "latency": lambda run, facts: system.latency(facts, run.config),
    "volatility": lambda run, facts: volatility(run),
    "liquidity": lambda run, facts: market.liquidity(facts, run.config),
    "anomalies": lambda run, facts: market.anomalies(facts, run.config),
    "slippage": lambda run, facts: orders.slippage(facts, run.config),
    "failure_rate": lambda run, facts: orders.failure_rate(facts, run.config),
    "regulatory_limits": lambda run, facts: orders.regulatory_limits(
        facts, run.config, _allowed_symbols(run, facts)
    ),
    "exchange_limits": lambda run, facts: orders.exchange_limits(facts, run.config),
}


def run_all(run: Run, facts: Facts, checks: Mapping[str, Check] = CHECKS) -> dict[str, Result]:
    """Every check's result by name. A check that raises is a failed check.

    Raises:
        LedgerUnavailable: the ledger is gone, so that nothing more can be known.
    """
    return {name: _guarded(check, run, facts) for name, check in checks.items()}


def _allowed_symbols(run: Run, facts: Facts) -> Collection[str]:
    """The symbols that this pod may hold: where the loop chooses them, also those that it had
    chosen when a position was opened or an order was sent."""
    if not run.config.chooses_symbols:
        return run.config.pairs
    buyable = set(run.universe.buyable)
    seen = {holding["symbol"] for holding in facts.holdings or []}
    seen |= {symbol for _, symbol in facts.ordered_markets or []}
    others = sorted(seen - buyable)
    return buyable | universes.ever_chosen(run.ledger, others) if others else buyable


def _guarded(check: Check, run: Run, facts: Facts) -> Result:
    try:
        return check(run, facts)
    except LedgerUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever breaks a check must not spare the others
        return unknown(f"{type(error).__name__}: {error}"[:200])
