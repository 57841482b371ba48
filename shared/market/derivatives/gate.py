"""Gate's public futures endpoints, settled in USDT.

Requests, errors and addresses are ccxt's (its implicit methods); its unified calls would first load
all of Gate's spot, futures and option markets. Sources: Gate API v4, "Query all futures contracts",
"Futures market historical funding rate" and "Query liquidation order history" (at most 1,000 rows
of at most one hour).

A contract is named by its coin, ``BTC_USDT``. ``size`` of a liquidation is the position's, in
contracts: above zero it was long. ``left`` of it was not closed by the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from shared.calls import CallLog
from shared.config import Config
from shared.errors import DataUnavailable
from shared.execution.venues import ccxt_loader, clients
from shared.market.ages import CLOCK_SKEW_MS
from shared.market.derivatives.funding import Contract, Paid
from shared.market.derivatives.liquidations import LONGEST_MS, Liquidation

NAME = "gate"
MOST_ROWS = 1_000
_METHODS = {
    "contracts": "publicFuturesGetSettleContracts",
    "funding_rate": "publicFuturesGetSettleFundingRate",
    "liq_orders": "publicFuturesGetSettleLiqOrders",
}
_ABSURD = 1e15  # no price, size, rate or time in seconds comes near it
_TIMEOUT_MS = 4_000  # an optional source must not use up the scan's deadline


class Gate:
    """Each call is one request. What is malformed or does not come raises ``DataUnavailable``."""

    def __init__(self, config: Config, calls: CallLog) -> None:
        self._client = clients.client(config, NAME, private=False)
        self._client.timeout = min(_TIMEOUT_MS, config.request_timeout_ms)
        self._calls = calls

    def contracts(self, bases: Sequence[str]) -> tuple[dict[str, Contract], list[str]]:
        """The contracts of ``bases``, and what is wrong with others; one not listed is left out."""
        rows = self._rows("contracts", {})
        by_name = _by_contract(rows, "name")
        found: dict[str, Contract] = {}
        problems = []
        for base in bases:
            if _contract(base) not in by_name:
                continue
            try:
                found[base] = _parse_contract(by_name[_contract(base)][-1])
            except DataUnavailable as error:
                problems.append(f"{base}: {error}")
        return found, problems

    def last_funding(self, base: str) -> Paid:
        """The newest funding rate of ``base`` that was paid."""
        rows = self._rows("funding_rate", {"contract": _contract(base), "limit": 1})
        newest = max(rows, key=lambda row: _number(row, "t"), default=None)
        if newest is None:
            raise DataUnavailable(f"{NAME}: funding_rate of {base}: expected one, was none")
        return _valid(
            lambda: Paid(rate=_number(newest, "r"), at_ms=round(_number(newest, "t") * 1000))
        )

    def liquidations(
        self, sizes: Mapping[str, float], now_ms: int
    ) -> tuple[list[Liquidation], int]:
        """Liquidations of the last hour, and since when all of them are known.

        Args:
            sizes: what a contract holds, in base currency, by the coins to look for.
        """
        until_s = now_ms // 1000
        span = {"from": until_s - LONGEST_MS // 1000, "to": until_s, "limit": MOST_ROWS}
        rows = self._rows("liq_orders", span)
        by_contract = _by_contract(rows, "contract")
        found = [
            _parse_liquidation(base, size, row, now_ms)
            for base, size in sizes.items()
            for row in by_contract.get(_contract(base), [])
        ]
        return found, _complete_from_ms(rows, now_ms)

    def _rows(self, endpoint: str, parameters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The objects of an answer's list."""
        errors = ccxt_loader.errors()
        ask = getattr(self._client, _METHODS[endpoint])
        with self._calls.timed(NAME) as call:
            try:
                answer = ask({"settle": "usdt", **parameters})
            except errors.BaseError as error:
                limited = isinstance(error, errors.RateLimitExceeded | errors.DDoSProtection)
                call.fail(type(error).__name__, rate_limited=limited)
                raise DataUnavailable(f"{NAME}: {endpoint}: {type(error).__name__}") from error
            if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
                call.fail("malformed answer")
                raise DataUnavailable(f"{NAME}: {endpoint}: expected a list of objects")
        return answer


def _contract(base: str) -> str:
    return f"{base}_USDT"


def _by_contract(
    rows: Sequence[Mapping[str, Any]], field: str
) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each contract; one that names none belongs to nobody."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        name = row.get(field)
        if isinstance(name, str):
            found.setdefault(name, []).append(row)
    return found


def _parse_contract(row: Mapping[str, Any]) -> Contract:
    return _valid(
        lambda: Contract(
            rate=_number(row, "funding_rate"),
            interval_ms=round(_number(row, "funding_interval") * 1000),
            next_at_ms=round(_number(row, "funding_next_apply") * 1000),
            mark_price=_number(row, "mark_price"),
            size=_number(row, "quanto_multiplier"),
        )
    )


def _parse_liquidation(
    base: str, contract_size: float, row: Mapping[str, Any], now_ms: int
) -> Liquidation:
    size = _number(row, "size")
    closed = abs(size) - abs(_number(row, "left"))
    price, at_ms = _number(row, "fill_price"), round(_number(row, "time") * 1000)
    if size == 0 or closed < 0 or price <= 0 or at_ms > now_ms + CLOCK_SKEW_MS:
        raise DataUnavailable(
            f"{NAME}: liquidation of {base}: size, left, fill_price, time: was {size}, "
            f"{row['left']}, {price}, {at_ms}, expected a position, a part of it, a price > 0 "
            f"and a time by {now_ms}"
        )
    side = "long" if size > 0 else "short"
    return Liquidation(base, at_ms, side, closed * contract_size * price)  # type: ignore[arg-type]


def _complete_from_ms(rows: Sequence[Mapping[str, Any]], now_ms: int) -> int:
    """Since when an answer holds everything: a full one may have left out what is older."""
    if len(rows) < MOST_ROWS:
        return now_ms - LONGEST_MS
    newest_s, oldest_s = _number(rows[0], "time"), _number(rows[-1], "time")
    if newest_s < oldest_s:
        raise DataUnavailable(
            f"{NAME}: liq_orders: was full and oldest first, expected the newest first"
        )
    return round(oldest_s * 1000) + 1000  # of that second some may be lacking


def _number(row: Mapping[str, Any], field: str) -> float:
    """A field that Gate sends as a number or, to keep its digits, as text."""
    try:
        value = float(row[field])
    except (KeyError, TypeError, ValueError, OverflowError):
        value = math.nan
    if not abs(value) < _ABSURD:
        raise DataUnavailable(f"{NAME}: {field}: was {row.get(field)!r}, expected a number")
    return value


def _valid[Model](build: Callable[[], Model]) -> Model:
    try:
        return build()
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise DataUnavailable(
            f"{NAME}: {field}: was {problem['input']!r}, {problem['msg']}"
        ) from error
