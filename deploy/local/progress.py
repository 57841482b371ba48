"""What a replay shows while it runs: a live panel on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from deploy.local.tally import Tally
from shared import clock
from shared.ledger.connection import Ledger

_PANEL_EVERY_S = 0.5
_LINE_EVERY_S = 5.0
_MINUTE_MS = 60_000


@dataclass(frozen=True)
class Standing:
    """Where the replay stands, read from its ledger. ``None`` where there is nothing yet."""

    equity_quote: Decimal | None
    open_positions: int
    last_decision: str | None


def read_standing(ledger: Ledger) -> Standing:
    """Equity, open positions and the last decision that was not HOLD."""
    row = ledger.one(
        "SELECT (SELECT equity_quote FROM equity WHERE pod = %(pod)s ORDER BY at DESC LIMIT 1) "
        "  AS equity_quote, "
        "(SELECT count(*) FROM position_summary WHERE pod = %(pod)s AND closed_at IS NULL "
        "  AND quantity > 0) AS open_positions, "
        "(SELECT action || ' ' || symbol || ' ' || to_char(at, 'MM-DD HH24:MI') FROM decisions "
        "  WHERE pod = %(pod)s AND action <> 'HOLD' ORDER BY at DESC LIMIT 1) AS last_decision",
        {"pod": ledger.pod},
    )
    assert row is not None
    return Standing(row["equity_quote"], row["open_positions"], row["last_decision"])


class Progress:
    """Shows how far a replay is; a context manager. ``update`` is cheap between two pictures.

    Args:
        dashboard_url: shown on the panel; ``None`` where nothing is served.
        seconds: a monotonic clock, which no replay bends.
    """

    def __init__(
        self,
        console: Console,
        ledger: Ledger,
        *,
        from_ms: int,
        to_ms: int,
        start_ms: int,
        dashboard_url: str | None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._ledger = ledger
        self._from_ms, self._to_ms, self._start_ms = from_ms, to_ms, start_ms
        self._dashboard_url = dashboard_url
        self._seconds = seconds
        self._began_at = self._shown_at = seconds()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, at_ms: int, tally: Tally) -> None:
        """Show the state after the runs of ``at_ms``, if the last picture is old enough."""
        now = self._seconds()
        every = _LINE_EVERY_S if self._live is None else _PANEL_EVERY_S
        if now - self._shown_at < every:
            return
        self._shown_at = now
        standing = read_standing(self._ledger)
        if self._live is None:
            self._console.print(self._line(at_ms, tally, standing), soft_wrap=True)
        else:
            self._live.update(self._panel(at_ms, tally, standing), refresh=True)

    def _share(self, at_ms: int) -> float:
        return (at_ms + _MINUTE_MS - self._from_ms) / (self._to_ms - self._from_ms)

    def _speed(self, at_ms: int) -> float:
        """Virtual minutes a second since this process began."""
        minutes = (at_ms + _MINUTE_MS - self._start_ms) / _MINUTE_MS
        return minutes / max(1e-9, self._seconds() - self._began_at)

    def _line(self, at_ms: int, tally: Tally, standing: Standing) -> str:
        parts = [
            f"{clock.iso(clock.from_ms(at_ms))} {self._share(at_ms):4.0%}",
            f"equity {_money(standing.equity_quote)}",
            f"{standing.open_positions} open",
            f"last decision {standing.last_decision or 'none'}",
            f"{self._speed(at_ms):.0f} min/s",
        ]
        if tally.failed_runs:
            parts.append(f"{tally.failed_runs} runs FAILED")
        return "  ".join(parts)

    def _panel(self, at_ms: int, tally: Tally, standing: Standing) -> Table:
        speed = self._speed(at_ms)
        left_s = (self._to_ms - at_ms) / _MINUTE_MS / speed
        table = Table.grid(padding=(0, 2))
        table.add_row("time", f"{clock.iso(clock.from_ms(at_ms))}  {self._share(at_ms):.1%}")
        table.add_row("equity", _money(standing.equity_quote))
        table.add_row("open positions", str(standing.open_positions))
        table.add_row("last decision", standing.last_decision or "none yet")
        table.add_row("speed", f"{speed:.0f} minutes a second, about {left_s:.0f} s to go")
        failed = f"[bold red]{tally.failed_runs}[/]" if tally.failed_runs else "0"
        table.add_row("failed runs", failed)
        if self._dashboard_url is not None:
            table.add_row("dashboard", f"{self._dashboard_url}/dashboard")
        return table


def _money(value: Decimal | None) -> str:
    return "unknown" if value is None else f"{value:,.2f}"
