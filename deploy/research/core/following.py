"""Follow the core sleeve through a replay: its weights every five minutes, and its rebalances.

The weights are those that the position manager itself saw and told; trades, fees and slippage are
read from the fills in the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from deploy.local import venue_check
from deploy.local.results import WorkflowResult
from deploy.local.scheduler import virtual_ticks
from deploy.local.session import LocalSession
from shared import clock
from shared.ledger.connection import Ledger

MANAGER = "position_manager"
_UNDER_WAY = ("SELLING", "BUYING", "DONE", "ENDED")
"""A report that begins so tells the weights of the plan, not those of the moment."""

_TRADES = """
SELECT i.symbol, f.side, sum(f.price * f.quantity) AS notional_quote,
       sum(f.fee_quote) AS fee_quote,
       sum((f.price - i.decision_mid) * f.quantity * CASE f.side WHEN 'buy' THEN 1 ELSE -1 END)
           AS slippage_quote
FROM parent_orders p JOIN intents i USING (parent_id) JOIN fills f USING (intent_id)
WHERE p.pod = %s AND starts_with(p.parent_id, %s)
GROUP BY i.symbol, f.side ORDER BY f.side DESC, i.symbol
"""

_NAKED = """
SELECT coalesce(sum(extract(epoch FROM coalesce(n.until, %s) - n.since)), 0) AS seconds
FROM naked_intervals n JOIN positions p USING (position_id) WHERE n.pod = %s AND p.sleeve = 'core'
"""


@dataclass(frozen=True)
class Sample:
    """What a run of the position manager told of the sleeve. Weights in percent of the sleeve.

    Attributes:
        code: the first word of its reason, such as ``WITHIN_BAND`` or ``REBALANCE_RECENT``.
    """

    at_ms: int
    code: str
    needed: bool
    weights: Mapping[str, float]
    targets: Mapping[str, float]

    @property
    def is_of_the_moment(self) -> bool:
        """Whether its weights were measured by this run."""
        return bool(self.weights) and self.code not in _UNDER_WAY

    @property
    def off_points(self) -> dict[str, float]:
        """By symbol, how far the weight is above its target."""
        return {symbol: weight - self.targets[symbol] for symbol, weight in self.weights.items()}

    @property
    def farthest_points(self) -> float:
        return max(abs(off) for off in self.off_points.values())

    @property
    def rms_points(self) -> float:
        """Root mean square over the symbols."""
        return math.sqrt(sum(off**2 for off in self.off_points.values()) / len(self.weights))


@dataclass(frozen=True)
class Traded:
    """What the orders of a rebalance did in one symbol, in quote currency.

    ``slippage_quote`` is against the mid of the plan; positive is worse.
    """

    side: str
    symbol: str
    notional_quote: Decimal
    fee_quote: Decimal
    slippage_quote: Decimal


@dataclass(frozen=True)
class Rebalanced:
    """A rebalance, and the sleeve as it was seen by the run that planned it and first after it.

    ``before`` is ``None`` where that run failed once it had planned, ``after`` where none came.
    """

    at: datetime
    ended_at: datetime | None
    reason: str
    state: str
    sleeve_quote: Decimal
    trades: tuple[Traded, ...]
    before: Sample | None
    after: Sample | None

    @property
    def turnover_quote(self) -> Decimal:
        return sum((trade.notional_quote for trade in self.trades), Decimal(0))

    @property
    def cost_quote(self) -> Decimal:
        """Fees and slippage."""
        return sum((t.fee_quote + t.slippage_quote for t in self.trades), Decimal(0))


@dataclass(frozen=True)
class Followed:
    """A replay, seen from the core sleeve.

    Attributes:
        samples: one a run of the position manager.
        naked_seconds: how long core positions had no resting stop on a venue, all added up.
        failures: runs that failed, by workflow and error.
        differences: between ledger and venues, at the end.
    """

    samples: tuple[Sample, ...]
    rebalances: tuple[Rebalanced, ...]
    band_percent: Decimal
    minimum_hours: float
    naked_seconds: float
    failures: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def postponed(self) -> dict[str, int]:
        """How many runs found it needed and did nothing, by the code of what restricted them."""
        planned = {clock.to_ms(rebalanced.at) for rebalanced in self.rebalances}
        counts: dict[str, int] = {}
        for sample in self.samples:
            if sample.needed and sample.is_of_the_moment and sample.at_ms not in planned:
                counts[sample.code] = counts.get(sample.code, 0) + 1
        return counts


def follow(session: LocalSession) -> Followed:
    """Run every tick of the session's stretch, and look at the sleeve after each run."""
    spec = session.options.spec
    samples: list[Sample] = []
    failures: list[str] = []
    for tick in virtual_ticks(session.project.workflows, spec.from_ms, spec.to_ms):
        result = session.run_tick(tick)
        if result.failed_step is not None:
            failures.append(f"{result.workflow}: {result.failed_step.error}")
        elif tick.workflow.name == MANAGER:
            samples.append(_sample(tick.at_ms, result))
    session.advance(spec.to_ms)
    differences = venue_check.differences(
        session.ledger, session.wire.accounts(), session.earlier_fills
    )
    return Followed(
        samples=tuple(samples),
        rebalances=_rebalances(session.ledger, samples),
        band_percent=session.settings.rebalance_band_percent,
        minimum_hours=session.settings.rebalance_min_hours,
        naked_seconds=_naked_seconds(session.ledger),
        failures=tuple(failures),
        differences=tuple(str(difference) for difference in differences),
    )


def _sample(at_ms: int, result: WorkflowResult) -> Sample:
    told: dict[str, Any] = result.export_of(MANAGER)["rebalancing"]
    return Sample(
        at_ms=at_ms,
        code=told["reason"].partition(":")[0],
        needed=told["needed"],
        weights={symbol: weight["current"] for symbol, weight in told["weights"].items()},
        targets={symbol: weight["target"] for symbol, weight in told["weights"].items()},
    )


def _rebalances(ledger: Ledger, samples: list[Sample]) -> tuple[Rebalanced, ...]:
    by_time = {sample.at_ms: sample for sample in samples}
    rows = ledger.query(
        "SELECT rebalance_id, at, ended_at, reason, state, sleeve_quote FROM rebalances "
        "WHERE pod = %s ORDER BY at",
        (ledger.pod,),
    )
    found = []
    for row in rows:
        traded = ledger.query(_TRADES, (ledger.pod, f"{row.pop('rebalance_id')}:"))
        found.append(
            Rebalanced(
                **row,
                trades=tuple(Traded(**trade) for trade in traded),
                before=by_time.get(clock.to_ms(row["at"])),
                after=_first_after(samples, row["ended_at"]),
            )
        )
    return tuple(found)


def _first_after(samples: list[Sample], ended_at: datetime | None) -> Sample | None:
    if ended_at is None:
        return None
    ended_ms = clock.to_ms(ended_at)
    later = (sample for sample in samples if sample.at_ms > ended_ms and sample.is_of_the_moment)
    return next(later, None)


def _naked_seconds(ledger: Ledger) -> float:
    row = ledger.one(_NAKED, (clock.now(), ledger.pod))
    assert row is not None
    return float(row["seconds"])
