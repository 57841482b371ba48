"""What a fault rule may say, and the check that tells which field of one is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import ConfigurationError

MOST_HOLD_MS = 120_000
MOST_DELAY_MS = 86_400_000
MOST_SLOW_MS = 30_000
MALFORMED_FORMS = ("html", "empty", "object", "wrong_types")

Check = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One field of a rule: what it expects, in words and as a check, and its default."""

    expected: str
    check: Check
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """Which requests meet a fault, and which one.

    Attributes:
        method: ``*`` for all.
        path: below the service's prefix; exact, or a beginning that ends with ``*``.
        times: how often it is injected at most; ``None`` for without end.
        after: how many requests that match pass before it is.
        probability: of each injection after that.
        contains: a part of the query or the body that a request must have; empty for any.
        parameters: what the kind needs, complete with its defaults.
    """

    service: str
    method: str
    path: str
    kind: str
    times: int | None = 1
    after: int = 0
    probability: float = 1.0
    contains: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def matches(self, service: str, method: str, path: str) -> bool:
        """Whether a request is of this rule's service, method and path."""
        return (
            service == self.service
            and self.method in ("*", method)
            and (path.startswith(self.path[:-1]) if self.path.endswith("*") else path == self.path)
        )


def _whole(least: int, most: int | None = None) -> tuple[str, Check]:
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"

    def check(value: Any) -> bool:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and least <= value and (most is None or value <= most)

    return f"an integer {bounds}", check


def _share(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= 1


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _one_of(names: Collection[str]) -> tuple[str, Check]:
    return f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names


def _names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_text, value))


def _headers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_text, [*value, *value.values()]))


def _path(value: Any) -> bool:
    return isinstance(value, str) and value[:1] in ("/", "*") and "*" not in value[:-1]


_FLAG = ("true or false", lambda value: isinstance(value, bool))
_STATUS = {
    "status": Parameter(*_whole(200, 599), required=True),
    "body": Parameter("text", _text),
    "headers": Parameter("an object of texts", _headers, {}),
}
_HOLD = {"hold_ms": Parameter(*_whole(1, MOST_HOLD_MS), default=MOST_HOLD_MS)}

KINDS: dict[str, dict[str, Parameter]] = {
    "lose_request": {},
    "lose_answer": {},
    "hang": _HOLD,
    "hang_after": _HOLD,
    "late": {"delay_ms": Parameter(*_whole(0, MOST_DELAY_MS), required=True)},
    "duplicate_request": {
        "answer": Parameter(*_one_of(("first", "second")), default="first"),
    },
    "duplicate_rows": {},
    "status": _STATUS,
    "status_after": _STATUS,
    "truncate": {
        "bytes": Parameter(*_whole(0)),
        "share": Parameter("a number from 0 to 1", _share),
    },
    "malformed": {
        "form": Parameter(*_one_of(MALFORMED_FORMS), required=True),
        "act": Parameter(*_FLAG, default=True),
    },
    "redirect": {
        "location": Parameter("text", _text),
        "act": Parameter(*_FLAG, default=False),
    },
    "slow": {"delay_ms": Parameter(*_whole(0, MOST_SLOW_MS), required=True)},
    "drop_fields": {"fields": Parameter("a list of names", _names, required=True)},
    "stale": {},
}
"""The parameters of each kind."""


def parse_rules(given: Any, services: Collection[str], venues: Collection[str]) -> list[Rule]:
    """The rules of a request's ``rules``.

    Args:
        services: what may be named as ``service``.
        venues: those of them that take a request late.

    Raises:
        ConfigurationError: with the field, its value and what was expected.
    """
    if not isinstance(given, list):
        raise ConfigurationError(f"rules: expected a list, was {given!r}")
    return [_parse(one, f"rules[{i}]", services, venues) for i, one in enumerate(given)]


def _parse(given: Any, name: str, services: Collection[str], venues: Collection[str]) -> Rule:
    if not isinstance(given, dict):
        raise ConfigurationError(f"{name}: expected an object, was {given!r}")
    kind = given.get("kind")
    _require(name, "kind", kind, *_one_of(KINDS))
    common = {
        "service": Parameter(*_one_of(services), required=True),
        "method": Parameter(*_one_of(("*", "GET", "POST", "PUT", "DELETE")), default="*"),
        "path": Parameter("an exact path, or a beginning that ends with *", _path, required=True),
        "times": Parameter(*_whole(1), default=1),
        "after": Parameter(*_whole(0), default=0),
        "probability": Parameter("a number from 0 to 1", _share, default=1.0),
        "contains": Parameter("text", _text, default=""),
    }
    own = KINDS[str(kind)]
    unknown = sorted(given.keys() - common.keys() - own.keys() - {"kind"})
    if unknown:
        expected = ", ".join(["kind", *common, *own])
        raise ConfigurationError(f"{name}.{unknown[0]}: expected one of {expected}")
    values = {key: _value(name, key, given, one) for key, one in common.items()}
    if given.get("times", 1) is None:
        values["times"] = None
    parameters = {key: _value(name, key, given, one) for key, one in own.items()}
    rule = Rule(kind=str(kind), parameters=parameters, **values)
    _check_together(name, rule, venues)
    return rule


def _value(name: str, key: str, given: Mapping[str, Any], parameter: Parameter) -> Any:
    value = given.get(key)
    if value is None and not parameter.required:
        return parameter.default
    _require(name, key, value, parameter.expected, parameter.check)
    return value


def _require(name: str, key: str, value: Any, expected: str, check: Check) -> None:
    if not check(value):
        raise ConfigurationError(f"{name}.{key}: expected {expected}, was {value!r}")


def _check_together(name: str, rule: Rule, venues: Collection[str]) -> None:
    """What no field shows alone."""
    given = rule.parameters
    if rule.kind == "late" and rule.service not in venues:
        raise ConfigurationError(
            f"{name}.service: expected a venue for kind late, was {rule.service!r}"
        )
    if rule.kind == "truncate" and (given["bytes"] is None) == (given["share"] is None):
        raise ConfigurationError(f"{name}.bytes: expected either bytes or share")
    if rule.kind == "malformed" and given["form"] == "wrong_types" and not given["act"]:
        raise ConfigurationError(f"{name}.act: expected true with wrong_types, was False")
