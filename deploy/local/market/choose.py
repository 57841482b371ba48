"""Which market a replay gets when nobody says: recorded, else live, else simulated."""

from __future__ import annotations

from deploy.local.market.source import SourceKind, SourceSpec
from shared.errors import ConfigurationError

SIMULATED_FROM_MS = 1_767_571_200_000
"""2026-01-05 00:00 UTC, a Monday: fixed, so that a seed names the same market on every day."""
ANSWER_WITHIN_SECONDS = 5.0


def choose_source(
    market_data_dir: str | None,
    symbols: tuple[str, ...],
    hours: float,
    seed: int,
    *,
    kind: SourceKind | None = None,
    from_ms: int | None = None,
    live_dir: str = ".local/market",
) -> tuple[SourceSpec, str]:
    """The market to replay, and a plain sentence that says why it is this one.

    Args:
        market_data_dir: what ``MARKET_DATA_DIR`` holds; None or empty where it is not set.
        kind: what was asked for; None leaves the choice to this function.
        from_ms: where to start; None takes the newest recorded hours, the last hours that are
            over, or a fixed Monday for the simulated market.
        live_dir: where downloaded candles are kept.

    Raises:
        ConfigurationError: recorded candles were asked for and there is no folder.
        DataUnavailable: the folder lacks a symbol or the hours; or a live market was asked for
            and no exchange answered or served it.
    """
    if kind == "recorded" or (kind is None and market_data_dir):
        return _recorded(market_data_dir, symbols, hours, seed, from_ms)
    reason = "a simulated market was asked for."
    if kind != "simulated":
        from deploy.local.market.live import prepare_live

        live, why = prepare_live(
            symbols,
            hours,
            seed,
            live_dir,
            from_ms=from_ms,
            seconds=ANSWER_WITHIN_SECONDS,
            required=kind == "live",
        )
        if live is not None:
            return live, f"{why}."
        reason = f"MARKET_DATA_DIR is not set and {why}."
    start = SIMULATED_FROM_MS if from_ms is None else from_ms
    return SourceSpec("simulated", symbols, start, hours, seed, None), reason


def _recorded(
    market_data_dir: str | None,
    symbols: tuple[str, ...],
    hours: float,
    seed: int,
    from_ms: int | None,
) -> tuple[SourceSpec, str]:
    from deploy.local.market.recorded import latest_window

    if not market_data_dir:
        raise ConfigurationError(
            "MARKET_DATA_DIR: expected a folder of recorded candles, was not set"
        )
    if from_ms is None:
        from_ms = latest_window(market_data_dir, symbols, hours)
        why = "the newest hours that all symbols have in minutes"
    else:
        why = "the hours that were asked for"
    spec = SourceSpec("recorded", symbols, from_ms, hours, seed, market_data_dir)
    return spec, f"MARKET_DATA_DIR names the folder {market_data_dir}; {why}."
