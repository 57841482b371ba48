"""What an order is by itself: allowed by the state, made of numbers, for a market it fits."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from decimal import Decimal
from typing import get_args

from shared.errors import OrderDenied
from shared.execution.types import OrderTicket, OrderType, Purpose
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState
from shared.risk.controls.case import Case

_NUMBERS_OF_RULES = ("price_tick", "quantity_step", "min_quantity", "min_notional", "taker_fee_bps")
_FACTS_OF_SALES = ("held_on_venue", "pending_sell_quantity", "unknown_stop_quantity")
_MAY_BE_MISSING = frozenset(
    {
        "run_started_at",
        "position_symbol",
        "held_on_venue",
        "venue_cash_quote",
        "other_venue_mids",
        "low_1m",
        "high_1m",
        "volume_24h_quote",
        "throttled_at",
        "quote_worths",
        "quote_cross_worths",
        *(field.name for field in dataclasses.fields(Standing)),
    }
)


def deny_unless_state_allows(trading: TradingState, ticket: OrderTicket, purpose: Purpose) -> None:
    """A halt lets nothing through but what shrinks a position (C31)."""
    expected = {"entry": ("buy",), "exit": ("sell",), "protect": ("sell",)}
    if ticket.side not in expected.get(purpose, ("buy", "sell")):
        raise OrderDenied("ORDER_SIDE", purpose=purpose, side=ticket.side)
    if trading.state == "HALTED" and purpose not in ("exit", "protect"):
        raise OrderDenied("STATE_HALTED", purpose=purpose, reason=trading.reason)
    if trading.state != "ACTIVE" and ticket.side != "sell":
        raise OrderDenied(f"STATE_{trading.state}", purpose=purpose, reason=trading.reason)
    if trading.limit_orders_only and ticket.order_type == "market" and ticket.side == "buy":
        raise OrderDenied("STATE_LIMIT_ORDERS_ONLY", order_type=ticket.order_type)


def deny_unless_numbers(ticket: OrderTicket) -> None:
    """The ticket is of a known type, and all its numbers are finite and above zero (C02)."""
    if ticket.order_type not in get_args(OrderType):
        raise OrderDenied("ORDER_TYPE", order_type=ticket.order_type, expected="a known type")
    numbers = {"quantity": ticket.quantity, "limit_price": ticket.limit_price}
    if ticket.order_type in ("stop_limit", "stop_market"):
        if ticket.stop_price is None:
            raise OrderDenied("ORDER_STOP_PRICE", stop_price=None, expected="above 0")
        numbers["stop_price"] = ticket.stop_price
    for name, value in numbers.items():
        if not (isinstance(value, Decimal) and value.is_finite() and value > 0):
            raise OrderDenied("ORDER_NUMBER", field=name, value=value, expected="above 0")


def rules(case: Case) -> None:
    """The venue's rules are numbers (C02), and its market is open to new risk (C12).

    A market may have opened again since it was asked: what is held is tried to be sold.
    """
    told = case.rules
    for name in _NUMBERS_OF_RULES:
        value = getattr(told, name)
        if not (isinstance(value, Decimal) and value.is_finite() and value >= 0):
            raise OrderDenied("RULES_NUMBER", field=name, value=value, expected="not below 0")
    for name, grid in (("price_tick", told.price_tick), ("quantity_step", told.quantity_step)):
        if grid == 0:
            raise OrderDenied("RULES_NUMBER", field=name, value=grid, expected="above 0")
    if case.new_risk and told.is_open is not True:
        raise OrderDenied("MARKET_CLOSED", venue=told.venue, symbol=told.symbol)


def facts(case: Case) -> None:
    """What the ledger and the clock tell is numbers, none of them below zero (C02).

    A sale is judged by what it needs: what is held, and what other sales claim of it.
    """
    known = vars(case.facts)
    judged = {"now_ms": case.now_ms, "book.at_ms": case.book.at_ms}
    judged |= {name: known[name] for name in _FACTS_OF_SALES}
    if case.new_risk:
        judged |= known | vars(case.lately) | _judged_standing(case)
    for name, value in judged.items():
        if name in _MAY_BE_MISSING and value is None:
            continue  # the control that needs it says what is missing
        if not _is_fact(value):
            raise OrderDenied("FACT_INVALID", field=name, value=value, expected="not below 0")
    if case.new_risk and case.facts.sleeve not in ("tactical", "core"):
        raise OrderDenied("FACT_INVALID", field="sleeve", value=case.facts.sleeve, expected="known")


def _judged_standing(case: Case) -> dict[str, object]:
    """Once there is equity, it counts: who took profits out may have paid in less than nothing."""
    standing = vars(case.standing)
    if case.standing.equity_quote is None:
        return standing
    return {name: value for name, value in standing.items() if name != "capital_quote"}


def _is_fact(value: object) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite() and value >= 0
    if isinstance(value, int):
        return value >= 0
    return isinstance(value, str | datetime | list)


def names(case: Case) -> None:
    """The ticket, its rules, its book and its position speak of the same market (C15)."""
    ticket, rules = case.ticket, case.rules
    if (rules.venue, rules.symbol, case.book.symbol) != (
        ticket.venue,
        ticket.symbol,
        ticket.symbol,
    ):
        raise OrderDenied(
            "MARKET_MISMATCH",
            ticket=f"{ticket.venue} {ticket.symbol}",
            rules=f"{rules.venue} {rules.symbol}",
            book=case.book.symbol,
        )
    if case.facts.position_symbol != ticket.symbol:
        raise OrderDenied(
            "POSITION_MISMATCH", ticket=ticket.symbol, position=case.facts.position_symbol
        )


def allow_list(case: Case) -> None:
    """New risk only in the universe and on its venues. What is held may always be sold (C15)."""
    if not case.new_risk:
        return
    if case.ticket.symbol not in case.buyable:
        raise OrderDenied("SYMBOL_NOT_ALLOWED", symbol=case.ticket.symbol)
    if case.ticket.venue not in case.config.venues:
        raise OrderDenied("VENUE_NOT_ALLOWED", venue=case.ticket.venue)


def grid(case: Case) -> None:
    """Quantity and notional are ones that the venue accepts (C12)."""
    ticket, rules = case.ticket, case.rules
    if ticket.quantity % rules.quantity_step != 0:
        raise OrderDenied(
            "QUANTITY_STEP", after=ticket.quantity, expected=_multiple(rules.quantity_step)
        )
    for price in (ticket.limit_price, ticket.stop_price):
        if price is not None and price % rules.price_tick != 0:
            raise OrderDenied("PRICE_TICK", after=price, expected=_multiple(rules.price_tick))
    if ticket.quantity < rules.min_quantity:
        raise OrderDenied("QUANTITY_MINIMUM", after=ticket.quantity, limit=rules.min_quantity)
    if case.notional_quote < rules.min_notional:
        raise OrderDenied("NOTIONAL_MINIMUM", after=case.notional_quote, limit=rules.min_notional)


def _multiple(grid: Decimal) -> str:
    return f"a multiple of {grid}"


def self_match(case: Case) -> None:
    """No order of ours rests on the other side at a price that would meet this one (C16).

    A stop meets nobody when it is placed, and a stop that rests meets nobody either.
    """
    if case.facts.opposing and not case.is_stop:
        raise OrderDenied("ORDER_SELF_MATCH", orders=case.facts.opposing, limit=0)


def holding(case: Case) -> None:
    """A sale is at most what the position holds on the venue and no other sale claims (C17).

    A stop of which nobody knows whether it rests keeps no exit back: if it does rest, it has locked
    what the exit would sell, and the venue itself refuses the exit.
    """
    if case.new_risk:
        return
    held = case.facts.held_on_venue or Decimal(0)
    claimed = case.facts.pending_sell_quantity
    if case.purpose == "exit":
        claimed -= case.facts.unknown_stop_quantity
    if case.ticket.quantity > held - claimed:
        raise OrderDenied(
            "HOLDING_EXCEEDED",
            after=case.ticket.quantity,
            limit=held - claimed,
            held=held,
            in_flight=claimed,
        )
