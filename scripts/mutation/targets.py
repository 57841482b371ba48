"""What is mutated, and which tests have to notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

GATE_TESTS = (
    "tests/risk/core/test_core_limits.py",
    "tests/risk/test_gate.py",
    "tests/risk/test_gate_conduct.py",
    "tests/risk/test_gate_facts.py",
    "tests/risk/test_gate_fails_closed.py",
    "tests/risk/test_gate_lately.py",
    "tests/risk/test_gate_limits.py",
    "tests/risk/test_gate_market.py",
    "tests/risk/test_gate_money.py",
    "tests/risk/test_gate_orders.py",
    "tests/risk/test_gate_peg.py",
    "tests/risk/test_gate_stage.py",
    "tests/risk/test_gate_venue.py",
    "tests/risk/test_denials.py",
    "tests/risk/test_tiers.py",
)
SEND_TESTS = (
    "tests/execution/test_intents.py",
    "tests/execution/test_outcome_of_sends.py",
    "tests/execution/test_venue_rules.py",
)
RESOLVE_TESTS = (
    "tests/execution/test_resolve.py",
    "tests/execution/test_resolve_death.py",
    "tests/execution/test_resolving_limits.py",
)


@dataclass(frozen=True)
class Target:
    """A module under mutation.

    Attributes:
        functions: the top-level functions and constants that are mutated; all where empty.
        tests: files relative to the project. Of these, a mutant is judged by the tests that
            execute its statement.
    """

    path: str
    tests: Sequence[str]
    functions: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").replace("/", ".")

    def source(self) -> str:
        return (PROJECT / self.path).read_text(encoding="utf-8")


TARGETS = (
    Target("shared/risk/gate.py", GATE_TESTS),
    *(
        Target(f"shared/risk/controls/{name}.py", GATE_TESTS)
        for name in ("case", "order", "prices", "money", "conduct", "venue", "stage")
    ),
    Target("shared/risk/facts.py", GATE_TESTS),
    Target("shared/risk/lately.py", GATE_TESTS),
    Target("shared/risk/limits.py", GATE_TESTS),
    Target("shared/execution/intents.py", (*SEND_TESTS, *RESOLVE_TESTS)),
    Target("shared/execution/sending.py", SEND_TESTS),
    Target("shared/execution/reconciling/resolving.py", RESOLVE_TESTS),
    Target(
        "shared/execution/entries/parents.py",
        ("tests/execution/test_parent_limits.py",),
        functions=("hold_working", "progress", "_scheduled", "_PROGRESS"),
    ),
)
