"""Phase 4: a day that was watched, and what keeps limits from being raised."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from deploy.phases import live
from shared import config
from shared.ledger import stages
from tests.ledger_seed import pass_phases
from tests.phases.conftest import END, Mock

BEGAN = END - timedelta(hours=30)


@pytest.fixture
def watched(mock: Mock) -> Mock:
    """Live for thirty hours, with two orders."""
    mock.settings = config.load({"POD": "test", "ENABLE_LIVE_TRADING": "true"})
    mock.runs(32)
    mock.traces(BEGAN + timedelta(hours=3))
    mock.entry(at=END - timedelta(hours=5), filled="0.5", mode="live")
    pass_phases(mock.ledger)
    arm(mock, BEGAN)
    return mock


def arm(mock: Mock, at: datetime, hours: int = 48) -> None:
    mock.ledger.execute(
        "INSERT INTO arm_tokens (pod, armed_by, armed_at, expires_at) "
        "VALUES ('test', 'me', %s, %s)",
        (at, at + timedelta(hours=hours)),
    )


def bad(mock: Mock, now: datetime = END) -> dict[str, str]:
    checks = live.checks(mock.ledger, mock.settings, mock.project, now, {})
    return {check.name: check.detail for check in checks if check.verdict != "OK"}


def test_a_clean_day_passes(watched: Mock) -> None:
    assert bad(watched) == {}


@pytest.mark.parametrize(
    ("spoil", "name", "told"),
    [
        ("DELETE FROM phases WHERE phase = 'test'", "phases", "not passed: test"),
        ("DELETE FROM arm_tokens", "watched", "never armed"),
        (
            "UPDATE arm_tokens SET armed_at = '2025-05-07T13:00Z'",
            "watched", "23.0 h since 2025-05-07 13:00 UTC, expected 24 h",
        ),
        (
            "UPDATE runs SET pod = 'other' WHERE workflow = 'position_manager' "
            "AND event_at > '2025-05-08T02:00Z'",
            "runs of position_manager", "expected 99 %",
        ),
        (
            "UPDATE runs SET status = 'FAILED', error = 'boom' "
            "WHERE event_at = '2025-05-08T10:00Z' AND workflow = 'circuit_breaker'",
            "failed runs", "1 x circuit_breaker: boom",
        ),
        (
            "UPDATE intents SET state = 'UNKNOWN' WHERE mode = 'live'",
            "orders of unknown outcome", "1",
        ),
        ("UPDATE risk_checks SET approved = false", "risk: approved", "broken: every entry"),
        ("UPDATE intents SET mode = 'paper'", "live orders", "none was sent"),
        ("UPDATE transfers SET amount = 100; DELETE FROM equity; DELETE FROM fills",
         "size", "1.00 a position"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(watched: Mock, spoil: str, name: str, told: str) -> None:
    watched.ledger.execute(spoil)
    shown = bad(watched)
    assert list(shown) == [name]
    assert told in shown[name]


@pytest.mark.parametrize(
    ("kind", "detail", "name"),
    [
        ("STATE_CHANGED", {"to": "HALTED", "set_by": "circuit_breaker"}, "halts"),
        ("RECONCILE_DIFFERENCE", {}, "ledger and venues"),
        ("ORDER_AMENDED", {}, "ledger and venues"),
    ],
)
def test_trouble_of_the_stage_is_named(
    watched: Mock, kind: str, detail: dict[str, str], name: str
) -> None:
    watched.event(kind, END - timedelta(hours=2), **detail)
    assert list(bad(watched)) == [name]


def test_a_drill_is_no_halt_and_what_was_before_the_stage_does_not_count(watched: Mock) -> None:
    for at, by in ((BEGAN - timedelta(hours=1), "breaker"), (END - timedelta(hours=2), "drill:me")):
        watched.event("STATE_CHANGED", at, to="HALTED", set_by=by)
        watched.event("STATE_CHANGED", at + timedelta(seconds=1), to="ACTIVE", set_by=by)
    assert bad(watched) == {}


def test_paper_is_not_live(watched: Mock) -> None:
    watched.settings = config.load({"POD": "test"})
    assert bad(watched) == {"switch": "trading is paper"}


@pytest.mark.parametrize(
    ("raised", "armed_again", "expected"),
    [
        (timedelta(hours=2), None, BEGAN + timedelta(hours=2)),  # armed right through
        (timedelta(hours=2), timedelta(hours=5), BEGAN + timedelta(hours=2)),
        (timedelta(hours=90), None, None),  # the token was over by then
        (timedelta(hours=90), timedelta(hours=95), BEGAN + timedelta(hours=95)),
    ],
)
def test_the_day_counts_from_when_the_stage_could_trade(
    watched: Mock, raised: timedelta, armed_again: timedelta | None, expected: datetime | None
) -> None:
    watched.ledger.execute(
        "INSERT INTO live_stages VALUES ('test', 2, %s, 'me', '{}')", (BEGAN + raised,)
    )
    if armed_again is not None:
        arm(watched, BEGAN + armed_again)
    assert live.began_at(watched.ledger) == expected


def test_stages_ascend_to_what_is_configured() -> None:
    first, *_, last = stages.STAGES
    assert (first.exposure_quote, first.position_percent) == (100, 1)  # the document's own
    assert last.exposure_quote is None
    for lower, higher in zip(stages.STAGES, stages.STAGES[1:], strict=False):
        assert higher.number == lower.number + 1
        assert higher.position_percent >= lower.position_percent
        assert lower.exposure_quote is not None
        assert higher.exposure_quote is None or higher.exposure_quote > lower.exposure_quote
