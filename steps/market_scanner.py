"""First step of the trading loop: look at the market."""

from shared.market.scan import scan_market
from shared.run import run_step


def handler(pd: "pipedream"):  # type: ignore[no-untyped-def]
    """Scan all symbols; other steps read the result as ``steps.market_scanner``."""
    return run_step(
        pd, workflow="trading_loop", step="market_scanner", body=scan_market, first=True
    )
