"""What the position manager sees of a position: quote, extremes since the last look, momentum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from shared import clock
from shared.ledger import equity, state
from shared.ledger.positions import Position
from shared.market.candles import candle_store
from shared.market.types import Quote
from shared.risk.exit_rules import Momentum, Seen
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

_MINUTE_MS = 60_000
# A mean-reverting entry is made while momentum is lost; that loss must not close it.
_FOLLOWS_MOMENTUM = ("momentum", "trend_following")


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
    since_ms = _last_look_ms(run) if with_candles else None
    return [
        Look(
            position,
            quotes.get(position.symbol),
            None if venue is None or since_ms is None else _seen(run, venue, position, since_ms),
            None if venue is None else _momentum(run, venue, position),
        )
        for position in held
    ]


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


def _last_look_ms(run: Run) -> int | None:
    row = run.ledger.one(
        "SELECT max(started_at) AS at FROM runs "
        "WHERE pod = %s AND workflow = %s AND event_at < %s AND event_at > %s",
        (run.ledger.pod, run.workflow, run.event_at, _hour_before(run.event_at)),
    )
    if row is None or row["at"] is None:
        return None
    return clock.to_ms(row["at"]) // _MINUTE_MS * _MINUTE_MS


def _hour_before(moment: datetime) -> datetime:
    return clock.from_ms(clock.to_ms(moment) - 60 * _MINUTE_MS)


def _seen(run: Run, venue: str, position: Position, since_ms: int) -> Seen | None:
    if position.first_fill_at is None:
        return None
    window = candle_store.window(run, venue, position.symbol, "1m")
    if window is None:
        return None
    after_entry = window.open_ms >= max(since_ms, clock.to_ms(position.first_fill_at))
    if not after_entry.any():
        return None
    return Seen(float(window.low[after_entry].min()), float(window.high[after_entry].max()))


def _momentum(run: Run, venue: str, position: Position) -> Momentum | None:
    if position.strategy not in _FOLLOWS_MOMENTUM or position.first_fill_at is None:
        return None
    window = candle_store.window(run, venue, position.symbol, "1h")
    if window is None or window.closed_ms <= clock.to_ms(position.first_fill_at):
        return None  # no hour has closed since the entry: nothing new is known
    from shared.market.technical import indicators

    values = indicators.compute(window)
    names = ("ema_9", "ema_21", "macd_histogram", "macd_histogram_previous")
    if not all(name in values for name in names):
        return None
    return Momentum(*(values[name] for name in names))
