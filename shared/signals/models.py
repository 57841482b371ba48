"""One question to OpenAI and one to Anthropic, through their own SDKs, each asked once.

The SDKs are imported here and nowhere else, because they cost three seconds of a run. A call is
recorded as it went: its prompt, the raw body of its answer, its error, time, tokens and cost.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from shared import clock
from shared.calls import CallLog
from shared.config import Config
from shared.errors import ConfigurationError
from shared.signals import answers, prompts

if TYPE_CHECKING:
    import anthropic
    import openai

MAX_TOKENS = 2_000
OPENAI_URL = "https://api.openai.com/v1"
ANTHROPIC_URL = "https://api.anthropic.com"

USD_PER_MILLION_TOKENS: dict[str, tuple[float, float]] = {
    "gpt-5.4-mini": (0.75, 4.5),
    "claude-haiku-4-5": (1.0, 5.0),
}
"""Published input and output prices (November 2026) by the beginning of a model's name.

Other models have no cost in the log, only their tokens.
"""

_temperature_refused: set[str] = set()  # models that have answered so, in this process


def ask_openai(
    config: Config, calls: CallLog, data: Mapping[str, Any], candidate_ids: Sequence[str]
) -> dict[str, Any]:
    """Let the first model choose among ``candidate_ids``; returns the record of the call."""
    model = config.openai_model
    request: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": prompts.DECIDE},
            {"role": "user", "content": prompts.render(data)},
        ],
        "max_completion_tokens": MAX_TOKENS,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "decision",
                "strict": True,
                "schema": answers.decision_schema(candidate_ids),
            },
        },
    }
    if model.startswith("gpt-5"):
        request["reasoning_effort"] = "low"  # the default thinks longer than a minute's run may
    if model not in _temperature_refused:
        request["temperature"] = config.ai_temperature
    client = _openai_client(
        _key("OPENAI_API_KEY", config.openai_api_key),
        _address(config, "/openai/v1", OPENAI_URL),
        config.ai_timeout_seconds,
        config.simulated_wire_url is not None,
    )
    return _recorded("openai", request, lambda: _send_openai(client, calls, request))


def ask_anthropic(config: Config, calls: CallLog, data: Mapping[str, Any]) -> dict[str, Any]:
    """Let the second model judge the proposal in ``data``; returns the record of the call."""
    request = {
        "model": config.anthropic_model,
        "max_tokens": MAX_TOKENS,
        "system": prompts.VALIDATE,
        "messages": [{"role": "user", "content": prompts.render(data)}],
        "output_config": {"format": {"type": "json_schema", "schema": answers.validation_schema()}},
    }
    client = _anthropic_client(
        _key("ANTHROPIC_API_KEY", config.anthropic_api_key),
        _address(config, "/anthropic", ANTHROPIC_URL),
        config.ai_timeout_seconds,
        config.simulated_wire_url is not None,
    )
    return _recorded("anthropic", request, lambda: _send_anthropic(client, calls, request))


def _send_openai(
    client: openai.OpenAI, calls: CallLog, request: dict[str, Any]
) -> tuple[str, str | None]:
    import openai

    while True:
        with calls.timed("openai") as call:
            try:
                return client.chat.completions.with_raw_response.create(**request).text, None
            except openai.BadRequestError as error:
                if "temperature" not in request or "temperature" not in str(error.body):
                    call.fail("HTTP 400")
                    return "", "error=HTTP 400"
                _temperature_refused.add(request["model"])
                del request["temperature"]
            except openai.APIStatusError as error:
                call.fail(f"HTTP {error.status_code}", rate_limited=error.status_code == 429)
                return "", f"error=HTTP {error.status_code}"
            except (openai.OpenAIError, ValueError) as error:
                call.fail(type(error).__name__)
                return "", f"error={type(error).__name__}"


def _send_anthropic(
    client: anthropic.Anthropic, calls: CallLog, request: dict[str, Any]
) -> tuple[str, str | None]:
    import anthropic

    with calls.timed("anthropic") as call:
        try:
            return client.messages.with_raw_response.create(**request).text(), None
        except anthropic.APIStatusError as error:
            call.fail(f"HTTP {error.status_code}", rate_limited=error.status_code == 429)
            return "", f"error=HTTP {error.status_code}"
        except (anthropic.AnthropicError, ValueError) as error:
            call.fail(type(error).__name__)
            return "", f"error={type(error).__name__}"


@functools.lru_cache(maxsize=4)
def _openai_client(key: str, url: str, timeout: float, local: bool) -> openai.OpenAI:
    import openai

    http = openai.DefaultHttpxClient(trust_env=False) if local else None
    return openai.OpenAI(
        api_key=key, base_url=url, timeout=timeout, max_retries=0, http_client=http
    )


@functools.lru_cache(maxsize=4)
def _anthropic_client(key: str, url: str, timeout: float, local: bool) -> anthropic.Anthropic:
    import anthropic

    http = anthropic.DefaultHttpxClient(trust_env=False) if local else None
    return anthropic.Anthropic(
        api_key=key, base_url=url, timeout=timeout, max_retries=0, http_client=http
    )


def _address(config: Config, path: str, real: str) -> str:
    return real if config.simulated_wire_url is None else config.simulated_wire_url + path


def _key(name: str, secret: SecretStr | None) -> str:
    if secret is None:
        raise ConfigurationError(f"{name}: expected a key, was not set")
    return secret.get_secret_value()


def _recorded(
    provider: str, request: Mapping[str, Any], send: Callable[[], tuple[str, str | None]]
) -> dict[str, Any]:
    watch = clock.Stopwatch()
    raw, error = send()
    latency_ms = watch.milliseconds()
    raw = raw.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")  # as jsonb can hold it
    if len(raw) > answers.MAX_RAW_CHARACTERS:
        error = f"error=answer of {len(raw)} characters"
    tokens = _tokens(raw)
    return {
        "provider": provider,
        "model": request["model"],
        "prompt_version": prompts.PROMPT_VERSION,
        "request": dict(request),
        "raw": raw[: answers.MAX_RAW_CHARACTERS],
        "error": error,
        "latency_ms": round(latency_ms, 1),
        "tokens": tokens,
        "cost_usd": _cost(str(request["model"]), tokens),
    }


def _tokens(raw: str) -> dict[str, int] | None:
    """Input and output tokens as the provider counts them; ``None`` where it does not say."""
    try:
        usage = json.loads(raw)["usage"]
        found = (
            usage.get("prompt_tokens", usage.get("input_tokens")),
            usage.get("completion_tokens", usage.get("output_tokens")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not all(isinstance(count, int) and 0 <= count < 10**9 for count in found):
        return None
    return {"input": found[0], "output": found[1]}


def _cost(model: str, tokens: Mapping[str, int] | None) -> float | None:
    for beginning, (per_input, per_output) in USD_PER_MILLION_TOKENS.items():
        if tokens is not None and model.startswith(beginning):
            return (tokens["input"] * per_input + tokens["output"] * per_output) / 1_000_000
    return None
