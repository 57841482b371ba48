"""Coinbase's tokens, made by ccxt and checked by the stand-in."""

from __future__ import annotations

import base64

import pytest

from deploy.local.wire.client import make_credentials
from deploy.local.wire.venues.jwt import BadToken, TokenCheck
from shared.execution.venues.ccxt_loader import exchange_class

KEYS = make_credentials(5)["coinbase"]
ED25519_SECRET = base64.b64encode(bytes(range(64))).decode()
URL = "http://127.0.0.1:8000/coinbase/api/v3/brokerage/accounts"
NOW = 1_746_532_800
OTHER_SECRET = make_credentials(6)["coinbase"]["secret"]
CHECK = TokenCheck(KEYS["api_key"], KEYS["secret"])


def _header(secret: str = KEYS["secret"], method: str = "GET", url: str = URL) -> str:
    client = exchange_class("coinbase")({"apiKey": KEYS["api_key"], "secret": secret})
    eddsa = not secret.startswith("-----BEGIN")
    return "Bearer " + client.create_auth_token(NOW, method, url, eddsa)


@pytest.mark.parametrize("secret", [KEYS["secret"], ED25519_SECRET], ids=["ES256", "EdDSA"])
def test_a_token_of_the_key_for_this_request_is_good(secret: str) -> None:
    TokenCheck(KEYS["api_key"], secret).check(_header(secret), "GET", URL, NOW + 1)
    with_query = _header(secret, url=URL + "?limit=250")
    TokenCheck(KEYS["api_key"], secret).check(with_query, "GET", URL, NOW + 1)


@pytest.mark.parametrize(
    ("token", "seconds_later", "words"),
    [
        ({"method": "POST"}, 0, "uri"),
        ({"url": URL + "/other"}, 0, "uri"),
        ({}, 121, "not valid now"),
        ({}, -1, "not valid now"),
        ({"secret": OTHER_SECRET}, 0, "signature"),
        ({"secret": ED25519_SECRET}, 0, "alg"),
    ],
    ids=["method", "address", "too late", "too early", "another key", "another algorithm"],
)
def test_a_token_of_another_request_time_or_key_is_not(
    token: dict[str, str], seconds_later: int, words: str
) -> None:
    with pytest.raises(BadToken, match=words):
        CHECK.check(_header(**token), "GET", URL, NOW + seconds_later)


@pytest.mark.parametrize(
    ("header", "words"), [("Bearer a.b.c", "token"), ("Basic a.b.c", "Authorization"), ("", "Auth")]
)
def test_what_is_no_token(header: str, words: str) -> None:
    with pytest.raises(BadToken, match=words):
        CHECK.check(header, "GET", URL, NOW)


def test_a_token_that_was_changed() -> None:
    with pytest.raises(BadToken, match="signature"):
        CHECK.check(_header()[:-8], "GET", URL, NOW)
