"""What the core sleeve is to hold, in percent of the sleeve, and how far each symbol may go.

The sleeve is ``CORE_SLEEVE_PERCENT`` of the equity. A weight that finds no symbol to be held in
stays in cash: it is not given to the others, which would make them larger than was asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from shared.config import OTHERS, Config

MAX_OTHERS = 5
"""How many symbols share the weight of OTHERS at most: thinner shares fall below the minimums of
venues, and each brings a stop and a spread of its own."""


@dataclass(frozen=True)
class Targets:
    """The weights to be held, by symbol, in percent of the sleeve.

    Attributes:
        in_cash: what of the configured weights is held by nobody, and why, one line each.
    """

    percents: dict[str, Decimal]
    in_cash: tuple[str, ...] = ()


def choose(config: Config, buyable: Sequence[str], held: Collection[str] = ()) -> Targets:
    """The targets in a universe.

    The weight of OTHERS is split evenly over at most ``MAX_OTHERS`` symbols without a weight of
    their own: those that the sleeve holds already come first, then the universe's order. So a
    universe that is put in another order by a day's turnover makes no trade.

    Args:
        buyable: the run's universe, in its order.
        held: the symbols that the core sleeve holds now.
    """
    percents: dict[str, Decimal] = {}
    in_cash: list[str] = []
    own = _own_symbols(config)
    for symbol, percent in own.items():
        if symbol in buyable:
            percents[symbol] = percent
        else:
            in_cash.append(f"{symbol}: {percent:f} % stays in cash, it is not in the universe")
    shared_percent = _others_percent(config)
    if shared_percent > 0:
        others = [symbol for symbol in buyable if symbol not in own]
        others.sort(key=lambda symbol: symbol not in held)  # stable: else the universe's order
        others = others[:MAX_OTHERS]
        percents |= {symbol: shared_percent / len(others) for symbol in others}
        if not others:
            in_cash.append(f"{OTHERS}: {shared_percent:f} % stays in cash, there are no others")
    return Targets(percents, tuple(in_cash))


def limit_percent(config: Config, buyable: Sequence[str], symbol: str) -> Decimal:
    """How much of the sleeve a symbol may be at most: its target and the band.

    0 for a symbol that the sleeve does not buy at all.
    """
    own = _own_symbols(config)
    target = own.get(symbol, Decimal(0))
    if symbol not in own:
        others = sum(other not in own for other in buyable)
        target = _others_percent(config) / min(max(others, 1), MAX_OTHERS)
    if symbol not in buyable or target == 0:
        return Decimal(0)
    return target + config.rebalance_band_percent


def _own_symbols(config: Config) -> dict[str, Decimal]:
    quote = config.quote_currency
    return {f"{name}/{quote}": share for name, share in config.core_weights if name != OTHERS}


def _others_percent(config: Config) -> Decimal:
    return dict(config.core_weights).get(OTHERS, Decimal(0))
