"""Whatever is missing, not a number, out of range or old for the gate: nothing is bought.

Every field of every part of a case is broken in turn, in every way that a field of its type can be
broken. What a break leaves harmless stands in ``HARMLESS``, with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.risk.controls.case import Case
from tests.risk.gate_case import STOP, case, denial
from tests.risk.world import dec

PARTS = ("ticket", "rules", "book", "facts", "lately", "standing")
OWN = ("now_ms", "buyable", "compared_at")

NOTHING, ZERO = "None", "zero"
HARMLESS = {
    # what an order that is not a stop, a post-only or a good-till-date one does not carry
    **dict.fromkeys(("ticket.stop_price", "ticket.expires_at", "ticket.post_only"), "any"),
    # names that are judged where they are used, and cannot make an order larger
    **dict.fromkeys(("ticket.client_order_id", "ticket.time_in_force"), "any"),
    "rules.maker_fee_bps": "any",  # a taker's order is judged by the taker's fee
    "rules.min_quantity": ZERO,  # some venues have none
    "rules.min_notional": ZERO,
    "rules.taker_fee_bps": ZERO,  # some markets are free
    # a venue may have no such rule, and may tell nothing that cannot be read
    **dict.fromkeys(("rules.price_band", "rules.max_orders", "rules.max_stop_orders"), NOTHING),
    "rules.unread_filters": "None empty",
    "facts.held_on_venue": "None zero",  # a buy needs nothing that is held
    "lately.throttled_at": NOTHING,  # it is not throttled
    "lately.strategy": "another",  # a name
    "lately.quote_cross_worths": "None empty",  # judged only where there is no better
    "buyable": NOTHING,  # the run's own, never missing
    "standing.capital_quote": "any",  # equity is known, and counts instead
}
"""By field: the breaks that harm nothing; a count of zero is the ordinary case of every count."""


def breaks(value: Any) -> Iterator[tuple[str, Any]]:
    """Ways in which a field that holds ``value`` can be broken."""
    yield NOTHING, None
    if isinstance(value, bool):
        yield "false", False
    elif isinstance(value, Decimal):
        yield from ((name, Decimal(name)) for name in ("NaN", "sNaN", "Infinity", "-Infinity"))
        yield "negative", Decimal(-1)
        if value != 0:
            yield ZERO, Decimal(0)
    elif isinstance(value, int):
        yield "negative", -1
    elif isinstance(value, datetime):
        yield "old", value - timedelta(hours=1)
        yield "ahead", value + timedelta(hours=1)
    elif isinstance(value, str):
        yield "another", "?"
    elif isinstance(value, list | tuple):
        yield "empty", type(value)()


def broken_fields() -> Iterator[tuple[str, str, Any]]:
    judged = case()
    for part in PARTS:
        held = getattr(judged, part)
        for field in dataclasses.fields(held):
            name = f"{part}.{field.name}"
            for how, value in breaks(getattr(held, field.name)):
                harmless = HARMLESS.get(name, "").split()
                if "any" not in harmless and how not in harmless:
                    yield name, how, value
    for name in OWN:
        for how, value in breaks(getattr(judged, name)):
            if how not in HARMLESS.get(name, "").split():
                yield name, how, value


def with_field(judged: Case, name: str, value: Any) -> Case:
    part, _, field = name.rpartition(".")
    if not part:
        return dataclasses.replace(judged, **{field: value})
    changed = dataclasses.replace(getattr(judged, part), **{field: value})
    return dataclasses.replace(judged, **{part: changed})


BROKEN = [pytest.param(*broken, id=f"{broken[0]} {broken[1]}") for broken in broken_fields()]


@pytest.mark.parametrize(("name", "how", "value"), BROKEN)
def test_a_broken_field_buys_nothing(name: str, how: str, value: Any) -> None:
    assert denial(case()) is None
    assert denial(with_field(case(), name, value)) is not None


def test_every_field_is_broken_or_told_why_not() -> None:
    fields = {part: dataclasses.fields(getattr(case(), part)) for part in PARTS}
    named = {f"{part}.{field.name}" for part in PARTS for field in fields[part]} | set(OWN)
    tried = {str(parameter.values[0]) for parameter in BROKEN}
    assert set(HARMLESS) <= named
    assert named - tried <= set(HARMLESS)


def test_who_took_out_more_than_was_paid_in_still_buys() -> None:
    assert denial(case(capital_quote=Decimal(-5))) is None
    never = dict.fromkeys(f.name for f in dataclasses.fields(case().standing))
    assert denial(case(**never | {"capital_quote": Decimal(10_000)})) is None
    assert denial(case(**never | {"capital_quote": Decimal(-5)})) is not None


LEVELS = st.one_of(
    st.just(()),
    st.lists(
        st.tuples(st.sampled_from([float("nan"), float("inf"), 0.0, -1.0]), st.just(9.0)),
        min_size=1, max_size=3,
    ).map(tuple),
    st.lists(
        st.tuples(st.just(100.01), st.sampled_from([float("nan"), float("inf"), -1.0])),
        min_size=1, max_size=3,
    ).map(tuple),
)  # fmt: skip


@given(asks=LEVELS)
def test_a_broken_side_of_the_book_buys_nothing(asks: Any) -> None:
    seen = dataclasses.replace(case().book, asks=asks)
    assert denial(case(book=seen)) is not None


@given(
    mids=st.lists(
        st.sampled_from(["NaN", "Infinity", "-Infinity", "0", "-1", "50", "1000"]).map(Decimal),
        min_size=1,
        max_size=4,
    )
)
def test_a_broken_second_source_buys_nothing(mids: list[Decimal]) -> None:
    assert denial(case(other_venue_mids=[dec(100), *mids])) is not None


NOT_OF_A_PAIR = ("ticket.side", "standing.at", "standing.equity_quote")
"""A sale is judged otherwise, and equity without rows is that of a new pod."""


@given(
    broken=st.lists(
        st.sampled_from([b.values for b in BROKEN if b.values[0] not in NOT_OF_A_PAIR]),
        min_size=2,
        max_size=6,
    )
)
def test_several_breaks_do_not_mend_each_other(broken: list[Any]) -> None:
    judged = case()
    for name, _, value in broken:
        judged = with_field(judged, name, value)
    assert denial(judged) is not None


SALES = {"exit": {}, "protect": STOP}
KEEPS_SALES_BACK = (
    "ticket", "rules", "book", "now_ms",  # the sale itself would be nonsense
    "facts.run_started_at", "facts.position_symbol", "facts.held_on_venue",
    "facts.pending_sell_quantity", "facts.unknown_stop_quantity", "facts.opposing",
    "facts.orders_last", "facts.other_venue_mids",
    "facts.messages_last", "facts.resting_orders", "facts.resting_stops",
)  # fmt: skip


@pytest.mark.parametrize("purpose", SALES)
@pytest.mark.parametrize(("name", "how", "value"), BROKEN)
def test_what_a_sale_does_not_need_keeps_none_back(
    name: str, how: str, value: Any, purpose: str
) -> None:
    """In a crash much is unknown, and what is held has to be sold and protected all the same."""
    if name.startswith(KEEPS_SALES_BACK):
        return
    assert denial(with_field(case(purpose, **SALES[purpose]), name, value)) is None
