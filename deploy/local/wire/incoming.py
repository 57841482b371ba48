"""HTTP requests as the venues read them."""

from __future__ import annotations

from aiohttp import web

from deploy.local.wire.venues.base import WireRequest


async def wire_request(request: web.Request, prefix_length: int) -> WireRequest:
    """``request`` with the path below the venue's prefix of that many characters."""
    path, _, query = request.raw_path.partition("?")
    return WireRequest(
        method=request.method,
        path=path[prefix_length:],
        query=query,
        body=await request.read() if request.body_exists else b"",
        headers=request.headers,
        url=f"http://{request.host}{path}",
    )
