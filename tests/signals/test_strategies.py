"""Each strategy by table: inputs, signal; and every way to abstain."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from shared.signals import strategies
from shared.signals.strategies.arbitrage import Arbitrage, basis, triangular
from shared.signals.strategies.market_making import MarketMaking, quotes
from shared.signals.strategies.mean_reversion import MeanReversion
from shared.signals.strategies.momentum import Momentum
from shared.signals.strategies.trend_following import TrendFollowing
from shared.signals.types import EarlierMacd
from tests.signals.builders import AT_MS, WEIGHTS, context, market, position, with_values


def test_there_is_one_strategy_for_each_weight() -> None:
    assert [s.name for s in strategies.ALL] == list(WEIGHTS)


@pytest.mark.parametrize(
    ("rsi", "macd", "signal_line", "volume", "expected"),
    [
        (60, 3, 1, 1.5, "BUY"),
        (40, 1, 3, 1.5, "SELL"),
        (75, 3, 1, 1.5, "HOLD"),  # overbought: the move is over
        (25, 1, 3, 1.5, "HOLD"),  # oversold
        (60, 1, 3, 1.5, "HOLD"),  # RSI and MACD disagree
        (40, 3, 1, 1.5, "HOLD"),
        (60, 3, 1, 0.9, "HOLD"),  # no volume behind it
        (60, 2, 2, 1.5, "HOLD"),  # no cross
    ],
)
def test_momentum(
    rsi: float, macd: float, signal_line: float, volume: float, expected: str
) -> None:
    seen = with_values(
        "15m", rsi_14=rsi, macd=macd, macd_signal=signal_line, relative_volume_ratio=volume
    )
    assert Momentum().evaluate(seen, context()).signal == expected


def test_momentum_strength_and_confidence_by_hand() -> None:
    # RSI 60 is half of the way from 50 to 70; a histogram of 10 is half of a quarter ATR of 80;
    # volume at 1.5 times the usual adds half of 0.4 to 0.5.
    seen = with_values(
        "15m", rsi_14=60, macd=20, macd_signal=10, atr_14=80, relative_volume_ratio=1.5
    )
    found = Momentum().evaluate(seen, context())
    assert (found.strength, found.confidence) == (pytest.approx(0.5), pytest.approx(0.7))


@pytest.mark.parametrize(
    ("histogram", "minutes_before", "crossed", "confidence"),
    [
        (-5.0, 15, True, 1.0),
        (5.0, 15, False, 0.9),
        (-5.0, 30, None, 0.9),  # not the candle before: a cross may lie further back
    ],
)
def test_a_fresh_macd_cross_is_trusted_more(
    histogram: float, minutes_before: int, crossed: bool | None, confidence: float
) -> None:
    seen = with_values("15m", closed_at_ms=AT_MS)
    earlier = EarlierMacd(histogram, AT_MS - minutes_before * 60_000)
    found = Momentum().evaluate(seen, context(earlier_macd={"BTC/USDT": earlier}))
    assert found.evidence["macd_crossed"] is crossed
    assert found.confidence == pytest.approx(confidence)


@pytest.mark.parametrize(
    ("close", "zscore", "rsi", "regime", "expected"),
    [
        (89, -2.5, 25, "ranging", "BUY"),
        (90, -2.0, 40, "ranging", "BUY"),
        (106, 2.5, 75, "ranging", "SELL"),
        (89, -1.5, 25, "ranging", "HOLD"),  # touched, but not far from the mean
        (95, -2.5, 25, "ranging", "HOLD"),  # far, but not touched
        (95, 0.0, 50, "ranging", "HOLD"),
        (89, -2.5, 25, "volatile", "BUY"),
        (89, -2.5, 25, "trending", "ABSTAIN"),
        (89, -2.5, 25, "unknown", "ABSTAIN"),
    ],
)
def test_mean_reversion(
    close: float, zscore: float, rsi: float, regime: Any, expected: str
) -> None:
    seen = with_values("15m", close=close, zscore_20=zscore, rsi_14=rsi)
    assert MeanReversion().evaluate(seen, context(regime)).signal == expected


def test_mean_reversion_trusts_a_calm_market_and_an_exhausted_rsi_more() -> None:
    def confidence(regime: Any, rsi: float) -> float:
        seen = with_values("15m", close=89, zscore_20=-2.5, rsi_14=rsi)
        return MeanReversion().evaluate(seen, context(regime)).confidence

    assert confidence("ranging", 25) > confidence("ranging", 40) > confidence("volatile", 40)


def _stacked(*alignments: int, adx: float = 40.0) -> dict[str, Any]:
    found = market()
    for name, alignment in zip(("15m", "1h", "4h", "1d"), alignments, strict=True):
        averages = {1: (3, 2, 1), -1: (1, 2, 3), 0: (2, 3, 1)}[alignment]
        found["indicators"][name] |= dict(
            zip(("ema_9", "ema_21", "ema_50"), averages, strict=True), adx_14=adx
        )
    return found


@pytest.mark.parametrize(
    ("alignments", "adx", "expected", "strength"),
    [
        ((1, 1, 1, 1), 40, "BUY", 1.0),
        ((-1, -1, -1, -1), 40, "SELL", 1.0),
        ((-1, 1, 1, 1), 40, "BUY", 0.7),
        ((1, 1, -1, -1), 40, "HOLD", 0.0),  # -0.2
        ((1, 1, 1, 1), 15, "HOLD", 0.0),  # stacked, but without a trend
        ((1, 1, 1, 1), 27.5, "BUY", 0.5),
        ((0, 0, 1, 0), 40, "HOLD", 0.0),  # 0.3, but few agree
    ],
)
def test_trend_following(
    alignments: tuple[int, ...], adx: float, expected: str, strength: float
) -> None:
    found = TrendFollowing().evaluate(_stacked(*alignments, adx=adx), context())
    assert (found.signal, found.strength) == (expected, pytest.approx(strength))


def test_trend_following_does_without_one_timeframe_and_says_so() -> None:
    seen = market()
    del seen["indicators"]["1d"]
    found = TrendFollowing().evaluate(seen, context())
    assert found.signal == "BUY"
    assert "1d.adx_14" in found.evidence["missing"]
    del seen["indicators"]["4h"]
    assert TrendFollowing().evaluate(seen, context()).signal == "ABSTAIN"


def _quoted(here: tuple[float, float], there: tuple[float, float], skew_ms: int = 0) -> Any:
    return market(
        venues={
            "binance": {"bid": here[0], "ask": here[1], "at_ms": AT_MS},
            "kraken": {"bid": there[0], "ask": there[1], "at_ms": AT_MS + skew_ms},
        }
    )


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        # Binance takes 10 bps and Kraken 40: half a percent of difference is needed.
        ((99.9, 100.0), (100.4, 100.5), "HOLD"),
        ((99.9, 100.0), (100.6, 100.7), "BUY"),
        ((100.6, 100.7), (99.9, 100.0), "SELL"),
        ((100.4, 100.5), (99.9, 100.0), "HOLD"),
    ],
)
def test_arbitrage_needs_more_than_both_fees(here: Any, there: Any, expected: str) -> None:
    assert Arbitrage().evaluate(_quoted(here, there), context()).signal == expected


def test_arbitrage_edge_by_hand() -> None:
    found = Arbitrage().evaluate(_quoted((99.9, 100.0), (101.0, 101.1)), context())
    edge = 10_000 * (101.0 * 0.996 / (100.0 * 1.001) - 1)
    assert found.evidence["cross_exchange"]["buy_here_net_bps"] == pytest.approx(edge)


def test_arbitrage_holds_where_the_book_is_too_thin() -> None:
    seen = _quoted((99.9, 100.0), (101.0, 101.1))
    seen["microstructure"]["depth_10bps_quote"]["ask"] = 99.0
    assert Arbitrage().evaluate(seen, context(max_position_quote=100)).signal == "HOLD"


def test_arbitrage_names_what_the_scan_lacks() -> None:
    evidence = Arbitrage().evaluate(market(), context()).evidence
    assert evidence["triangular"] == {"missing": ["binance.BTC/<bridge>"]}
    assert evidence["basis"] == {"missing": ["derivatives.funding"]}
    assert "kraken.depth" in evidence["cross_exchange"]["missing"]


def test_triangle_by_hand() -> None:
    def at(bid: float, ask: float) -> dict[str, float]:
        return {"bid": bid, "ask": ask, "at_ms": AT_MS}

    books = {"ETH/USDT": at(1999, 2000), "BTC/USDT": at(40_500, 40_501), "ETH/BTC": at(0.05, 0.051)}
    found = triangular(market("ETH/USDT"), {"binance": books})
    # 1 USDT buys 1/2000 ETH, sold for 0.05 BTC each, sold for 40,500 USDT each: 1.0125, three fees
    assert found == {"via": "ETH/BTC", "net_bps": pytest.approx(1e4 * (1.0125 * 0.999**3 - 1))}


def _funded(read_ms: int) -> Any:
    funding = {"funding_rate_8h": 0.0001, "mark_price": 100.5, "funding_at_ms": read_ms}
    return market(derivatives={"venue": "gate", "funding": funding, "liquidations": None})


def test_basis_is_evidence_and_no_signal() -> None:
    found = basis(_funded(AT_MS - 5_000))
    # 50 bps of premium and 1 bp of funding, less twice 10 bps
    assert found["net_bps"] == pytest.approx(31)
    assert found["tradable"] is False


def test_a_perpetuals_price_of_another_time_is_not_compared() -> None:
    found = basis(_funded(AT_MS - 5_001))
    assert found["funding_bps"] == pytest.approx(1)
    assert "net_bps" not in found and "premium_bps" not in found
    assert found["missing"] == ["derivatives.funding.mark_price of the book's time"]


def test_avellaneda_stoikov_against_the_papers_own_setting() -> None:
    # Section 3.3 of the paper: s = 100, sigma = 2, T = 1, gamma = 0.1, k = 1.5, q = 1; there in
    # price units, here relative to the price: sigma/s, gamma*s, k*s.
    found = quotes(100.0, 1.0, 0.02, 1.0, 10.0, 150.0)
    assert found.reservation_price == pytest.approx(100 - 1 * 0.1 * 2**2 * 1)
    spread = 0.1 * 2**2 + 2 / 0.1 * math.log(1 + 0.1 / 1.5)
    assert found.ask - found.bid == pytest.approx(spread)
    assert spread == pytest.approx(1.69, abs=0.005)


def test_market_making_proposes_quotes_only_where_the_spread_beats_the_fee() -> None:
    narrow = MarketMaking().evaluate(market(), context())
    assert (narrow.signal, narrow.evidence["quotes"]) == ("HOLD", None)
    wide = market()
    wide["microstructure"] |= {"spread_bps": 40.0, "bid": 99.8, "ask": 100.2}
    found = MarketMaking().evaluate(wide, context())
    assert found.signal == "HOLD"
    assert found.evidence["quotes"]["bid"] < 99.9 < 100.1 < found.evidence["quotes"]["ask"]


def test_market_making_sells_only_heavy_inventory_in_a_storm() -> None:
    heavy = {"BTC/USDT": position(quantity="1")}
    assert MarketMaking().evaluate(market(), context(positions=heavy)).signal == "HOLD"
    storm = with_values("5m", volatility_annualised_percent=150.0)
    assert MarketMaking().evaluate(storm, context(positions=heavy)).signal == "SELL"
    assert MarketMaking().evaluate(storm, context()).signal == "HOLD"


_ABSTENTIONS: list[tuple[Any, dict[str, Any], str]] = [
    *(
        (Momentum(), with_values("15m", **{name: None}), f"15m.{name}")
        for name in ("rsi_14", "macd", "macd_signal", "atr_14", "relative_volume_ratio")
    ),
    *(
        (MeanReversion(), with_values("15m", **{name: None}), f"15m.{name}")
        for name in ("close", "bollinger_lower", "bollinger_upper", "zscore_20")
    ),
    (TrendFollowing(), market(indicators={}), "15m.ema_9"),
    (Arbitrage(), market(venues={}), "venues.binance"),
    (Arbitrage(), market(venues={"binance": market()["venues"]["binance"]}), "venues.other"),
    (Arbitrage(), _quoted((99.9, 100.0), (101.0, 101.1), skew_ms=6_000), "venues.other"),
    (Arbitrage(), market(venue=None), "fees.None"),
    (MarketMaking(), market(microstructure=None), "microstructure.mid"),
    (
        MarketMaking(),
        with_values("5m", volatility_annualised_percent=None),
        "5m.volatility_annualised_percent",
    ),
    (MarketMaking(), market(venue="elsewhere"), "fees.elsewhere"),
]


@pytest.mark.parametrize(("strategy", "seen", "missing"), _ABSTENTIONS)
def test_what_is_missing_makes_a_strategy_abstain_and_is_named(
    strategy: Any, seen: dict[str, Any], missing: str
) -> None:
    found = strategy.evaluate(seen, context())
    assert found.signal == "ABSTAIN"
    assert missing in found.evidence["missing"]
    assert (found.strength, found.confidence) == (0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, True, "62"])
def test_only_finite_numbers_count_as_present(value: Any) -> None:
    seen = market()
    seen["indicators"]["15m"]["rsi_14"] = value
    assert Momentum().evaluate(seen, context()).signal == "ABSTAIN"


def test_a_signal_carries_weight_and_realised_profit() -> None:
    found = Momentum().evaluate(market(), context(pnl_quote={"momentum": Decimal("-12.5")}))
    assert (found.weight, found.export()["pnl_quote"]) == (0.25, -12.5)
