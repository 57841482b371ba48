"""A scan as tables for a person: what was seen, how old each input was, and the check of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from deploy.research.indicator_reference import Comparison

Market = dict[str, Any]


def print_scan(
    console: Console, export: dict[str, Any], seconds: float, requests: Mapping[str, int]
) -> None:
    """All that a scan of one symbol computed, and its cost; ``requests`` by service."""
    (market,) = export["signals"]["markets"]
    now_ms = export["signals"]["timestamp"]
    at = datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    console.print(f"[bold]{market['symbol']}[/] at {at:%Y-%m-%d %H:%M:%S} UTC, {market['venue']}")
    console.print(
        f"price {_number(market['price'])}   AI score {_number(market['ai_score'])} "
        f"({'' if market['calibrated'] else 'not '}calibrated)   "
        f"rank {_number(market['ai_score_rank'])}   next action {export['nextAction']}"
    )
    asked = ", ".join(f"{service} {count}" for service, count in sorted(requests.items()))
    total = sum(requests.values())
    console.print(f"scanned in {seconds:.2f} s from an empty cache with {total} requests: {asked}")
    if "anomaly" in market:
        console.print(f"[bold red]anomaly:[/] {escape(market['anomaly'])}")
    if market["indicators"]:
        console.print(_indicators(market))
    console.print(_rows("Score: contributions to the logit", market["contributions"]))
    for title, name in (
        ("Order flow", "order_flow"),
        ("Order book", "microstructure"),
        ("Sentiment", "sentiment"),
        ("Derivatives", "derivatives"),
    ):
        if market[name] is not None:
            console.print(_rows(title, market[name]))
    console.print(_venues(market))
    if market["patterns"]:
        console.print(_patterns(market))
    if export["signals"]["headlines"]:
        console.print(_headlines(export["signals"]["headlines"]))
    console.print(_freshness(market, now_ms))
    for timeframe, weights in market.get("settling", {}).items():
        shares = ", ".join(f"{name} {weight:.1e}" for name, weight in weights.items())
        console.print(f"Settling in {timeframe}, with the weight of its start: {shares}")
    missing = [*market["missing"], *export["missing"]]
    console.print(f"Missing: {escape('; '.join(missing) or 'nothing')}")


def print_check(console: Console, comparisons: list[Comparison]) -> None:
    """Each indicator beside TA-Lib's, and how many of them differ."""
    table = _table("Against TA-Lib over the whole history", "", "ours", "TA-Lib", "difference", "")
    for one in comparisons:
        table.add_row(
            f"{one.timeframe} {one.name}",
            _exact(one.value),
            _exact(one.expected),
            "-" if one.difference is None else f"{one.difference:.1e}",
            _verdict(one),
        )
    console.print(table)
    settled = [one for one in comparisons if not one.seed_weight]
    wrong = sum(not one.agrees for one in comparisons)
    worst = max((one.difference or 0.0 for one in settled), default=0.0)
    console.print(
        f"{len(settled)} values compared, {wrong} differ by more than 1e-6, worst {worst:.1e}; "
        f"{len(comparisons) - len(settled)} still settling"
    )


def _verdict(one: Comparison) -> str:
    if one.seed_weight:
        return f"settling, weight of the start {one.seed_weight:.1e}"
    return "" if one.agrees else "[bold red]differs[/]"


def _indicators(market: Market) -> Table:
    timeframes = market["indicators"]
    table = _table("Indicators of closed candles", "", *timeframes)
    names = dict.fromkeys(name for values in timeframes.values() for name in values)
    for name in names:
        cells = (values.get(name) for values in timeframes.values())
        table.add_row(name, *(_shown(name, cell) for cell in cells))
    return table


def _patterns(market: Market) -> Table:
    table = _table("Patterns", "kind", "timeframe", "direction", "confidence", "points", "newest")
    for pattern in market["patterns"]:
        newest_ms, newest_price = pattern["points"][-1]
        table.add_row(
            pattern["kind"],
            pattern["timeframe"],
            pattern["direction"],
            _number(pattern["confidence"]),
            str(len(pattern["points"])),
            f"{_moment(newest_ms)}  {_number(newest_price)}",
        )
    return table


def _venues(market: Market) -> Table:
    table = _table("Venues", "", "bid", "ask", "at")
    for venue, quote in market["venues"].items():
        bid, ask = _number(quote["bid"]), _number(quote["ask"])
        table.add_row(venue, bid, ask, _moment(quote["at_ms"]))
    return table


def _headlines(headlines: list[dict[str, Any]]) -> Table:
    """Their text is others' and may hold anything, markup too."""
    table = _table("Headlines", "", "score", "names", "at")
    for one in headlines:
        names = ", ".join(one["symbols"]) or "-"
        table.add_row(escape(one["title"]), _number(one["score"]), names, _moment(one["at_ms"]))
    return table


def _freshness(market: Market, now_ms: int) -> Table:
    table = _table("Times of the inputs", "", "at", "age")
    for name, value in _flat(market, ""):
        if name.endswith("at_ms") and value is not None:
            table.add_row(name, _moment(value), _age((now_ms - value) / 1000))
    return table


def _rows(title: str, values: Mapping[str, Any]) -> Table:
    table = _table(title, "", "value")
    for name, value in _flat(values, ""):
        table.add_row(name, _shown(name, value))
    return table


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """The values of nested tables with dotted names; lists are left out."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            yield f"{prefix}{name}", value


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _shown(name: str, value: Any) -> str:
    if isinstance(value, str | bool):
        return escape(str(value))
    return _moment(value) if name.endswith("_ms") and _is_time(value) else _number(value)


def _is_time(value: float | None) -> bool:
    """Milliseconds since 1970, not a length of time."""
    return value is None or value > 1e12


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if abs(value) >= 1_000 else f"{value:.5g}"


def _exact(value: float | None) -> str:
    return "-" if value is None else f"{value:.8g}"


def _moment(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{datetime.fromtimestamp(milliseconds / 1000, tz=UTC):%m-%d %H:%M:%S}"


def _age(seconds: float) -> str:
    sign, length = ("in ", -seconds) if seconds < 0 else ("", seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if length >= size:
            return f"{sign}{length / size:.1f} {unit}"
    return f"{sign}{length:.1f} s"
