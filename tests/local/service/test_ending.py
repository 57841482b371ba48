"""A service whose lanes serve something else than bundles: when it ends, and what it says then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from deploy.local.platform import Platform, WorkflowResult
from deploy.local.scheduler import Tick
from deploy.local.service import service
from deploy.local.service.lanes import Lane
from deploy.local.service.service import LaneEnded, Service, ServiceOptions

DONE = WorkflowResult("circuit_breaker", "t", (), None, None, (), 0.5, False, 0, 1)


class Engine:
    """Runs that stand still end when they are killed."""

    def __init__(self) -> None:
        self.killed = threading.Event()
        self.kill_running = self.killed.set


class Bench:
    """A service of lanes alone, which runs in a thread of its own."""

    def __init__(self, serve: Callable[[Tick], WorkflowResult], **options: Any) -> None:
        self.said: list[str] = []
        settings = {"DATABASE_URL": "postgresql://x@127.0.0.1/x"}
        self.service = Service(ServiceOptions(port=None, **options), settings, self.said.append)
        self.engine = self.service._engine = Engine()  # type: ignore[assignment]
        self.service.platform = Platform(self.service.project, {}, None)
        self.service.lanes = tuple(
            Lane(self.service.project.workflow(name), serve, self.tell, self.service._stop)
            for name in ("circuit_breaker", "trading_loop")
        )
        self.service.lanes[0].ticker._next_ms = 0  # due now; the other is not, for long
        self.service.lanes[1].ticker._next_ms = 10**15
        self.errors: list[LaneEnded] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def tell(self, text: str) -> None:
        self.service.tell(text)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> str:
        """What it has said by its end."""
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert not any(lane.is_alive for lane in self.service.lanes)
        return "\n".join(self.said)

    def _run(self) -> None:
        try:
            self.service.run()
        except LaneEnded as error:
            self.errors.append(error)


@pytest.fixture
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_LOOK_EVERY_S", 0.01)


@pytest.mark.usefixtures("_looks_often")
@pytest.mark.parametrize("again", [True, False])
def test_a_run_that_does_not_end_is_ended_by_force(
    monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """When the time is over, or at once where the stop is asked for a second time."""
    began = threading.Event()

    def serve(tick: Tick) -> WorkflowResult:
        began.set()
        bench.engine.killed.wait()
        return DONE

    bench = Bench(serve)
    if not again:
        monkeypatch.setattr(service, "STOPS_WITHIN_S", 0.0)
    bench.start()
    began.wait()
    for _ in range(1 + again):
        bench.service.stop()
    assert "ended by force: circuit_breaker\n" in bench.end()
    assert not bench.errors


@pytest.mark.usefixtures("_looks_often")
def test_it_ends_by_itself_when_its_hours_are_over() -> None:
    bench = Bench(lambda tick: DONE, hours=0.0)
    bench.start()
    assert "ended by force" not in bench.end()
    assert not bench.errors


@pytest.mark.usefixtures("_looks_often")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_without_one_of_its_workflows_is_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The breaker's output is gone, so that its thread ends; the trading loop must not go on."""

    def gone(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(Bench, "tell", staticmethod(gone))
    bench = Bench(lambda tick: replace(DONE, overran=True))
    bench.start()
    assert "stopping" in bench.end()
    assert [str(error) for error in bench.errors] == [
        "circuit_breaker: expected to be served on, the thread has ended"
    ]
