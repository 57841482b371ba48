"""Small purchases on paper, to learn the odds that nobody has measured.

A pod whose odds show no edge stakes nothing, so it would never see a trade of its own, and its
odds would stay the prior's for ever. On paper a trade costs nothing: there a pod buys a small fixed
share of its equity as long as its few trades leave an edge possible. It stops by itself: once
``PROBE_TRADES`` trades are closed their odds decide alone. With real money nothing is probed.
"""

from __future__ import annotations

from decimal import Decimal

from shared.config import Config
from shared.risk.staking.kelly import Odds

PROBE_TRADES = 100
"""By then the deviation of the win probability is under 0.05, a quarter of it the prior's."""


def quote(config: Config, odds: Odds, worth_quote: Decimal) -> Decimal | None:
    """What a probe spends, or ``None`` where there is none.

    Nothing is probed with real money, after ``PROBE_TRADES`` trades, where the trades so far rule
    an edge out, or where the validating model's own odds are against the trade.
    """
    if config.trading_mode == "live" or config.paper_probe_percent == 0:
        return None
    if odds.trades >= PROBE_TRADES or odds.model_objects or not odds.may_have_an_edge:
        return None
    return worth_quote * config.paper_probe_percent / 100
