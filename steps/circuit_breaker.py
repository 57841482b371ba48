"""Thirteen checks a minute; halt, pause or restrict trading; send alerts."""

from shared.run import Export, run_step
from shared.safety.breaker import check_and_act


def handler(pd: "pipedream") -> Export:
    """Export ``{status, checks, actions, circuitBreaker}``."""
    return run_step(
        pd,
        workflow="circuit_breaker",
        step="circuit_breaker",
        body=check_and_act,
        first=True,
        last=True,
    )
