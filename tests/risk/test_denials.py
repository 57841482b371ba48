"""Every code of the gate has an example, tells its numbers alike, and stands in docs/denials.md."""

from __future__ import annotations

import ast
import re
from decimal import Decimal
from pathlib import Path

import pytest

from shared.ledger import arming
from shared.risk.controls import conduct
from tests.risk.denial_examples import EXAMPLES

PROJECT = Path(__file__).resolve().parents[2]
ROW = re.compile(
    r"\| `(?P<code>[A-Z_]+)` \| `(?P<example>.+?)` \| (?P<meaning>.+?) \| (?P<do>.+?) \|$"
)
BOUNDS = ("limit", "limit_ms", "limit_bps", "limit_percent", "expected")


def rows() -> dict[str, re.Match[str]]:
    text = (PROJECT / "docs/denials.md").read_text(encoding="utf-8")
    return {row["code"]: row for line in text.splitlines() if (row := ROW.match(line))}


def codes_raised() -> set[str]:
    """The codes in the sources through which an order passes."""
    modules = sorted((PROJECT / "shared/risk/controls").glob("*.py"))
    found = set()
    for path in [*modules, PROJECT / "shared/risk/limits.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "OrderDenied":
                found |= _codes(node.args[0])
    return found


def _codes(argument: ast.expr) -> set[str]:
    if isinstance(argument, ast.Constant):
        return {str(argument.value)}
    if isinstance(argument, ast.Name):
        return {str(vars(conduct)[argument.id])}
    assert ast.unparse(argument) == "f'STATE_{trading.state}'"
    return {"STATE_REDUCING"}


def test_every_code_has_an_example_and_no_other_has() -> None:
    assert codes_raised() | {"LIVE_NOT_ARMED"} == set(EXAMPLES)
    assert "LIVE_NOT_ARMED" in Path(arming.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_page_tells_the_code_with_its_example(code: str) -> None:
    denied = EXAMPLES[code]()
    assert denied is not None
    assert denied.code == code
    row = rows()[code]
    assert f"{code}: {row['example']}" == str(denied)
    assert row["meaning"].endswith(".")
    assert row["do"].endswith(".")


def test_the_page_tells_no_code_that_is_gone() -> None:
    assert set(rows()) == set(EXAMPLES)


@pytest.mark.parametrize("code", EXAMPLES)
def test_a_number_stands_beside_what_bounds_it(code: str) -> None:
    denied = EXAMPLES[code]()
    assert denied is not None
    numbers = [key for key, value in denied.detail.items() if isinstance(value, Decimal | int)]
    judged = [key for key in numbers if key not in BOUNDS]
    assert not judged or any(key in denied.detail for key in BOUNDS), str(denied)
    assert not ({"limit", "limit_ms"} & denied.detail.keys()) or judged, str(denied)
