"""The venues of a run, by the configuration's order and mode."""

from __future__ import annotations

import threading
from collections.abc import Callable

from shared import clock
from shared.errors import ConfigurationError
from shared.execution.types import Mode
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
from shared.instance import open_ledger
from shared.ledger import events
from shared.ledger.connection import Ledger
from shared.run import Run


def open_venues(run: Run) -> dict[str, Venue]:
    """The configured venues, first the primary one.

    Orders reach a wire only in ``simulated`` mode, or in ``live`` mode with a valid arm token or
    while something is live already (see ``live``). Everything else is paper.

    Raises:
        ConfigurationError: orders are to be sent, and a venue has no keys; or a position is open
            that was bought in another mode. Selling on paper what is really held would leave it to
            nobody, and a real sale of what was bought on paper or from the stand-ins would sell
            somebody else's. With ``ENABLE_LIVE_TRADING`` off, no run touches a live position: the
            person who turned the switch has taken it over.
    """
    mode = live.mode_of(run)
    _refuse_mixture(run, mode)
    blocks = limits.in_force(run.ledger, clock.now())
    traffic = Traffic(blocks, _ledger_by_thread(run), run.cache)
    return {name: _open(run, name, traffic, mode) for name in run.config.venues}


def _refuse_mixture(run: Run, mode: Mode) -> None:
    """Every order that the open positions have, or may have, was sent in this run's mode.

    Where an intent does not tell its mode it is older than live trading: its order was on paper,
    as its id shows, or at the stand-ins.
    """
    row = run.ledger.one(
        "SELECT position_id, mode FROM (SELECT p.position_id, coalesce(i.mode, "
        "CASE WHEN starts_with(o.venue_order_id, %s) THEN 'paper' ELSE 'simulated' END) AS mode "
        "FROM positions p JOIN intents i ON i.position_id = p.position_id "
        "AND i.pod = p.pod AND i.symbol = p.symbol AND i.sent_at > p.opened_at - interval '1 day' "
        "LEFT JOIN orders o USING (intent_id) "
        "WHERE p.pod = %s AND p.closed_at IS NULL AND (o.intent_id IS NOT NULL "
        "OR i.mode IS NOT NULL AND i.state IN ('SENDING', 'UNKNOWN'))) AS sent "
        "WHERE mode <> %s ORDER BY position_id LIMIT 1",
        (PAPER_PREFIX, run.ledger.pod, mode),
    )
    if row is None:
        return
    if row["mode"] == "live" and not run.config.enable_live_trading:
        raise ConfigurationError(
            f"position {row['position_id']}: it is open on a real venue, and ENABLE_LIVE_TRADING "
            f"is false, expected true until it is closed: no run manages it, and only what rests "
            f"on the venue protects it. Turn the switch on again (without a token it is only "
            f"sold), or close it by hand"
        )
    raise ConfigurationError(
        f"position {row['position_id']}: its orders were {row['mode']}, and this run is {mode}: "
        f"expected it to be closed first, by a run that is {row['mode']}"
    )


def _open(run: Run, name: str, traffic: Traffic, mode: Mode) -> Venue:
    sends_orders = mode != "paper"
    client = clients.client(run.config, name, private=sends_orders)
    dialect = DIALECTS[name]
    ledger = _ledger_by_thread(run)
    catalogue = Catalogue(name, client, run.pairs, run.cache, ledger)
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
        mode=mode, traffic=traffic, time=time,
    )  # fmt: skip


def _ledger_by_thread(run: Run) -> Callable[[], Ledger]:
    """A scan asks venues in threads of its own, and a connection belongs to one thread."""
    owner = threading.get_ident()

    def ledger() -> Ledger:
        mine = threading.get_ident() == owner or run.config.database_url is None
        return run.ledger if mine else open_ledger(run.config)

    return ledger
