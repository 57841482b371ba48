"""What a check answers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

Status = Literal["OK", "WARNING", "CRITICAL", "UNKNOWN"]


@dataclass(frozen=True)
class Result:
    """One check's answer.

    ``UNKNOWN`` is a failed check: it could not be computed. ``value`` is ``None`` with ``OK`` only
    where there is nothing to measure yet, which ``detail`` says. ``limit`` is the value past which
    the answer stops being ``OK``.
    """

    status: Status
    value: float | None
    limit: float | None
    detail: str

    def as_dict(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "status": self.status,
            "value": self.value,
            "limit": self.limit,
            "detail": self.detail,
        }


def graded(
    value: float | Decimal,
    *,
    warning: float | Decimal | None,
    critical: float | Decimal | None,
    detail: str,
) -> Result:
    """Past ``critical`` is CRITICAL, past ``warning`` is WARNING; at a limit all is well."""
    status: Status = "OK"
    if critical is not None and value > critical:
        status = "CRITICAL"
    elif warning is not None and value > warning:
        status = "WARNING"
    limit = warning if warning is not None else critical
    return Result(status, float(value), None if limit is None else float(limit), detail)


def unknown(detail: str) -> Result:
    """The check could not be computed, because of ``detail``."""
    return Result("UNKNOWN", None, None, detail)


def nothing_yet(detail: str) -> Result:
    """There is honestly nothing to measure yet."""
    return Result("OK", None, None, detail)


def worst(*statuses: Status) -> Status:
    """The gravest of several statuses; not knowing is graver than a warning."""
    order: tuple[Status, ...] = ("OK", "WARNING", "UNKNOWN", "CRITICAL")
    return max(statuses, key=order.index)
