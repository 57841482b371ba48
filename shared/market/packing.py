"""Tables of a scan without their column names in every row, and back.

A scan of 20 symbols holds some four thousand values. With the name of each beside it the export
would be twice as large, and every later step and Pipedream's limit would carry it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Market = dict[str, Any]
DIGITS = {
    "indicators": 6,
    "order_flow": 6,
    "derivatives": 6,
    "contributions": 3,
    "odds": 4,
    "settling": 2,
}
"""Significant digits of the tables that hold no prices to trade at."""

_MOST_NOTES = 8
_LONGEST_NOTE = 90
_DOT = "."


def compact(value: Any, digits: int = 8) -> Any:
    """``value`` with floats of so many significant digits, which keeps it small."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: compact(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [compact(item, digits) for item in value]
    return value


def brief(market: Market) -> Market:
    """A market as the next steps need it: fewer digits, and the first of many notes.

    The ledger keeps the whole of it.
    """
    shorter = {name: compact(market[name], n) for name, n in DIGITS.items() if market.get(name)}
    for name in ("missing", "uncalibrated_because"):
        if notes := market.get(name):
            shorter[name] = _first(notes)
    return market | shorter


def pack(markets: Sequence[Market]) -> dict[str, Any]:
    """``{"columns": {...}, "markets": [...]}``: what ``unpack`` turns back into ``markets``.

    Each table of a market (``indicators``, ``microstructure``, ...) becomes a row of values.
    ``columns`` names them by table, with a dot between the levels of a table in a table:
    ``1h.rsi_14``. A value that a market does not have is ``null``.
    """
    flat = [{k: _flat(v) if isinstance(v, dict) else v for k, v in m.items()} for m in markets]
    columns: dict[str, dict[str, None]] = {}
    for market in flat:
        for section, value in market.items():
            if isinstance(value, dict):
                columns.setdefault(section, {}).update(dict.fromkeys(value))
    return {
        "columns": {section: list(names) for section, names in columns.items()},
        "markets": [
            {
                section: [value.get(name) for name in columns[section]]
                if isinstance(value, dict)
                else value
                for section, value in market.items()
            }
            for market in flat
        ],
    }


def unpack(signals: Mapping[str, Any]) -> list[Market]:
    """The markets of a scan's ``signals``, with their tables by name and without nulls in them.

    Signals that were never packed are returned as they are.
    """
    columns = signals.get("columns")
    if columns is None:
        return list(signals["markets"])
    return [
        {
            section: _deep(value, columns[section])
            if section in columns and value is not None
            else value
            for section, value in market.items()
        }
        for market in signals["markets"]
    ]


def _first(notes: Sequence[str]) -> list[str]:
    more = [f"and {len(notes) - _MOST_NOTES} more"] if len(notes) > _MOST_NOTES else []
    return [note[:_LONGEST_NOTE] for note in notes[:_MOST_NOTES]] + more


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_leaves(table, ""))


def _leaves(table: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if _DOT in name:
            raise ValueError(f"{path}{name}: expected a name without a dot")
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{name}{_DOT}")
        else:
            yield path + name, value


def _deep(row: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in zip(names, row, strict=True):
        if value is None:
            continue
        *outer, last = name.split(_DOT)
        inner = table
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return table
