"""The body of the signal step: judge every market, rank, ask the models if need be, decide once.

A decision is a pure function of what is stored with it, so that ``replay`` of its row gives the
same decision, and a retry of the step finds the first attempt's decision instead of making one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from shared import clock
from shared.config import Config
from shared.errors import ModelUnavailable
from shared.ledger import decisions
from shared.ledger.connection import Row
from shared.market import packing
from shared.parameters import Parameters
from shared.run import Export, Run
from shared.signals import answers, ensemble, models, prompts, regime, state, strategies, verdict
from shared.signals.types import Context, Market, Regime, StrategySignal

_LOGGED_REJECTIONS = 8  # of the strongest scores, in a row without candidates


def decide(run: Run) -> Export:
    """The export of ``signal_generator``.

    Raises:
        DataUnavailable: the scanner has returned nothing.
        LeaseLost: another run has taken over.
    """
    scan = run.export_of("market_scanner")
    parameters = Parameters.model_validate(scan["parameters"]["values"])
    known = state.read(run.ledger, parameters.cooldown_minutes)
    markets = {market["symbol"]: market for market in packing.unpack(scan["signals"])}
    regimes = {symbol: regime.classify(market) for symbol, market in markets.items()}
    signals = _signals(run.config, parameters, known, markets, regimes)
    ranking = ensemble.rank(markets, signals, parameters, _blocks(scan, known))
    identity = decisions.decision_id(run.config.pod, run.trace_id)
    row = decisions.find(run.ledger, identity)
    if row is None:
        inputs = _inputs(run, parameters, known, markets, regimes, signals, ranking)
        row = _store(run, identity, inputs, _ask(run, inputs))
    return {
        "strategies": [s.export() for opinions in signals.values() for s in opinions],
        "regimes": {symbol: _regime(found) for symbol, found in regimes.items()},
        "candidates": [c.export() for c in ranking.candidates],
        **_answers(row),
        "finalDecision": replay(row),
        "timestamp": clock.now_ms(),
    }


def replay(row: Row) -> dict[str, Any]:
    """The final decision of a stored row, computed anew from its inputs and raw answers."""
    final = verdict.conclude(row["inputs"], row["model_calls"])
    return {"decision_id": row["decision_id"]} | final


def _signals(
    config: Config,
    parameters: Parameters,
    known: state.LedgerState,
    markets: Mapping[str, Market],
    regimes: Mapping[str, Regime],
) -> dict[str, list[StrategySignal]]:
    quotes: dict[str, dict[str, Any]] = {}
    for symbol, market in markets.items():
        for venue, quote in market["venues"].items():
            quotes.setdefault(venue, {})[symbol] = quote
    weights = parameters.strategy_weights.as_dict()
    signals = {}
    for symbol, market in markets.items():
        context = Context(
            now_ms=clock.now_ms(),
            regime=regimes[symbol],
            weights=regime.adjust(weights, regimes[symbol].name),
            pnl_quote=known.pnl_quote,
            positions=known.positions,
            quotes=quotes,
            max_position_quote=float(config.max_position_size),
            earlier_macd=known.earlier_macd,
        )
        signals[symbol] = [strategy.evaluate(market, context) for strategy in strategies.ALL]
    return signals


def _blocks(scan: Mapping[str, Any], known: state.LedgerState) -> ensemble.Blocks:
    trading = scan["trading_state"]["state"]
    return ensemble.Blocks(
        open=frozenset(known.positions),
        cooling=known.cooling,
        unresolved=known.unresolved,
        refused=known.refused,
        entries_code=None if trading == "ACTIVE" else f"STATE_{trading}",
    )


def _inputs(
    run: Run,
    parameters: Parameters,
    known: state.LedgerState,
    markets: Mapping[str, Market],
    regimes: Mapping[str, Regime],
    signals: Mapping[str, list[StrategySignal]],
    ranking: ensemble.Ranking,
) -> dict[str, Any]:
    scan = run.export_of("market_scanner")
    version = scan["parameters"]["version"]
    if not ranking.candidates:
        return _small_inputs(version, regimes, ranking)
    config = run.config
    offered = [c for c in ranking.candidates if c.action == "BUY"][: prompts.MAX_CANDIDATES]
    symbols = sorted({c.symbol for c in ranking.candidates})
    stop, target = float(config.stop_loss_percent), float(config.take_profit_percent)
    secrets = {"openai": config.openai_api_key, "anthropic": config.anthropic_api_key}
    inputs = {
        "parameters_version": version,
        "candidates": [c.export() for c in ranking.candidates],
        "offered": [c.id for c in offered],
        "providers": [name for name, secret in secrets.items() if secret is not None],
        "limits": {
            "ensemble_threshold": parameters.ensemble_threshold,
            "ai_confidence_threshold": config.ai_confidence_threshold,
            "reward_to_risk": target / stop,
        },
        "confidences": {c.id: _confidence(signals[c.symbol], c.action) for c in ranking.candidates},
        "rejections": dict(Counter(ranking.rejected.values())),
        "regimes": {symbol: _regime(regimes[symbol]) for symbol in symbols},
        "strategies": [s.export() for symbol in symbols for s in signals[symbol]],
    }
    if not verdict.wants_models(inputs):
        return inputs
    held = sorted(known.positions)
    return inputs | {
        "conditions": [
            prompts.conditions(markets[c.symbol], scan["signals"]["headlines"]) for c in offered
        ],
        "risk_reward": {
            "stop_loss_percent": stop,
            "take_profit_percent": target,
            "reward_to_risk": target / stop,
        },
        "positions": [_position(known, symbol, markets.get(symbol)) for symbol in held],
        "correlations": state.correlations(run.ledger, [c.symbol for c in offered], held),
        "recent_trades": state.recent_trades(run.ledger),
    }


def _small_inputs(
    version: int, regimes: Mapping[str, Regime], ranking: ensemble.Ranking
) -> dict[str, Any]:
    """What a minute without candidates leaves behind: under two kilobytes, 1,440 times a day."""
    nearest = sorted(ranking.scores.items(), key=lambda item: -abs(item[1] or 0))
    return {
        "parameters_version": version,
        "candidates": [],
        "rejections": dict(Counter(ranking.rejected.values())),
        "nearest": {
            symbol: {
                "score": None if value is None else round(value, 4),
                "code": ranking.rejected[symbol],
                "regime": regimes[symbol].name,
            }
            for symbol, value in nearest[:_LOGGED_REJECTIONS]
        },
    }


def _ask(run: Run, inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask the first model, and the second only if the first wants to trade."""
    if not verdict.wants_models(inputs):
        return []
    data = prompts.decision_data(inputs)
    calls = [models.ask_openai(run.config, run.calls, data, inputs["offered"])]
    proposal = verdict.proposal(inputs, calls)
    if proposal is not None:
        shown = proposal.model_dump() | {"reasoning": answers.printable(proposal.reasoning)}
        judged = prompts.validation_data(inputs, shown)
        calls.append(models.ask_anthropic(run.config, run.calls, judged))
    return calls


def _store(run: Run, identity: str, inputs: dict[str, Any], calls: list[dict[str, Any]]) -> Row:
    final = verdict.conclude(inputs, calls)
    decision = decisions.Decision(
        decision_id=identity,
        symbol=final["symbol"],
        action=final["action"],
        source=final["source"],
        strategy=final["strategy"],
        confidence=final["confidence"],
        size_fraction=final["size"],
        mid_price=None if final["mid"] is None else Decimal(str(final["mid"])),
        reasoning=final["reasoning"],
        inputs=inputs,
        model_calls=calls,
    )
    with run.ledger.transaction():
        run.guard()
        return decisions.record(run.ledger, run.run_id, decision)


def _answers(row: Row) -> dict[str, Any]:
    """What the models said, for the export; ``None`` where there is no usable answer."""
    calls, said = row["model_calls"], {"primarySignal": None, "validation": None}
    try:
        if calls:
            offered = verdict.offered(row["inputs"])
            said["primarySignal"] = _shown(answers.read_decision(calls[0], offered).model_dump())
        if len(calls) > 1:
            said["validation"] = _shown(answers.read_validation(calls[1]).model_dump())
    except ModelUnavailable:
        return said  # the final decision's reasoning tells why
    return said


def _shown(answer: dict[str, Any]) -> Any:
    if "reasoning" in answer:
        return answer | {"reasoning": answers.printable(answer["reasoning"])}
    return answer | {"objections": [answers.printable(text) for text in answer["objections"]]}


def _confidence(signals: list[StrategySignal], action: str) -> float:
    """The weighted mean confidence of the strategies that say the same."""
    agreeing = [s for s in signals if s.signal == action]
    return sum(s.weight * s.confidence for s in agreeing) / sum(s.weight for s in agreeing)


def _position(known: state.LedgerState, symbol: str, market: Market | None) -> dict[str, Any]:
    position = known.positions[symbol]
    entry = position.average_entry_price
    mid = ensemble.mid_of(market) if market is not None else None
    return {
        "symbol": symbol,
        "strategy": position.strategy,
        "age_minutes": (clock.now_ms() - position.opened_at_ms) // 60_000,
        "return_percent": 100 * (mid / float(entry) - 1) if mid and entry else None,
    }


def _regime(found: Regime) -> dict[str, Any]:
    return {"name": found.name, "evidence": found.evidence}
