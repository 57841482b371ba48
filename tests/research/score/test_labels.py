"""What becomes of an entry, by hand: a target of 5 %, a stop of 2 %, three hours."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.research.score.labels import outcomes
from shared.market.candles.candle_rows import sliced
from shared.market.score.barrier import ExitRules
from shared.market.types import Candles
from tests.research.score.market import hand_made

EXITS = ExitRules(take_profit_percent=5, stop_percent=2, hours=3)
ENTRY = (100.0, 100.0, 100.0, 100.0)
QUIET = (100.0, 100.5, 99.5, 100.0)

Row = tuple[float, float, float, float]


@pytest.mark.parametrize(
    ("after", "cost_bps", "won", "net_percent"),
    [
        pytest.param([QUIET, (100, 105, 100, 104), QUIET], 0, True, 5.0, id="target touched"),
        pytest.param([QUIET, (100, 104.9, 99, 104), QUIET], 0, False, 0.0, id="target missed"),
        pytest.param([QUIET, (100, 101, 98, 99), QUIET], 0, False, -2.0, id="stop touched"),
        pytest.param([(100, 106, 97, 100), QUIET, QUIET], 0, False, -2.0, id="both: the stop"),
        pytest.param(
            [(100, 100, 97, 98), (98, 106, 98, 106), QUIET], 0, False, -2.0, id="stop came first"
        ),
        pytest.param(
            [(100, 106, 100, 106), (106, 106, 90, 90), QUIET], 0, True, 5.0, id="target came first"
        ),
        pytest.param([QUIET, QUIET, (100, 102, 99, 101)], 0, False, 1.0, id="time stop"),
        pytest.param([QUIET, QUIET, (100, 105, 99, 101)], 0, True, 5.0, id="in the last hour"),
        pytest.param([(95, 96, 94, 95), QUIET, QUIET], 0, False, -5.0, id="opens below the stop"),
        pytest.param([(107, 108, 106, 107), QUIET, QUIET], 0, True, 7.0, id="opens above target"),
        # 50 bps: the price has to rise by 5.5 % and may fall by 1.5 %; the account sees 5 and -2.
        pytest.param([QUIET, (100, 105.4, 99, 104), QUIET], 50, False, -0.5, id="costs: short"),
        pytest.param([QUIET, (100, 105.5, 99, 104), QUIET], 50, True, 5.0, id="costs: target"),
        pytest.param([QUIET, (100, 101, 98.5, 99), QUIET], 50, False, -2.0, id="costs: stop"),
        pytest.param([QUIET, QUIET, QUIET], 250, False, -2.5, id="costs above the stop"),
    ],
)
def test_an_entry_ends(after: list[Row], cost_bps: float, won: bool, net_percent: float) -> None:
    found = outcomes(hand_made([ENTRY, *after]), EXITS, cost_bps)
    assert found.known.tolist() == [True, False, False, False]
    assert bool(found.won[0]) is won
    assert 100 * found.net_return[0] == pytest.approx(net_percent)


def test_what_lies_beyond_the_time_stop_does_not_count() -> None:
    late = hand_made([ENTRY, QUIET, QUIET, QUIET, (100, 110, 100, 110)])
    assert outcomes(late, EXITS, 0).won.tolist()[:1] == [False]


def test_an_entry_before_a_gap_has_no_label() -> None:
    whole = hand_made([ENTRY] + [QUIET] * 9)
    kept = np.array([0, 1, 2, 3, 4, 6, 7, 8, 9])
    gapped = Candles(
        whole.symbol,
        "1h",
        *(getattr(whole, name)[kept] for name in ("open_ms", "open", "high", "low", "close")),
        volume=whole.volume[kept],
    )
    known = outcomes(gapped, EXITS, 0).known
    assert known.tolist() == [True, True, False, False, False, True, False, False, False]


def test_later_candles_change_no_label() -> None:
    random = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, 200)))
    rows = [(c, 1.01 * c, 0.99 * c, c) for c in close.tolist()]
    whole = hand_made(rows)
    longer, shorter = outcomes(whole, EXITS, 20), outcomes(sliced(whole, slice(0, 150)), EXITS, 20)
    labelled = np.flatnonzero(shorter.known)
    assert len(labelled) == 147
    assert np.array_equal(longer.won[labelled], shorter.won[labelled])
    assert np.array_equal(longer.net_return[labelled], shorter.net_return[labelled])
