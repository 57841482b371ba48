"""Sends the alerts of the outbox to Slack. Nothing waits for it, nothing fails because of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.ledger import alerts
from shared.ledger.connection import Row

if TYPE_CHECKING:
    from shared.config import Config
    from shared.run import Run

_TIMEOUT_S = 5
_PLAIN_TEXT_MAX = 3_000  # Slack's limit of a text object in a section block
_HEADER_MAX = 150


def send_unsent(run: Run) -> int:
    """Send what is still to be sent, oldest first, and return how many went out.

    Without ``SLACK_BOT_TOKEN`` the alerts stay in the ledger, where the dashboard shows them.
    After a failure the rest waits for the next run; an alert is tried ten times.
    """
    if run.config.slack_bot_token is None:
        return 0
    rows = alerts.unsent(run.ledger)
    if not rows:
        return 0
    client, sent = _client(run.config), 0
    for row in rows:
        error = _send(run, client, row)
        alerts.mark(run.ledger, row["alert_id"], error=error)
        if error is not None:
            break
        sent += 1
    return sent


def _client(config: Config) -> Any:
    from slack_sdk import WebClient

    token = config.slack_bot_token
    options: dict[str, Any] = {"token": token.get_secret_value() if token else None}
    if config.simulated_wire_url is not None:
        options["base_url"] = f"{config.simulated_wire_url}/slack/api/"
    return WebClient(**options, timeout=_TIMEOUT_S, retry_handlers=[])


def _send(run: Run, client: Any, row: Row) -> str | None:
    """Send one alert; ``None`` if it went out, else what went wrong, without any secret."""
    from slack_sdk.errors import SlackApiError, SlackClientError

    with run.calls.timed("slack") as call:
        try:
            client.chat_postMessage(channel=run.config.slack_channel, **message(row))
        except SlackApiError as error:
            answer, status = error.response.data, error.response.status_code
            code = answer.get("error") if isinstance(answer, dict) else None
            call.fail(f"{status} {code or 'no Slack answer'}", rate_limited=status == 429)
        except (SlackClientError, OSError) as error:
            call.fail(type(error).__name__)
    return call.error


def message(row: Row) -> dict[str, Any]:
    """The arguments of ``chat.postMessage``: escaped text, and blocks that are plain text.

    Slack reads ``&``, ``<`` and ``>`` as control characters in ``text``, for example in
    ``<!channel>``; text from outside must not be able to use them.
    """
    heading = f"{row['severity']}: {row['title']}"
    return {
        "text": escaped(f"{heading}\n{row['body']}"),
        "blocks": [
            {"type": "header", "text": _plain(heading, _HEADER_MAX)},
            {"type": "section", "text": _plain(row["body"] or "-", _PLAIN_TEXT_MAX)},
        ],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def escaped(text: str) -> str:
    """``text`` with Slack's three control characters as entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(text: str, longest: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": text[:longest], "emoji": False}
