"""Where a replay's market comes from: recorded, simulated or downloaded candles."""

from deploy.local.market.choose import choose_source
from deploy.local.market.source import MarketSource, SourceSpec, open_source

__all__ = ["MarketSource", "SourceSpec", "choose_source", "open_source"]
