"""The Slack stand-in over HTTP, with the real slack_sdk."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from deploy.local.wire import slack

NOW_MS = 1_746_489_600_000
TOKEN = "xoxb-test"


@pytest.fixture
def url() -> Iterator[str]:
    """The stand-in under /slack on a free port of 127.0.0.1."""
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.add_subapp("/slack", slack.build_app(lambda: NOW_MS))
    runner = web.AppRunner(app)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{port}/slack"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def client(url: str, token: str | None = TOKEN) -> WebClient:
    return WebClient(token=token, base_url=f"{url}/api/", retry_handlers=[])


def posted(url: str) -> Any:
    with urllib.request.urlopen(f"{url}/_messages") as answer:
        return json.load(answer)


def script(url: str, *faults: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{url}/_faults", json.dumps(faults).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request).close()


def test_a_message_is_kept_and_answered_as_documented(url: str) -> None:
    blocks = [{"type": "section", "text": {"type": "plain_text", "text": "<!channel>"}}]
    answer = client(url).chat_postMessage(channel="alerts", text="a &lt; b", blocks=blocks)
    assert answer["ok"] is True
    assert answer["channel"].startswith("C")
    assert answer["ts"] == "1746489600.000001"
    assert answer["message"]["text"] == "a &lt; b"
    assert answer["message"]["type"] == "message"
    (kept,) = posted(url)
    assert (kept["channel"], kept["text"], kept["blocks"]) == ("alerts", "a &lt; b", blocks)


def test_auth_test_names_team_and_bot(url: str) -> None:
    answer = client(url).auth_test()
    assert {"url", "team", "user", "team_id", "user_id", "bot_id"} <= set(answer.data)  # type: ignore[arg-type]


@pytest.mark.parametrize(("token", "error"), [(None, "not_authed"), ("nonsense", "invalid_auth")])
def test_a_wrong_token_is_refused(url: str, token: str | None, error: str) -> None:
    with pytest.raises(SlackApiError) as caught:
        client(url, token).auth_test()
    assert caught.value.response["error"] == error


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"channel": "alerts", "text": ""}, "no_text"),
        ({"channel": "", "text": "x"}, "channel_not_found"),
        ({"channel": "alerts", "text": "x" * 40_001}, "msg_too_long"),
    ],
)
def test_arguments_slack_would_not_take(url: str, arguments: Any, error: str) -> None:
    with pytest.raises(SlackApiError) as caught:
        client(url).chat_postMessage(**arguments)
    assert caught.value.response["error"] == error
    assert posted(url) == []


def test_faults_come_in_their_order_and_end(url: str) -> None:
    script(url, {"status": 500}, {"status": 429, "retry_after": 30}, {"error": "is_archived"})
    seen = []
    for _ in range(3):
        with pytest.raises(SlackApiError) as caught:
            client(url).chat_postMessage(channel="alerts", text="x")
        seen.append(caught.value.response)
    assert [answer.status_code for answer in seen] == [500, 429, 200]
    assert seen[1].headers["Retry-After"] == "30"
    assert seen[1]["error"] == "ratelimited"
    assert seen[2]["error"] == "is_archived"
    assert client(url).chat_postMessage(channel="alerts", text="x")["ok"]
    assert len(posted(url)) == 1
