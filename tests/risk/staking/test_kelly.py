"""Kelly against the other way of writing it, textbook bets, and its own promises."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import config
from shared.risk.staking import kelly, probe
from shared.risk.staking.kelly import History

NOTHING = History(0, 0, None, None)
SETTINGS = config.load({})
probability = st.floats(0, 1)
ratio = st.floats(0.05, 50)


@pytest.mark.parametrize(
    ("p", "b", "expected"),
    [
        (0.6, 1, 0.2),  # the even-money coin of Kelly (1956): 2p - 1
        (0.5, 1, 0.0),
        (0.5, 2, 0.25),  # Thorp, "The Kelly Criterion" (2006): 2 to 1 on a fair coin
        (0.53, 1, 0.06),
        (0.4, 1, -0.2),
        (1, 3, 1.0),
        (0, 2, -0.5),
    ],
)
def test_known_bets(p: float, b: float, expected: float) -> None:
    assert kelly.kelly_fraction(p, b) == pytest.approx(expected)


@settings(max_examples=50)
@given(p=probability, b=ratio)
def test_edge_over_odds_is_the_same_number(p: float, b: float) -> None:
    assert kelly.kelly_fraction(p, b) == pytest.approx(p - (1 - p) / b, abs=1e-9)


@settings(max_examples=50)
@given(b=ratio)
def test_break_even_stakes_nothing(b: float) -> None:
    assert kelly.kelly_fraction(kelly.break_even_probability(b), b) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("p", "b"), [(-0.1, 1), (1.1, 1), (float("nan"), 1), (0.5, 0), (0.5, float("inf"))])  # fmt: skip  # noqa: E501
def test_impossible_odds_are_refused(p: float, b: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        kelly.kelly_fraction(p, b)


# An entry whose score came true one time in four: it wins more often than that, by the time stop.
MEASURED = {"win_probability": 0.30, "average_win_percent": 4.0, "average_loss_percent": 2.0}


def ask(history: History = NOTHING, **opinions: Any) -> kelly.Odds:
    given = {"measured": MEASURED, "model_win_probability": None, "model_win_loss_ratio": None}
    return kelly.odds(SETTINGS, history, **(given | opinions))


def stake(odds: kelly.Odds) -> float:
    return max(0.0, odds.kelly) * odds.trust


def test_without_measured_odds_the_prior_stakes_nothing() -> None:
    unknown = ask(measured=None)
    assert unknown.win_loss_ratio == pytest.approx(4.7 / 2.3)  # 5 % and 2 % after 0.3 % of costs
    assert unknown.kelly == pytest.approx(0)
    assert stake(unknown) == pytest.approx(0)
    assert unknown.prior == "break_even"


@pytest.mark.parametrize(
    ("win_probability", "mean_percent"),
    [(0.25, -0.5), (1 / 3, 0.0), (0.40, 0.4)],  # the mean of 4 % and -2 % at that chance
)
def test_kelly_has_the_sign_of_the_mean_return(win_probability: float, mean_percent: float) -> None:
    odds = ask(measured=MEASURED | {"win_probability": win_probability})
    assert win_probability * 4 - (1 - win_probability) * 2 == pytest.approx(mean_percent)
    assert odds.prior == "measured"
    assert odds.kelly == pytest.approx(mean_percent / 4)  # (p (b + 1) - 1) / b with b = 2


def test_three_ways_to_end_keep_their_mean() -> None:
    """A fifth at +5 %, half at -2 %, the rest by time at -0.1 % or +1.5 %: folded into two."""
    ends = [(0.2, 5.0), (0.5, -2.0), (0.2, -0.1), (0.1, 1.5)]
    won = [(share, r) for share, r in ends if r > 0]
    lost = [(share, -r) for share, r in ends if r <= 0]
    p = sum(share for share, _ in won)
    measured = {
        "win_probability": p,
        "average_win_percent": sum(s * r for s, r in won) / p,
        "average_loss_percent": sum(s * r for s, r in lost) / (1 - p),
    }
    odds = ask(measured=measured)
    mean = sum(share * r for share, r in ends)
    assert odds.kelly * measured["average_win_percent"] == pytest.approx(mean)


def test_the_pods_own_trades_overrule_the_prior() -> None:
    """(20 x prior + wins) / (20 + trades): the mean of the beta distribution's posterior."""
    odds = ask(History(60, 40, 4.0, 2.0))
    assert odds.win_probability == pytest.approx((20 * 0.30 + 60) / 120)
    assert odds.kelly > 0
    assert ask(History(10, 90, 4.0, 2.0)).kelly < ask().kelly < 0


def test_the_averages_are_those_of_all_trades() -> None:
    """The prior speaks for 6 wins and 14 losses, the pod for 6 and 14 of its own."""
    odds = ask(History(6, 14, 2.0, 1.0))
    assert odds.win_loss_ratio == pytest.approx(3.0 / 1.5)
    many = ask(History(6_000, 14_000, 2.0, 0.5))
    assert many.win_loss_ratio == pytest.approx(4.0, rel=0.01)


def test_the_deviation_is_the_beta_distributions() -> None:
    """Beta(6, 14): variance a b / ((a + b)^2 (a + b + 1)), as in any textbook."""
    assert ask().deviation == pytest.approx(math.sqrt(6 * 14 / (20**2 * 21)))
    assert ask(History(30, 70, 4.0, 2.0)).deviation < ask().deviation / 2


@pytest.mark.parametrize(
    ("win_probability", "deviation", "trust"),
    [
        # Even money, p = 0.6: ((b+1)p - 1)^2 / (((b+1)p - 1)^2 + (b+1)^2 s^2)
        (0.6, 0.1, 0.5),  # 0.2^2 / (0.2^2 + 0.2^2)
        (0.6, 0.05, 0.8),
        (0.6, 0.2, 0.2),
        (0.5, 0.1, 0.0),
        (0.4, 0.1, 0.0),
    ],
)
def test_trust_is_baker_and_mchales(win_probability: float, deviation: float, trust: float) -> None:
    odds = kelly.Odds(win_probability, 1.0, 0.5, "measured", 0, deviation)
    assert odds.trust == pytest.approx(trust)


@settings(max_examples=100)
@given(
    prior=st.floats(0.01, 0.99),
    win=st.floats(0.1, 10),
    loss=st.floats(0.1, 10),
    wins=st.integers(0, 60),
    losses=st.integers(0, 60),
    win_probability=st.none() | probability,
    win_loss=st.none() | ratio,
)
def test_a_model_never_raises_the_stake(
    prior: float,
    win: float,
    loss: float,
    wins: int,
    losses: int,
    win_probability: float | None,
    win_loss: float | None,
) -> None:
    measured = {
        "win_probability": prior,
        "average_win_percent": win,
        "average_loss_percent": loss,
    }
    history = History(wins, losses, 2.0, 1.5)
    alone = ask(history, measured=measured)
    advised = ask(
        history,
        measured=measured,
        model_win_probability=win_probability,
        model_win_loss_ratio=win_loss,
    )
    assert stake(advised) <= stake(alone) + 1e-12
    assert 0 <= advised.trust <= 1


@pytest.mark.parametrize(
    ("settings_", "history", "opinions", "spent"),
    [
        ({}, NOTHING, {}, "50.00"),  # half a percent of 10,000
        ({"PAPER_PROBE_PERCENT": "2"}, NOTHING, {}, "200.00"),
        ({"PAPER_PROBE_PERCENT": "0"}, NOTHING, {}, None),
        ({"ENABLE_LIVE_TRADING": "true"}, NOTHING, {}, None),  # never with real money
        ({}, History(30, 69, 4.0, 2.0), {}, "50.00"),
        ({}, History(30, 70, 4.0, 2.0), {}, None),  # a hundred trades speak for themselves
        ({}, History(5, 60, 4.0, 2.0), {}, None),  # these rule an edge out already
        ({}, NOTHING, {"model_win_probability": 0.34}, "50.00"),
        ({}, NOTHING, {"model_win_probability": 0.33}, None),  # break-even is a third
    ],
)
def test_probes(
    settings_: dict[str, str], history: History, opinions: dict[str, float], spent: str | None
) -> None:
    odds = ask(history, **opinions)
    found = probe.quote(config.load(settings_), odds, Decimal(10_000))
    assert found == (None if spent is None else Decimal(spent))
