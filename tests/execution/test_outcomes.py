"""Which answers prove that an order does not exist, and which prove nothing.

Codes and texts: Binance's errors.md, Kraken's API error list, Coinbase Advanced Trade's
``failure_reason`` values.
"""

from __future__ import annotations

import pytest

from shared.execution.venues.outcomes import DEFINITE_REJECTIONS, definite_rejection

REJECTED = [
    ("binance", '{"code":-2010,"msg":"Account has insufficient balance for requested action."}'),
    ("binance", '{"code":-1013,"msg":"Filter failure: NOTIONAL"}'),
    ("binance", '{"code":-1013,"msg":"Filter failure: LOT_SIZE"}'),
    ("binance", '{"code":-1021,"msg":"Timestamp for this request is outside of the recvWindow."}'),
    ("binance", '{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}'),
    ("binance", '{"code": -1121, "msg": "Invalid symbol."}'),
    ("binanceus", '{"code":-2010,"msg":"Account has insufficient balance for requested action."}'),
    ("kraken", '{"error":["EOrder:Insufficient funds"]}'),
    ("kraken", '{"error":["EOrder:Order minimum not met"]}'),
    ("kraken", '{"error":["EAPI:Invalid nonce"]}'),
    ("kraken", '{"error":["EService:Market in cancel_only mode"]}'),
    ("coinbase", '{"success":false,"error_response":{"error":"INSUFFICIENT_FUND"}}'),
    ("coinbase", '{"success":false,"error_response":{"error":"INVALID_SIZE_PRECISION"}}'),
]

PROVES_NOTHING = [
    ("binance", '{"code":-2010,"msg":"Duplicate order sent."}'),  # an order of ours exists
    ("binance", '{"code":-1007,"msg":"Timeout waiting for response from backend server."}'),
    ("binance", '{"code":-1006,"msg":"An unexpected response was received. status unknown."}'),
    ("binance", '{"code":-1000,"msg":"An unknown error occurred while processing the request."}'),
    ("binance", '{"code":-1003,"msg":"Too many requests."}'),
    ("binance", "503 Service Unavailable Unknown error, please check your request"),
    ("binance", "<html>502 Bad Gateway</html>"),
    ("binance", "EOrder:Insufficient funds"),  # another venue's words
    ("kraken", '{"error":["EService:Unavailable"]}'),
    ("kraken", '{"error":["EService:Timeout"]}'),
    ("kraken", '{"error":["EGeneral:Internal error"]}'),
    ("kraken", "request timed out (10000 ms)"),
    ("coinbase", '{"success":false,"error_response":{"error":"DUPLICATE_CLIENT_ORDER_ID"}}'),
    ("coinbase", '{"error":"internal","message":"An internal error has occurred"}'),
    ("coinbase", ""),
]


@pytest.mark.parametrize(("venue", "answer"), REJECTED)
def test_a_definite_rejection(venue: str, answer: str) -> None:
    assert definite_rejection(venue, f"{venue} {answer}")


@pytest.mark.parametrize(("venue", "answer"), PROVES_NOTHING)
def test_anything_else_leaves_the_order_unknown(venue: str, answer: str) -> None:
    assert definite_rejection(venue, f"{venue} {answer}") is None


def test_no_entry_stands_twice() -> None:
    keys = [(family, pattern) for family, pattern, _ in DEFINITE_REJECTIONS]
    assert len(keys) == len(set(keys))
