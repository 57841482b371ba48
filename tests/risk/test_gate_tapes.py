"""Two crashes, minute by minute: nothing is bought in them, and what is held can be sold.

Each minute is drawn through published points; the rest between them is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import pytest

from shared.market.types import Book
from shared.risk.controls.case import Case
from tests.risk.gate_case import BTC, NOW_MS, case, denial
from tests.risk.world import dec


@dataclass(frozen=True)
class Minute:
    """What a minute shows: the closed minute's range, the best prices, what is offered there."""

    low: str
    high: str
    bid: float
    ask: float
    others: tuple[str, ...]
    offered: float = 50.0

    def case(self, purpose: str) -> Case:
        """An order of 0.5: an entry at the ask, or the collar's worst, or an exit at the bid."""
        worst = round((self.bid + self.ask) / 2 * 1.005, 2)
        price = Decimal(str(min(self.ask, worst) if purpose == "entry" else self.bid))
        return case(
            purpose,
            book=Book(BTC, ((self.bid, self.offered),), ((self.ask, self.offered),), NOW_MS),
            low_1m=dec(self.low),
            high_1m=dec(self.high),
            other_venue_mids=[dec(mid) for mid in self.others],
            volume_24h_quote=dec("1e9"),
            venue_cash_quote=dec("1e6"),
            limit_price=price,
            equity_quote=dec("1e6"),
            day_start_quote=dec("1e6"),
            rolling_start_quote=dec("1e6"),
            week_start_quote=dec("1e6"),
            high_water_quote=dec("1e6"),
            settings={"max_position_size": dec(100_000), "position_size_percent": dec(50)},
        )


# Bitcoin on Binance US at 11:34 UTC on 21 October 2021: from about 65,760 to 8,200 and back within
# a minute, while other venues stood above 65,000 (as Bloomberg told it; an algorithm erred).
BINANCE_US_2021 = {
    "11:33, calm": (Minute("65700", "65790", 65755, 65765, ("65750", "65770")), None, None),
    "11:34, on the way down": (
        Minute("65700", "65790", 40000, 40100, ("65600", "65700")), "PRICE_VENUES_APART",
        "PRICE_VENUES_APART",
    ),
    "11:34, the bottom": (
        Minute("65700", "65790", 8200, 8240, ("65500", "65600")), "PRICE_VENUES_APART",
        "PRICE_VENUES_APART",
    ),
    "11:34, the bottom, where no other venue can be asked": (
        Minute("65700", "65790", 8200, 8240, ()), "PRICE_ONE_SOURCE", None,
    ),
    "11:35, back": (Minute("8200", "65790", 65500, 65530, ("65480", "65510")), "PRICE_RANGE", None),
    "11:36, it still trades wildly": (
        Minute("63000", "66500", 65400, 65440, ("65400", "65420")), "PRICE_RANGE", None,
    ),
    "11:40, calm": (Minute("65300", "65420", 65390, 65400, ("65400", "65380")), None, None),
}  # fmt: skip

# 10 October 2025: bitcoin fell by 12 to 16 %, to its low at 21:20 UTC; depth went from 89 to two
# million, and spreads to 22 % (published accounts of the day). All venues fell together, so that
# none contradicts another.
ALL_VENUES_2025 = {
    "20:45, calm": (Minute("116900", "117050", 116990, 117000, ("117010", "116980")), None, None),
    "21:00, falling": (
        Minute("113300", "115900", 113400, 113440, ("113500", "113300")), "PRICE_RANGE", None,
    ),
    "21:12, the venues drift apart": (
        Minute("110000", "111500", 110000, 110060, ("113000", "110200")), "PRICE_VENUES_APART",
        None,
    ),
    "21:18, the book is empty": (
        Minute("106000", "106900", 106000, 106060, ("106100", "106000"), 1.5), "BOOK_DEPTH", None,
    ),
    "21:20, a spread of a tenth": (
        Minute("102000", "103900", 101500, 112000, ("107000", "106000")), "BOOK_SPREAD", None,
    ),
    "21:24, back up": (
        Minute("105000", "109000", 108900, 108960, ("108800", "109100")), "PRICE_RANGE", None,
    ),
    "22:30, calm": (Minute("112400", "112700", 112600, 112610, ("112620", "112590")), None, None),
}  # fmt: skip


@pytest.mark.parametrize("name", BINANCE_US_2021)
def test_one_venue_that_falls_alone(name: str) -> None:
    check(*BINANCE_US_2021[name])


@pytest.mark.parametrize("name", ALL_VENUES_2025)
def test_all_venues_that_fall_together(name: str) -> None:
    check(*ALL_VENUES_2025[name])


def check(minute: Minute, entry: str | None, leave: str | None) -> None:
    refused = denial(minute.case("entry"))
    assert (None if refused is None else refused.code) == entry, refused
    kept = denial(minute.case("exit"))
    assert (None if kept is None else kept.code) == leave, kept
