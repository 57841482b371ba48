"""Which venue serves whom: a table with its sources, held against ``REGION`` and ``VENUES``.

Two places matter: where the person lives, by which a venue takes its customers, and where the
requests come from, by which it answers. Pipedream's come from AWS us-east-1, wherever the person
lives, so that a venue which refuses the US answers none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from deploy.cli.check import Check
from shared.config import Config

SERVED: Mapping[str, frozenset[str]] = {
    # Terms of Use (binance.com/en/terms, "prohibited countries": the US; Ontario, then all of
    # Canada from 12 May 2023); FCA, consumer warning of 26 June 2021 and the promotions regime of
    # 8 October 2023: no new customers of the UK.
    "binance": frozenset({"eu", "other"}),
    # binance.us: residents of the US, not of every state (support.binance.us, list of states).
    "binanceus": frozenset({"us"}),
    # coinbase.com/places: Advanced Trade in the US, the UK, Canada and the EEA.
    "coinbase": frozenset({"us", "eu", "uk", "ca", "other"}),
    # support.kraken.com, "Where is Kraken licensed or regulated": the US but for New York and
    # Maine, the EEA, the UK, Canada.
    "kraken": frozenset({"us", "eu", "uk", "ca", "other"}),
}
"""Regions whose residents a venue takes, by its own pages as they stood in 2025. A person reads
the present ones: a table cannot know what a regulator does next."""

REFUSES_US_ADDRESSES = frozenset({"binance"})
"""Answer HTTP 451 to requests from the US (github.com/ccxt/ccxt, issue 15872)."""

NO_TETHER = frozenset({"eu"})
"""Under MiCA the venues took USDT off spot trading for customers of the EEA (Coinbase in December
2024, Binance and Kraken by the end of March 2025)."""

_STATUS = re.compile(r"^\w+ [A-Z]+ \S+ (403|451)\b")
"""How ccxt tells a status: venue, method, address, status; what the body says comes after it."""


def checks(settings: Config) -> Iterator[Check]:
    """Whether the configured venues take customers of the configured region, and answer there."""
    region = settings.region
    if region == "unknown":
        yield Check(
            "region", "WARN", "REGION is not set", "set it to us, eu, uk, ca or other: not every "
            "venue serves everybody",
        )  # fmt: skip
    else:
        yield _served(settings)
    refusing = [name for name in settings.venues if name in REFUSES_US_ADDRESSES]
    if refusing:
        yield Check(
            "US addresses", "WARN", f"{', '.join(refusing)} refuse requests from the US",
            "Pipedream's come from AWS us-east-1 and are answered by HTTP 451: leave them out of "
            "VENUES there, or run the loop elsewhere (trading-loop run --realtime)",
        )  # fmt: skip
    if region in NO_TETHER and settings.quote_currency == "USDT":
        yield Check(
            "quote currency", "WARN", f"USDT is not traded on spot for customers of {region}",
            "set QUOTE_CURRENCY to one that your venues offer you, such as USDC or EUR",
        )  # fmt: skip


def refusal(error: Exception) -> str | None:
    """What a venue means by HTTP 451 or 403; ``None`` for any other error."""
    match = _STATUS.search(str(error))
    if match is None:
        return None
    if match[1] == "451":
        return "HTTP 451: the venue does not serve the place that this request came from"
    return "HTTP 403: the venue or its firewall refuses this address: a blocked country or a proxy"


def _served(settings: Config) -> Check:
    region = settings.region
    refused = [name for name in settings.venues if region not in SERVED[name]]
    if not refused:
        return Check("region", "OK", f"{', '.join(settings.venues)} serve {region}")
    taken = sorted(name for name, regions in SERVED.items() if region in regions)
    return Check(
        "region", "FAIL", f"{', '.join(refused)}: take no customers of {region}",
        f"set VENUES to some of {', '.join(taken)}",
    )  # fmt: skip
