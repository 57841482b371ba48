"""The venues of a run, by the configuration's order and mode."""

from __future__ import annotations

from shared.errors import ConfigurationError
from shared.execution.venues import clients, live
from shared.execution.venues.base import Venue
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.execution.venues.dialects import DIALECTS
from shared.execution.venues.markets import Catalogue
from shared.execution.venues.paper import PAPER_PREFIX, PaperVenue
from shared.run import Run


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
    return {name: _open(run, name, sends_orders=sends_orders) for name in run.config.venues}


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


def _open(run: Run, name: str, *, sends_orders: bool) -> Venue:
    client = clients.client(run.config, name)
    catalogue = Catalogue(name, client, run.config.pairs, run.cache)
    venue = CcxtVenue(
        name, client, DIALECTS[name], catalogue, run.calls, mode=run.config.trading_mode
    )
    if not sends_orders:
        return PaperVenue(venue, run.ledger)
    if None in clients.credentials(run.config, name):
        family = "BINANCE" if name == "binanceus" else name.upper()
        raise ConfigurationError(
            f"{family}_API_KEY, {family}_SECRET: expected both to send orders to {name}"
        )
    return venue
