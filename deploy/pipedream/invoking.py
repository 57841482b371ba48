"""Call a workflow of the deployed loop over its HTTP trigger, once.

Not by Pipedream's own client: ``workflows.invoke`` of the package ``pipedream`` (1.1.12 to 2.3.0)
puts the workflow's address behind ``https://api.pipedream.com/``, and would take the token there.
Its other calls are those of Connect, whose accounts belong to the users of a product; the accounts
of this workspace are read by ``rest``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from deploy.pipedream.rest import ApiError
from shared.errors import ConfigurationError

_TIMEOUT_SECONDS = 60.0  # a cold start takes some of them
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Answered:
    """What a workflow answered; ``body`` is its JSON, or text where it is none."""

    status: int
    body: Any


def invoke(url: str, token: SecretStr, body: dict[str, Any]) -> Answered:
    """POST ``body`` with a bearer token to a workflow's address, once.

    Raises:
        ConfigurationError: the address is not one of https.
        ApiError: the workflow refused, or could not be reached; nothing is sent again.
    """
    _check(url)
    import requests

    try:
        response = requests.post(
            url,
            json=body,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            timeout=_TIMEOUT_SECONDS,
            allow_redirects=False,  # the token is meant for this address alone
        )
    except requests.RequestException as error:
        raise ApiError(
            f"{url}: {type(error).__name__}: it is not known whether the request arrived; "
            "`trading-loop status` tells what is in force"
        ) from None
    said = _read(response.text)
    if response.status_code != 200:
        raise ApiError(
            f"{url}: HTTP {response.status_code}: {str(said)[:300]}", response.status_code
        )
    return Answered(response.status_code, said)


def _check(url: str) -> None:
    parts = urlsplit(url)
    is_safe = parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in _THIS_MACHINE
    )
    if not is_safe or not parts.hostname or parts.username or parts.password:
        raise ConfigurationError(
            f"url: expected the https address of a workflow's trigger, was {url!r}"
        )


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
