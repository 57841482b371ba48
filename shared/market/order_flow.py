"""Who is in a hurry: signed volume of public trades, of this minute and of the last hour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from shared.errors import DataUnavailable
from shared.market import ages
from shared.market.flow_state import (
    BUY,
    COVERED_MS,
    LARGE_BUY,
    LARGE_SELL,
    LARGE_TRADES,
    MINUTE,
    MINUTE_MS,
    MISSED,
    SELL,
    TRADES,
    Flow,
    Rows,
)
from shared.market.types import PublicTrade

WINDOWS_MINUTES = (5, 15, 60)
LARGE_MINUTES = 60


def measure(trades: Sequence[PublicTrade], now_ms: int) -> dict[str, Any]:
    """Taker buys against taker sells over the trades of the last five minutes, in quote currency.

    ``cumulative_delta_quote`` is the sum of signed volume over ``window_ms``, the time that the
    trades span; ``delta_ratio`` is that sum over the whole volume, -1 to 1. Venues tell at most a
    few hundred trades, so that the window of a busy symbol is short; ``cumulative`` sees further.

    Raises:
        DataUnavailable: there is no recent trade, or a trade is malformed.
    """
    most = ages.MAX_AGE_MS["order_flow"]
    recent = [trade for trade in trades if now_ms - trade.at_ms <= most]
    if not recent:
        raise DataUnavailable(f"trades: expected one within {most} ms, was none")
    check(recent, now_ms)
    bought = sum(trade.price * trade.quantity for trade in recent if trade.side == "buy")
    sold = sum(trade.price * trade.quantity for trade in recent if trade.side == "sell")
    times = [trade.at_ms for trade in recent]
    return {
        "taker_buy_quote": bought,
        "taker_sell_quote": sold,
        "delta_ratio": (bought - sold) / (bought + sold),
        "cumulative_delta_quote": bought - sold,
        "trades": len(recent),
        "window_ms": max(times) - min(times),
        "at_ms": max(times),
    }


def cumulative(flow: Flow, now_ms: int) -> dict[str, Any]:
    """Cumulative volume delta of the last 5, 15 and 60 closed minutes, and large trades.

    ``cvd`` has for each window the taker buys less the taker sells (``delta_quote``), their sum
    (``volume_quote``), and the share of the window's time that was seen (``covered_share``): what
    was not seen is not in the sums. A window of which nothing was seen is null. ``missed_trades``
    is there where some fell into a hole between two answers; at least so many, where the venue
    does not number them. ``large`` are trades at or above the 99th percentile of sizes
    (``from_quote``), over the last 60 minutes or since ``since_ms``; null while too few are known.

    Raises:
        DataUnavailable: the newest trades were read too long ago.
    """
    ages.check("order_flow.cvd", flow.covered_until_ms, now_ms)
    until_ms = now_ms // MINUTE_MS * MINUTE_MS
    windows = {f"{minutes}m": _window(flow, minutes, until_ms) for minutes in WINDOWS_MINUTES}
    return {"cvd": windows, "cvd_at_ms": until_ms, "large": _large(flow, until_ms)}


def lacking(measured: dict[str, Any], flow: Flow) -> list[str]:
    """What ``cumulative`` could not see, for ``missing``: holes, and windows not seen whole."""
    found = []
    if flow.gap:
        number = flow.gap if flow.gap > 0 else "an unknown number of"
        found.append(f"order_flow.gap:{number} trades before {flow.stretch_from_ms}")
    shares = {
        name: 0.0 if window is None else window["covered_share"]
        for name, window in measured["cvd"].items()
    }
    if min(shares.values()) < 1:
        seen = " ".join(f"{name}={share:g}" for name, share in shares.items())
        found.append(f"order_flow.cvd:covered {seen}, whole since {flow.stretch_from_ms}")
    if measured["large"] is None:
        found.append("order_flow.large:too few trades known")
    return found


def check(trades: Sequence[PublicTrade], now_ms: int) -> None:
    """Refuse trades that cannot be true.

    Raises:
        DataUnavailable: names the field, its value and what was expected.
    """
    for trade in trades:
        if trade.side not in ("buy", "sell"):
            raise DataUnavailable(f"trade.side: was {trade.side!r}, expected buy or sell")
        if trade.at_ms > now_ms + ages.CLOCK_SKEW_MS:
            raise DataUnavailable(f"trade.at_ms: was {trade.at_ms}, expected <= {now_ms}")
        for name, value in (("price", trade.price), ("quantity", trade.quantity)):
            if not (value > 0 and math.isfinite(value)):
                raise DataUnavailable(f"trade.{name}: was {value}, expected a finite number > 0")


def _window(flow: Flow, minutes: int, until_ms: int) -> dict[str, Any] | None:
    rows = _rows(flow, until_ms - minutes * MINUTE_MS, until_ms)
    covered = float(rows[:, COVERED_MS].sum()) / (minutes * MINUTE_MS)
    if covered <= 0:
        return None
    bought, sold = float(rows[:, BUY].sum()), float(rows[:, SELL].sum())
    window = {
        "delta_quote": bought - sold,
        "volume_quote": bought + sold,
        "trades": int(rows[:, TRADES].sum()),
        "covered_share": min(1.0, round(covered, 3)),
    }
    missed = int(rows[:, MISSED].sum())
    return window | ({"missed_trades": missed} if missed else {})


def _large(flow: Flow, until_ms: int) -> dict[str, Any] | None:
    threshold = flow.large_from_quote
    if threshold is None or not flow.judged_from_ms:
        return None
    from_ms = until_ms - LARGE_MINUTES * MINUTE_MS
    rows = _rows(flow, from_ms, until_ms)
    bought, sold = float(rows[:, LARGE_BUY].sum()), float(rows[:, LARGE_SELL].sum())
    return {
        "from_quote": threshold,
        "trades": int(rows[:, LARGE_TRADES].sum()),
        "notional_quote": bought + sold,
        "net_quote": bought - sold,
        "net_side": None if bought == sold else "buy" if bought > sold else "sell",
        "since_ms": max(from_ms, flow.judged_from_ms, flow.stretch_from_ms),
    }


def _rows(flow: Flow, from_ms: int, until_ms: int) -> Rows:
    """The rows of the whole minutes from ``from_ms`` to ``until_ms``."""
    minute = flow.minutes[:, MINUTE]
    return flow.minutes[(minute >= from_ms // MINUTE_MS) & (minute < until_ms // MINUTE_MS)]
