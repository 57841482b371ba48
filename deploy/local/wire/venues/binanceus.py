"""Binance US: the REST API of docs.binance.us, which is Binance spot's under ``api/v3``.

Of ``sapi`` it has other paths. What it does not have it answers as its gateway does, which matters:
ccxt asks it for Binance's ``asset/tradeFee``.
"""

from __future__ import annotations

from typing import Any

from deploy.local.wire.rules import VenueName
from deploy.local.wire.venues.base import JSON, WireAnswer, WireRequest, dump
from deploy.local.wire.venues.binance import Binance

_ABSENT = (
    ("GET", "/sapi/v1/asset/tradeFee"),
    ("GET", "/sapi/v1/account/apiRestrictions"),
    ("GET", "/api/v3/referencePrice"),
    ("GET", "/sapi/v1/margin/allPairs"),
    ("GET", "/sapi/v1/margin/isolated/allPairs"),
    ("GET", "/fapi/v1/exchangeInfo"),
    ("GET", "/dapi/v1/exchangeInfo"),
)


class BinanceUS(Binance):
    """Spot endpoints under ``api/v3``, and trading fees and coins under ``sapi``."""

    name: VenueName = "binanceus"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for path in _ABSENT:
            self._private.pop(path, None)
            self._public.pop(path, None)
        self._private["GET", "/sapi/v1/asset/query/trading-fee"] = self._trade_fee

    def not_found(self, request: WireRequest) -> WireAnswer:
        body: JSON = {
            "timestamp": self.now_ms,
            "status": 404,
            "error": "Not Found",
            "message": "No message available",
            "path": request.path,
        }
        return WireAnswer(dump(body), 404)
