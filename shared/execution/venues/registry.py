"""The venues of a run, by the configuration's order and mode."""

from __future__ import annotations

import threading
from collections.abc import Callable

from shared import clock
from shared.errors import ConfigurationError
from shared.execution.venues import clients, limits, live
from shared.execution.venues.base import Venue
from shared.execution.venues.ccxt_public import CcxtPublic
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.execution.venues.dialects import DIALECTS
from shared.execution.venues.markets import Catalogue
from shared.execution.venues.paper import PaperVenue
from shared.execution.venues.paper_matching import PAPER_PREFIX
from shared.execution.venues.traffic import Traffic
from shared.execution.venues.venue_time import VenueTime
from shared.ledger import events
from shared.ledger.connection import Ledger
from shared.run import Run, open_ledger


def open_venues(run: Run) -> dict[str, Venue]:
    """The configured venues, first the primary one.

    Orders reach a wire only in ``simulated`` mode, or in ``live`` mode with a valid arm token.
    Everything else is paper.

    Raises:
        ConfigurationError: orders are to be sent, and a venue has no keys; or a position is open
            that was bought in the other way. Selling on paper what is really held would leave it
            to nobody, and a real sale of what is held on paper would sell somebody else's.
    """
    sends_orders = run.config.trading_mode == "simulated" or live.is_armed(run)
    _refuse_mixture(run, sends_orders=sends_orders)
    blocks = limits.in_force(run.ledger, clock.now())
    traffic = Traffic(blocks, _ledger_by_thread(run), run.cache)
    return {
        name: _open(run, name, traffic, sends_orders=sends_orders) for name in run.config.venues
    }


def _refuse_mixture(run: Run, *, sends_orders: bool) -> None:
    row = run.ledger.one(
        "SELECT p.position_id FROM positions p JOIN intents i ON i.position_id = p.position_id "
        "AND i.pod = p.pod AND i.symbol = p.symbol AND i.sent_at >= p.opened_at "
        "JOIN orders o USING (intent_id) WHERE p.pod = %s AND p.closed_at IS NULL "
        "AND starts_with(o.venue_order_id, %s) = %s LIMIT 1",
        (run.ledger.pod, PAPER_PREFIX, sends_orders),
    )
    if row is not None:
        now, then = ("sent", "on paper") if sends_orders else ("on paper", "sent")
        raise ConfigurationError(
            f"position {row['position_id']}: its orders were {then}, and orders are {now} now: "
            f"expected it to be closed first, or the arm token to be as it was"
        )


def _open(run: Run, name: str, traffic: Traffic, *, sends_orders: bool) -> Venue:
    client = clients.client(run.config, name, private=sends_orders)
    dialect = DIALECTS[name]
    ledger = _ledger_by_thread(run)
    catalogue = Catalogue(name, client, run.config.pairs, run.cache, ledger)
    if not sends_orders:
        public = CcxtPublic(name, client, dialect, catalogue, run.calls, traffic=traffic)
        return PaperVenue(public, run.ledger, protection=dialect.protection)
    if None in clients.credentials(run.config, name):
        family = "BINANCE" if name == "binanceus" else name.upper()
        raise ConfigurationError(
            f"{family}_API_KEY, {family}_SECRET: expected both to send orders to {name}"
        )
    public = CcxtPublic(name, client, dialect, catalogue, run.calls, traffic=traffic)
    time = VenueTime(
        name,
        client,
        ask=public.server_time_ms,
        resolution_ms=dialect.time_resolution_ms,
        cache=run.cache,
        report=lambda kind, detail: events.record(ledger(), kind, detail),
    )
    return CcxtVenue(
        name, client, dialect, catalogue, run.calls,
        mode="simulated" if run.config.trading_mode == "simulated" else "live",
        traffic=traffic, time=time,
    )  # fmt: skip


def _ledger_by_thread(run: Run) -> Callable[[], Ledger]:
    """A scan asks venues in threads of its own, and a connection belongs to one thread."""
    owner = threading.get_ident()

    def ledger() -> Ledger:
        mine = threading.get_ident() == owner or run.config.database_url is None
        return run.ledger if mine else open_ledger(run.config)

    return ledger
