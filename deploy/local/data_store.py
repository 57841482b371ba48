"""A data store as a Python step sees it: JSON values, copies on read, expiry, no transactions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from deploy.local.exports import encode
from shared import clock


class DataStore:
    """Keys and JSON values. What a reader gets is a copy: changing it changes nothing here."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._texts: dict[str, str] = {}
        self._expires_at_ms: dict[str, int] = {}

    def __getitem__(self, key: str) -> Any:
        """The value of ``key``; a missing one raises ``TypeError``, as Pipedream's does."""
        if key not in self:
            raise TypeError(f"data store {self._name}: no value for the key {key!r}")
        return json.loads(self._texts[key])

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        self._texts.pop(key, None)
        self._expires_at_ms.pop(key, None)

    def __contains__(self, key: object) -> bool:
        self._drop_expired()
        return key in self._texts

    def __len__(self) -> int:
        self._drop_expired()
        return len(self._texts)

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self:
            return default
        return self[key]

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Keep ``value``, for ``ttl`` seconds where one is given."""
        self._texts[key] = encode(value, self._name, key)
        self.set_ttl(key, ttl)

    def set_ttl(self, key: str, ttl: float | None = None) -> None:
        """Let ``key`` expire in ``ttl`` seconds; ``None`` keeps it for ever."""
        if key not in self._texts:
            raise TypeError(f"data store {self._name}: no value for the key {key!r}")
        if ttl is None:
            self._expires_at_ms.pop(key, None)
        else:
            self._expires_at_ms[key] = clock.now_ms() + round(ttl * 1000)

    def keys(self) -> Iterator[str]:
        self._drop_expired()
        return iter(tuple(self._texts))

    def items(self) -> Iterator[tuple[str, Any]]:
        return ((key, self[key]) for key in self.keys())

    def clear(self) -> None:
        self._texts.clear()
        self._expires_at_ms.clear()

    def _drop_expired(self) -> None:
        now_ms = clock.now_ms()
        for key in [key for key, at_ms in self._expires_at_ms.items() if at_ms <= now_ms]:
            del self[key]
