"""What the personalities share: a request, an answer, routes and bodies kept for a minute."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from deploy.local.wire.feed import Feed
from deploy.local.wire.matching import Exchange
from deploy.local.wire.orders import Reason, Refused
from deploy.local.wire.queries import Queries
from deploy.local.wire.rules import VENUE_RULES, SymbolRules, VenueName
from deploy.local.wire.tape import Tape
from shared import clock

JSON = Any


@dataclass(frozen=True, slots=True)
class WireRequest:
    """An HTTP request, with the path below the venue's prefix.

    ``url`` is what the client signed: the whole address without the query.
    """

    method: str
    path: str
    query: str
    body: bytes
    headers: Mapping[str, str]
    url: str = ""


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """A JSON answer; ``route`` names it in the statistics."""

    body: bytes
    status: int = 200
    route: str = "unknown"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The one key that a venue knows. The secret never appears in a representation."""

    api_key: str
    secret: str = field(repr=False)


class ApiError(Exception):
    """An answer that a venue gives instead of a result."""

    def __init__(self, status: int, body: JSON) -> None:
        self.status = status
        self.body = body
        super().__init__(f"HTTP {status}")


Params = dict[str, str]


def dump(value: JSON) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def parameters(query: str) -> Params:
    """The parameters of a query string or form; of a repeated one the last counts."""
    return dict(parse_qsl(query, keep_blank_values=True)) if query else {}


def text(value: Decimal, decimals: int = 8) -> str:
    """A decimal in plain notation with at least ``decimals`` places, never rounded."""
    exponent = value.as_tuple().exponent
    places = -exponent if isinstance(exponent, int) else 0
    if places > decimals:
        value = value.normalize()
        places = max(0, -int(value.as_tuple().exponent))
    return f"{value:.{max(places, decimals)}f}"


def iso_seconds(moment_ms: int) -> str:
    """``2025-05-06T12:00:00Z``."""
    return clock.from_ms(moment_ms - moment_ms % 1000).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_micros(moment_ms: int) -> str:
    """``2025-05-06T12:00:00.123000Z``."""
    return clock.from_ms(moment_ms).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Personality(ABC):
    """Base of the venues: an exchange, its feed and tape, and bodies that last one minute."""

    name: VenueName

    def __init__(
        self,
        feed: Feed,
        balances: Mapping[str, Decimal],
        credentials: Credentials | None,
        now_ms: int,
    ) -> None:
        self.feed = feed
        self.credentials = credentials
        self.exchange = Exchange(VENUE_RULES[self.name], feed, balances, now_ms)
        self.shown = Queries(self.exchange)
        self.tape = Tape(self.name, feed)
        self._bodies: dict[object, bytes] = {}

    @property
    def now_ms(self) -> int:
        return self.exchange.now_ms

    @property
    def clock_ms(self) -> int:
        """The venue's own clock, which may be wrong."""
        return self.exchange.clock_ms

    def advance(self, now_ms: int) -> None:
        """Move time on; see ``Exchange.advance``."""
        self.exchange.advance(now_ms)
        self.tape.forget_before(now_ms)
        self._bodies.clear()

    def configure(self, **settings: Any) -> None:
        """Change what holds on the venue at the moment, by the names of ``Conditions``.

        Raises:
            ConfigurationError: a name or a value is none that the venue has; nothing has changed.
        """
        self.exchange.conditions.change(self.exchange.venue, settings)
        self._bodies.clear()

    @abstractmethod
    def answer(self, request: WireRequest) -> WireAnswer:
        """Answer a request; errors become the venue's own error bodies."""

    def kept(self, key: object, build: Callable[[], JSON]) -> bytes:
        """The body of ``key``, built at most once a minute."""
        body = self._bodies.get(key)
        if body is None:
            built = build()
            body = self._bodies[key] = built if isinstance(built, bytes) else dump(built)
        return body

    def rules(self, symbol: str) -> SymbolRules:
        """Raises ``Refused`` for a symbol that is not listed."""
        try:
            return self.exchange.rules[symbol]
        except KeyError:
            raise Refused(Reason.UNKNOWN_SYMBOL, symbol) from None

    def levels(self, symbol: str, limit: int) -> tuple[list[list[str]], list[list[str]]]:
        """Bids and asks as ``[price, quantity]`` in plain text, without levels that are used up."""
        rules, book = self.rules(symbol), self.exchange.book(symbol)
        prices, steps = 10**rules.price_decimals, 10**rules.quantity_decimals
        price_format, quantity_format = f".{rules.price_decimals}f", f".{rules.quantity_decimals}f"
        bids, asks = (
            [
                [format(ticks / prices, price_format), format(size / steps, quantity_format)]
                for ticks, size in side
                if size
            ][:limit]
            for side in (book.bids, book.asks)
        )
        return bids, asks


def integer(params: Params, name: str, default: int, *, most: int | None = None) -> int:
    """An optional integer parameter, cut to ``most``.

    Raises:
        Refused: it is not an integer.
    """
    given = params.get(name)
    if given is None:
        return default
    try:
        value = int(given)
    except ValueError:
        raise Refused(Reason.BAD_PARAMETER, f"{name}: expected an integer, was {given!r}") from None
    return value if most is None else min(value, most)


def decimal(params: Mapping[str, Any], name: str) -> Decimal | None:
    """An optional decimal parameter. Raises ``Refused`` where it is no finite number."""
    given = params.get(name)
    if given is None or given == "":
        return None
    try:
        value = Decimal(str(given))
    except ArithmeticError:
        value = Decimal("NaN")
    if not value.is_finite():
        raise Refused(Reason.BAD_PARAMETER, f"{name}: expected a number, was {given!r}")
    return value
