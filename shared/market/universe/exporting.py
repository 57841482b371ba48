"""What a scan tells of its universe."""

from __future__ import annotations

from collections import Counter
from typing import Any

from shared import clock
from shared.market.universe.choosing import Choice
from shared.run import Run

_MOST_EXCLUDED = 40  # the most traded ones; the ledger and `trading-loop universe` have them all


def as_export(run: Run, chosen: Choice | None) -> dict[str, Any]:
    """Where the symbols come from, and in the run of a choice what was left out and why.

    ``failure`` says why the choice that is due could not be made; the universe is then the old one.
    """
    universe = run.universe
    shown: dict[str, Any] = {
        "source": "chosen" if run.config.chooses_symbols else "configured",
        "symbols": list(universe.buyable),
        "leaving": list(universe.leaving),
    }
    if not run.config.chooses_symbols:
        return shown
    at = universe.chosen_at
    shown["chosen_at_ms"] = None if at is None else clock.to_ms(at)
    shown["is_being_chosen"] = universe.started_at is not None
    shown["failure"] = universe.failure
    if chosen is not None:
        shown["excluded"] = [
            {"symbol": x.symbol, "reason": x.reason, "value": x.value, "limit": x.limit}
            for x in chosen.excluded[:_MOST_EXCLUDED]
        ]
        shown["excluded_by_reason"] = dict(Counter(x.reason for x in chosen.excluded))
    return shown


def missing(run: Run) -> list[str]:
    """What a scan lacks where nothing may be bought because nothing has been chosen yet."""
    if run.universe.buyable:
        return []
    return [f"universe:{run.universe.failure or 'being chosen'}"]
