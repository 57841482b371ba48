"""What Binance's filters say of a symbol beyond grid and minimums: the price band, the counts.

Binance and Binance US list them in ``exchangeInfo``, and ccxt leaves them in a market's ``info``.
Kraken and Coinbase list nothing of the kind. A filter that is not listed is no rule. One that is
listed and cannot be read is named: nobody knows what the venue would refuse, so nothing is bought
there, but what is held is not locked in by a number that has got another form.

Sources: Binance, "Filters" (binance-spot-api-docs/filters.md, 2026-05-08); Binance US, "Filters"
(binance-us-api-docs/filters.md). PERCENT_PRICE and PERCENT_PRICE_BY_SIDE judge ``price``, never
``stopPrice``; a symbol that lists both has to pass both. Algo orders are stops and take-profits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from shared.execution.types import PriceBand

_BAND_FIELDS = {
    "PERCENT_PRICE": ("multiplierDown", "multiplierUp", "multiplierDown", "multiplierUp"),
    "PERCENT_PRICE_BY_SIDE": (
        "bidMultiplierDown",
        "bidMultiplierUp",
        "askMultiplierDown",
        "askMultiplierUp",
    ),
}
"""Where each filter holds the lowest and highest multiple of a buy, then of a sale."""

_COUNT_FIELDS = {"MAX_NUM_ORDERS": "maxNumOrders", "MAX_NUM_ALGO_ORDERS": "maxNumAlgoOrders"}


@dataclass(frozen=True)
class Filters:
    """As in ``MarketRules``."""

    price_band: PriceBand | None = None
    max_orders: int | None = None
    max_stop_orders: int | None = None
    unread: tuple[str, ...] = ()


def read(info: object) -> Filters:
    """The filters in ``info``, a venue's own record of a market as ccxt keeps it."""
    if not isinstance(info, dict) or not isinstance(info.get("filters"), list):
        return Filters()
    bands: list[PriceBand] = []
    counts: dict[str, int] = {}
    unread: list[str] = []
    for kind, told in _named(info["filters"]):
        try:
            if kind in _BAND_FIELDS:
                bands.append(_band(told, _BAND_FIELDS[kind]))
            elif kind in _COUNT_FIELDS:
                counts[kind] = _whole(told, _COUNT_FIELDS[kind], least=1)
        except _Malformed as error:
            unread.append(f"{kind} {error}")
    minutes = {band.average_minutes for band in bands}
    if len(minutes) > 1:
        unread.append(f"avgPriceMins: expected one for all filters, was {sorted(minutes)}")
    return Filters(
        _narrowest(bands) if len(minutes) == 1 else None,
        counts.get("MAX_NUM_ORDERS"),
        counts.get("MAX_NUM_ALGO_ORDERS"),
        tuple(unread),
    )


class _Malformed(Exception):
    """A field of a filter, what was expected of it, and what it was."""

    def __init__(self, field: str, expected: str, value: object) -> None:
        super().__init__(f"{field}: expected {expected}, was {value!r}")


def _named(listed: Iterable[Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(str(one["filterType"]), one) for one in listed if "filterType" in one]


def _band(told: Mapping[str, Any], fields: tuple[str, ...]) -> PriceBand:
    lowest_buy, highest_buy, lowest_sell, highest_sell = (_multiple(told, f) for f in fields)
    for name, low, high in (("buy", lowest_buy, highest_buy), ("sell", lowest_sell, highest_sell)):
        if low > high:
            raise _Malformed(f"multiples of a {name}", "the lowest first", (str(low), str(high)))
    minutes = _whole(told, "avgPriceMins", least=0)
    return PriceBand(lowest_buy, highest_buy, lowest_sell, highest_sell, minutes)


def _narrowest(bands: list[PriceBand]) -> PriceBand:
    """What passes every filter of a symbol; they average over the same minutes."""
    return PriceBand(
        max(band.lowest_buy_multiple for band in bands),
        min(band.highest_buy_multiple for band in bands),
        max(band.lowest_sell_multiple for band in bands),
        min(band.highest_sell_multiple for band in bands),
        bands[0].average_minutes,
    )


def _multiple(told: Mapping[str, Any], field: str) -> Decimal:
    value = _number(told, field)
    if value <= 0:
        raise _Malformed(field, "above 0", told[field])
    return value


def _whole(told: Mapping[str, Any], field: str, *, least: int) -> int:
    value = _number(told, field)
    if value != value.to_integral_value() or value < least:
        raise _Malformed(field, f"a whole number from {least}", told[field])
    return int(value)


def _number(told: Mapping[str, Any], field: str) -> Decimal:
    if field not in told:
        raise _Malformed(field, "a number", "nothing")
    try:
        value = Decimal(str(told[field]))
    except ArithmeticError:
        value = Decimal("NaN")
    if not value.is_finite():
        raise _Malformed(field, "a number", told[field])
    return value
