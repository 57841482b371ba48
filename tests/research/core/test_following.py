"""The whole loop on a market that drifts: funded, left alone, brought back once.

All workflows run as on Pipedream, against venues behind HTTP; nothing of the loop is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.servers import EmbeddedServers
from deploy.local.session import LocalSession, SessionOptions
from deploy.local.sweep.market import MINUTE_MS, START_MS
from deploy.research.core.following import Followed, Rebalanced, Sample, follow
from shared import clock
from tests.research.core import drifting

MINUTES = 66
SETTINGS = {
    "CORE_SLEEVE_PERCENT": "60",
    "MAX_DAILY_LOSS": "1000",
    "DAILY_LOSS_PERCENT": "10",
    "TWAP_SLICES": "3",  # so that the hour has room for everything
    "REBALANCE_MIN_HOURS": "0.7",
}


@pytest.fixture(scope="module")
def followed(
    servers: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    folder: Path = tmp_path_factory.mktemp("drift")
    spec = drifting.write(folder, MINUTES)
    variables = {"DATABASE_URL": servers.database_url(), "REDIS_URL": servers.redis_url}
    options = SessionOptions(spec=spec, database="replay_of_a_drift", models="none", fresh=True)
    with LocalSession(options, SETTINGS | variables) as session:
        yield follow(session)


def _minute(at_ms: int) -> int:
    return (at_ms - START_MS) // MINUTE_MS


def _codes(followed: Followed) -> dict[int, str]:
    return {_minute(sample.at_ms): sample.code for sample in followed.samples}


def _swap(followed: Followed) -> tuple[Rebalanced, Sample, Sample]:
    swap = followed.rebalances[-1]
    assert swap.before is not None and swap.after is not None
    return swap, swap.before, swap.after


def test_it_is_funded_once_and_rebalanced_once_at_the_first_minute_that_is_allowed(
    followed: Followed,
) -> None:
    planned = [(_minute(clock.to_ms(r.at)), r.reason.split(":")[0]) for r in followed.rebalances]
    assert planned == [(5, "FIRST_FUNDING"), (50, "WEIGHT_OFF")]
    assert [r.state for r in followed.rebalances] == ["DONE", "DONE"]
    codes = _codes(followed)
    assert {codes[minute] for minute in (20, 25, 30, 35)} == {"WITHIN_BAND"}
    assert {codes[minute] for minute in (40, 45)} == {"REBALANCE_RECENT"}  # off, but too soon
    assert codes[65] == "WITHIN_BAND"


def test_each_trade_moves_its_weight_halfway_into_the_band_and_not_past_the_target(
    followed: Followed,
) -> None:
    swap, before, after = _swap(followed)
    traded = {(trade.side, trade.symbol): trade for trade in swap.trades}
    assert set(traded) == {("sell", "ETH/USDT"), ("buy", "BTC/USDT")}
    for symbol in ("BTC/USDT", "ETH/USDT"):
        assert abs(before.off_points[symbol]) >= 5
        assert abs(after.off_points[symbol]) == pytest.approx(2.5, abs=0.2)
        assert before.off_points[symbol] * after.off_points[symbol] > 0
    assert abs(after.off_points["SOL/USDT"]) < 0.2  # not off, not traded


def test_it_trades_no_more_than_it_has_to_and_pays_no_more_than_fees_and_spread(
    followed: Followed,
) -> None:
    swap, before, _ = _swap(followed)
    points = sum(abs(before.off_points[s]) - 2.5 for s in ("BTC/USDT", "ETH/USDT"))
    assert float(swap.turnover_quote) == pytest.approx(
        points / 100 * float(swap.sleeve_quote), rel=0.03
    )
    fees = sum(trade.fee_quote for trade in swap.trades)
    assert 0 < fees <= swap.turnover_quote * 26 / 10_000  # of the dearest venue, Kraken
    assert swap.cost_quote < swap.turnover_quote * 40 / 10_000


def test_every_run_works_and_the_books_are_the_venues(followed: Followed) -> None:
    assert followed.failures == ()
    assert followed.differences == ()
    assert followed.naked_seconds == 0
    assert followed.postponed == {"SCAN_STALE": 1, "REBALANCE_RECENT": 2}
