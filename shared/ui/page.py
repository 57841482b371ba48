"""The dashboard as one HTML page: no script, nothing loaded from elsewhere, all text escaped."""

from __future__ import annotations

import base64
import functools
import hashlib
from datetime import datetime, timedelta
from decimal import Decimal
from importlib import resources
from typing import Any

from shared.ui import charts

Number = Decimal | float | int
UNKNOWN = "\u2013"
_MINUS = "\u2212"
STALE_AFTER = timedelta(minutes=10)


def render(model: dict[str, Any], *, refresh_seconds: int | None = None) -> str:
    """The page for a model of ``shared.ui.dashboard.gather``.

    Args:
        refresh_seconds: how often a browser is to load the page anew; never if ``None``.
    """
    css = _asset("dashboard.css")
    points = model["curve"]
    return str(
        _template().render(
            model,
            css=css,
            csp=content_security_policy(),
            refresh_seconds=refresh_seconds,
            stale=_is_stale(model),
            equity_chart=charts.equity_chart([(p["at"], float(p["equity_quote"])) for p in points]),
            drawdown_chart=charts.drawdown_chart(
                [(p["at"], float(p["drawdown_percent"] or 0)) for p in points]
            ),
        )
    )


def content_security_policy() -> str:
    """What the page may do: show itself, with exactly its own style sheet."""
    digest = hashlib.sha256(_asset("dashboard.css").encode()).digest()
    style = base64.b64encode(digest).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def headers() -> dict[str, str]:
    """Response headers that go with the page."""
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": content_security_policy() + "; frame-ancestors 'none'",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def number(value: Number | None, places: int = 2) -> str:
    """``1,234.50``, or a dash where nothing is known."""
    return UNKNOWN if value is None else f"{value:,.{places}f}".replace("-", _MINUS)


def price(value: Number | None) -> str:
    """A price with the places that its size asks for."""
    if value is None:
        return UNKNOWN
    size = abs(float(value))
    return number(value, 2 if size >= 100 else 4 if size >= 1 else 6)


def signed(value: Number | None, places: int = 2) -> str:
    """``+1.50``, ``\u22121.50`` or ``0.00``: the sign says what the colour says."""
    if value is None:
        return UNKNOWN
    text = f"{value:+,.{places}f}"
    return text[1:] if not any(c in text for c in "123456789") else text.replace("-", _MINUS)


def percent(value: Number | None, places: int = 2) -> str:
    return UNKNOWN if value is None else number(value, places) + "\u202f%"


def signed_percent(value: Number | None, places: int = 2) -> str:
    return UNKNOWN if value is None else signed(value, places) + "\u202f%"


def quantity(value: Decimal | None) -> str:
    """A quantity of a base currency, to eight places, without zeros at the end."""
    return UNKNOWN if value is None else f"{value:,.8f}".rstrip("0").rstrip(".")


def tone(value: Number | None) -> str:
    """The class that colours a profit or a loss."""
    return "" if not value else "up" if value > 0 else "down"


def delay(milliseconds: Number | None) -> str:
    """``250 ms``, ``1.5 s`` or ``3 min``."""
    if milliseconds is None:
        return UNKNOWN
    length = float(milliseconds)
    if abs(length) < 1_000:
        return f"{number(length, 0)}\u202fms"
    if abs(length) < 120_000:
        return f"{number(length / 1_000, 1)}\u202fs"
    return duration(timedelta(milliseconds=length))


def clock_time(at: datetime | None) -> str:
    return UNKNOWN if at is None else at.strftime("%H:%M:%S")


def day_time(at: datetime | None) -> str:
    return UNKNOWN if at is None else at.strftime("%d %b %H:%M")


def ago(at: datetime | None, now: datetime) -> str:
    """``12 s``, ``4 min``, ``3 h`` or ``2 d`` between ``at`` and ``now``."""
    return UNKNOWN if at is None else duration(now - at)


def duration(length: timedelta | None) -> str:
    if length is None:
        return UNKNOWN
    seconds = max(int(length.total_seconds()), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size}\u202f{unit}"
    return f"{seconds}\u202fs"


def share(part: Number | None, whole: Number | None) -> float | None:
    """``part`` of ``whole`` from 0 on, or ``None`` where either is unknown."""
    return None if part is None or not whole else float(part) / float(whole)


def words(code: str | None) -> str:
    """``mean_reversion`` as ``mean reversion``."""
    return UNKNOWN if not code else str(code).replace("_", " ")


def _is_stale(model: dict[str, Any]) -> bool:
    marked_at = model["equity"]["at"]
    return marked_at is not None and model["as_of"] - marked_at > STALE_AFTER


@functools.cache
def _asset(name: str) -> str:
    return (resources.files("shared.ui") / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = (number, price, signed, percent, signed_percent, quantity, tone, delay)
    environment.filters.update({function.__name__: function for function in filters})
    environment.filters.update(clock_time=clock_time, day_time=day_time, ago=ago, words=words)
    environment.filters["duration"] = duration
    environment.globals.update(bar=charts.bar, share=share)
    return environment.from_string(_asset("dashboard.html"))
