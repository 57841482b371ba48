"""Kelly against the other way of writing it, textbook bets, and its own promises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import config
from shared.risk import kelly
from shared.risk.kelly import History

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


def ask(history: History = NOTHING, **opinions: float | None) -> kelly.Odds:
    given = {"evidence": 0.5, "model_win_probability": None, "model_win_loss_ratio": None}
    return kelly.odds(SETTINGS, history, **(given | opinions))  # type: ignore[arg-type]


def stake(odds: kelly.Odds) -> float:
    return kelly.kelly_fraction(odds.win_probability, odds.win_loss_ratio)


def test_the_prior_alone_stakes_nothing() -> None:
    assert ask().win_loss_ratio == pytest.approx(4.7 / 2.3)  # 5 % and 2 % after 0.3 % of costs
    assert stake(ask()) == pytest.approx(0)
    assert stake(ask(evidence=None)) == pytest.approx(0)


def test_evidence_shifts_the_prior_and_no_further_than_its_cap() -> None:
    assert 0 < stake(ask(evidence=0.6)) < stake(ask(evidence=0.75))
    assert stake(ask(evidence=1.0)) == stake(ask(evidence=0.75))
    assert ask(evidence=1.0).prior_mean - ask().prior_mean == pytest.approx(kelly.MAX_SHIFT)
    assert stake(ask(evidence=0.4)) < 0


def test_results_overrule_the_evidence() -> None:
    """(20 x prior + wins) / (20 + trades): the mean of the beta distribution's posterior."""
    losing = History(10, 90, 4.7, 2.3)
    odds = ask(losing, evidence=1.0)
    assert odds.win_probability == pytest.approx((20 * odds.prior_mean + 10) / 120)
    assert stake(odds) < 0
    assert stake(ask(History(60, 40, 4.7, 2.3), evidence=0.5)) > 0.2


def test_the_realised_ratio_counts_from_20_trades_on() -> None:
    assert ask(History(10, 9, 1.0, 1.0)).win_loss_ratio == pytest.approx(4.7 / 2.3)
    assert ask(History(10, 10, 1.0, 1.0)).win_loss_ratio == 1.0


@settings(max_examples=60)
@given(
    evidence=st.floats(0, 1),
    wins=st.integers(0, 60),
    losses=st.integers(0, 60),
    win_probability=probability,
    win_loss=ratio,
)
def test_a_model_never_raises_the_stake(
    evidence: float, wins: int, losses: int, win_probability: float, win_loss: float
) -> None:
    history = History(wins, losses, 2.0, 1.5)
    alone = ask(history, evidence=evidence)
    advised = ask(
        history,
        evidence=evidence,
        model_win_probability=win_probability,
        model_win_loss_ratio=win_loss,
    )
    assert stake(advised) <= stake(alone) + 1e-12


@pytest.mark.parametrize(
    ("ai_score_rank", "confidence", "expected"),
    [
        (0.8, 1.0, 0.8),
        (0.8, 0.5, 0.65),
        (0.8, 0.0, 0.5),  # without confidence a score says nothing
        (0.3, 0.0, 0.3),  # but what speaks against a trade is not softened
        (None, 1.0, None),
    ],
)
def test_evidence(ai_score_rank: float | None, confidence: float, expected: float | None) -> None:
    found = kelly.evidence(ai_score_rank, confidence)
    assert found == (None if expected is None else pytest.approx(expected))
