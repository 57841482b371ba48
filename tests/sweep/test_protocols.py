"""Framing: where one message ends and what it is called."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from deploy.local.sweep import protocols
from deploy.local.sweep.protocols import Ended


def read(data: bytes, reading: Callable[[asyncio.StreamReader], Awaitable[Any]]) -> list[Any]:
    """Everything that ``reading`` finds in ``data``, message by message, to its end."""

    async def all_of_it() -> list[Any]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        found = []
        while not reader.at_eof():
            found.append(await reading(reader))
        return found

    return asyncio.run(all_of_it())


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SELECT * FROM order_log WHERE x = 'INSERT INTO fills'", "SELECT order_log"),
        ("INSERT INTO intents (a) VALUES (1) ON CONFLICT DO NOTHING", "INSERT intents"),
        ("UPDATE leases SET epoch = epoch + 1", "UPDATE leases"),
        ("DELETE FROM alerts", "DELETE alerts"),
        ("begin", "BEGIN"),
        ("COMMIT;", "COMMIT"),
        ("SELECT pg_advisory_xact_lock(1)", "SELECT"),
        ("", "EMPTY"),
    ],
)
def test_a_statement_is_named_by_verb_and_first_table(sql: str, name: str) -> None:
    assert protocols.sql_name(protocols.query(sql)) == name


def test_an_answer_ends_with_ready_for_query() -> None:
    answer = protocols.error("57014", "cancelled") + protocols.ready("E")
    assert read(answer * 2, protocols.read_until_ready) == [answer, answer]


@pytest.mark.parametrize(
    "reply",
    [
        b"+OK\r\n",
        b":12\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"$4\r\na\r\nb\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        b"%1\r\n+key\r\n*0\r\n",
    ],
)
def test_each_redis_reply_is_read_to_its_end(reply: bytes) -> None:
    assert read(reply * 2, protocols.read_reply) == [reply, reply]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("SET", "pod:candles:binance", "x"), "SET candles:binance"),
        (("mget", "pod:a", "pod:b"), "MGET a"),
        (("AUTH", "secret"), "AUTH"),
        (("HELLO", "3"), "HELLO"),
        (("CLIENT", "SETINFO", "LIB-NAME"), "CLIENT SETINFO"),
        (("PING",), "PING"),
    ],
)
def test_a_redis_command_is_named_without_pod_and_secret(words: tuple[str, ...], name: str) -> None:
    parts = b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words)
    assert protocols.redis_name(f"*{len(words)}\r\n".encode() + parts) == name


@pytest.mark.parametrize(
    "message",
    [
        b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
    ],
)
def test_http_messages_are_read_to_their_end(message: bytes) -> None:
    assert read(message * 2, protocols.read_http) == [message, message]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"POST /binance/api/v3/order?signature=1 HTTP/1.1", "POST binance /api/v3/order"),
        (
            b"GET /coinbase/api/v3/brokerage/orders/historical/ff7735b8-3968-4acf-8000-0 HTTP/1.1",
            "GET coinbase /api/v3/brokerage/orders/historical/*",
        ),
        (b"GET /fng/ HTTP/1.1", "GET fng /"),
    ],
)
def test_a_request_is_named_without_query_and_identifiers(line: bytes, name: str) -> None:
    assert protocols.http_name(line + b"\r\n\r\n") == name


def test_a_message_that_breaks_off_is_an_end() -> None:
    for reading in (protocols.read_message, protocols.read_reply, protocols.read_http):
        with pytest.raises(Ended):
            read(b"$9\r\nab", reading)
