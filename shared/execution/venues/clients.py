"""One ccxt client a venue and process: keys, addresses, time-outs, and the time it goes by.

A scan asks a venue in several threads over the one client. That is sound: what ccxt 4.5.90 keeps
of a request on its client (``last_*``) it never reads back on a public call, the answers' recorder
is one a thread, and the pool of connections below gives each thread a connection of its own that
stays open. Further clients would take 4 to 10 ms and up to 270 KiB each, and nothing else.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from shared import clock
from shared.config import Config
from shared.execution.venues.ccxt_loader import exchange_class
from shared.execution.venues.pace import RATES, Pace
from shared.execution.venues.venue_time import OFFSET_OPTION

_clients: dict[tuple[str, str | None, str | None, bool], Any] = {}
_nonce = itertools.count()

SIDE_BY_SIDE = 8
"""How many requests a client can have under way; more wait for nothing but are not kept alive."""

# Only spot is traded; without these, binance loads futures, margin pairs and currencies too.
_OPTIONS: dict[str, dict[str, Any]] = {
    "binance": {
        "defaultType": "spot",
        "fetchMarkets": {"types": ["spot"]},
        "fetchCurrencies": False,
        "fetchMargins": False,
        "recvWindow": 5_000,
        "warnOnFetchOpenOrdersWithoutSymbol": False,
    },
    "coinbase": {
        "fetchBalance": "v3PrivateGetBrokerageAccounts",
        "createMarketBuyOrderRequiresPrice": False,
    },
}
_OPTIONS["binanceus"] = _OPTIONS["binance"]


def credentials(config: Config, venue: str) -> tuple[str | None, str | None]:
    """API key and secret of a venue; ``None`` where not configured."""
    family = "binance" if venue == "binanceus" else venue
    key = getattr(config, f"{family}_api_key")
    secret = getattr(config, f"{family}_secret")
    return (
        key.get_secret_value() if key else None,
        secret.get_secret_value().replace("\\n", "\n") if secret else None,
    )


def client(config: Config, venue: str, *, private: bool = True) -> Any:
    """The ccxt client for ``venue``, built once a process.

    Without ``private`` it has no keys, so that it can sign nothing.
    """
    api_key, secret = credentials(config, venue) if private else (None, None)
    # One that paces itself by the wall clock would wait for ever on a clock that stands still.
    identity = (venue, config.simulated_wire_url, api_key, clock.is_virtual())
    if identity not in _clients:
        _clients[identity] = _build(config, venue, api_key, secret)
    return _clients[identity]


def _build(config: Config, venue: str, api_key: str | None, secret: str | None) -> Any:
    simulated = config.simulated_wire_url is not None
    built = exchange_class(venue)(
        {
            "apiKey": api_key,
            "secret": secret,
            "timeout": config.request_timeout_ms,
            # ccxt's own limiter starts empty in each process and makes Kraken wait 3 s a call; on
            # a clock that stands still it would wait for ever.
            "enableRateLimit": not (simulated or clock.is_virtual() or venue == "kraken"),
            "options": _OPTIONS.get(venue, {}),
        }
    )
    built.options["maxRetriesOnFailure"] = 0
    # A redirect would send an order again, and its key to whatever place the answer names.
    built.session.max_redirects = 0
    _keep_connections(built.session)
    if built.enableRateLimit and venue in RATES:
        built.throttle = Pace(RATES[venue])
    # Requests carry the venue's time (see venue_time); parsed answers carry the venue's anyway.
    built.options[OFFSET_OPTION] = 0
    built.milliseconds = lambda: clock.now_ms() + built.options[OFFSET_OPTION]
    built.seconds = lambda: built.milliseconds() // 1000
    if venue == "kraken":
        # ccxt reads its own last nonce back as a float, which would round ours
        built.nonce = built.incrementing_nonce = _increasing_nonce
    if config.simulated_wire_url is not None:
        _redirect(built, f"{config.simulated_wire_url}/{venue}")
    return built


def _keep_connections(session: Any) -> None:
    """As many open connections to one host as threads may ask it; the default is ten."""
    from requests.adapters import HTTPAdapter

    adapter = HTTPAdapter(pool_connections=4, pool_maxsize=2 * SIDE_BY_SIDE, max_retries=0)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)


def _increasing_nonce() -> int:
    """Kraken wants each nonce above the last, also within a millisecond."""
    return clock.now_ms() * 1_000_000 + next(_nonce) % 1_000_000


def _redirect(built: Any, base: str) -> None:
    built.urls["api"] = _at(built.urls["api"], base)
    built.hostname = None


def _at(url: Any, base: str) -> Any:
    """``url`` at another host; of a table of them, each, however deep it lies."""
    if isinstance(url, dict):
        return {name: _at(inner, base) for name, inner in url.items()}
    return re.sub(r"^https?://[^/]+", base, url) if isinstance(url, str) else url
