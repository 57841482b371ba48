"""What the figures say, in sentences: where a method fails, and what chance alone would fail."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.research.risk.backtest import JUDGED, LARGEST, Result, Score
from deploy.research.risk.coverage import SIGNIFICANCE
from shared.risk.portfolio import DECAY, HORIZON_HOURS, WINDOW_HOURS
from shared.risk.portfolio.tail import TAIL


def failures(score: Score) -> list[str]:
    """What the tests hold against one method on one portfolio, in words; none is a pass."""
    found = []
    if score.coverage.proportion.rejects:
        size = "too small" if score.coverage.rate > TAIL else "too large"
        found.append(
            f"VaR {size}: {score.coverage.breaches} breaches for {score.coverage.expected:.1f} "
            f"expected (p = {score.coverage.proportion.p_value:.4f})"
        )
    if score.coverage.independence.rejects:
        found.append(f"breaches in clusters (p = {score.coverage.independence.p_value:.4f})")
    return found


def of_stretch(scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    """One line a method that fails somewhere, and one that counts all of them."""
    lines, rejected, tests = [], 0, 0
    for method in JUDGED:
        said = []
        for name, by_method in scores.items():
            found = failures(by_method[method])
            tests += 2
            rejected += len(found)
            if found:
                said.append(f"{name}: {'; '.join(found)}")
        rates = [by_method[method].coverage.rate for by_method in scores.values()]
        head = f"{method}: {100 * min(rates):.1f} % to {100 * max(rates):.1f} % of days broke it"
        lines.append(f"{head}. {'Fails on ' + ' | '.join(said) if said else 'No test rejects it'}.")
    lines.append(
        f"{rejected} of {tests} tests reject at {100 * SIGNIFICANCE:.0f} %; "
        f"{tests * SIGNIFICANCE:.1f} would by chance if every method were right. The tests are not "
        "independent: the portfolios share their days, and the methods their data."
    )
    return lines


def of_tails(scores: Mapping[str, Mapping[str, Score]]) -> str:
    """Whether the mean of the worst days was what CVaR said."""
    parts = []
    for method in JUDGED:
        known = [by[method].severity for by in scores.values()]
        found = [severity for severity in known if severity is not None]
        if found:
            parts.append(f"{method} {min(found):.2f} to {max(found):.2f}")
    return (
        "Mean loss of the broken days over the CVaR forecast for them (more than 1: CVaR was too "
        f"small): {', '.join(parts)}."
    )


def of_choices(result: Result) -> list[str]:
    """Which window, decay and horizon rule had the least loss, and what is used."""
    best = result.choices[0]
    used = next(
        one
        for one in result.choices
        if one.choice.horizon == "square root"
        and one.choice.window_hours == WINDOW_HOURS
        and one.choice.daily_decay == round(DECAY**HORIZON_HOURS, 10)
    )
    pairs = _by_horizon(result)
    worse = sum(root < sums for root, sums in pairs)
    decay = "none" if best.choice.daily_decay is None else f"{best.choice.daily_decay:g} a day"
    return [
        f"Least quantile loss: {best.choice.horizon}, {best.choice.window_hours:,} hours, decay "
        f"{decay} ({best.relative_loss:.4f}). In use: square root, {WINDOW_HOURS:,} hours, decay "
        f"{used.choice.daily_decay:g} a day ({used.relative_loss:.4f}).",
        f"The square root of {HORIZON_HOURS} had a smaller loss than overlapping sums of "
        f"{HORIZON_HOURS} hours in {worse} of {len(pairs)} pairs of window and decay.",
    ]


def in_short(result: Result) -> str:
    """The answer for the gate, which is held against the largest: one sentence a stretch."""
    return " ".join(
        _of_gate(stretch.name, result.scores[stretch.name])
        for stretch in reversed(result.stretches)
    )


def _of_gate(stretch: str, scores: Mapping[str, Mapping[str, Score]]) -> str:
    if not scores:
        return f"On days {stretch} nothing is judged: there are none."
    found: dict[str, list[str]] = {"TOO SMALL": [], "too large": [], "broken in clusters": []}
    for name, by_method in scores.items():
        score = by_method[LARGEST]
        if score.coverage.proportion.rejects:
            found["TOO SMALL" if score.coverage.rate > TAIL else "too large"].append(name)
        if score.coverage.independence.rejects:
            found["broken in clusters"].append(name)
    said = [f"{what} on {', '.join(names)}" for what, names in found.items() if names]
    if found["TOO SMALL"]:
        return f"On days {stretch} the VaR that gates orders is {'; '.join(said)}."
    rest = f"; it is {'; '.join(said)}" if said else ""
    return (
        f"On days {stretch} the VaR that gates orders, the largest of all methods, is too small "
        f"on none of {len(scores)} portfolios{rest}."
    )


def _by_horizon(result: Result) -> list[tuple[float, float]]:
    """Losses of the two horizon rules for each window and decay."""
    loss = {one.choice: one.relative_loss for one in result.choices}
    roots = [choice for choice in loss if choice.horizon == "square root"]
    return [
        (loss[root], loss[type(root)("sums", root.window_hours, root.daily_decay)])
        for root in roots
    ]
