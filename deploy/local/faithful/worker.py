"""The process in which the steps of a workflow run, one after the other, as on Pipedream.

Started by its path with Python's isolated mode: nothing of this project can be imported here but
what a bundle carries. It speaks JSON lines with the engine over an inherited socket: it is sent a
step, asks for whatever ``pd`` has to do outside, and answers with the step's exports as texts.
"""

import contextlib
import importlib.util
import io
import json
import os
import signal
import socket
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

JsonObject = dict[str, Any]
Handler = Callable[[Any], Any]


def main(descriptor: int) -> None:
    """Serve steps until the other end closes."""
    channel = Channel(socket.socket(fileno=descriptor))
    exports = _load_beside("exports.py")
    steps: dict[str, Handler] = {}
    while (order := channel.receive()) is not None:
        channel.send({"done": _serve(order, steps, exports, channel)})


class Channel:
    """JSON lines over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rw", encoding="utf-8", newline="\n")

    def send(self, message: JsonObject) -> None:
        self._stream.write(json.dumps(message) + "\n")
        self._stream.flush()

    def receive(self) -> Any:
        line = self._stream.readline()
        return json.loads(line) if line else None

    def ask(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Let the other side do what this process cannot; its error becomes one here."""
        self.send({"call": name, "arguments": arguments, "options": options})
        answer = self.receive()
        if answer is None:
            os._exit(1)
        if "error" in answer:
            raise ERRORS.get(answer["kind"], RuntimeError)(answer["error"])
        return answer["value"]


ERRORS: dict[str, type[Exception]] = {
    "TypeError": TypeError,
    "ValueError": ValueError,
    "KeyError": KeyError,
}


def _serve(
    order: JsonObject, steps: dict[str, Handler], exports: Any, channel: Channel
) -> JsonObject:
    printed, pd = io.StringIO(), Pd(order, channel)
    done: JsonObject = {"exports": {}, "error": None}
    with contextlib.redirect_stdout(printed):
        try:
            handler = steps.get(order["path"]) or _load_step(order["path"])
            steps[order["path"]] = handler
            _set_clock(order["now_ms"], order["paced"])
            with _disturbed(order, channel):
                returned = handler(pd)
            done["exports"] = _encoded(pd.exported, returned, order["namespace"], exports)
        except Exception as error:  # noqa: BLE001 - the platform reports whatever a step raises
            done["error"] = {
                "kind": type(error).__name__,
                "text": str(error),
                "traceback": traceback.format_exc(),
            }
    done["printed"] = printed.getvalue()
    done["peak_kib"] = _peak_kib()
    return done


def _peak_kib() -> int:
    """The largest resident size of this program; 0 where the system does not tell.

    ``ru_maxrss`` would count what the process was before it became this program: a copy of the
    one that started it.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def _encoded(exported: JsonObject, returned: Any, namespace: str, exports: Any) -> dict[str, str]:
    values = exported if returned is None else exported | {"$return_value": returned}
    return {name: exports.encode(value, namespace, name) for name, value in values.items()}


def _load_step(path: str) -> Handler:
    """A bundle's handler; every bundle is a module of the same name, as on Pipedream."""
    module = types.ModuleType("code")
    module.__file__ = path
    text = Path(path).read_text(encoding="utf-8")
    exec(compile(text, path, "exec"), module.__dict__)
    handler: Handler = module.__dict__["handler"]
    return handler


def _load_beside(name: str) -> types.ModuleType:
    """A module of the local platform that needs nothing else of it."""
    path = Path(__file__).resolve().parent.parent / name
    spec = importlib.util.spec_from_file_location("_exports", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _set_clock(told_ms: int | None, paced: bool) -> None:
    """A replay's time is told with each step. Only the clock knows that it is not the present."""
    if told_ms is None:
        return
    clock, began = importlib.import_module("shared.clock"), time.perf_counter()
    if paced:
        clock.install(lambda: told_ms + round((time.perf_counter() - began) * 1000))
    else:
        clock.install(lambda: told_ms)


class InjectedError(Exception):
    """An error that was put into a step on purpose."""


@contextlib.contextmanager
def _disturbed(order: JsonObject, channel: Channel) -> Iterator[None]:
    """Let happen what was asked for, when a certain line of our own code is about to run."""
    asked = order["disturbance"]
    if asked is None:
        yield
        return
    left = asked["line"]

    def local(frame: types.FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                where = f"{frame.f_code.co_filename}, line {frame.f_lineno}"
                _disturb(asked["what"], where, order["paced"], channel)
        return local if left > 0 else None

    def trace(frame: types.FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        return local if name.startswith(("shared/", "steps/")) else None

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def _disturb(what: str, where: str, paced: bool, channel: Channel) -> None:
    """Die, raise, or stand still until the other side lets the run go on, at a later time."""
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.settrace(None)
    if what == "fail":
        raise InjectedError(where)
    _set_clock(channel.ask("hold"), paced)


class Pd:
    """The ``pd`` object. What has an effect outside is done by the platform, over the channel."""

    def __init__(self, order: JsonObject, channel: Channel) -> None:
        self.steps = {name: json.loads(text) for name, text in order["steps"].items()}
        self.context = order["context"]
        self.inputs = dict(order["inputs"])
        for name in order["data_stores"]:
            self.inputs[name] = DataStore(name, channel)
        self.exported: JsonObject = {}
        self.flow = Remote("flow", ("exit", "delay", "suspend", "rerun"), channel)
        self.send = Remote("send", ("email",), channel)
        self._channel = channel

    def export(self, key: str, value: Any) -> None:
        self.exported[key] = value

    def respond(self, response: JsonObject) -> Any:
        body = response.get("body")
        if isinstance(body, bytes):
            response = dict(response) | {"body": body.decode("latin-1"), "$bytes": True}
        return self._channel.ask("respond", response)


class Remote:
    """Some methods of an object on the other side."""

    def __init__(self, name: str, methods: tuple[str, ...], channel: Channel) -> None:
        for method in methods:
            setattr(self, method, self._caller(f"{name}.{method}", channel))

    @staticmethod
    def _caller(name: str, channel: Channel) -> Callable[..., Any]:
        return lambda *arguments, **options: channel.ask(name, *arguments, **options)


class DataStore:
    """A data store on the other side."""

    def __init__(self, name: str, channel: Channel) -> None:
        self._name = name
        self._channel = channel

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._channel.ask(f"store.{self._name}.{method}", *arguments, **options)

    def __getitem__(self, key: str) -> Any:
        return self._ask("__getitem__", key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._ask("set", key, value)

    def __delitem__(self, key: str) -> None:
        self._ask("__delitem__", key)

    def __contains__(self, key: str) -> bool:
        return bool(self._ask("__contains__", key))

    def __len__(self) -> int:
        return int(self._ask("__len__"))

    def get(self, key: str, default: Any = None) -> Any:
        return self._ask("get", key, default)

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        self._ask("set", key, value, ttl=ttl)

    def set_ttl(self, key: str, ttl: float | None = None) -> None:
        self._ask("set_ttl", key, ttl=ttl)

    def keys(self) -> Iterator[str]:
        return iter(self._ask("keys"))

    def items(self) -> Iterator[tuple[str, Any]]:
        return (tuple(pair) for pair in self._ask("items"))

    def clear(self) -> None:
        self._ask("clear")


if __name__ == "__main__":
    main(int(sys.argv[1]))
