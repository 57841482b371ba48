"""The simulated market has what real ones have.

The thresholds follow R. Cont, "Empirical properties of asset returns: stylized facts and
statistical issues" (Quantitative Finance 1, 2001): heavy tails (section 3.2), no linear
autocorrelation and slowly falling autocorrelation of absolute returns (sections 4 and 5). They are
held against recorded minutes too, where those are at hand.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from candle_exchange import START_MS

from deploy.local.market import MarketSource, SourceSpec, open_source
from deploy.local.market import simulated_model as model
from deploy.local.market.simulated import CRASH_MINUTES, Events, decimals, draw_events
from shared.errors import ConfigurationError
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
HOURS = 48
SEEDS = (1, 2, 3)
RECORDED_FROM_MS = 1_746_662_400_000  # 2025-05-08


@cache
def simulated(seed: int) -> MarketSource:
    return open_source(SourceSpec("simulated", SYMBOLS, START_MS, HOURS, seed, None))


def events_of(seed: int) -> Events:
    events = draw_events(np.random.default_rng(seed), HOURS * 60, len(SYMBOLS))
    assert events is not None
    return events


def everything(market: MarketSource, symbol: str, timeframe: str) -> np.ndarray:
    return market.candles(symbol, timeframe, market.to_ms, 100_000)


def quiet_returns(seed: int, symbol: str) -> np.ndarray:
    """One-minute returns up to the replayed stretch, so that no scripted event is in them."""
    rows = simulated(seed).candles(symbol, "1m", START_MS, 100_000)
    returns: np.ndarray = np.diff(np.log(rows[:, 4]))
    return returns


def excess_kurtosis(values: np.ndarray) -> float:
    deviation = values - values.mean()
    return float((deviation**4).mean() / (deviation**2).mean() ** 2 - 3)


def autocorrelation(values: np.ndarray, lag: int) -> float:
    return float(np.corrcoef(values[:-lag], values[lag:])[0, 1])


def assert_stylised_facts(returns: np.ndarray) -> None:
    significant = 1.96 / len(returns) ** 0.5
    assert excess_kurtosis(returns) > 3
    assert abs(autocorrelation(returns, 1)) < 0.05
    clustering = [autocorrelation(np.abs(returns), lag) for lag in (1, 5, 30)]
    assert min(clustering) > 2 * significant
    assert clustering[0] > 0.1
    assert clustering[2] < clustering[0]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_returns_have_heavy_tails_and_clustered_volatility(seed: int, symbol: str) -> None:
    assert_stylised_facts(quiet_returns(seed, symbol))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_recorded_returns_meet_the_same_thresholds(market_data_dir: Path, symbol: str) -> None:
    spec = SourceSpec("recorded", (symbol,), RECORDED_FROM_MS, 240, 0, str(market_data_dir))
    rows = everything(open_source(spec), symbol, "1m")
    assert_stylised_facts(np.diff(np.log(rows[:, 4])))


@pytest.mark.parametrize("seed", SEEDS)
def test_symbols_move_together(seed: int) -> None:
    returns = [quiet_returns(seed, symbol) for symbol in SYMBOLS]
    matrix = np.corrcoef(returns)
    assert matrix[np.triu_indices(3, 1)].min() > 0.4
    assert matrix[np.triu_indices(3, 1)].max() < 0.95


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_volatility_is_near_the_level_of_the_asset(symbol: str) -> None:
    """Over three years of hours: the regimes and clusters average out."""
    asset = model.asset_of(symbol.split("/")[0])
    rows = simulated(1).candles(symbol, "1h", START_MS - 20 * DAY_MS, 30_000)
    annualised = np.diff(np.log(rows[:, 4])).std() * (365 * 24) ** 0.5
    assert annualised == pytest.approx(asset.volatility_annualised, rel=0.2)


@pytest.mark.parametrize("seed", SEEDS)
def test_volume_follows_the_day_and_the_movement(seed: int) -> None:
    rows = everything(simulated(seed), "ETH/USDT", "1m")
    traded = rows[:, 4] * rows[:, 5]
    hour = rows[:, 0] // HOUR_MS % 24
    by_hour = np.array([np.median(traded[hour == number]) for number in range(24)])
    assert by_hour.max() / by_hour.min() > 2
    assert 12 <= by_hour.argmax() <= 17  # Europe and America together
    change = np.abs(np.diff(np.log(rows[:, 4])))
    assert np.corrcoef(change, traded[1:])[0, 1] > 0.3


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_there_is_a_crash_of_all_markets_and_a_partial_recovery(seed: int, symbol: str) -> None:
    market, crash = simulated(seed), events_of(seed).crash
    at = START_MS + crash * MINUTE_MS
    fall = market.candles(symbol, "1m", at + CRASH_MINUTES * MINUTE_MS, CRASH_MINUTES)
    before = market.candles(symbol, "1m", at, 60)
    drawdown = 1 - fall[:, 3].min() / before[-1, 4]
    assert 0.03 < drawdown < 0.15
    assert np.median(fall[:, 5]) > 3 * np.median(before[:, 5])
    after = market.candles(symbol, "1m", at + 2 * CRASH_MINUTES * MINUTE_MS, 1)[0]
    assert fall[:, 3].min() < after[4] < before[-1, 4]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_there_is_one_gap_and_prices_are_continuous_elsewhere(seed: int, symbol: str) -> None:
    market, gap = simulated(seed), events_of(seed).gap
    rows = everything(market, symbol, "1m")
    follows = np.diff(rows[:, 0]) == MINUTE_MS
    jumps = np.abs(np.log(rows[1:, 1] / rows[:-1, 4]))
    at_gap = rows[1:, 0] == START_MS + gap * MINUTE_MS
    assert jumps[at_gap][0] > 0.009
    assert jumps[follows & ~at_gap].max() < 1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_each_symbol_has_one_minute_without_a_trade(seed: int) -> None:
    market = simulated(seed)
    minutes = range(START_MS, market.to_ms, MINUTE_MS)
    dead = {s: [at for at in minutes if market.minute(s, at) is None] for s in SYMBOLS}
    expected = [START_MS + minute * MINUTE_MS for minute in events_of(seed).dead]
    assert [dead[symbol] for symbol in SYMBOLS] == [[at] for at in expected]


@pytest.mark.parametrize("timeframe", TIMEFRAMES[1:])
def test_coarser_candles_are_the_minutes_summed_up(timeframe: str) -> None:
    market, step = simulated(1), TIMEFRAME_MS[timeframe]
    minutes = everything(market, "SOL/USDT", "1m")
    coarse = everything(market, "SOL/USDT", timeframe)
    coarse = coarse[coarse[:, 0] >= minutes[0, 0]]
    assert len(coarse) == (market.to_ms - minutes[0, 0]) // step
    for row in coarse[:: max(1, len(coarse) // 50)]:
        inside = minutes[(minutes[:, 0] >= row[0]) & (minutes[:, 0] < row[0] + step)]
        expected = [
            inside[0, 1], inside[:, 2].max(), inside[:, 3].min(), inside[-1, 4], inside[:, 5].sum(),
        ]  # fmt: skip
        np.testing.assert_allclose(row[1:], expected)


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_there_is_enough_history_and_candles_are_well_formed(timeframe: str) -> None:
    market = simulated(2)
    for symbol in SYMBOLS:
        rows = market.candles(symbol, timeframe, START_MS, 1000)
        assert len(rows) == 1000
        assert (np.diff(rows[:, 0]) == TIMEFRAME_MS[timeframe]).all()
        assert (rows[:, 2] >= rows[:, [1, 4]].max(axis=1)).all()
        assert (rows[:, 3] <= rows[:, [1, 4]].min(axis=1)).all()
        assert (rows[:, 3] > 0).all()
        assert (rows[:, 5] > 0).all()


def test_prices_start_at_a_realistic_level_in_whole_ticks() -> None:
    for symbol, level in zip(SYMBOLS, (95_000, 1_800, 146), strict=True):
        row = simulated(3).minute(symbol, START_MS)
        assert row is not None
        assert row[1] == pytest.approx(level, abs=0.011)
        np.testing.assert_allclose(row[1:5] * 100, np.round(row[1:5] * 100), atol=1e-6)


@pytest.mark.parametrize(
    ("price", "places"), [(95_000, 2), (146, 2), (2.15, 4), (0.172, 5), (0.0000121, 8)]
)
def test_ticks_are_those_of_binance(price: float, places: int) -> None:
    """PRICE_FILTER.tickSize of BTC, SOL, XRP, DOGE and SHIB against USDT."""
    assert decimals(price) == places


def digest(spec: SourceSpec) -> str:
    market = open_source(spec)
    whole = hashlib.sha256()
    for symbol in spec.symbols:
        for timeframe in TIMEFRAMES:
            whole.update(everything(market, symbol, timeframe).tobytes())
    for day in range(60):
        whole.update(repr(market.fear_greed(START_MS - day * DAY_MS)).encode())
    return whole.hexdigest()


def test_a_seed_names_a_market() -> None:
    spec = SourceSpec("simulated", ("BTC/USDT", "NEWCOIN/USDT"), START_MS, 3, 11, None)
    assert digest(spec) == digest(SourceSpec.from_json(spec.to_json()))
    other = SourceSpec("simulated", spec.symbols, START_MS, 3, 12, None)
    assert digest(spec) != digest(other)


def test_an_unknown_coin_is_always_the_same_one() -> None:
    assert model.asset_of("NEWCOIN") == model.asset_of("NEWCOIN")
    assert model.asset_of("NEWCOIN") != model.asset_of("OTHERCOIN")


@pytest.mark.parametrize("seed", SEEDS)
def test_fear_and_greed_follows_the_last_month(seed: int) -> None:
    market = simulated(seed)
    days = [START_MS - number * DAY_MS for number in range(1000)]
    points = [market.fear_greed(day) for day in days]
    assert [point[1] for point in points if point] == days
    values = [point[0] for point in points if point]
    assert min(values) >= 0
    assert max(values) <= 100
    closes = [market.candles("BTC/USDT", "1d", day, 31)[:, 4] for day in days]
    trailing = [np.log(close[-1] / close[0]) for close in closes]
    assert np.corrcoef(trailing, values)[0, 1] > 0.8
    assert market.fear_greed(days[0] + DAY_MS - 1) == points[0]


def test_fear_and_greed_knows_nothing_of_the_day_to_come() -> None:
    market = simulated(1)
    days = [START_MS - number * DAY_MS for number in range(1000)][::-1]
    index = np.array([point[0] for day in days if (point := market.fear_greed(day))], dtype=float)
    rows = market.candles("BTC/USDT", "1d", START_MS + DAY_MS, 1001)[1:]
    assert rows[:, 0].tolist() == days
    of_the_day = np.log(rows[:, 4] / rows[:, 1])
    news = np.diff(index)
    assert np.corrcoef(news, of_the_day[:-1])[0, 1] > 0.4  # the day that has just ended
    assert abs(np.corrcoef(news, of_the_day[1:])[0, 1]) < 0.1


def test_a_short_stretch_has_no_room_for_events() -> None:
    assert draw_events(np.random.default_rng(1), 59, 1) is None
    market = open_source(SourceSpec("simulated", SYMBOLS, START_MS, 0.5, 1, None))
    assert len(market.candles("BTC/USDT", "1m", market.to_ms, 30)) == 30


def test_a_start_without_room_for_history_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="from_ms: expected"):
        open_source(SourceSpec("simulated", SYMBOLS, DAY_MS, 1, 1, None))


def test_extremes_of_a_step_have_the_distribution_of_a_brownian_bridge() -> None:
    """``P(M > m) = exp(-2 m (m - x) / v)``: Karatzas and Shreve, 4.3.40."""
    change, volatility = 0.4, 1.0
    above, below = model.bridge_extremes(
        np.random.default_rng(1), np.full(20_000, change), np.full(20_000, volatility)
    )
    for level in (0.5, 0.8, 1.5):
        expected = np.exp(-2 * level * (level - change) / volatility**2)
        assert (above > level).mean() == pytest.approx(expected, abs=0.015)
        mirrored = np.exp(-2 * level * (level + change) / volatility**2)
        assert (below < -level).mean() == pytest.approx(mirrored, abs=0.015)
    assert above.min() >= change
    assert below.max() <= 0


def test_shocks_are_heavy_tailed_even_where_volatility_is_known() -> None:
    """Student's t with 5 degrees has an excess kurtosis of 6; a mixture of two has half of it."""
    returns, volatility = model.returns(
        np.random.default_rng(1), [model.asset_of("BTC")], np.arange(50_000.0) % 1440, 1
    )
    assert excess_kurtosis((returns / volatility)[:, 0]) > 1.5
    assert (returns / volatility).std() == pytest.approx(1, abs=0.05)


def test_volatility_is_stationary_and_persistent() -> None:
    path = model.log_volatilities(np.random.default_rng(1), 400_000, 2, 1)
    expected = (model.SLOW_DEVIATION**2 + model.QUICK_DEVIATION**2) ** 0.5
    assert path[:, 0].std() == pytest.approx(expected, rel=0.1)
    # half of the quick part and nearly all of the slow part are left after 45 minutes
    kept = model.SLOW_DEVIATION**2 * 0.5 ** (45 / 720) + model.QUICK_DEVIATION**2 * 0.5
    assert autocorrelation(path[:, 0], 45) == pytest.approx(kept / expected**2, abs=0.05)
    shared = model.SLOW_DEVIATION**2 / expected**2
    assert np.corrcoef(path.T)[0, 1] == pytest.approx(shared, abs=0.1)


def test_regimes_change_and_last_as_long_as_they_should() -> None:
    states = model.regimes(np.random.default_rng(1), 400_000, 1)
    changes = np.count_nonzero(np.diff(states))
    assert 400_000 / changes / 60 == pytest.approx(model.MEAN_REGIME_HOURS, rel=0.15)
    assert set(states.tolist()) == {0, 1, 2, 3}


def test_the_day_has_its_average_volume() -> None:
    rhythm = model.daily_rhythm(np.arange(1440.0))
    assert rhythm.mean() == pytest.approx(1)
    assert rhythm[15 * 60] > 1.7 * max(rhythm[5 * 60], rhythm[21 * 60])


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_day_is_that_of_recorded_markets(market_data_dir: Path, symbol: str) -> None:
    spec = SourceSpec("recorded", (symbol,), RECORDED_FROM_MS, 480, 0, str(market_data_dir))
    rows = everything(open_source(spec), symbol, "1m")
    traded, hour = rows[:, 4] * rows[:, 5], rows[:, 0] // HOUR_MS % 24
    recorded = [np.median(traded[hour == number]) for number in range(24)]
    assert np.corrcoef(recorded, model.daily_rhythm(np.arange(24) * 60 + 30.0))[0, 1] > 0.85
