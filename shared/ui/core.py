"""The core sleeve on the dashboard: each weight beside its target."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from shared.config import Config
from shared.ledger import universes
from shared.ledger.connection import Ledger
from shared.risk.core import targets
from shared.risk.core.sleeve import Sleeve


def weights(
    ledger: Ledger, settings: Config, equity_quote: Decimal | None, positions: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """Weights in percent of the sleeve, or ``None`` where there is no core sleeve.

    A weight is ``None`` while the equity or a price is not known.
    """
    held = {p["symbol"]: p["value_quote"] for p in positions if p["sleeve"] == "core"}
    if settings.core_sleeve_percent == 0 and not held:
        return None
    wanted = targets.choose(settings, universes.in_force(ledger, settings).buyable, held)
    if settings.core_sleeve_percent == 0:
        wanted = targets.Targets({})
    shown: list[dict[str, Any]] = [
        {"symbol": symbol, "target_percent": wanted.percents.get(symbol, Decimal(0))}
        for symbol in [*wanted.percents, *(s for s in held if s not in wanted.percents)]
    ]
    known = {symbol: value for symbol, value in held.items() if value is not None}
    sleeve = Sleeve(
        equity_quote or Decimal(0), settings.core_sleeve_percent, known, wanted.percents
    )
    is_known = equity_quote is not None and len(known) == len(held)
    for row in shown:
        row["current_percent"] = sleeve.weight_percent(row["symbol"]) if is_known else None
    return {
        "share_percent": settings.core_sleeve_percent,
        "band_percent": settings.rebalance_band_percent,
        "weights": shown,
        "in_cash": list(wanted.in_cash),
    }
