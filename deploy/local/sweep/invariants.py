"""What must hold when everything has come to rest: the books against the venues' own accounts.

Pure functions over ``Evidence``. Each violation has a kind, by which the report counts:

``duplicate_order``  a second venue order for one logical order (I2)
``orphan_order``     a venue order that no intent knows, or whose intent counts as never sent (I2)
``lost_fill``        an execution at a venue that the books do not have (I5)
``phantom_fill``     an execution in the books that the venue has not, or has otherwise (I5)
``order_differs``    quantity filled or status differ between books and venue (I5)
``balance_differs``  a balance differs, to the last digit (I1)
``unresolved``       an intent without an outcome (I2)
``after_halt``       a buy that reached a venue after the halt was committed (I3)
``over_limit``       more held or paid for than a limit allows (I4)
``over_bought``      a parent order that bought or sold more than it was for (I2)
``over_filled``      an order filled beyond its quantity, or fills that do not add up to it (I7)
``unprotected``      something sellable is held and no stop covers it (I6)
``churned``          a core rebalance that was planned too soon after another
``stale_epoch``      an intent written under an epoch that its workflow never had (I10)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from deploy.local.venue_check import trade_id
from deploy.local.wire.rules import VENUES, VenueName, symbol_rules
from shared import clock

Row = Mapping[str, Any]
Accounts = Mapping[str, Any]

_COVERED = Decimal("0.999")
_NOT_SENT = ("DEAD", "REJECTED")


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong. ``what`` names it so that a person finds it."""

    kind: str
    what: str


@dataclass(frozen=True)
class Evidence:
    """The books at rest, and the venues' accounts of the same moment.

    Attributes:
        intents: rows with client_order_id, venue, state, logical_key, side, purpose, quantity,
            parent_id, epoch, workflow epochs in ``epochs``, sent_at.
        orders, fills: rows of the ledger's tables; balances: by venue and currency.
        parents: rows with parent_id, quantity and traded_quantity.
        cost_quote: paid for what open positions still hold; positions: how many are open.
        halted_since: when the trading state became HALTED, if it is.
        rebalanced: when each rebalance of the core sleeve was planned, in that order;
            ``rebalance_min_hours``: what has to lie between two of them.
        accounts: of the venues, as the wire's control interface tells them.
    """

    intents: Sequence[Row]
    orders: Sequence[Row]
    fills: Sequence[Row]
    balances: Mapping[tuple[str, str], Decimal]
    accounts: Accounts
    parents: Sequence[Row] = ()
    epochs: frozenset[int] | None = None
    cost_quote: Decimal = Decimal(0)
    positions: int = 0
    max_cost_quote: Decimal | None = None
    max_positions: int | None = None
    halted_since: datetime | None = None
    rebalanced: Sequence[datetime] = ()
    rebalance_min_hours: float | None = None


def judge(evidence: Evidence, *, expect_protection: bool) -> list[Violation]:
    """Everything that is wrong. ``expect_protection`` asks for a stop on what is held."""
    found = [violation for check in _CHECKS for violation in check(evidence)]
    if expect_protection:
        found += [
            Violation("unprotected", f"{venue}: {quantity} held without a stop")
            for venue, quantity in naked(evidence.accounts).items()
        ]
    return found


def _duplicates(evidence: Evidence) -> Iterator[Violation]:
    seen = Counter((venue, order["client_order_id"]) for venue, order in _orders(evidence.accounts))
    for (venue, client_id), count in sorted(seen.items(), key=str):
        if client_id is not None:
            for _ in range(count - 1):
                yield Violation("duplicate_order", f"{venue}: {client_id} has {count} orders")


def _orphans(evidence: Evidence) -> Iterator[Violation]:
    states = {(i["venue"], i["client_order_id"]): i["state"] for i in evidence.intents}
    for venue, order in _orders(evidence.accounts):
        state = states.get((venue, order["client_order_id"]))
        if state is None or state in _NOT_SENT:
            told = "no intent" if state is None else f"an intent that is {state}"
            yield Violation("orphan_order", f"{venue}: order {order['order_id']} has {told}")


def _fills(evidence: Evidence) -> Iterator[Violation]:
    known = {(f["venue"], str(f["venue_trade_id"])): f for f in evidence.fills}
    for venue, account in evidence.accounts.items():
        for fill in account["fills"]:
            row = known.pop((venue, trade_id(venue, fill)), None)
            if row is None:
                yield Violation("lost_fill", f"{venue}: trade {fill['trade_id']}")
            elif any(row[name] != Decimal(fill[name]) for name in ("quantity", "price")):
                yield Violation("phantom_fill", f"{venue}: trade {fill['trade_id']} differs")
    for venue, unknown in known:
        yield Violation("phantom_fill", f"{venue}: trade {unknown} is not the venue's")


def _order_rows(evidence: Evidence) -> Iterator[Violation]:
    client_ids = {i["intent_id"]: i["client_order_id"] for i in evidence.intents}
    known = {(o["venue"], client_ids[o["intent_id"]]): o for o in evidence.orders}
    for venue, order in _orders(evidence.accounts):
        row = known.get((venue, order["client_order_id"]))
        if row is None:
            continue  # an orphan, or an unresolved intent: told as such
        if row["filled_quantity"] != Decimal(order["filled_quantity"]):
            yield Violation(
                "order_differs",
                f"{venue}: order {order['order_id']} filled {order['filled_quantity']}, "
                f"books {row['filled_quantity']}",
            )
        elif (row["status"] == "open") != (order["status"] == "open"):
            yield Violation(
                "order_differs",
                f"{venue}: order {order['order_id']} is {order['status']}, books {row['status']}",
            )


def _balances(evidence: Evidence) -> Iterator[Violation]:
    held = {
        (venue, currency): Decimal(amounts["free"]) + Decimal(amounts["locked"])
        for venue, account in evidence.accounts.items()
        for currency, amounts in account["balances"].items()
    }
    for key in sorted({*held, *evidence.balances}):
        ours, theirs = evidence.balances.get(key, Decimal(0)), held.get(key, Decimal(0))
        if ours != theirs:
            yield Violation("balance_differs", f"{' '.join(key)}: venue {theirs}, books {ours}")


def _unresolved(evidence: Evidence) -> Iterator[Violation]:
    for intent in evidence.intents:
        if intent["state"] in ("SENDING", "UNKNOWN"):
            yield Violation("unresolved", f"{intent['logical_key']} is {intent['state']}")


def _after_halt(evidence: Evidence) -> Iterator[Violation]:
    if evidence.halted_since is None:
        return
    halted_ms = clock.to_ms(evidence.halted_since)
    for venue, order in _orders(evidence.accounts):
        if order["side"] == "buy" and order["created_ms"] > halted_ms:
            yield Violation("after_halt", f"{venue}: bought by order {order['order_id']}")


def _limits(evidence: Evidence) -> Iterator[Violation]:
    if evidence.max_cost_quote is not None and evidence.cost_quote > evidence.max_cost_quote:
        yield Violation(
            "over_limit", f"paid {evidence.cost_quote}, limit {evidence.max_cost_quote}"
        )
    if evidence.max_positions is not None and evidence.positions > evidence.max_positions:
        yield Violation(
            "over_limit", f"{evidence.positions} positions, limit {evidence.max_positions}"
        )


def _parents(evidence: Evidence) -> Iterator[Violation]:
    for parent in evidence.parents:
        if parent["traded_quantity"] > parent["quantity"]:
            yield Violation(
                "over_bought",
                f"{parent['parent_id']}: {parent['traded_quantity']} of {parent['quantity']}",
            )


def _churn(evidence: Evidence) -> Iterator[Violation]:
    if evidence.rebalance_min_hours is None:
        return
    apart = timedelta(hours=evidence.rebalance_min_hours)
    for before, at in pairwise(evidence.rebalanced):
        if at - before < apart:
            yield Violation("churned", f"rebalanced at {clock.iso(before)} and {clock.iso(at)}")


def _sums(evidence: Evidence) -> Iterator[Violation]:
    filled: dict[str, Decimal] = defaultdict(Decimal)
    for fill in evidence.fills:
        filled[fill["intent_id"]] += fill["quantity"]
    for order in evidence.orders:
        total = filled[order["intent_id"]]
        if total != order["filled_quantity"] or total > order["quantity"]:
            yield Violation(
                "over_filled",
                f"{order['intent_id']}: fills {total}, order {order['filled_quantity']} "
                f"of {order['quantity']}",
            )


def _epochs(evidence: Evidence) -> Iterator[Violation]:
    for intent in evidence.intents:
        if evidence.epochs is not None and intent["epoch"] not in evidence.epochs:
            yield Violation("stale_epoch", f"{intent['logical_key']}: epoch {intent['epoch']}")


_CHECKS: tuple[Callable[[Evidence], Iterable[Violation]], ...] = (
    _duplicates,
    _orphans,
    _fills,
    _order_rows,
    _balances,
    _unresolved,
    _after_halt,
    _limits,
    _parents,
    _churn,
    _sums,
    _epochs,
)


def naked(
    accounts: Accounts, dust: Mapping[tuple[str, str], Decimal] = MappingProxyType({})
) -> dict[VenueName, Decimal]:
    """By venue, what is held in base and could be sold there, where stops do not cover it.

    Args:
        dust: by venue and currency, what closed positions have left there: too little to sell
            when they were closed, and nobody's to protect since.
    """
    found = {}
    for venue in VENUES:
        account = accounts.get(venue, {"balances": {}})
        for currency, amounts in account["balances"].items():
            total = Decimal(amounts["free"]) + Decimal(amounts["locked"])
            total -= dust.get((venue, currency), Decimal(0))
            symbol = f"{currency}/USDT"
            prices = [Decimal(f["price"]) for f in account["fills"] if f["symbol"] == symbol]
            if not prices or not total:
                continue
            rules = symbol_rules(venue, symbol, float(prices[-1]))
            sellable = total // rules.quantity_step * rules.quantity_step
            if sellable < rules.min_quantity or sellable * prices[-1] < rules.min_notional:
                continue
            if _covered(account, symbol) < sellable * _COVERED:
                found[venue] = sellable
    return found


def _covered(account: Mapping[str, Any], symbol: str) -> Decimal:
    return sum(
        (
            Decimal(order["quantity"]) - Decimal(order["filled_quantity"])
            for order in account["orders"]
            if order["status"] == "open"
            and order["symbol"] == symbol
            and order["side"] == "sell"
            and order["stop_price"] is not None
        ),
        Decimal(0),
    )


def _orders(accounts: Accounts) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for venue, account in accounts.items():
        for order in account["orders"]:
            yield venue, order
