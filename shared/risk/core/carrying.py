"""Carry a rebalance out through the desk: parents that sell, then parents that buy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import DataUnavailable, OrderDenied
from shared.execution.types import EntryOrder, StopOnly
from shared.ledger import events, positions
from shared.risk.core import records
from shared.risk.core.records import PlannedTrade, Rebalance
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

STRATEGY = "core"


def begin(run: Run, desk: Desk, planned: Rebalance) -> tuple[int, dict[str, str]]:
    """Open the sales; where there are none, the buys. Inside the transaction of the plan.

    Returns:
        How many orders were opened, and what was refused, by symbol.
    """
    opened, refused = 0, {}
    for trade in planned.of_side("sell"):
        try:
            _sell(desk, planned, trade)
            opened += 1
        except (OrderDenied, DataUnavailable) as denied:
            refused[trade.symbol] = str(denied)
    if opened:
        return opened, refused
    opened, more = buy(run, desk, planned)
    return opened, refused | more


def buy(run: Run, desk: Desk, planned: Rebalance) -> tuple[int, dict[str, str]]:
    """Open the buys and move the rebalance on, in one transaction."""
    opened, refused = 0, {}
    with run.ledger.transaction():
        run.guard()
        for trade in planned.of_side("buy"):
            try:
                desk.enter(_entry(run, planned, trade))
                opened += 1
            except OrderDenied as denied:
                refused[trade.symbol] = str(denied)
        records.advance(run.ledger, planned.rebalance_id, "BUYING")
    return opened, refused


def finish(run: Run, planned: Rebalance) -> None:
    """End it as done, and hold each stop at its distance below what was paid, if that is higher."""
    with run.ledger.transaction():
        run.guard()
        traded = records.traded_quote(run.ledger, planned.rebalance_id)
        told = f"sold {traded['sell']:.2f}, bought {traded['buy']:.2f}"
        records.advance(run.ledger, planned.rebalance_id, "DONE", told)
        for position in positions.open_positions(run.ledger):
            paid = position.average_entry_price
            if position.sleeve == "core" and position.is_held and paid is not None:
                stop = paid * (100 - run.config.core_stop_percent) / 100
                positions.tighten_stop(run.ledger, position.position_id, stop)
        events.record(
            run.ledger, "REBALANCE_DONE", {"rebalance_id": planned.rebalance_id, "traded": told}
        )


def end(run: Run, planned: Rebalance, why: str) -> None:
    """End it before all was carried out; what was traded stays."""
    with run.ledger.transaction():
        run.guard()
        records.advance(run.ledger, planned.rebalance_id, "ENDED", why)
        events.record(
            run.ledger, "REBALANCE_ENDED", {"rebalance_id": planned.rebalance_id, "why": why}
        )


def _sell(desk: Desk, planned: Rebalance, trade: PlannedTrade) -> None:
    if trade.position_id is None or trade.quantity is None:
        raise DataUnavailable(f"{trade.symbol}: expected a position to sell from, was none")
    key = records.parent_id(planned.rebalance_id, trade)
    desk.reduce(trade.position_id, trade.quantity, trade.mid, key)


def _entry(run: Run, planned: Rebalance, trade: PlannedTrade) -> EntryOrder:
    """A stop far away and no other exit; where the symbol is held already, its stop stays."""
    return EntryOrder(
        decision_id=None,
        symbol=trade.symbol,
        size_quote=trade.notional_quote,
        decision_mid=trade.mid,
        strategy=STRATEGY,
        sleeve="core",
        urgency="normal",
        exits=StopOnly(trade.mid * (100 - run.config.core_stop_percent) / 100),
        key=records.parent_id(planned.rebalance_id, trade),
    )
