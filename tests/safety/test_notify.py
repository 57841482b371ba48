"""The outbox against the Slack stand-in, with the real slack_sdk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from aiohttp import web

from deploy.local.wire import slack
from shared import clock
from shared.ledger import alerts
from shared.ledger.connection import Ledger
from shared.safety import notify
from tests.conftest import VirtualClock
from tests.risk.world import World, make_run

TOKEN = "xoxb-canary"


class Server:
    """The stand-in on a free port; ``workspace`` holds its messages and faults."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        made: list[slack.Workspace] = []
        original = slack.Workspace.__init__

        def remember(self: slack.Workspace, now: object) -> None:
            original(self, now)  # type: ignore[arg-type]
            made.append(self)

        slack.Workspace.__init__ = remember  # type: ignore[method-assign,assignment]
        app = web.Application()
        app.add_subapp("/slack", slack.build_app(clock.now_ms))
        slack.Workspace.__init__ = original  # type: ignore[method-assign]
        (self.workspace,) = made
        self.runner = web.AppRunner(app)
        self.loop.run_until_complete(self.runner.setup())
        self.loop.run_until_complete(web.TCPSite(self.runner, "127.0.0.1", 0).start())
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.stop()


@pytest.fixture
def world(ledger: Ledger, virtual_clock: VirtualClock, server: Server) -> World:
    world = World(ledger, make_run(ledger, "circuit_breaker"))
    world.configure(SLACK_BOT_TOKEN=TOKEN, SIMULATED_WIRE_URL=server.url)
    return world


def test_alerts_are_sent_once_and_escaped(world: World, server: Server) -> None:
    alerts.put(world.ledger, "a", "CRITICAL", "Halted", "<!channel> & <https://evil.example>")
    assert notify.send_unsent(world.run) == 1
    assert notify.send_unsent(world.run) == 0
    (message,) = server.workspace.messages
    assert message["text"] == (
        "CRITICAL: Halted\n&lt;!channel&gt; &amp; &lt;https://evil.example&gt;"
    )
    assert {block["text"]["type"] for block in message["blocks"]} == {"plain_text"}
    assert (message["unfurl_links"], message["unfurl_media"]) == (False, False)


@pytest.mark.parametrize(
    ("fault", "noted"),
    [
        ({"status": 500}, "500"),
        ({"status": 429, "retry_after": 30}, "429"),
        ({"error": "channel_not_found"}, "channel_not_found"),
    ],
)
def test_a_failure_is_noted_and_tried_again(
    world: World, server: Server, fault: dict[str, object], noted: str
) -> None:
    alerts.put(world.ledger, "a", "HIGH", "Paused", "why")
    server.workspace.faults.append(fault)
    assert notify.send_unsent(world.run) == 0
    row = world.ledger.one("SELECT attempts, sent_at, last_error FROM alerts")
    assert row is not None
    assert (row["attempts"], row["sent_at"]) == (1, None)
    assert noted in row["last_error"]
    assert TOKEN not in row["last_error"]
    assert notify.send_unsent(world.run) == 1
    assert world.run.calls.by_service["slack"].failures == 1


def test_nothing_listening_is_only_a_failure(world: World, server: Server) -> None:
    world.configure(SIMULATED_WIRE_URL="http://127.0.0.1:9")
    alerts.put(world.ledger, "a", "HIGH", "Paused", "why")
    assert notify.send_unsent(world.run) == 0


def test_without_a_token_alerts_wait_in_the_ledger(ledger: Ledger) -> None:
    run = make_run(ledger, "circuit_breaker")
    alerts.put(ledger, "a", "HIGH", "Paused", "why")
    assert notify.send_unsent(run) == 0
    assert len(alerts.unsent(ledger)) == 1
