"""Small changes of SQL texts, for the rules that are written in them.

A whole text made invalid would be noticed by any test, so what changes is one token: a comparison,
an arithmetic sign, AND and OR, IN, IS NULL, an aggregate, a join, a number, an interval, a side.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_IS_SQL = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|coalesce\()")

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<= )<>(?= )", "="),
        (r"(?<= )<=(?= )", "<"),
        (r"(?<= )>=(?= )", ">"),
        (r"(?<= )<(?= )", "<="),
        (r"(?<= )>(?= )", ">="),
        (r"(?<= )=(?= )", "<>"),
        (r"(?<= )\+(?= )", "-"),
        (r"(?<= )-(?= )", "+"),
        (r"(?<=\w )\*(?= (?!FROM)\w)", "/"),
        (r"(?<=/ )2\b", "3"),
        (r"(?<=ELSE )-", ""),
        (r"(?<= )/(?= )", "*"),
        (r"\bOR\b", "AND"),
        (r"\bNOT IN\b", "IN"),
        (r"(?<!NOT )\bIN\b(?= \()", "NOT IN"),
        (r"\bIS NOT NULL\b", "IS NULL"),
        (r"\bIS NULL\b", "IS NOT NULL"),
        (r"\bNOT (?!IN\b|NULL\b|EXISTS\b|MATERIALIZED\b)", ""),
        (r"\bmax\(", "min("),
        (r"\bmin\(", "max("),
        (r"\bLEFT JOIN\b", "JOIN"),
        (r"\btrue\b(?= AS| )", "false"),
        (r"\bfalse\b", "true"),
        (r"'buy'", "'sell'"),
        (r"'sell'", "'buy'"),
        (r"\bORDER BY \w+", r"\g<0> DESC"),
        (r", 0\)", ", 1)"),
    )
)
_AND = re.compile(r"\bAND\b")
_INTERVAL = re.compile(r"(?<=interval ')(\d+)(?= )")
_SETS = re.compile(r"\bUPDATE\b.*?\bSET\b(?P<assignments>.*?)\bWHERE\b", re.DOTALL)


@dataclass(frozen=True)
class Change:
    """One replaced token, by its place in the Python source."""

    start: int
    end: int
    line: int
    before: str
    after: str


def changes(source: str) -> Iterator[Change]:
    """Every change of every SQL text of a module."""
    for start, end in _texts(source):
        text = source[start:end]
        for at, until, after in sorted(_of_text(text)):
            line = source.count("\n", 0, start + at) + 1
            yield Change(start + at, start + until, line, _around(text, at, until), after)


def _of_text(text: str) -> Iterator[tuple[int, int, str]]:
    assigned = [match.span("assignments") for match in _SETS.finditer(text)]
    for pattern, replacement in _RULES:
        for match in pattern.finditer(text):
            in_set = any(first <= match.start() < last for first, last in assigned)
            is_condition = "WHEN" in text[: match.start()].split(",")[-1]
            if match.group() == "=" and in_set and not is_condition:
                continue  # an assignment, not a comparison
            yield match.start(), match.end(), match.expand(replacement)
    for match in _AND.finditer(text):
        if not _closes_between(text, match.start()):
            yield match.start(), match.end(), "OR"
    for match in _INTERVAL.finditer(text):
        yield match.start(), match.end(), str(int(match.group()) + 1)


def _closes_between(text: str, at: int) -> bool:
    """Whether an AND belongs to a BETWEEN: the nearest of both words before it is BETWEEN."""
    before = text[:at]
    return before.rfind("BETWEEN") > max(before.rfind(" AND "), before.rfind("\n       AND"), -1)


def _texts(source: str) -> Iterator[tuple[int, int]]:
    """Where the string expressions are that hold SQL; docstrings hold none."""
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    inner: set[int] = set()  # ast.walk comes to a node before it comes to its parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr):
            inner.add(id(node.value))  # a docstring
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in ast.walk(node)} - {id(node)}
        if id(node) in inner or not isinstance(node, ast.Constant | ast.JoinedStr):
            continue
        start = offsets[node.lineno - 1] + node.col_offset
        end = offsets[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        is_text = isinstance(node, ast.JoinedStr) or isinstance(node.value, str)
        if is_text and _IS_SQL.search(source, start, end):
            yield start, end


def _around(text: str, start: int, end: int) -> str:
    """The token between the words beside it, so that a person finds it."""
    piece = text[max(0, start - 24) : start] + "[" + text[start:end] + "]" + text[end : end + 24]
    return " ".join(piece.split())
