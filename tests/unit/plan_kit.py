"""Hand-made plans for the tests of the engine: hooks as the routing layer gives them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.to_thread
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.background import BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turboapi._core import MISSING, Plan
from turboapi.concurrency import contextmanager_in_threadpool


class Invalid(Exception):
    """What `validation_error` gives: the errors and the body."""

    def __init__(self, errors: list[Any], body: Any) -> None:
        super().__init__(errors)
        self.errors = errors
        self.body = body


class Swallowed(Exception):
    """What `swallowed` gives."""


class Hooks:
    """The hooks of docs/engine.md, FastAPI's semantics in a few lines."""

    def __init__(self, **more: Any) -> None:
        self.plan: Plan | None = None
        self.closed: list[str] = []
        for name, value in more.items():
            setattr(self, name, value)

    new_request = staticmethod(Request)
    new_background = staticmethod(BackgroundTasks)

    def load_json(self, data: bytes) -> Any:
        return json.loads(data)

    def is_json(self, content_type: str) -> bool:
        main = content_type.split(";")[0].strip().lower()
        return main == "application/json" or (
            main.startswith("application/") and main.endswith("+json")
        )

    def json_invalid(self, error: Any, request: Any) -> Exception:
        return Invalid([{"type": "json_invalid", "loc": ("body", error.pos)}], error.doc)

    def body_error(self, error: Exception) -> Exception:
        return HTTPException(400, "There was an error parsing the body")

    def validation_error(self, errors: list[Any], body: Any, request: Any) -> Exception:
        return Invalid(errors, body)

    async def run_sync(self, call: Callable[..., Any], values: dict[str, Any]) -> Any:
        return await anyio.to_thread.run_sync(lambda: call(**values))

    def encode_json(self, value: Any) -> bytes:
        return JSONResponse(value).body  # type: ignore[return-value]

    def open_generator(self, index: int, values: dict[str, Any], scope: Any) -> Any:
        spec = self.plan.spec["nodes"][index]
        if spec["kind"] == "asyncgen":
            return asynccontextmanager(spec["call"])(**values)
        return contextmanager_in_threadpool(contextmanager(spec["call"])(**values))

    def swallowed(self) -> Exception:
        return Swallowed()

    cleanup_scope = anyio.CancelScope

    def new_response(self) -> Response:
        response = Response()
        del response.headers["content-length"]
        response.status_code = None  # type: ignore[assignment]
        return response

    def make_response(
        self, value: Any, status: int | None, background: Any, request: Any, is_coroutine: bool
    ) -> Any:
        return JSONResponse(value, status or 200, background=background)

    def response_error(self, error: ValidationError, value: Any, request: Any) -> Exception:
        return TypeError(f"invalid response {value!r}: {error.errors()[0]['type']}")


def field(kind: Any, loc: str = "query", *, default: Any = MISSING) -> dict[str, Any]:
    """Return the `validator` and `validate` of a parameter of that type."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def validate(raw: Any, values: dict[str, Any]) -> tuple[Any, list[Any]]:
        assert values == {}
        if raw is MISSING:
            return (
                (None, [{"type": "missing", "loc": loc}]) if default is MISSING else (default, [])
            )
        try:
            return adapter.validate_python(raw, from_attributes=True), []
        except ValidationError as exc:
            return None, [{"type": error["type"], "loc": loc} for error in exc.errors()]

    return {"validator": adapter.validator.validate_python, "validate": validate}


def param(name: str, source: str = "query", kind: Any = str, **more: Any) -> dict[str, Any]:
    """Return a parameter of a node."""
    spec = {"name": name, "source": source, "alias": name, **field(kind, name)}
    if kind in (str, int, float, bool):
        spec["conv"] = kind.__name__
    return {**spec, **more}


def node(call: Any, kind: str = "async", **more: Any) -> dict[str, Any]:
    """Return a node; the default is the endpoint."""
    return {"call": call, "kind": kind, "parent": -1, **more}


def plan(*nodes: dict[str, Any], hooks: Any = None, **more: Any) -> Plan:
    """Return a plan of these nodes."""
    hooks = hooks or Hooks()
    made = Plan(**{"nodes": list(nodes), "response": {"kind": "json"}, "hooks": hooks, **more})
    hooks.plan = made
    return made


class Caller:
    """What a server sees of one exchange."""

    def __init__(
        self,
        query: bytes = b"",
        headers: list[tuple[bytes, bytes]] | None = None,
        *,
        path: dict[str, Any] | None = None,
        body: list[bytes] | None = None,
        suspend: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": headers or [],
            "query_string": query,
            "path_params": path or {},
        }
        self.chunks = list(body or [])
        self.received = False
        self.sent: list[dict[str, Any]] = []
        self.suspend = suspend

    async def receive(self) -> dict[str, Any]:
        if self.suspend is not None:
            await self.suspend()
        if not self.chunks:
            if self.received:  # the client stays and has nothing more to say
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}
        self.received = True
        chunk = self.chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(self.chunks)}

    async def send(self, message: dict[str, Any]) -> None:
        if self.suspend is not None:
            await self.suspend()
        self.sent.append(message)

    def run(self, plan: Plan) -> Any:
        """Return the coroutine of plan.asgi()."""
        return plan.asgi(self.scope, self.receive, self.send)

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return self.sent[0]["headers"]

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def call(plan: Plan, *args: Any, **kwargs: Any) -> Caller:
    """Run one request to its end."""
    caller = Caller(*args, **kwargs)
    assert await caller.run(plan) is None
    return caller


def echo(**values: Any) -> dict[str, Any]:
    """Return a sync endpoint that gives its arguments back."""
    return values


def run(coro: Any) -> Any:
    """Run it in a new loop."""

    async def main() -> Any:
        return await asyncio.wait_for(coro, 10)

    return asyncio.run(main())


def ask(made: Plan, *args: Any, **kwargs: Any) -> Caller:
    """One request."""

    async def main() -> Caller:
        return await asyncio.wait_for(call(made, *args, **kwargs), 10)

    return asyncio.run(main())


async def nothing() -> None:
    """An endpoint."""


class Item(BaseModel):
    """A body."""

    name: str
    price: float = 1.0


def body_plan(*, fast: bool, hooks: Any = None, **more: Any) -> Plan:
    adapter: TypeAdapter[Any] = TypeAdapter(Item)
    single = {"name": "item", **field(Item, "body")}
    if fast:
        single["json_validator"] = adapter.validator.validate_json

    async def endpoint(item: Item) -> Any:
        return {"name": item.name, "price": item.price}

    return plan(node(endpoint, body={"single": single}), body="json", hooks=hooks, **more)


JSON = [(b"content-type", b"application/json")]
