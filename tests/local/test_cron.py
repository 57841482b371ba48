"""Cron expressions. Expected ticks are written out by hand from a calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.cron import Cron

_AFTER = datetime(2025, 5, 6, 12, 30, 20, tzinfo=UTC)  # a Tuesday


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", "2025-05-06T12:31"),
        ("*/5 * * * *", "2025-05-06T12:35"),
        ("0 * * * *", "2025-05-06T13:00"),
        ("10-14/2,50 * * * *", "2025-05-06T12:50"),
        ("0 0 * * *", "2025-05-07T00:00"),
        ("15 9 1 * *", "2025-06-01T09:15"),
        ("0 12 * * 0", "2025-05-11T12:00"),
        ("0 12 * * 7", "2025-05-11T12:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("0 0 13 * 5", "2025-05-09T00:00"),  # a Friday, before the 13th: either day suffices
        ("0 0 31 4,5 *", "2025-05-31T00:00"),
    ],
)
def test_next_tick(text: str, expected: str) -> None:
    assert Cron.parse(text).next_after(_AFTER) == datetime.fromisoformat(f"{expected}:00+00:00")


def test_a_zone_shifts_the_tick_with_daylight_saving() -> None:
    cron = Cron.parse("0 9 * * *", "Europe/Berlin")
    winter = cron.next_after(datetime(2025, 1, 10, tzinfo=UTC))
    summer = cron.next_after(datetime(2025, 7, 10, tzinfo=UTC))
    assert (winter.hour, summer.hour) == (8, 7)


def test_half_hour_zone() -> None:
    cron = Cron.parse("30 5 * * *", "Asia/Kolkata")
    assert cron.next_after(datetime(2025, 1, 10, 12, tzinfo=UTC)) == datetime(
        2025, 1, 11, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("* * * *", "five fields"),
        ("60 * * * *", "minute: expected .* was '60'"),
        ("*/0 * * * *", "minute"),
        ("5/2 * * * *", "minute"),
        ("* 5-3 * * *", "hour: expected .* was '5-3'"),
        ("* * 0 * *", "day of month"),
        ("* * * 13 *", "month"),
        ("* * * * mon", "day of week"),
        ("* * * * -1", "day of week"),
        ("0 0 31 2,4 *", "never fires"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cron.parse(text)


def test_unknown_zone() -> None:
    with pytest.raises(ValueError, match="timezone: expected an IANA name, was 'Mars/Olympus'"):
        Cron.parse("* * * * *", "Mars/Olympus")


@settings(max_examples=40, deadline=None)
@given(
    minute=st.sampled_from(["*", "*/7", "3,30-40", "59"]),
    hour=st.sampled_from(["*", "*/6", "23"]),
    weekday=st.sampled_from(["*", "1-5"]),
    start=st.integers(0, 2 * 365 * 86_400).map(
        lambda seconds: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    ),
)
def test_next_is_the_first_minute_that_fires(
    minute: str, hour: str, weekday: str, start: datetime
) -> None:
    cron = Cron.parse(f"{minute} {hour} * * {weekday}", "America/New_York")
    found = cron.next_after(start)
    assert cron.fires_at(found)
    between = start.replace(second=0, microsecond=0) + timedelta(minutes=1)
    assert found >= between
    while between < min(found, start + timedelta(hours=8)):
        assert not cron.fires_at(between)
        between += timedelta(minutes=1)
