"""How far back to trade a core sleeve that has left its band: measured on recorded hours.

``python -m deploy.research.rebalancing`` lets a sleeve drift through the recorded years and
rebalances it by the plan that trades, with the same band and the same day between two rebalances,
for several distances from the target and several costs. It prints what each costs a year, and how
far the weights were off. It does not ask which has earned most: that is the market's luck.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from shared.config import Config
from shared.errors import ConfigurationError
from shared.market.types import Candles
from shared.risk.core import plan, targets
from shared.risk.core.plan import Market
from shared.risk.core.sleeve import Sleeve

SYMBOLS = tuple(f"{base}/USDT" for base in ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LINK"))
INNER_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
COSTS_BPS = (12.0, 30.0, 60.0)
EQUITY_QUOTE, SHARE_PERCENT = Decimal(10_000), Decimal(20)
_HOURS_PER_YEAR = 24 * 365.25
_WAIT_HOURS = 24


@dataclass(frozen=True)
class Outcome:
    """What one way of rebalancing has cost. Percent are of the sleeve.

    Attributes:
        off_points: the weights' mean distance from their targets, root mean square, in points.
    """

    inner_share: float
    cost_bps: float
    rebalances_a_year: float
    trades_a_year: float
    turnover_percent_a_year: float
    cost_percent_a_year: float
    off_points: float


def measure(
    closes: Mapping[str, NDArray[np.float64]], inner_share: float, cost_bps: float
) -> Outcome:
    """Go through the hours of ``closes``; all symbols have the same ones."""
    settings = Config()
    wanted = targets.choose(settings, tuple(closes)).percents
    names = list(wanted)
    prices = np.array([closes[name] for name in names])
    shares = np.array([float(wanted[name]) for name in names]) / 100
    market = Market(
        Decimal(str(cost_bps)), Decimal(str(cost_bps)), Decimal("5.5"), Decimal(5), Decimal("0.01")
    )
    size = float(EQUITY_QUOTE * SHARE_PERCENT / 100)
    held, cash = shares * size / prices[:, 0], float(EQUITY_QUOTE) - float(shares.sum()) * size
    band, last = float(settings.rebalance_band_percent) / 100, -_WAIT_HOURS
    rebalances = trades = 0
    turnover = cost = squares = 0.0
    for hour in range(prices.shape[1]):
        values = held * prices[:, hour]
        sleeve_quote = (cash + values.sum()) * float(SHARE_PERCENT) / 100
        off = values / sleeve_quote - shares
        squares += float((off**2).mean())
        if np.abs(off).max() < band or hour - last < _WAIT_HOURS:
            continue
        found = plan.make(
            Sleeve(
                Decimal(repr(float(cash + values.sum()))),
                SHARE_PERCENT,
                {n: Decimal(repr(float(v))) for n, v in zip(names, values, strict=True)},
                wanted,
            ),
            dict.fromkeys(names, market),
            cash_quote=Decimal(repr(float(cash))),
            band_percent=settings.rebalance_band_percent,
            to_target=False,
            inner_share=Decimal(str(inner_share)),
        )
        for trade in found.trades:
            number = names.index(trade.symbol)
            signed = float(trade.signed_quote)
            held[number] += signed / prices[number, hour]
            cash -= signed + float(trade.cost_quote)
            turnover += abs(signed) / sleeve_quote
            cost += float(trade.cost_quote) / sleeve_quote
        rebalances, trades, last = rebalances + 1, trades + len(found.trades), hour
    years = prices.shape[1] / _HOURS_PER_YEAR
    return Outcome(
        inner_share,
        cost_bps,
        rebalances / years,
        trades / years,
        100 * turnover / years,
        100 * cost / years,
        100 * float(np.sqrt(squares / prices.shape[1])),
    )


def aligned(hours: Mapping[str, Candles]) -> dict[str, NDArray[np.float64]]:
    """The closes of the hours that all symbols have."""
    common = hours[next(iter(hours))].open_ms
    for series in hours.values():
        common = np.intersect1d(common, series.open_ms, assume_unique=True)
    return {
        symbol: series.close[np.isin(series.open_ms, common, assume_unique=True)]
        for symbol, series in hours.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    from deploy.research.score.dataset import read_hours

    parser = argparse.ArgumentParser(prog="python -m deploy.research.rebalancing")
    parser.add_argument("--data", default=os.environ.get("MARKET_DATA_DIR"))
    parser.add_argument("--exchange", default="binance")
    options = parser.parse_args(arguments)
    if not options.data:
        raise ConfigurationError("--data: expected a folder; MARKET_DATA_DIR is not set either")
    closes = aligned(read_hours(options.data, options.exchange, SYMBOLS, 2**62))
    table = Table("cost bps", "left at, of the band", "rebalances a year", "trades a year",
                  "turnover % a year", "cost % a year", "off, points", title=f"{SYMBOLS}, "
                  f"{len(closes[SYMBOLS[0]]):,} hours")  # fmt: skip
    for cost_bps in COSTS_BPS:
        for inner_share in INNER_SHARES:
            found = measure(closes, inner_share, cost_bps)
            table.add_row(
                f"{cost_bps:.0f}", f"{inner_share:.2f}", f"{found.rebalances_a_year:.1f}",
                f"{found.trades_a_year:.1f}", f"{found.turnover_percent_a_year:.1f}",
                f"{found.cost_percent_a_year:.3f}", f"{found.off_points:.2f}",
            )  # fmt: skip
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
