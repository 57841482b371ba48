"""Whether a portfolio with a trade is still one that the pod can bear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import OrderDenied
from shared.risk.portfolio.tail import HORIZON_HOURS, TailRisk

VAR_SHARE = 0.5
"""Of the drawdown limit that a day's value at risk may take."""


@dataclass(frozen=True)
class LossBudget:
    """What a day may lose. Each limit is passed when its figure reaches it."""

    var95_quote: float
    cvar95_quote: float


def loss_budget(
    worth_quote: float, max_drawdown_percent: float, drawdown_percent: float
) -> LossBudget:
    """The budget of a pod that is worth ``worth_quote`` and ``drawdown_percent`` below its mark.

    VaR may take half of the drawdown limit, as the specification has it: one day in twenty is
    worse than that. Days of that kind lose CVaR on average, so CVaR may take what is left until
    the limit is reached: the mean bad day alone must not end trading. At the mark that is the
    whole limit; in a drawdown it shrinks with the distance to the floor, as the risk that Grossman
    and Zhou hold to be optimal does ("Optimal investment strategies for controlling drawdowns",
    Mathematical Finance 3, 1993). Beyond the limit nothing is left.
    """
    kept = (100 - max_drawdown_percent) / (100 - drawdown_percent) if drawdown_percent < 100 else 1
    return LossBudget(
        var95_quote=VAR_SHARE * worth_quote * max_drawdown_percent / 100,
        cvar95_quote=max(0.0, worth_quote * (1 - kept)),
    )


def refusals(
    before: TailRisk,
    after: TailRisk,
    budget: LossBudget,
    correlations: Mapping[str, float | None],
    correlation_limit: float,
) -> list[OrderDenied]:
    """Everything that speaks against a trade; none if it may be made.

    Args:
        correlations: of the candidate with each tactical holding, ``None`` where it is not known.
            The core sleeve's holdings are no part of them: they are held for good, most of the
            market moves with them, and VaR bounds what they may lose together.
    """
    found = [
        OrderDenied(
            code,
            before=f"{before_quote:.2f}",
            after=f"{after_quote:.2f}",
            limit=f"{limit_quote:.2f}",
            method=method,
            horizon_hours=HORIZON_HOURS,
        )
        for code, before_quote, after_quote, limit_quote, method in (
            ("VAR_LIMIT", before.var95_quote, after.var95_quote, budget.var95_quote,
             after.var95_method),
            ("CVAR_LIMIT", before.cvar95_quote, after.cvar95_quote, budget.cvar95_quote,
             after.cvar95_method),
        )
        if not after_quote < limit_quote
    ]  # fmt: skip
    return found + _too_alike(correlations, correlation_limit)


def _too_alike(correlations: Mapping[str, float | None], limit: float) -> list[OrderDenied]:
    found = []
    for other, value in correlations.items():
        if value is None:
            found.append(OrderDenied("CORRELATION_UNKNOWN", **{"with": other}))
        elif not value <= limit:
            detail = {"with": other, "correlation": f"{value:.3f}", "limit": limit}
            found.append(OrderDenied("CORRELATION_LIMIT", **detail))
    return found
