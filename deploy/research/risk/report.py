"""The backtest as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from deploy.research.risk import verdict
from deploy.research.risk.backtest import JUDGED, LARGEST, Result, Score
from deploy.research.risk.coverage import Test
from deploy.research.risk.plan import Stretch
from shared import clock
from shared.risk.portfolio import DECAY, HORIZON_HOURS, WINDOW_HOURS

_SHOWN_CHOICES = 12


def as_markdown(result: Result, command: str) -> str:
    """Verdict first, then the figures of each stretch, then the choices."""
    return "\n".join(_lines(result, command)) + "\n"


def as_json(result: Result, command: str) -> dict[str, Any]:
    return {
        "command": command,
        "horizon_hours": HORIZON_HOURS,
        "window_hours": WINDOW_HOURS,
        "hourly_decay": DECAY,
        "verdict": verdict.in_short(result),
        "portfolios": result.portfolios,
        "stretches": [
            {
                "name": stretch.name,
                "days": _span(result, stretch),
                "verdict": _said(result.scores[stretch.name]),
                "portfolios": {
                    name: {method: _score(score) for method, score in by_method.items()}
                    for name, by_method in result.scores[stretch.name].items()
                },
            }
            for stretch in result.stretches
        ],
        "choices": [
            asdict(one.choice) | {k: v for k, v in asdict(one).items() if k != "choice"}
            for one in result.choices
        ],
    }


def _lines(result: Result, command: str) -> Iterator[str]:
    yield "# VaR 95 and CVaR 95 of a day, on recorded days"
    yield ""
    yield f"`{command}`"
    yield ""
    yield f"**{verdict.in_short(result)}**"
    yield ""
    yield (
        f"Each midnight UTC the loss of the next {HORIZON_HOURS} hours is forecast from the newest "
        f"{WINDOW_HOURS:,} hourly returns, by the code that gates orders, and compared with what "
        "the holdings then lost. A right VaR 95 is broken on 5 % of days, and a breach says "
        "nothing of the next day: Kupiec's test asks the first, Christoffersen's the second, and "
        "the last p-value both at once."
    )
    for stretch in reversed(result.stretches):
        if result.scores[stretch.name]:
            yield ""
            first, last = _span(result, stretch)
            yield f"## Days {stretch.name}: {first} to {last}"
            yield ""
            yield from _stretch(result.scores[stretch.name])
    if result.choices:
        yield from _choices(result)
    yield from _limits(result)


def _stretch(scores: Mapping[str, Mapping[str, Score]]) -> Iterator[str]:
    for line in _said(scores):
        yield f"- {line}"
    yield ""
    yield (
        "| portfolio | method | days | breaches | expected | rate | at other hours | Kupiec p "
        "| independence p | both p | severity | mean VaR | loss |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for name, by_method in scores.items():
        for method in JUDGED:
            yield _row(name, method, by_method[method])


def _row(name: str, method: str, score: Score) -> str:
    seen = score.coverage
    cells = [
        name,
        method,
        f"{seen.days:,}",
        str(seen.breaches),
        f"{seen.expected:.1f}",
        f"{100 * seen.rate:.1f} %",
        "-".join(f"{100 * rate:.1f}" for rate in _ends(score.other_rates)) + " %",
        _p(seen.proportion),
        _p(seen.independence),
        _p(seen.conditional),
        "" if score.severity is None else f"{score.severity:.2f}",
        f"{score.mean_var_percent:.2f} %",
        f"{score.quantile_loss:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def _choices(result: Result) -> Iterator[str]:
    yield ""
    yield "## Choices, on the days before the unseen ones"
    yield ""
    for line in verdict.of_choices(result):
        yield f"- {line}"
    yield ""
    yield (
        f"The best {_SHOWN_CHOICES} of {len(result.choices)} by mean quantile loss, relative to "
        "the longest window without a filter, and the best of overlapping sums. Rates: mean, "
        "least and largest of the portfolios."
    )
    yield ""
    yield "| hour to day | window | decay a day | loss | rate | least | largest |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    best_sums = next(one for one in result.choices if one.choice.horizon == "sums")
    shown = result.choices[:_SHOWN_CHOICES]
    for one in shown + ([] if best_sums in shown else [best_sums]):
        decay = one.choice.daily_decay
        yield (
            f"| {one.choice.horizon} | {one.choice.window_hours:,} | "
            f"{'none' if decay is None else f'{decay:g}'} | {one.relative_loss:.4f} | "
            f"{100 * one.mean_rate:.1f} % | {100 * one.least_rate:.1f} % | "
            f"{100 * one.largest_rate:.1f} % |"
        )


def _limits(result: Result) -> Iterator[str]:
    yield ""
    yield "## What this does not show"
    yield ""
    last = result.stretches[-1]
    for by_method in list(result.scores[last.name].values())[:1]:
        seen = by_method[LARGEST].coverage
        yield (
            f"- Days {last.name} are {seen.days}, of which {seen.expected:.0f} should break a "
            "VaR: with so few, only one that is wrong by far is rejected."
        )
    yield f"- {len(result.portfolios)} portfolios of one market are not as many samples."
    yield (
        "- Holdings are held for a day without stops. The pod's stops cut losses, and gaps "
        "through them are sized for elsewhere."
    )
    yield (
        "- Severity is a ratio of means without a test. VaR and CVaR know nothing of what a venue "
        "or a stablecoin may do that the window has not seen."
    )


def _said(scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    return [*verdict.of_stretch(scores), verdict.of_tails(scores)] if scores else []


def _score(score: Score) -> dict[str, Any]:
    return asdict(score) | {"rate": score.coverage.rate, "failures": verdict.failures(score)}


def _ends(rates: tuple[float, ...]) -> tuple[float, ...]:
    return (min(rates), max(rates)) if rates else ()


def _p(test: Test) -> str:
    return f"**{test.p_value:.3f}**" if test.rejects else f"{test.p_value:.3f}"


def _span(result: Result, stretch: Stretch) -> list[str]:
    """The first and the last day of any portfolio within a stretch; none has none."""
    begins = [
        int(ms)
        for line in result.lines.values()
        for ms in line.days.begin_ms[line.days.within(stretch)]
    ]
    ends = [min(begins), max(begins)] if begins else []
    return [clock.from_ms(ms).date().isoformat() for ms in ends]
