"""When a workflow is due while the clock of the machine does what clocks do."""

from __future__ import annotations

import pytest

from deploy.local import manifest
from deploy.local.servers import PROJECT
from deploy.local.service.ticker import Ticker
from tests.local.conftest import AT_MS

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
LOOP = manifest.load(PROJECT).workflow("trading_loop")
MANAGER = manifest.load(PROJECT).workflow("position_manager")


def taken(ticker: Ticker, *now_ms: int) -> list[int | None]:
    """The minutes of the ticks that each look at the clock gives."""
    ticks = [ticker.take(now) for now in now_ms]
    return [None if tick is None else (tick.at_ms - AT_MS) // MINUTE_MS for tick in ticks]


def test_each_tick_once_and_none_before_its_time() -> None:
    ticker = Ticker(LOOP, AT_MS)
    looks = [AT_MS + ms for ms in (1, 59_999, 60_000, 60_001, 119_999, 120_500)]
    assert taken(ticker, *looks) == [None, None, 1, None, None, 2]
    assert ticker.missed == 0


def test_the_minute_of_the_start_is_left_alone() -> None:
    ticker = Ticker(LOOP, AT_MS + 20_000)
    assert ticker.wait_ms(AT_MS + 20_000) == 40_000
    assert taken(ticker, AT_MS + 20_000, AT_MS + 60_000) == [None, 1]


def test_after_a_sleep_the_newest_tick_runs_once_and_the_others_are_missed() -> None:
    ticker = Ticker(LOOP, AT_MS)
    woken = AT_MS + 8 * HOUR_MS + 20_000
    assert taken(ticker, woken, woken + 1, woken + 40_000) == [480, None, 481]
    assert ticker.missed == 479  # 481 ticks were due by then, and 2 of them ran


def test_a_run_that_took_three_minutes_leaves_one_late_tick() -> None:
    ticker = Ticker(LOOP, AT_MS)
    assert taken(ticker, AT_MS + MINUTE_MS, AT_MS + 4 * MINUTE_MS + 5_000) == [1, 4]
    assert ticker.missed == 2


def test_a_tick_of_five_minutes_that_comes_late_still_runs() -> None:
    ticker = Ticker(MANAGER, AT_MS)
    assert taken(ticker, AT_MS + 5 * MINUTE_MS + 90_000) == [5]
    assert ticker.missed == 0


@pytest.mark.parametrize("back_ms", [3 * MINUTE_MS, HOUR_MS, 400 * 24 * HOUR_MS])
def test_a_clock_that_was_set_back_is_followed_at_once(back_ms: int) -> None:
    ticker = Ticker(LOOP, AT_MS)
    at = AT_MS + 10 * MINUTE_MS
    ticker.take(at)
    then = at - back_ms
    assert ticker.take(then) is None
    assert ticker.set_back == 1
    assert ticker.wait_ms(then) == MINUTE_MS
    again = ticker.take(then + MINUTE_MS)
    assert again is not None and again.at_ms == then + MINUTE_MS
    assert ticker.set_back == 1


def test_a_small_step_back_repeats_no_tick() -> None:
    ticker = Ticker(LOOP, AT_MS)
    at = AT_MS + 10 * MINUTE_MS
    looks = [at, at - 90_000, at - 30_000, at, at + MINUTE_MS]
    assert taken(ticker, *looks) == [10, None, None, None, 11]
    assert ticker.set_back == 0


def test_a_clock_that_leaps_by_years_does_not_keep_the_loop_from_running() -> None:
    ticker = Ticker(LOOP, AT_MS)
    leapt = AT_MS + 20 * 365 * 24 * HOUR_MS + 5_000
    (minute,) = taken(ticker, leapt)
    assert minute == (leapt - AT_MS) // MINUTE_MS
    assert ticker.missed <= 31 * 24 * 60
