"""How far the sleeve may stray from its targets, in money: what a rebalance is worth.

The ex-ante tracking error is the standard deviation of the difference between what is held and
what should be held: ``sqrt(d' C d)``, with ``d`` the differences in quote currency and ``C`` the
covariance of returns (Roll, "A mean/variance analysis of tracking error", Journal of Portfolio
Management 18, 1992). Here it is that of the ``HORIZON_HOURS`` until the next rebalance may come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from shared.risk import portfolio
from shared.risk.core.plan import Plan, Trade
from shared.risk.core.sleeve import Sleeve
from shared.risk.portfolio import Array

HORIZON_HOURS = 24


def error_quote(sleeve: Sleeve, trades: Sequence[Trade], returns: Mapping[str, Array]) -> float:
    """The tracking error of the sleeve after ``trades``: one standard deviation, in quote.

    Args:
        returns: hourly, over the same hours, of every symbol that is held or wanted.
    """
    symbols = sleeve.symbols
    off = {symbol: float(sleeve.off_quote(symbol)) for symbol in symbols}
    for trade in trades:
        off[trade.symbol] += float(trade.signed_quote)
    covariance = portfolio.ledoit_wolf(np.array([returns[s] for s in symbols]).T).covariance
    apart = np.array([off[symbol] for symbol in symbols])
    return math.sqrt(max(float(apart @ covariance @ apart), 0.0) * HORIZON_HOURS)


def worth_their_cost(
    replan: Callable[[Sequence[str]], Plan], sleeve: Sleeve, returns: Mapping[str, Array]
) -> Plan:
    """The plan without the trades that cost as much as they take from the tracking error, or more.

    A trade is judged by what the error would be without it. The one that is worth least goes
    first, and the rest is planned anew, because it may have paid for another.

    Args:
        replan: the plan that does not trade the given symbols.
    """
    dropped: dict[str, str] = {}
    while True:
        plan = replan(list(dropped))
        gains = {trade: _gain_quote(trade, plan, sleeve, returns) for trade in plan.trades}
        lost = {t: gain - float(t.cost_quote) for t, gain in gains.items()}
        worst = min(lost, key=lambda trade: lost[trade], default=None)
        if worst is None or lost[worst] > 0:
            return Plan(plan.trades, plan.skipped | dropped)
        dropped[worst.symbol] = (
            f"COST: {worst.side} {worst.notional_quote:.2f} costs {worst.cost_quote:.4f}, "
            f"tracking error falls by {gains[worst]:.4f}"
        )


def _gain_quote(trade: Trade, plan: Plan, sleeve: Sleeve, returns: Mapping[str, Array]) -> float:
    others = [other for other in plan.trades if other is not trade]
    return error_quote(sleeve, others, returns) - error_quote(sleeve, plan.trades, returns)
