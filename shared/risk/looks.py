"""What the position manager sees of a position: quote, extremes since the last look, momentum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import clock
from shared.ledger import equity, state
from shared.ledger.positions import Position
from shared.market.candles import candle_store
from shared.market.types import Candles, Quote
from shared.risk.exit_rules import Momentum, Seen
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

_MINUTE_MS = 60_000
# A mean-reverting entry is made while momentum is lost; that loss must not close it.
_FOLLOWS_MOMENTUM = ("momentum", "trend_following")

STOP_RAISED = "STOP_RAISED"
"""The event that tells of a raised stop: without its time, a low from before it would meet it."""

_SINCE = """
SELECT looked.at, raised.raises
FROM (SELECT (SELECT started_at FROM runs
              WHERE pod = %(pod)s AND workflow = %(workflow)s AND event_at < %(event_at)s
                AND status = 'DONE' ORDER BY event_at DESC LIMIT 1) AS at) AS looked
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object(
               'position_id', detail -> 'position_id', 'before', detail -> 'before',
               'at_ms', floor(extract(epoch FROM e.at) * 1000)) ORDER BY e.event_id) AS raises
    FROM events e WHERE e.pod = %(pod)s AND e.kind = %(kind)s AND e.at >= looked.at
) AS raised
"""


@dataclass(frozen=True)
class Look:
    """One held position and its market. ``quote`` is ``None`` where no venue tells a price."""

    position: Position
    quote: Quote | None
    seen: Seen | None
    momentum: Momentum | None


def at(run: Run, desk: Desk, held: Sequence[Position], *, with_candles: bool) -> list[Look]:
    """Look at every held position.

    ``with_candles`` adds the extremes of the minutes since the last run of this workflow, which
    a run without market data of its own must leave to the one that looks every minute.
    """
    quotes = desk.quotes(sorted({position.symbol for position in held}))
    venue = next(iter(desk.venues), None)
    window = _Window.open(run) if with_candles and venue is not None else None
    return [
        Look(
            position,
            quotes.get(position.symbol),
            None if venue is None or window is None else _seen(run, venue, position, window),
            None if venue is None else _momentum_since_entry(run, venue, position),
        )
        for position in held
    ]


def momentum(run: Run, venue: str, symbol: str) -> Momentum | None:
    """The trend on closed hours; ``None`` where the averages are not known."""
    window = candle_store.window(run, venue, symbol, "1h")
    return None if window is None else _trend(window)


def risk_exit(run: Run) -> str | None:
    """Why every position is to be closed now, or ``None``.

    The breaker asks for it in the trading state; a drawdown beyond its last tier asks by itself,
    so that it does not depend on the breaker being alive.
    """
    trading = state.read(run.ledger)
    if trading.close_all:
        return f"STATE_CLOSE_ALL: reason={trading.reason}"
    stands = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    fallen, limit = stands.drawdown_percent, run.config.drawdown_halt_percent
    if fallen is not None and fallen > limit:
        return f"DRAWDOWN_HALT: drawdown_percent={fallen:.2f}, limit_percent={limit}"
    return None


@dataclass(frozen=True)
class _Raise:
    """A stop that rose: in which minute, and from where."""

    minute_ms: int
    before: float


@dataclass(frozen=True)
class _Window:
    """What a run has to catch up with: since the last run that was done, and stops raised since.

    ``since_ms`` is ``None`` before the first such run: then all counts that is after the entry.
    """

    since_ms: int | None
    raises: Mapping[int, Sequence[_Raise]]

    @classmethod
    def open(cls, run: Run) -> _Window:
        """A run that failed may have seen nothing, so its minutes are looked at again."""
        row = run.ledger.one(_SINCE, {"pod": run.ledger.pod, "workflow": run.workflow,
                                      "event_at": run.event_at, "kind": STOP_RAISED})  # fmt: skip
        if row is None or row["at"] is None:
            return cls(None, {})
        raises: dict[int, list[_Raise]] = {}
        for raised in row["raises"] or []:
            at = _minute(int(raised["at_ms"]))
            raises.setdefault(raised["position_id"], []).append(_Raise(at, raised["before"]))
        return cls(_minute(clock.to_ms(row["at"])), raises)


def _minute(at_ms: int) -> int:
    return at_ms // _MINUTE_MS * _MINUTE_MS


def _seen(run: Run, venue: str, position: Position, window: _Window) -> Seen | None:
    if position.first_fill_at is None:
        return None
    candles = candle_store.window(run, venue, position.symbol, "1m")
    if candles is None:
        return None
    entered_ms = clock.to_ms(position.first_fill_at)
    since_ms = entered_ms if window.since_ms is None else max(window.since_ms, entered_ms)
    rows = (candles.open_ms >= since_ms).nonzero()[0]
    if not len(rows):
        return None
    raises = window.raises.get(position.position_id, ())
    lows = [
        low
        for low, open_ms in zip(candles.low[rows], candles.open_ms[rows], strict=True)
        if _counts(float(low), int(open_ms), raises)
    ]
    return Seen(float(min(lows, default=math.inf)), float(candles.high[rows].max()))


def _counts(low: float, open_ms: int, raises: Sequence[_Raise]) -> bool:
    """Whether a low may meet the stop: it is not older than the stop, or met the one before it.

    The minute in which the stop rose counts as after it: rather left too early than too late.
    """
    before = next((known.before for known in raises if open_ms < known.minute_ms), None)
    return before is None or low <= before


def _momentum_since_entry(run: Run, venue: str, position: Position) -> Momentum | None:
    if position.strategy not in _FOLLOWS_MOMENTUM or position.first_fill_at is None:
        return None
    window = candle_store.window(run, venue, position.symbol, "1h")
    if window is None or window.closed_ms <= clock.to_ms(position.first_fill_at):
        return None  # no hour has closed since the entry: nothing new is known
    return _trend(window)


def _trend(window: Candles) -> Momentum | None:
    from shared.market.technical import indicators

    values = indicators.compute(window)
    names = ("ema_9", "ema_21", "macd_histogram", "macd_histogram_previous")
    if not all(name in values for name in names):
        return None
    return Momentum(*(values[name] for name in names))
