"""A careful GET for addresses whose answers come from strangers.

An answer may lead only to the origins that the configuration names, over TLS, at most three times,
and the connection must end at a public address: what a name resolves to is judged where it counts,
at the socket, so that no later resolution can differ. Size and time are bounded in all.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from shared import clock
from shared.errors import DataUnavailable

if TYPE_CHECKING:
    import requests

MAX_BYTES = 512 * 1024
TIMEOUT_S = 2.0
"""For connecting and for each silence within an answer."""
TOTAL_S = 4.0
"""For all redirects and the whole body."""
_MAX_REDIRECTS = 3
_CHUNK_BYTES = 65_536
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {
    "Accept": "application/rss+xml, application/atom+xml, application/xml;q=0.9, text/xml;q=0.9",
    "Accept-Encoding": "identity",  # a compressed answer could be larger than it seems
    "User-Agent": "autonomous-trading-loop/0.1 (headlines, at most once in ten minutes)",
}

Origin = tuple[str, str, int]
IsAllowed = Callable[[str], bool]


@dataclass(frozen=True)
class Fence:
    """Where requests may go.

    Attributes:
        origins: scheme, host and port of each address that is configured.
        is_allowed: judges the IP address that a connection has reached.
    """

    origins: frozenset[Origin]
    is_allowed: IsAllowed


def is_public(address: str) -> bool:
    """Whether an IP address is none of a private, local or reserved network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_global and not ip.is_multicast


def is_this_machine(address: str) -> bool:
    """Whether an IP address is a loopback one, where the local stand-ins listen."""
    return ipaddress.ip_address(address).is_loopback


def fence(urls: Iterable[str], *, stand_in: bool = False) -> Fence:
    """The fence around ``urls``; with ``stand_in`` around stand-ins on this machine."""
    is_allowed = is_this_machine if stand_in else is_public
    return Fence(frozenset(_origin(url) for url in urls), is_allowed)


def get(url: str, within: Fence) -> bytes:
    """The body at ``url``.

    Raises:
        DataUnavailable: says why in words of our own; nothing of the answer is quoted.
    """
    import requests
    from urllib3.exceptions import HTTPError

    watch = clock.Stopwatch()
    with requests.Session() as session:
        session.trust_env = False  # behind a proxy nobody could judge where a connection ends
        session.mount("https://", _adapter(within.is_allowed, "https"))
        session.mount("http://", _adapter(within.is_allowed, "http"))
        try:
            for _ in range(1 + _MAX_REDIRECTS):
                _check_origin(url, within)
                with session.get(
                    url, headers=_HEADERS, timeout=TIMEOUT_S, stream=True, allow_redirects=False
                ) as answer:
                    if answer.status_code not in _REDIRECTS:
                        return _body(answer, watch)
                    url = urljoin(url, answer.headers.get("Location", ""))
        except (requests.RequestException, HTTPError, OSError) as error:
            raise DataUnavailable(type(error).__name__) from error
        except ValueError as error:  # an address that cannot be taken apart
            raise DataUnavailable("malformed address") from error
    raise DataUnavailable(f"more than {_MAX_REDIRECTS} redirects")


def _origin(url: str) -> Origin:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return parts.scheme, parts.hostname or "", port


def _check_origin(url: str, within: Fence) -> None:
    if _origin(url) not in within.origins:
        raise DataUnavailable("leads to an address that is not configured")


def _body(answer: requests.Response, watch: clock.Stopwatch) -> bytes:
    if answer.status_code != 200:
        raise DataUnavailable(f"HTTP {answer.status_code}")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise DataUnavailable("compressed, though asked not to be")
    body = bytearray()
    # `read1` returns what has come; `read` would wait for the rest of a chunk, drop by drop.
    while chunk := answer.raw.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_BYTES:
            raise DataUnavailable(f"longer than {MAX_BYTES} bytes")
        if watch.seconds() > TOTAL_S:
            raise DataUnavailable(f"not complete after {TOTAL_S:g} s")
    return bytes(body)


def _adapter(is_allowed: IsAllowed, scheme: str) -> Any:
    """An adapter of requests whose connections end where ``is_allowed`` lets them.

    Built when it is needed, since requests and urllib3 are not loaded with this module.
    """
    from requests.adapters import HTTPAdapter

    class Fenced(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = {scheme: _pool_class(is_allowed, scheme)}

    return Fenced()


@functools.cache
def _pool_class(is_allowed: IsAllowed, scheme: str) -> type[Any]:
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    plain: Any = HTTPConnection if scheme == "http" else HTTPSConnection
    pool: Any = HTTPConnectionPool if scheme == "http" else HTTPSConnectionPool

    class Connection(plain):
        def _new_conn(self) -> Any:
            connected = super()._new_conn()
            if not is_allowed(connected.getpeername()[0]):
                connected.close()
                raise DataUnavailable("resolves to an internal address")
            return connected

    return type("FencedPool", (pool,), {"ConnectionCls": Connection})
