"""Which request meets which fault, what has been injected, and requests still on their way.

Whether a rule with a probability strikes depends on the seed, its place among the rules and how
many requests have matched it, and on nothing else: the same requests in the same order meet the
same faults. Where several rules could strike, the first does.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from deploy.local.wire.faults.effects import EFFECTS, Call, close
from deploy.local.wire.faults.schema import Rule
from deploy.local.wire.feed import mix
from deploy.local.wire.incoming import wire_request
from deploy.local.wire.venues.base import WireAnswer, WireRequest

_ONLY_THIS_TIME = re.compile(r"(timestamp|recvWindow|signature|nonce)=[^&]*")


@dataclass(slots=True)
class Tally:
    """A rule and what has come of it; ``at_ms`` in the market's time."""

    rule: Rule
    matched: int = 0
    at_ms: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, order=True)
class LateRequest:
    """A request that reaches its venue when the market's time is ``due_ms``."""

    due_ms: int
    number: int
    venue: str = field(compare=False)
    request: WireRequest = field(compare=False)


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer that ``stale`` can give again."""

    body: bytes
    status: int
    content_type: str


@dataclass(slots=True)
class FaultState:
    """All that the layer remembers.

    Attributes:
        late: a heap of the requests on their way.
        arrived: those that have arrived, as the report shows them.
        answers: the last answer by question, for ``stale``.
    """

    seed: int = 0
    tallies: list[Tally] = field(default_factory=list)
    late: list[LateRequest] = field(default_factory=list)
    late_count: int = 0
    arrived: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, KeptAnswer] = field(default_factory=dict)

    def copy(self) -> FaultState:
        """A state that this one shares nothing mutable with."""
        return replace(
            self,
            tallies=[replace(one, at_ms=list(one.at_ms)) for one in self.tallies],
            late=list(self.late),
            arrived=list(self.arrived),
            answers=dict(self.answers),
        )


class FaultLayer:
    """Stands between the clients and all services of one wire.

    Args:
        services: the first parts of the paths that faults are for.
        clock: tells the market's time.

    Attributes:
        state: set it to a copy of an earlier one to go back to that.
    """

    def __init__(self, services: Collection[str], clock: Callable[[], int]) -> None:
        self.state = FaultState()
        self.services = tuple(services)
        self._clock = clock
        self._releases = 0

    def set_rules(self, seed: int, rules: list[Rule]) -> None:
        """Replace all rules and their counts. Requests that are on their way stay so."""
        self._releases += 1
        tallies = [Tally(rule) for rule in rules]
        self.state = replace(self.state, seed=seed, tallies=tallies, arrived=[], answers={})

    def release(self) -> None:
        """End the connections that faults keep silent."""
        self._releases += 1

    def report(self) -> dict[str, Any]:
        """Every rule with its counts, and the requests that are or were late."""
        state = self.state
        return {
            "seed": state.seed,
            "rules": [_tally(one) for one in state.tallies],
            "late": {
                "waiting": [_late(one) for one in sorted(state.late)],
                "arrived": list(state.arrived),
            },
        }

    def due(self, now_ms: int) -> LateRequest | None:
        """Take out the next request that arrives by ``now_ms``."""
        late = self.state.late
        return heapq.heappop(late) if late and late[0].due_ms <= now_ms else None

    def note_arrival(self, late: LateRequest, answer: WireAnswer) -> None:
        """Remember what a venue said to a request whose client has long gone."""
        told = {"status": answer.status, "answer": answer.body.decode()}
        self.state.arrived.append(_late(late) | told)

    def guarded(self, handler: Handler) -> Handler:
        """``handler`` behind the layer. Without rules that costs one look at a list."""

        async def guard(request: web.Request) -> web.StreamResponse:
            if not self.state.tallies:
                return await handler(request)
            return await self._meet(request, handler)

        return guard

    def middleware(self) -> Middleware:
        """The same for all handlers of an application, which aiohttp makes a little dearer."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not self.state.tallies:
                return await handler(request)
            return await self._meet(request, handler)

        return guard

    async def _meet(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        service, _, _ = path[1:].partition("/")
        if service not in self.services:
            return await handler(request)
        below = path[len(service) + 1 :]
        body = await request.read() if request.body_exists else b""
        text = f"{query}&{body.decode(errors='replace')}"
        question = f"{request.method} {path} {_ONLY_THIS_TIME.sub('', text)}"
        rule = self._strike(service, request.method, below, text, question)

        async def act() -> web.Response:
            answer = await handler(request)
            assert isinstance(answer, web.Response)  # no service streams
            return answer

        if rule is None:
            answer = await act()
            if self._may_become_stale(service, request.method, below):
                self.state.answers[question] = _kept(answer)
            return answer
        if rule.kind == "stale":
            return _repeated(self.state.answers[question])
        if rule.kind == "late":
            return await self._delay(rule, request)
        releases = self._releases
        call = Call(rule, request, act, self._clock(), lambda: self._releases != releases)
        return await EFFECTS[rule.kind](call)

    def _strike(
        self, service: str, method: str, path: str, text: str, question: str
    ) -> Rule | None:
        """The first rule that strikes; every rule that matches counts the request."""
        struck: Tally | None = None
        for index, tally in enumerate(self.state.tallies):
            if not tally.rule.matches(service, method, path) or tally.rule.contains not in text:
                continue
            tally.matched += 1
            if struck is None and self._strikes(index, tally, question):
                struck = tally
        if struck is None:
            return None
        struck.at_ms.append(self._clock())
        return struck.rule

    def _strikes(self, index: int, tally: Tally, question: str) -> bool:
        rule = tally.rule
        if tally.matched <= rule.after:
            return False
        if rule.times is not None and len(tally.at_ms) >= rule.times:
            return False
        if rule.kind == "stale" and question not in self.state.answers:
            return False
        return mix(self.state.seed, index, tally.matched) < rule.probability * 2**64

    def _may_become_stale(self, service: str, method: str, path: str) -> bool:
        return any(
            tally.rule.kind == "stale" and tally.rule.matches(service, method, path)
            for tally in self.state.tallies
        )

    async def _delay(self, rule: Rule, request: web.Request) -> web.Response:
        kept = await wire_request(request, len(rule.service) + 1)
        due_ms = self._clock() + rule.parameters["delay_ms"]
        self.state.late_count += 1
        late = LateRequest(due_ms, self.state.late_count, rule.service, kept)
        heapq.heappush(self.state.late, late)
        return close(request)


def _kept(answer: web.Response) -> KeptAnswer:
    assert isinstance(answer.body, bytes | bytearray)
    return KeptAnswer(bytes(answer.body), answer.status, answer.content_type)


def _repeated(answer: KeptAnswer) -> web.Response:
    return web.Response(body=answer.body, status=answer.status, content_type=answer.content_type)


def _tally(tally: Tally) -> dict[str, Any]:
    rule = tally.rule
    return {
        "kind": rule.kind,
        "service": rule.service,
        "method": rule.method,
        "path": rule.path,
        "matched": tally.matched,
        "injected": len(tally.at_ms),
        "at_ms": list(tally.at_ms),
    }


def _late(late: LateRequest) -> dict[str, Any]:
    return {
        "venue": late.venue,
        "method": late.request.method,
        "path": late.request.path,
        "due_ms": late.due_ms,
    }
