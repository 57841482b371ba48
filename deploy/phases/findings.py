"""What the check of a phase has found, and what a person has accepted of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.cli.check import Check
from shared.errors import ConfigurationError


@dataclass(frozen=True)
class Findings:
    """Checks, and the reasons for which a person accepts some of the warnings, by their names."""

    checks: Sequence[Check]
    accepted: Mapping[str, str]

    @property
    def open(self) -> list[Check]:
        """What keeps the phase from being passed."""
        return [
            check
            for check in self.checks
            if check.verdict == "FAIL"
            or (check.verdict == "WARN" and check.name not in self.accepted)
        ]

    def as_evidence(self) -> dict[str, Any]:
        """For the ledger: every check, and who accepts what for which reason."""
        return {
            "checks": [vars(check) for check in self.checks],
            "accepted": dict(self.accepted),
        }


def judged(checks: Iterable[Check], accepted: Mapping[str, str]) -> Findings:
    """The findings.

    Raises:
        ConfigurationError: what is accepted is no warning: there is no such check, it failed, or
            it is fine.
    """
    found = list(checks)
    warnings = {check.name for check in found if check.verdict == "WARN"}
    wrong = sorted(accepted.keys() - warnings)
    if wrong:
        raise ConfigurationError(
            f"--accept: expected one of the warnings {', '.join(sorted(warnings)) or '(none)'}, "
            f"was {', '.join(wrong)}"
        )
    return Findings(found, accepted)


def ok(name: str, detail: str) -> Check:
    """Nothing to do."""
    return Check(name, "OK", detail)


def failed(name: str, detail: str, advice: str = "") -> Check:
    """The phase is not passed."""
    return Check(name, "FAIL", detail, advice)


def doubtful(name: str, detail: str, advice: str = "") -> Check:
    """The phase is passed if a person accepts it."""
    return Check(name, "WARN", detail, advice)
