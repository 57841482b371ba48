"""Four personalities over the one matching model: each speaks one venue's documented JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.local.wire.venues.base import Personality


def personalities() -> dict[str, type[Personality]]:
    """The venues by name."""
    from deploy.local.wire.venues.binance import Binance
    from deploy.local.wire.venues.binanceus import BinanceUS
    from deploy.local.wire.venues.coinbase import Coinbase
    from deploy.local.wire.venues.kraken import Kraken

    return {"binance": Binance, "binanceus": BinanceUS, "coinbase": Coinbase, "kraken": Kraken}
