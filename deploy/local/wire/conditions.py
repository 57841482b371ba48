"""What holds on a simulated venue at the moment, besides its rules: all of it can be scripted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from deploy.local.wire.rules import VenueRules, VenueStatus
from shared.errors import ConfigurationError

_DAY_MS = 86_400_000


@dataclass(slots=True)
class Conditions:
    """The settings of one venue, in the order in which they take hold of an order.

    Attributes:
        status: ``cancel_only`` takes no new orders, ``post_only`` only such that rest, and
            ``maintenance`` cancels none either. Nothing trades but ``online``, whatever the price.
        clock_offset_ms: how far the venue's clock is ahead of the market's; its timestamps, the
            times of orders and fills and the ages of requests go by it.
        price_collar_percent: how far a limit price may stand from the recent average; ``None``
            for what the venue documents.
        fill_share: of the next orders that can execute at once, one entry an order: the part of
            the quantity that is executed at most. The rest stays open, or expires.
        resting_fill_minutes: over how many minutes a resting order fills that the price reaches.
        expire_after_ms: age at which the venue ends a resting order by itself.
        fee_token: whether fees are paid in the venue's own token, as long as there is some.
        query_lag_ms: orders and fills that are younger are not shown by queries; balances are.
        tether_worth: in dollars, by the pair that tells it here, from the next minute on.
    """

    status: VenueStatus = "online"
    clock_offset_ms: int = 0
    price_collar_percent: Decimal | None = None
    fill_share: tuple[Decimal, ...] = ()
    resting_fill_minutes: int = 1
    expire_after_ms: int | None = None
    fee_token: bool = False
    query_lag_ms: int = 0
    tether_worth: Decimal = Decimal(1)

    def change(self, venue: VenueRules, settings: Mapping[str, Any]) -> None:
        """Take over ``settings``, by attribute; those that are not named stay as they are.

        Raises:
            ConfigurationError: a name or a value is none that ``venue`` has; nothing has changed.
        """
        checked = {name: _checked(venue, name, value) for name, value in settings.items()}
        for name, value in checked.items():
            setattr(self, name, value)

    def next_fill_share(self) -> Decimal | None:
        """The scripted part of the next order; ``None`` where nothing is scripted."""
        if not self.fill_share:
            return None
        share, *rest = self.fill_share
        self.fill_share = tuple(rest)
        return share


def _checked(venue: VenueRules, name: str, value: Any) -> Any:
    if name == "status":
        return _one_of(name, value, venue.statuses)
    if name == "fee_token":
        if value and venue.fee_token is None:
            raise ConfigurationError(f"fee_token: {venue.name} takes no fees in a token of its own")
        return _one_of(name, value, (True, False))
    parser = _PARSERS.get(name)
    if parser is None:
        known = ", ".join(sorted({"status", "fee_token", *_PARSERS}))
        raise ConfigurationError(f"{name}: expected one of {known}")
    return parser(name, value)


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    if not isinstance(value, type(allowed[0])) or value not in allowed:
        raise ConfigurationError(f"{name}: expected one of {allowed}, was {value!r}")
    return value


def _whole(least: int, most: int = _DAY_MS) -> Callable[[str, Any], int]:
    def parse(name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ConfigurationError(
                f"{name}: expected a whole number from {least} to {most}, was {value!r}"
            )
        return value

    return parse


def _number(least: int, most: int) -> Callable[[str, Any], Decimal]:
    def parse(name: str, value: Any) -> Decimal:
        try:
            number = Decimal("NaN" if isinstance(value, bool) else str(value))
        except ArithmeticError:
            number = Decimal("NaN")
        if not number.is_finite() or not least <= number <= most:
            raise ConfigurationError(
                f"{name}: expected a number from {least} to {most}, was {value!r}"
            )
        return number

    return parse


def _positive(most: int) -> Callable[[str, Any], Decimal]:
    within = _number(0, most)

    def parse(name: str, value: Any) -> Decimal:
        number = within(name, value)
        if number == 0:
            raise ConfigurationError(f"{name}: expected more than 0, was {value!r}")
        return number

    return parse


def _optional[T](parse: Callable[[str, Any], T]) -> Callable[[str, Any], T | None]:
    return lambda name, value: None if value is None else parse(name, value)


def _shares(name: str, value: Any) -> tuple[Decimal, ...]:
    """One number is for the next order alone, a list for as many orders as it has entries."""
    parse = _number(0, 1)
    given = value if isinstance(value, list | tuple) else [value]
    return tuple(parse(name, share) for share in given)


_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "clock_offset_ms": _whole(-_DAY_MS),
    "price_collar_percent": _optional(_number(0, 100)),
    "fill_share": _shares,
    "resting_fill_minutes": _whole(1, 1_440),
    "expire_after_ms": _optional(_whole(1)),
    "query_lag_ms": _whole(0),
    "tether_worth": _positive(2),
}
