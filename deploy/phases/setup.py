"""Phase 1, setup: accounts, environment, ledger, cache, venues and Slack are there and answer.

The document: "Create new Pipedream workflow, add PostgreSQL for data storage, add Redis for
caching, configure exchange API connections, set up Slack notifications".
"""

from __future__ import annotations

from collections.abc import Iterator

from deploy.cli.check import Check
from deploy.cli.commands import doctor
from deploy.phases.findings import doubtful, failed, ok
from shared.config import Config
from shared.execution.venues import clients

REQUIRED = frozenset({"database"})
"""What nobody can accept to be without: the ledger of the pod."""


def checks(settings: Config, *, offline: bool) -> Iterator[Check]:
    """What ``doctor`` finds, and whether the venues' keys are there."""
    for check in doctor.checks(offline=offline):
        if check.verdict == "WARN" and check.name in REQUIRED:
            yield failed(check.name, check.detail, check.advice)
        else:
            yield check
    if offline:
        yield doubtful("venues", "were not asked", "leave --offline away")
    yield _keys(settings)


def _keys(settings: Config) -> Check:
    missing = [name for name in settings.venues if None in clients.credentials(settings, name)]
    if not missing:
        return ok("venue keys", f"set for {', '.join(settings.venues)}")
    advice = "paper needs none; live trading does, and asks for them again"
    return doubtful("venue keys", f"not set for {', '.join(missing)}", advice)
