"""A news site on this machine that answers as a test tells it, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

from tests.market.fakes import NOW_MS

MINUTE = 60_000
Write = Callable[[bytes], Any]


class Site:
    """What the server answers to ``/news/rss`` and anything else.

    Attributes:
        body: sent whole, unless ``stream`` writes something instead.
        headers: sent beside the length.
    """

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.port = port
        self.asked: list[str] = []
        self.status = 200
        self.body = rss("Bitcoin surges")
        self.headers: dict[str, str] = {"Content-Type": "image/png"}  # nobody believes it
        self.stream: Callable[[Write], None] | None = None


def rss(*titles: str, at_ms: int = NOW_MS - MINUTE) -> bytes:
    """A feed whose items are a minute apart, the first one the newest."""
    items = "".join(item(title, at_ms - n * MINUTE) for n, title in enumerate(titles))
    return feed(items)


def item(title: str, at_ms: int) -> str:
    date = f"<pubDate>{formatdate(at_ms / 1000, usegmt=True)}</pubDate>"
    return f"<item><title>{escape(title)}</title>{date}</item>"


def feed(items: str) -> bytes:
    head = '<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><title>n</title>'
    return f"{head}{items}</channel></rss>".encode()


@contextmanager
def serve() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server asks for
            site.asked.append(self.path)
            self.send_response(site.status)
            for name, value in site.headers.items():
                self.send_header(name, value)
            if site.stream is None:
                self.send_header("Content-Length", str(len(site.body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client has heard enough
                (site.stream or (lambda write: write(site.body)))(self.wfile.write)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site = Site(server.server_port)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
