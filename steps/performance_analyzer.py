"""Measure a week of trades, learn strategy weights, alert on degradation."""

from shared.analysis.analyse import analyse
from shared.run import Export, run_step


def handler(pd: "pipedream") -> Export:
    """Export ``{performance, optimizations, recommendations, nextReview}``."""
    return run_step(
        pd,
        workflow="performance_analyzer",
        step="performance_analyzer",
        body=analyse,
        first=True,
        last=True,
    )
