"""The venues of a run, by the configuration's order and mode."""

from __future__ import annotations

from shared.errors import ConfigurationError
from shared.execution.venues import clients, live
from shared.execution.venues.base import Venue
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.execution.venues.dialects import DIALECTS
from shared.execution.venues.markets import Catalogue
from shared.execution.venues.paper import PaperVenue
from shared.run import Run


def open_venues(run: Run) -> dict[str, Venue]:
    """The configured venues, first the primary one.

    Orders reach a wire only in ``simulated`` mode, or in ``live`` mode with a valid arm token.
    Everything else is paper.

    Raises:
        ConfigurationError: orders are to be sent, and a venue has no keys.
    """
    sends_orders = run.config.trading_mode == "simulated" or live.is_armed(run)
    return {name: _open(run, name, sends_orders=sends_orders) for name in run.config.venues}


def _open(run: Run, name: str, *, sends_orders: bool) -> Venue:
    client = clients.client(run.config, name)
    catalogue = Catalogue(name, client, run.config.pairs, run.cache)
    venue = CcxtVenue(name, client, DIALECTS[name], catalogue, run.calls)
    if not sends_orders:
        return PaperVenue(venue, run.ledger)
    if None in clients.credentials(run.config, name):
        family = "BINANCE" if name == "binanceus" else name.upper()
        raise ConfigurationError(
            f"{family}_API_KEY, {family}_SECRET: expected both to send orders to {name}"
        )
    return venue
