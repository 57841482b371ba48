"""One line of a report on whether something is as it has to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["OK", "WARN", "FAIL"]


@dataclass(frozen=True)
class Check:
    """One line of the report. ``advice`` says what to do where the verdict is not OK."""

    name: str
    verdict: Verdict
    detail: str
    advice: str = ""
