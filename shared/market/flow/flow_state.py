"""What the public trades of the last hour add up to, carried from run to run.

An answer holds the newest trades only, and two answers overlap or leave a hole between them. Here
each trade is counted once, in the minute that it happened in, and each minute knows how much of it
was seen. Losing this state loses the past and nothing else: a new one knows since when it sees.

A trade is known by the venue's number where it tells one, and by its time where it does not; then
a trade in the very millisecond of the last one that was counted is taken for counted. Two answers
join without a hole if the newer one reaches back to what was counted, or goes on with the next
number: Binance's aggregate trades, Coinbase's and Kraken's trades are numbered without holes,
symbol by symbol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from shared.market.types import PublicTrade

MINUTE_MS = 60_000
MINUTES = 64
"""Rows of the ring: an hour of whole minutes, the one under way, and some to spare."""

LEAST_TRADES = 100
MOST_TRADES = 1_000
"""How many trades are asked for: the venues' caps are Binance 1,000, Coinbase and Kraken 1,000."""

LARGE_PERCENTILE = 99
_LEAST_WEIGHT = 100.0  # a 99th percentile of fewer trades than this is noise
_HALF_LIFE_MS = 1_800_000  # of a trade's weight in the distribution of sizes
_BINS_PER_DECADE = 16
SIZE_BINS = 8 * _BINS_PER_DECADE  # from 1 to 100 million in quote currency

# Columns of a minute's row.
(
    MINUTE,
    BUY,
    SELL,
    TRADES,
    COVERED_MS,
    MISSED,
    LARGE_BUY,
    LARGE_SELL,
    LARGE_TRADES,
    COLUMNS,
) = range(10)

Rows = NDArray[np.float64]


def _no_minutes() -> Rows:
    rows = np.zeros((MINUTES, COLUMNS))
    rows[:, MINUTE] = -1
    return rows


def _no_sizes() -> NDArray[np.float32]:
    return np.zeros(SIZE_BINS, dtype=np.float32)


@dataclass(frozen=True)
class Flow:
    """The trades of one symbol on one venue, minute by minute.

    Attributes:
        minutes: a ring of rows, by the number of the minute since 1970 modulo ``MINUTES``. Volumes
            are in quote currency; ``MISSED`` counts trades that fell into a hole.
        sizes: how many trades there were of each notional, by powers of ten; old ones fade.
        last_id, last_ms: the newest trade that was counted; 0 before the first.
        covered_until_ms: when the last answer was asked for.
        stretch_from_ms: since when there has been no hole.
        judged_from_ms: since when large trades are told from others; 0 where too few are known.
        limit: how many trades the next answer should hold.
        gap: trades that the last answer has missed; -1 where a hole has an unknown number.
    """

    minutes: Rows = field(default_factory=_no_minutes)
    sizes: NDArray[np.float32] = field(default_factory=_no_sizes)
    last_id: int = 0
    last_ms: int = 0
    covered_until_ms: int = 0
    stretch_from_ms: int = 0
    judged_from_ms: int = 0
    limit: int = LEAST_TRADES
    gap: int = 0

    @property
    def large_from_quote(self) -> float | None:
        """The notional from which a trade is large, or ``None`` where too few are known.

        It is the 99th percentile of the trades counted so far, each weighing half as much after
        30 minutes.
        """
        total = float(self.sizes.sum())
        if total < _LEAST_WEIGHT:
            return None
        cumulated = np.cumsum(self.sizes, dtype=np.float64)
        wanted = total * LARGE_PERCENTILE / 100
        bin_at = min(int(np.searchsorted(cumulated, wanted)), SIZE_BINS - 1)
        inside = 1 - (float(cumulated[bin_at]) - wanted) / float(self.sizes[bin_at])
        return float(10 ** ((bin_at + min(max(inside, 0.0), 1.0)) / _BINS_PER_DECADE))


def fold(flow: Flow, trades: Sequence[PublicTrade], asked_ms: int) -> Flow:
    """Count what is new in an answer that was asked for at ``asked_ms``.

    ``trades`` are valid (see ``order_flow.check``), oldest first. An answer without a trade tells
    nothing, since a venue that knows none may have forgotten them.
    """
    if not trades:
        return replace(flow, gap=0)
    new = _new(flow, trades)
    started = flow.covered_until_ms > 0
    gap = _gap(flow, trades, new) if started else 0
    broken = gap != 0 or not started
    from_ms = trades[0].at_ms if broken else flow.covered_until_ms
    until_ms = max(asked_ms, flow.covered_until_ms, trades[-1].at_ms)
    minutes = flow.minutes.copy()
    _cover(minutes, max(from_ms, flow.covered_until_ms), until_ms)
    if gap:
        _row(minutes, new[0].at_ms)[MISSED] += max(gap, 1)
    counted = replace(
        flow,
        minutes=minutes,
        last_id=(new[-1].trade_id or 0) if new else flow.last_id,
        last_ms=max(flow.last_ms, trades[-1].at_ms),
        covered_until_ms=until_ms,
        stretch_from_ms=from_ms if broken else flow.stretch_from_ms,
        limit=_next_limit(flow.limit, len(new), gap),
        gap=gap,
    )
    oldest_ms = _oldest_ms(until_ms)
    kept = [trade for trade in new if trade.at_ms >= oldest_ms]
    return _counted(counted, kept, until_ms - flow.covered_until_ms) if kept else counted


def _new(flow: Flow, trades: Sequence[PublicTrade]) -> list[PublicTrade]:
    """What was not counted yet: by number, or by time where numbers are lacking or begin anew."""
    numbers = [trade.trade_id for trade in trades if trade.trade_id is not None]
    begin_anew = bool(numbers) and max(numbers) < flow.last_id and trades[-1].at_ms > flow.last_ms
    if flow.last_id and len(numbers) == len(trades) and not begin_anew:
        return [t for t, number in zip(trades, numbers, strict=True) if number > flow.last_id]
    return [trade for trade in trades if trade.at_ms > flow.last_ms]


def _gap(flow: Flow, trades: Sequence[PublicTrade], new: Sequence[PublicTrade]) -> int:
    """How many trades lie between what was counted and ``new``: 0 for none, -1 for unknown."""
    if len(new) < len(trades):
        return 0
    first = new[0].trade_id
    if flow.last_id and first is not None and first > flow.last_id:
        return first - flow.last_id - 1
    return -1


def _next_limit(limit: int, new: int, gap: int) -> int:
    """More after a hole, less again where most of an answer is known already."""
    if gap:
        wanted = 1.5 * (new + max(gap, new))
        return min(MOST_TRADES, max(limit, int(-(-wanted // LEAST_TRADES)) * LEAST_TRADES))
    return max(LEAST_TRADES, limit // 2) if new < limit // 4 else limit


def _counted(flow: Flow, new: Sequence[PublicTrade], elapsed_ms: int) -> Flow:
    """``flow`` with the volumes of ``new``; its arrays are changed, so they are not shared."""
    at_ms = np.array([trade.at_ms for trade in new], dtype=np.int64)
    notional = np.array([trade.price * trade.quantity for trade in new])
    bought = np.array([trade.side == "buy" for trade in new])
    sizes = flow.sizes * np.float32(0.5 ** (max(elapsed_ms, 0) / _HALF_LIFE_MS))
    bins = np.clip(np.log10(notional) * _BINS_PER_DECADE, 0, SIZE_BINS - 1).astype(np.int64)
    np.add.at(sizes, bins, np.float32(1))
    sized = replace(flow, sizes=sizes)
    threshold = sized.large_from_quote
    large = np.zeros(len(new), dtype=bool) if threshold is None else notional >= threshold
    _add(flow.minutes, at_ms, notional, bought, large)
    judged_from_ms = 0 if threshold is None else flow.judged_from_ms or int(at_ms[0])
    return replace(sized, judged_from_ms=judged_from_ms)


def _add(
    minutes: Rows,
    at_ms: NDArray[np.int64],
    notional: Rows,
    bought: NDArray[np.bool_],
    large: NDArray[np.bool_],
) -> None:
    for minute in np.unique(at_ms // MINUTE_MS):
        inside = at_ms // MINUTE_MS == minute
        row = _row(minutes, int(minute) * MINUTE_MS)
        buys, sells = inside & bought, inside & ~bought
        row[BUY] += notional[buys].sum()
        row[SELL] += notional[sells].sum()
        row[TRADES] += inside.sum()
        row[LARGE_BUY] += notional[buys & large].sum()
        row[LARGE_SELL] += notional[sells & large].sum()
        row[LARGE_TRADES] += (inside & large).sum()


def _cover(minutes: Rows, from_ms: int, to_ms: int) -> None:
    """Note that the time from ``from_ms`` to ``to_ms`` was seen."""
    at_ms = max(from_ms, _oldest_ms(to_ms))
    while at_ms < to_ms:
        end_ms = min((at_ms // MINUTE_MS + 1) * MINUTE_MS, to_ms)
        _row(minutes, at_ms)[COVERED_MS] += end_ms - at_ms
        at_ms = end_ms


def _oldest_ms(now_ms: int) -> int:
    """The beginning of the oldest minute that the ring has room for."""
    return (now_ms // MINUTE_MS - MINUTES + 1) * MINUTE_MS


def _row(minutes: Rows, at_ms: int) -> Rows:
    """The row of a minute; what stood there an hour ago is wiped out."""
    minute = at_ms // MINUTE_MS
    row = minutes[minute % MINUTES]
    if row[MINUTE] < minute:
        row[:] = 0
        row[MINUTE] = minute
    return row
