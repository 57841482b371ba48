"""Cron expressions of five fields, in any time zone: when they fire, and that they ever do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MINUTE = timedelta(minutes=1)
_QUARTER = timedelta(minutes=15)  # every zone's offset is a multiple of it
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True)
class _Field:
    name: str
    lowest: int
    highest: int


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12),
    _Field("day of week", 0, 7),
)


@dataclass(frozen=True)
class Cron:
    """One parsed expression.

    ``minute hour day-of-month month day-of-week``; each ``*``, a number, a range ``a-b``, a step
    ``*/n`` or ``a-b/n``, or a list of these. Sunday is 0 or 7. Where both days are restricted,
    either one suffices, as in every cron since Vixie's.
    """

    text: str
    timezone: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    @classmethod
    def parse(cls, text: str, timezone: str = "UTC") -> Cron:
        """Read an expression.

        Raises:
            ValueError: names the field, its value and what was expected.
        """
        parts = text.split()
        if len(parts) != len(_FIELDS):
            raise ValueError(
                f"expected five fields (minute hour day-of-month month day-of-week), was {text!r}"
            )
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"timezone: expected an IANA name, was {timezone!r}") from None
        minutes, hours, days, months, weekdays = (
            _parse_field(part, field) for part, field in zip(parts, _FIELDS, strict=True)
        )
        either = not parts[2].startswith("*") and not parts[4].startswith("*")
        if not either and min(days) > max(_DAYS_OF_MONTH[month - 1] for month in months):
            raise ValueError(f"expected a day that exists, was {text!r}, which never fires")
        weekdays = frozenset(day % 7 for day in weekdays)
        return cls(text, timezone, minutes, hours, days, months, weekdays, either)

    def fires_at(self, moment: datetime) -> bool:
        """Whether ``moment`` (aware, at a full minute) is a tick."""
        local = moment.astimezone(ZoneInfo(self.timezone))
        return local.minute in self.minutes and local.hour in self.hours and self._on_day(local)

    def next_after(self, moment: datetime) -> datetime:
        """The first tick after ``moment``, in UTC."""
        zone = ZoneInfo(self.timezone)
        candidate = moment.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
        while True:
            local = candidate.astimezone(zone)
            if not self._on_day(local) or local.hour not in self.hours:
                into_quarter = timedelta(minutes=candidate.minute % 15)
                candidate += _QUARTER - into_quarter
            elif local.minute not in self.minutes:
                candidate += _MINUTE
            else:
                return candidate

    def _on_day(self, local: datetime) -> bool:
        if local.month not in self.months:
            return False
        by_month, by_week = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        return (by_month or by_week) if self.either_day else (by_month and by_week)


def _parse_field(text: str, field: _Field) -> frozenset[int]:
    values: set[int] = set()
    for item in text.split(","):
        values |= _parse_item(item, field)
    return frozenset(values)


def _parse_item(item: str, field: _Field) -> set[int]:
    span, slash, step_text = item.partition("/")
    step = _number(step_text, item, field, lowest=1) if slash else 1
    if span == "*":
        return set(range(field.lowest, field.highest + 1, step))
    first_text, dash, last_text = span.partition("-")
    first = _number(first_text, item, field, lowest=field.lowest)
    if not dash:
        if slash:
            raise _unexpected(item, field)
        return {first}
    last = _number(last_text, item, field, lowest=first)
    return set(range(first, last + 1, step))


def _number(text: str, item: str, field: _Field, *, lowest: int) -> int:
    if not (text.isascii() and text.isdigit()) or not lowest <= int(text) <= field.highest:
        raise _unexpected(item, field)
    return int(text)


def _unexpected(item: str, field: _Field) -> ValueError:
    return ValueError(
        f"{field.name}: expected *, numbers {field.lowest}-{field.highest}, ranges, steps or "
        f"lists of these, was {item!r}"
    )
