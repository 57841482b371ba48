"""Who is in a hurry: signed volume of public trades, of this minute and of the last hour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from shared.errors import DataUnavailable
from shared.market import ages
from shared.market.flow.flow_state import (
    BUY,
    COVERED_MS,
    LARGE_BUY,
    LARGE_SELL,
    LARGE_TRADES,
    MINUTE,
    MINUTE_MS,
    MINUTES,
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
    rows = _newest(flow, until_ms, max(WINDOWS_MINUTES))
    return {
        "cvd": {f"{minutes}m": _window(rows[-minutes:], minutes) for minutes in WINDOWS_MINUTES},
        "cvd_at_ms": until_ms,
        "large": _large(flow, rows[-LARGE_MINUTES:], until_ms),
    }


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


def _window(rows: Rows, minutes: int) -> dict[str, Any] | None:
    sums = rows.sum(axis=0).tolist()
    covered = sums[COVERED_MS] / (minutes * MINUTE_MS)
    if covered <= 0:
        return None
    window = {
        "delta_quote": sums[BUY] - sums[SELL],
        "volume_quote": sums[BUY] + sums[SELL],
        "trades": int(sums[TRADES]),
        "covered_share": min(1.0, round(covered, 3)),
    }
    missed = int(sums[MISSED])
    return window | ({"missed_trades": missed} if missed else {})


def _large(flow: Flow, rows: Rows, until_ms: int) -> dict[str, Any] | None:
    threshold = flow.large_from_quote
    if threshold is None or not flow.judged_from_ms:
        return None
    sums = rows.sum(axis=0).tolist()
    net = sums[LARGE_BUY] - sums[LARGE_SELL]
    from_ms = until_ms - LARGE_MINUTES * MINUTE_MS
    return {
        "from_quote": threshold,
        "trades": int(sums[LARGE_TRADES]),
        "notional_quote": sums[LARGE_BUY] + sums[LARGE_SELL],
        "net_quote": net,
        "net_side": None if net == 0 else "buy" if net > 0 else "sell",
        "since_ms": max(from_ms, flow.judged_from_ms, flow.stretch_from_ms),
    }


def _newest(flow: Flow, until_ms: int, minutes: int) -> Rows:
    """The rows of the minutes before ``until_ms``, oldest first; one that was not seen is zero."""
    until = until_ms // MINUTE_MS
    wanted = np.arange(until - minutes, until)
    rows = flow.minutes[wanted % MINUTES]
    return np.where((rows[:, MINUTE] == wanted)[:, np.newaxis], rows, 0.0)
