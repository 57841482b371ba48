"""The breaker drill: it halts, the gate refuses, it is lifted; and never at a bad time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from deploy.phases import drill
from shared.errors import OrderDenied
from shared.ledger import arming, state
from shared.ledger.connection import Ledger
from tests.ledger_seed import pass_phases


def test_a_drill_halts_and_lifts_and_is_written_down(ledger: Ledger) -> None:
    done = drill.run(ledger, person="person:ada")
    assert done.passed
    assert done.refusal == "STATE_HALTED"
    assert 0 < done.halted_ms <= done.refused_ms < drill.MOST_MS_TO_HALT
    assert state.read(ledger).state == "ACTIVE"
    rows = ledger.query("SELECT kind, detail FROM events ORDER BY event_id")
    changes = [row["detail"]["to"] for row in rows if row["kind"] == "STATE_CHANGED"]
    assert changes == ["HALTED", "ACTIVE"]
    assert rows[-1]["kind"] == drill.KIND
    assert rows[-1]["detail"]["passed"] is True
    assert state.read(ledger).rearmed_at is None  # the high-water mark stays what it was


def test_a_halt_of_somebody_else_meanwhile_stays(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = drill._asked

    def and_somebody_pulls_the_switch(ledger: Ledger, side: str) -> str:
        state.tighten(
            ledger, "HALTED", reason="for real", set_by="kill_switch", rearm_required=True
        )
        return asked(ledger, side)

    monkeypatch.setattr(drill, "_asked", and_somebody_pulls_the_switch)
    done = drill.run(ledger, person="person:ada")
    assert (done.passed, done.rearmed) == (False, False)
    present = state.read(ledger)
    assert (present.state, present.set_by) == ("HALTED", "kill_switch")


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"refusal": ""}, False),
        ({"refused_ms": drill.MOST_MS_TO_HALT + 1}, False),
        ({"exits_pass": False}, False),
        ({"rearmed": False}, False),
    ],
)
def test_what_a_drill_has_to_show(changes: dict[str, Any], passed: bool) -> None:
    shown: dict[str, Any] = {
        "halted_ms": 2.0, "refused_ms": 4.0, "refusal": "STATE_HALTED", "exits_pass": True,
        "rearmed": True,
    }  # fmt: skip
    assert drill.Drill(**shown | changes).passed is passed


@pytest.mark.parametrize("what", ["armed", "halted"])
def test_it_is_no_time_for_a_drill(ledger: Ledger, what: str) -> None:
    if what == "armed":
        pass_phases(ledger)
        arming.arm(ledger, timedelta(hours=1), armed_by="me", reason=None, terms={})
    else:
        state.tighten(ledger, "REDUCING", reason="a loss", set_by="circuit_breaker")
    before = state.read(ledger)
    with pytest.raises(OrderDenied, match="DRILL_LIVE|DRILL_STATE"):
        drill.run(ledger, person="person:ada")
    assert state.read(ledger) == before
