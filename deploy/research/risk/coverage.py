"""Whether losses break a value at risk as often as it says, and not in clusters.

Kupiec, "Techniques for verifying the accuracy of risk measurement models" (Journal of Derivatives
3, 1995): the proportion of failures. Christoffersen, "Evaluating interval forecasts" (International
Economic Review 39, 1998): their independence from one day to the next, and both together. All three
are likelihood ratios whose p-values come from the chi-squared distribution, of one, one and two
degrees of freedom; with few expected breaches those are rough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataUnavailable

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Test:
    """A likelihood ratio and the chance of one as large if the forecasts are right."""

    __test__ = False  # pytest: not a test of ours

    ratio: float
    p_value: float

    @property
    def rejects(self) -> bool:
        return self.p_value < SIGNIFICANCE


@dataclass(frozen=True)
class Transitions:
    """Days by whether the day before broke its VaR (first letter) and the day itself did."""

    calm_calm: int
    calm_broken: int
    broken_calm: int
    broken_broken: int


@dataclass(frozen=True)
class Coverage:
    """How a series of forecasts did.

    Attributes:
        proportion: Kupiec's test. independence, conditional: Christoffersen's.
    """

    days: int
    breaches: int
    expected: float
    proportion: Test
    independence: Test
    conditional: Test

    @property
    def rate(self) -> float:
        return self.breaches / self.days


def judge(broken: NDArray[np.bool_], tail: float = 0.05) -> Coverage:
    """All three tests of a series of days, each of which did or did not break its VaR.

    Christoffersen's first day has no day before it; Kupiec's test counts it.

    Raises:
        DataUnavailable: fewer than two days.
    """
    if len(broken) < 2:
        raise DataUnavailable(f"days: expected at least 2 to judge a VaR, was {len(broken)}")
    days, breaches = len(broken), int(broken.sum())
    proportion = kupiec(days, breaches, tail)
    independence = christoffersen(transitions(broken))
    both = proportion.ratio + independence.ratio
    return Coverage(
        days=days,
        breaches=breaches,
        expected=days * tail,
        proportion=proportion,
        independence=independence,
        conditional=Test(both, chi_squared_tail_2(both)),
    )


def kupiec(days: int, breaches: int, tail: float) -> Test:
    """The proportion of failures against ``tail``.

    Raises:
        ValueError: not ``0 <= breaches <= days`` with ``days`` positive, or a tail beyond 0..1.
    """
    if not (0 < days >= breaches >= 0 and 0 < tail < 1):
        raise ValueError(
            "kupiec: expected 0 <= breaches <= days and 0 < tail < 1, was "
            f"breaches={breaches}, days={days}, tail={tail}"
        )
    observed = breaches / days
    return _ratio(_log_likelihood(days, breaches, tail), _log_likelihood(days, breaches, observed))


def christoffersen(seen: Transitions) -> Test:
    """Whether a breach makes another on the next day more or less likely.

    With no breach at all, or none that has a next day, there is nothing that speaks against it.
    """
    after_calm = seen.calm_calm + seen.calm_broken
    after_broken = seen.broken_calm + seen.broken_broken
    breaches = seen.calm_broken + seen.broken_broken
    both = _log_likelihood(
        after_calm + after_broken, breaches, breaches / (after_calm + after_broken)
    )
    apart = sum(
        _log_likelihood(days, broken, broken / days)
        for days, broken in (
            (after_calm, seen.calm_broken),
            (after_broken, seen.broken_broken),
        )
        if days
    )
    return _ratio(both, apart)


def transitions(broken: NDArray[np.bool_]) -> Transitions:
    before, after = broken[:-1], broken[1:]
    return Transitions(
        calm_calm=int((~before & ~after).sum()),
        calm_broken=int((~before & after).sum()),
        broken_calm=int((before & ~after).sum()),
        broken_broken=int((before & after).sum()),
    )


def chi_squared_tail_1(value: float) -> float:
    """P(X > value) of one degree of freedom: that of a squared standard normal."""
    return math.erfc(math.sqrt(max(value, 0.0) / 2))


def chi_squared_tail_2(value: float) -> float:
    """P(X > value) of two degrees of freedom: an exponential distribution of mean 2."""
    return math.exp(-max(value, 0.0) / 2)


def _ratio(restricted: float, free: float) -> Test:
    ratio = max(0.0, -2 * (restricted - free))
    return Test(ratio, chi_squared_tail_1(ratio))


def _log_likelihood(days: int, breaches: int, chance: float) -> float:
    """Of that many breaches in a given order; what never happens adds nothing (0 log 0 = 0)."""
    total = 0.0
    if breaches:
        total += breaches * math.log(chance)
    if days > breaches:
        total += (days - breaches) * math.log1p(-chance)
    return total
