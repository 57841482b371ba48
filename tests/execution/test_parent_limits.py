"""What a parent order still takes, inside the transaction of an intent. Ten slices of 0.1."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from test_intents import intent, position

from shared.errors import OrderDenied
from shared.execution import intents
from shared.execution.entries import parents
from shared.execution.entries.parents import NewParent

PARENT = NewParent(
    "parent", 0, None, "BTC/USDT", "buy", "entry", "test", Decimal(1), Decimal(100), "normal", 10,
    60,
)  # fmt: skip


def start(bench: Bench, parent_id: str = "parent") -> None:
    made = {**vars(PARENT), "parent_id": parent_id, "position_id": position(bench)}
    assert parents.insert(bench.ledger, NewParent(**made))


def slice_of(
    bench: Bench, number: int, quantity: str, *, state: Any = "SENDING", parent_id: str = "parent",
    status: str | None = None, filled: str = "0",
) -> None:  # fmt: skip
    """An intent of the parent, and its order where the venue has it."""
    made = intent(
        bench, f"{parent_id}:{number}", quantity=Decimal(quantity), parent_id=parent_id,
        slice=number,
    )  # fmt: skip
    assert intents.insert(bench.ledger, made, 1, bench.venues["binance"])
    if state != "SENDING":
        assert intents.settle(bench.ledger, made.intent_id, state)
    if status is not None:
        bench.ledger.execute(
            "INSERT INTO orders SELECT venue, intent_id, intent_id, pod, %s, quantity, %s, NULL, "
            "sent_at, sent_at FROM intents WHERE intent_id = %s",
            (status, Decimal(filled), made.intent_id),
        )


def refusal(bench: Bench, number: int | None, quantity: str) -> str | None:
    try:
        with bench.ledger.transaction():
            parents.hold_working(bench.ledger, "parent", number, Decimal(quantity))
    except OrderDenied as denied:
        return denied.code
    return None


@pytest.mark.parametrize(
    ("number", "fits", "too_much"),
    [
        (0, "0.1", "0.101"),
        (1, "0.2", "0.201"),
        (8, "0.9", "0.901"),
        (9, "1", "1.001"),
        (12, "1", "1.001"),  # overtime: the whole, and never more
        (None, "1", "1.001"),
    ],
)
def test_no_more_than_is_due_with_a_slice(
    bench: Bench, number: int | None, fits: str, too_much: str
) -> None:
    start(bench)
    assert refusal(bench, number, fits) is None
    assert refusal(bench, number, too_much) == "PARENT_EXCEEDED"


@pytest.mark.parametrize(
    ("before", "filled", "in_flight"),
    [
        ({"state": "SENDING"}, "0", "0.1"),
        ({"state": "UNKNOWN"}, "0", "0.1"),
        ({"state": "UNKNOWN", "status": "cancelled", "filled": "0.03"}, "0.03", "0.07"),
        ({"state": "ACKNOWLEDGED", "status": "open", "filled": "0.03"}, "0.03", "0.07"),
        ({"state": "DEAD", "status": "open", "filled": "0.03"}, "0.03", "0.07"),
        ({"state": "ACKNOWLEDGED", "status": "cancelled", "filled": "0.03"}, "0.03", "0"),
        ({"state": "ACKNOWLEDGED", "status": "filled", "filled": "0.1"}, "0.1", "0"),
        ({"state": "REJECTED"}, "0", "0"),
        ({"state": "DEAD"}, "0", "0"),
    ],
)
def test_what_is_filled_and_in_flight_is_not_sent_again(
    bench: Bench, before: dict[str, Any], filled: str, in_flight: str
) -> None:
    start(bench)
    start(bench, "another")  # whose slices are not this one's
    slice_of(bench, 0, "0.1", **before)
    slice_of(bench, 0, "0.5", parent_id="another")
    progress = parents.progress(bench.ledger, "parent")
    assert progress == (Decimal(filled), Decimal(in_flight))
    left = Decimal("0.2") - sum(progress)
    assert refusal(bench, 1, str(left)) is None
    assert refusal(bench, 1, str(left + Decimal("0.001"))) == "PARENT_EXCEEDED"


def test_a_parent_without_slices_has_done_nothing(bench: Bench) -> None:
    start(bench)
    assert parents.progress(bench.ledger, "parent") == (0, 0)


@pytest.mark.parametrize("state", ["DONE", "EXPIRED", "CANCELLED"])
def test_a_parent_that_has_ended_takes_nothing(bench: Bench, state: Any) -> None:
    start(bench)
    start(bench, "another")
    assert parents.end(bench.ledger, "parent", state, "test")
    assert refusal(bench, 0, "0.001") == "PARENT_ENDED"


def test_a_parent_that_does_not_exist_takes_nothing(bench: Bench) -> None:
    start(bench, "another")
    assert refusal(bench, 0, "0.001") == "PARENT_ENDED"


def test_the_numbers_are_told(bench: Bench) -> None:
    start(bench)
    slice_of(bench, 0, "0.1", state="ACKNOWLEDGED", status="open", filled="0.03")
    with pytest.raises(OrderDenied) as caught:
        parents.hold_working(bench.ledger, "parent", 1, Decimal("0.5"))
    assert str(caught.value) == (
        "PARENT_EXCEEDED: parent_id=parent, quantity=0.5, filled=0.03, in_flight=0.07, due=0.2"
    )
    assert parents.end(bench.ledger, "parent", "DONE", "test")
    with pytest.raises(OrderDenied, match="PARENT_ENDED: parent_id=parent, state=DONE"):
        parents.hold_working(bench.ledger, "parent", 1, Decimal("0.5"))
