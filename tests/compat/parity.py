"""Two applications from one declaration, and one request to both."""

import asyncio
import re
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import turboapi
import turboapi.responses

try:
    import fastapi
    import fastapi.responses
    import fastapi.routing
except ImportError:  # pragma: no cover
    fastapi = None  # type: ignore[assignment]

App = Callable[[Any, Any, Any], Awaitable[None]]
Header = tuple[bytes, bytes]


class Ask(NamedTuple):
    """A request."""

    method: str = "GET"
    path: str = "/"
    query: bytes = b""
    headers: tuple[Header, ...] = ()
    body: bytes = b""


class Answer(NamedTuple):
    """What came back: an exception's type and text, or a response."""

    error: tuple[str, str] | None
    status: int | None
    headers: list[Header]
    body: bytes


def modules() -> tuple[ModuleType, ModuleType]:
    """FastAPI and TurboAPI."""
    return fastapi, turboapi


def plain(text: str) -> str:
    """Return the text without what differs between two runs, or by the package's name."""
    return re.sub(r" at 0x[0-9a-f]+", "", text).replace("turboapi", "fastapi")


async def _call(app: App, ask: Ask) -> Answer:
    messages = [{"type": "http.request", "body": ask.body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": ask.method,
        "path": ask.path,
        "raw_path": ask.path.encode(),
        "query_string": ask.query,
        "headers": list(ask.headers),
        "client": ("client", 1),
        "server": ("server", 2),
        "scheme": "http",
        "root_path": "",
    }
    error = None
    try:
        await asyncio.wait_for(app(scope, receive, send), 10)
    except Exception as exc:
        # What follows is where the endpoint is defined.
        error = type(exc).__name__, plain(str(exc)).split("\n  File")[0]
    start: Any = next((m for m in sent if m["type"] == "http.response.start"), {})
    body = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
    return Answer(
        error, start.get("status"), start.get("headers", []), plain(body.decode("latin-1")).encode()
    )


def differences(apps: tuple[App, App], asks: list[Ask]) -> list[tuple[Ask, Answer, Answer]]:
    """Return the requests to which the two give different answers."""

    async def main() -> list[tuple[Ask, Answer, Answer]]:
        both = [(ask, await _call(apps[0], ask), await _call(apps[1], ask)) for ask in asks]
        return [each for each in both if each[1] != each[2]]

    # It has what FastAPI knows of functions by their ids, which those that are gone had, too.
    fastapi.routing._endpoint_context_cache.clear()
    with quiet():
        return asyncio.run(main())


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings are no part of the answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
