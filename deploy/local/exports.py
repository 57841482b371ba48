"""Exports as Pipedream carries them: JSON and nothing else, there and back."""

from __future__ import annotations

import json
import math
from typing import Any

_SCALARS = (str, int, bool, type(None))


class ExportError(TypeError):
    """A step exported what JSON cannot carry; names the step, the path and the value."""


def encode(value: Any, step: str, name: str) -> str:
    """``value`` as JSON text, from which a later step reads its own copy.

    Raises:
        ExportError: it holds NaN, an infinity, a key that is no string, or an object that is not
            plain JSON (``Decimal``, ``datetime``, numpy's numbers, sets, classes).
    """
    problem = _problem(value, f"steps.{step}.{name}")
    if problem is not None:
        raise ExportError(problem)
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def size(text: str) -> int:
    """How many bytes ``text`` takes on the way."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _problem(value: Any, path: str) -> str | None:
    """What is wrong below ``path``, or ``None``. Exact types: a subclass of ``float`` may be
    numpy's, which another serialiser refuses."""
    kind = type(value)
    if kind in _SCALARS:
        return None
    if kind is float:
        return None if math.isfinite(value) else f"{path}: expected a finite number, was {value}"
    if kind is dict:
        return _problem_of_keys(value, path)
    if kind is list or kind is tuple:
        for index, item in enumerate(value):
            # Most items are numbers: a look at them here saves a call for each.
            if type(item) in _SCALARS or (type(item) is float and math.isfinite(item)):
                continue
            if found := _problem(item, f"{path}[{index}]"):
                return found
        return None
    return f"{path}: expected a JSON value, was {kind.__module__}.{kind.__qualname__}"


def _problem_of_keys(value: dict[Any, Any], path: str) -> str | None:
    for key, item in value.items():
        if type(key) is not str:
            return f"{path}: expected keys that are strings, was {key!r}"
        if type(item) in _SCALARS or (type(item) is float and math.isfinite(item)):
            continue
        if found := _problem(item, f"{path}.{key}"):
            return found
    return None
