"""As much of PostgreSQL's, Redis's and HTTP's framing as it takes to tell one call from the next.

Everything is passed on byte for byte; nothing is understood beyond lengths and names.
PostgreSQL: "Frontend/Backend Protocol", chapter 53 of its manual. Redis: RESP2 and RESP3.
"""

from __future__ import annotations

import asyncio
import re
import struct

_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102
_TABLE = re.compile(r"\b(?:insert into|update|delete from|from)\s+([a-z_]+)", re.IGNORECASE)
_CHUNK = re.compile(rb"^([0-9a-fA-F]+)")


class Ended(Exception):
    """The other side closed the connection between two messages or within one."""


async def _exactly(reader: asyncio.StreamReader, count: int) -> bytes:
    try:
        return await reader.readexactly(count)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Ended from error


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await reader.readuntil(b"\r\n")
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Ended from error
    return line


# PostgreSQL


async def read_startup(reader: asyncio.StreamReader) -> bytes:
    """A message without a type byte: a start, or a request for encryption or cancelling."""
    head = await _exactly(reader, 4)
    (length,) = struct.unpack("!I", head)
    return head + await _exactly(reader, length - 4)


def wants_encryption(startup: bytes) -> bool:
    """Whether a startup message only asks for TLS or GSSAPI; the answer is ``N``, one byte."""
    return _startup_code(startup) in (_SSL_REQUEST, _GSS_REQUEST)


def is_cancel(startup: bytes) -> bool:
    return _startup_code(startup) == _CANCEL_REQUEST


def _startup_code(startup: bytes) -> int:
    code: int = struct.unpack("!I", startup[4:8])[0]
    return code


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """A message with its type byte."""
    head = await _exactly(reader, 5)
    (length,) = struct.unpack("!I", head[1:])
    return head + await _exactly(reader, length - 4)


async def read_until_ready(reader: asyncio.StreamReader) -> bytes:
    """All messages up to and including ReadyForQuery."""
    messages = []
    while True:
        messages.append(await read_message(reader))
        if messages[-1][:1] == b"Z":
            return b"".join(messages)


def query(sql: str) -> bytes:
    """A simple query message."""
    body = sql.encode() + b"\0"
    return b"Q" + struct.pack("!I", len(body) + 4) + body


def error(code: str, message: str) -> bytes:
    """An ErrorResponse."""
    fields = f"SERROR\0VERROR\0C{code}\0M{message}\0\0".encode()
    return b"E" + struct.pack("!I", len(fields) + 4) + fields


def ready(status: str) -> bytes:
    """A ReadyForQuery: ``I`` outside a transaction, ``T`` inside, ``E`` in a failed one."""
    return b"Z" + struct.pack("!I", 5) + status.encode()


def sql_name(message: bytes) -> str:
    """``INSERT intents``, ``SELECT fills``, ``COMMIT``: verb and first table of a query."""
    text = message[5:].rstrip(b"\0").decode(errors="replace").strip()
    verb = text.split(None, 1)[0].upper().rstrip(";") if text else "EMPTY"
    if verb in ("BEGIN", "COMMIT", "ROLLBACK"):
        return verb
    table = _TABLE.search(text)
    return f"{verb} {table.group(1)}" if table else verb


# Redis


async def read_command(reader: asyncio.StreamReader) -> bytes:
    """One command, an array of bulk strings."""
    return await read_reply(reader)


async def read_reply(reader: asyncio.StreamReader) -> bytes:
    """One reply of any type, nested ones included."""
    head = await _line(reader)
    kind = head[:1]
    if kind in (b"$", b"=", b"!"):
        length = int(head[1:])
        return head if length < 0 else head + await _exactly(reader, length + 2)
    if kind in (b"*", b"~", b">", b"%"):
        count = max(0, int(head[1:])) * (2 if kind == b"%" else 1)
        return head + b"".join([await read_reply(reader) for _ in range(count)])
    return head


def redis_name(command: bytes) -> str:
    """``GET sentiment``: the command and its first key without pod and what follows the kind."""
    parts = command.split(b"\r\n")
    words = [part.decode(errors="replace") for part in parts[2::2]][:2]
    verb = words[0].upper()
    if verb in ("AUTH", "HELLO") or len(words) < 2:
        return verb
    if verb == "CLIENT":
        return f"{verb} {words[1].upper()}"
    return f"{verb} {words[1].partition(':')[2] or words[1]}"


# HTTP/1.1


async def read_http(reader: asyncio.StreamReader, *, bodiless: bool = False) -> bytes:
    """One request or response: head, and body by Content-Length or in chunks."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError) as gone:
        raise Ended from gone
    if bodiless:
        return head
    headers = _headers(head)
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return head + await _chunks(reader)
    length = int(headers.get(b"content-length", b"0"))
    return head + await _exactly(reader, length) if length else head


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while True:
        line = await _line(reader)
        match = _CHUNK.match(line)
        size = int(match.group(1), 16) if match else 0
        parts += [line, await _exactly(reader, size + 2)]
        if size == 0:
            return b"".join(parts)


def _headers(head: bytes) -> dict[bytes, bytes]:
    lines = head.split(b"\r\n")[1:]
    pairs = (line.partition(b":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def http_name(request: bytes) -> str:
    """``POST binance /api/v3/order``: method, service and path, without the query.

    Identifiers in a path (Coinbase names orders there) become ``*``.
    """
    method, target = request.split(b" ", 2)[:2]
    path = target.partition(b"?")[0].decode(errors="replace")
    service, _, rest = path.lstrip("/").partition("/")
    rest = re.sub(r"[0-9a-f-]{16,}|\d{6,}", "*", rest)
    return f"{method.decode()} {service} /{rest}"
