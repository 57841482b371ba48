"""What AddOrder's parameters ask for, as docs.kraken.com/api describes them.

Every function raises ``Refused`` with the name of a parameter that is missing or malformed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from deploy.local.wire.orders import OrderRequest, OrderType, Reason, Refused, TimeInForce
from deploy.local.wire.venues.base import Params, decimal
from shared import clock

_CLIENT_ID = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}|[\x20-\x7e]{1,18}", re.IGNORECASE
)
_TYPES: dict[str, OrderType] = {
    "limit": OrderType.LIMIT,
    "market": OrderType.MARKET,
    "stop-loss": OrderType.STOP,
    "stop-loss-limit": OrderType.STOP_LIMIT,
}
_TIMES_IN_FORCE: dict[str, TimeInForce] = {"GTC": "GTC", "IOC": "IOC", "GTD": "GTD"}
_MOST_DEADLINE_MS = 60_000
_UNMODELLED = ("starttm", "displayvol", "leverage", "reduce_only")


def order_request(params: Params, symbol_of: Callable[[str], str], clock_ms: int) -> OrderRequest:
    """The order that ``params`` describe.

    Args:
        symbol_of: the symbol of a pair's name.
        clock_ms: the venue's clock, for deadlines and relative ends.
    """
    order_type = _TYPES.get(params.get("ordertype", ""))
    side = params.get("type")
    time_in_force = _TIMES_IN_FORCE.get(params.get("timeinforce", "GTC"))
    if order_type is None:
        raise Refused(Reason.BAD_PARAMETER, "ordertype")
    if side not in ("buy", "sell"):
        raise Refused(Reason.BAD_PARAMETER, "type")
    if time_in_force is None:
        raise Refused(Reason.BAD_PARAMETER, "timeinforce")
    _refuse_unmodelled(params)
    _check_deadline(params, clock_ms)
    flags = params.get("oflags", "").split(",")
    in_quote = "viqc" in flags
    if in_quote and order_type is not OrderType.MARKET:
        raise Refused(Reason.BAD_PARAMETER, "viqc")
    volume = decimal(params, "volume")
    if volume is None:
        raise Refused(Reason.BAD_PARAMETER, "volume")
    limit_price, stop_price = _prices(params, order_type)
    return OrderRequest(
        symbol=symbol_of(params.get("pair", "")),
        side="buy" if side == "buy" else "sell",
        order_type=order_type,
        time_in_force=time_in_force,
        quantity=None if in_quote else volume,
        quote_quantity=volume if in_quote else None,
        limit_price=limit_price,
        stop_price=stop_price,
        client_order_id=_client_order_id(params),
        post_only="post" in flags,
        expires_ms=_end_ms(params, clock_ms) if time_in_force == "GTD" else None,
        user_reference=user_reference(params),
    )


def user_reference(params: Params) -> int | None:
    """``userref``: 32 bits with a sign."""
    given = params.get("userref")
    if given is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,10}", given) or not -(2**31) <= int(given) < 2**31:
        raise Refused(Reason.BAD_PARAMETER, "userref")
    return int(given)


def _client_order_id(params: Params) -> str | None:
    given = params.get("cl_ord_id")
    if given is not None and not _CLIENT_ID.fullmatch(given):
        raise Refused(Reason.BAD_PARAMETER, "cl_ord_id")
    if given is not None and "userref" in params:
        raise Refused(Reason.BAD_PARAMETER, "cl_ord_id: excludes userref")
    return given


def _prices(params: Params, order_type: OrderType) -> tuple[Decimal | None, Decimal | None]:
    """Limit and stop: ``price`` is the stop's where there is one, else the limit's."""
    price, price2 = decimal(params, "price"), decimal(params, "price2")
    if order_type is OrderType.MARKET:
        return None, None
    if price is None or (order_type is OrderType.STOP_LIMIT and price2 is None):
        raise Refused(Reason.BAD_PARAMETER, "price")
    if order_type is OrderType.LIMIT:
        return price, None
    return price2 if order_type is OrderType.STOP_LIMIT else None, price


def _refuse_unmodelled(params: Params) -> None:
    """What would make another order than the one that is modelled is refused, not left out."""
    for name, value in params.items():
        by_index = (name, value) == ("trigger", "index")
        if name.startswith("close[") or name in _UNMODELLED or by_index:
            raise Refused(Reason.BAD_PARAMETER, name)


def _check_deadline(params: Params, clock_ms: int) -> None:
    """``deadline``: RFC 3339, at most a minute ahead; after it no order is made."""
    given = params.get("deadline")
    if given is None:
        return
    try:
        deadline_ms = clock.to_ms(datetime.fromisoformat(given))
    except ValueError:
        raise Refused(Reason.BAD_PARAMETER, "deadline") from None
    if deadline_ms > clock_ms + _MOST_DEADLINE_MS:
        raise Refused(Reason.BAD_PARAMETER, "deadline")
    if deadline_ms <= clock_ms:
        raise Refused(Reason.DEADLINE_ELAPSED, given)


def _end_ms(params: Params, clock_ms: int) -> int | None:
    """``expiretm``: seconds since 1970, or ``+`` and seconds from now; 0 is no end."""
    given = params.get("expiretm", "0")
    seconds = given.removeprefix("+")
    if not seconds.isdecimal():
        raise Refused(Reason.BAD_PARAMETER, "expiretm")
    if int(seconds) == 0:
        return None
    return int(seconds) * 1000 + (clock_ms if given.startswith("+") else 0)
