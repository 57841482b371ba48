"""Two workflows look after the same positions: what one has closed, the other leaves alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import DataUnavailable
from shared.risk import manage
from shared.risk.managing import adjustments


def test_a_position_closed_since_it_was_read_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*arguments: Any) -> None:
        raise DataUnavailable("position 7: expected to be open, was closed meanwhile")

    monkeypatch.setattr(adjustments, "follow", gone)
    monkeypatch.setattr(manage, "_leave", lambda *arguments: None)
    monkeypatch.setattr(manage.looks, "risk_exit", lambda run: None)
    look = SimpleNamespace(
        position=SimpleNamespace(position_id=7, symbol="BTC/USDT"),
        quote=SimpleNamespace(bid=100.0),
        seen=None,
    )
    manager = manage._Manager(None, None)  # type: ignore[arg-type]
    assert manager.leave_or_follow([look]) == []  # type: ignore[list-item]
    assert manager.actions == [
        {
            "position_id": 7,
            "symbol": "BTC/USDT",
            "action": "none",
            "skipped": "position 7: expected to be open, was closed meanwhile",
        }
    ]
