"""`@app.middleware("http")` without a task and a stream between the middleware and the endpoint.

Starlette's `BaseHTTPMiddleware` runs what is inside of it as an ASGI application in a task of its
own and gets the response back, message by message, through a memory stream. When all that is
inside are such middlewares and then the application's own routers, and the routers' table knows
a plan for the request, none of that is needed: `call_next` asks the plan for its response and hands
that to the function. Everything else goes Starlette's way, by Starlette's own class.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, cast

import anyio
from starlette._utils import get_route_path
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware, _CachedRequest
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turboapi._request import EngineRequest
from turboapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from turboapi.routing._instrumented import is_instrumented

if TYPE_CHECKING:
    from turboapi.routing import APIRouter

Respond = Callable[[Scope, Receive, Send], Awaitable[Response]]
_PLAIN_CALL = Response.__call__


class Inside:
    """What a middleware has inside of it, as something that gives responses."""

    def __init__(self, router: APIRouter, errors: ExceptionMiddleware) -> None:
        self.router = router
        self.errors = (errors._exception_handlers, errors._status_handlers)
        self.app: ASGIApp = errors
        self.respond: Respond = self._endpoint

    @classmethod
    def of(cls, router: APIRouter, app: ASGIApp, errors: ExceptionMiddleware) -> Inside | None:
        """`errors` round `app`; None when that is not just the router with its exit stack."""
        from turboapi.routing import APIRouter

        own = type(app) is AsyncExitStackMiddleware and cast("Any", app).app is router
        plain = type(router).app is APIRouter.app and type(router).__call__ is APIRouter.__call__
        if not own or not plain or router.middleware_stack != router.app:
            return None
        return cls(router, errors)

    def knows(self, scope: Scope) -> bool:
        """Whether `respond` can answer this request."""
        return self._target(scope) is not None

    def _target(self, scope: Scope) -> tuple[Any, dict[str, Any]] | None:
        if "fastapi.telemetry" in scope or scope["type"] != "http":
            return None
        table = self.router._route_table()
        found = table.match(scope["method"], get_route_path(scope))
        if found is None:
            return None
        target = table.targets[found[0]]
        if target is None or target.limited is not None or target.plan is None:
            return None
        if target.plan.needs_stacks:
            return None
        hooks = target.hooks
        assert hooks is not None  # with its plan
        # The files of a form are closed by the exit stack, which is not here.
        if hooks.is_form or is_instrumented():
            return None
        if hooks.overrides is not None and hooks.overrides.dependency_overrides:
            return None
        return target, found[1]

    async def _endpoint(self, scope: Scope, receive: Receive, send: Send) -> Response:
        found = self._target(scope)
        if found is None:  # the middleware has changed the request
            return await _Running.start(self.app, scope, receive, send)
        target, path_params = found
        scope["starlette.exception_handlers"] = self.errors
        if "router" not in scope:
            scope["router"] = self.router
        target.enter(scope, path_params)
        request = EngineRequest(scope, receive, send)
        try:
            response = await target.plan.respond(request)
        except Exception as exc:
            handled = target.hooks.handle_error(request, exc, False)
            if handled is None:
                raise
            response = await handled
        return PassedResponse(response, scope, receive, send)

    def within(self, middleware: FastHTTPMiddleware) -> Inside:
        """The same with `middleware` round it."""
        outer = object.__new__(Inside)
        outer.__dict__.update(self.__dict__)
        outer.app = middleware
        outer.respond = middleware.respond
        return outer


class FastHTTPMiddleware:
    """A `BaseHTTPMiddleware` whose inside is known; see the module."""

    def __init__(self, original: BaseHTTPMiddleware, inside: Inside) -> None:
        self.original = original
        self.app = original.app
        self.dispatch_func = original.dispatch_func
        self.inside = inside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve (ASGI 3)."""
        if not self.inside.knows(scope) or not _in_asyncio():
            await self.original(scope, receive, send)
            return
        request = _CachedRequest(scope, receive, send)
        response = await self._dispatch(request, send)
        await response(scope, request.wrapped_receive, send)

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> Response:
        """The response of the function, not sent yet: for the middleware outside of this one."""
        request = _CachedRequest(scope, receive, send)
        response = await self._dispatch(request, send)
        return PassedResponse(response, scope, request.wrapped_receive, send)

    async def _dispatch(self, request: _CachedRequest, send: Send) -> Response:
        respond = self.inside.respond
        receive = request.wrapped_receive

        async def call_next(_: Request) -> Response:
            return await respond(request.scope, receive, send)

        return await self.dispatch_func(request, call_next)


def _in_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class PassedResponse(Response):
    """What `call_next` gives: a response of the inside, to be looked at, changed and replaced.

    As with Starlette's, its body is `body_iterator`, to be iterated or set. While nobody does
    so, the original response sends itself.
    """

    def __init__(self, original: Response, scope: Scope, receive: Receive, send: Send) -> None:
        self.original = original
        self.status_code = original.status_code
        self.raw_headers = original.raw_headers
        self.media_type = None
        self.background: BackgroundTask | None = None
        self._exchange = (scope, receive, send)
        self._iterator: Any = None
        self._running: _Running | None = None

    @property
    def body_iterator(self) -> Any:
        """The chunks of the body."""
        if self._iterator is None:
            self._iterator = self._chunks()
        return self._iterator

    @body_iterator.setter
    def body_iterator(self, iterator: Any) -> None:
        self._iterator = iterator

    async def _chunks(self) -> AsyncIterator[bytes | memoryview | MutableMapping[str, Any]]:
        original = self.original
        if type(original).__call__ is _PLAIN_CALL:
            if original.body:
                yield original.body
        elif type(original).__call__ is StreamingResponse.__call__:
            async for chunk in original.body_iterator:  # type: ignore[attr-defined]
                yield chunk.encode(original.charset) if isinstance(chunk, str) else chunk
        else:
            # It knows itself how to send its body (a file, a page of the user's making).
            self._running = await _Running.start(original, *self._exchange)
            async for chunk in self._running.body_iterator:
                yield chunk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it (ASGI 3)."""
        if self._iterator is None:
            self.original.status_code = self.status_code
            self.original.raw_headers = self.raw_headers
            await self.original(scope, receive, send)
        else:
            await _send_chunks(self, send)
            if self._running is not None:
                await self._running.finish()
            elif self.original.background is not None:
                await self.original.background()
        if self.background is not None:
            await self.background()


class _Running(Response):
    """A response that an ASGI application is sending, in a task of its own."""

    def __init__(self) -> None:
        self.status_code = 200
        self.raw_headers = []
        self.background: BackgroundTask | None = None
        self._sending, self._receiving = anyio.create_memory_object_stream[Message]()
        self._sent = anyio.Event()
        self._task: asyncio.Task[None] | None = None
        self.body_iterator: Any = self._chunks()

    @classmethod
    async def start(cls, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> _Running:
        """Run `app` until it begins its response."""
        self = cls()
        self._task = asyncio.create_task(self._run(app, scope, receive))
        try:
            while True:
                try:
                    message = await self._receiving.receive()
                except anyio.EndOfStream:
                    await self._task  # raises what the application raised
                    raise RuntimeError("No response returned.") from None
                if message["type"] == "http.response.start":
                    break
                await send(message)
        except BaseException:
            self._stop()
            raise
        self.status_code = message["status"]
        self.raw_headers = message.get("headers", [])
        return self

    async def _run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        async def send(message: Message) -> None:
            try:
                await self._sending.send(message)
            except anyio.BrokenResourceError:
                return  # nobody wants the rest of the response
            kind = message["type"]
            if kind == "http.response.pathsend" or (
                kind == "http.response.body" and not message.get("more_body", False)
            ):
                await self._sent.wait()  # what follows the response is done after it

        with self._sending:
            await app(scope, receive, send)

    def _stop(self) -> None:
        self._receiving.close()
        if self._task is not None:
            self._task.cancel()

    async def _chunks(self) -> AsyncIterator[bytes | MutableMapping[str, Any]]:
        async for message in self._receiving:
            if message["type"] == "http.response.pathsend":
                yield message
                return
            if body := message.get("body", b""):
                yield body
            if not message.get("more_body", False):
                return

    async def finish(self) -> None:
        """Let the application do what it does after the response; raise what it raises."""
        self._sent.set()
        self._receiving.close()
        assert self._task is not None
        try:
            await self._task
        except asyncio.CancelledError:
            self._stop()
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it (ASGI 3)."""
        try:
            await _send_chunks(self, send)
        except BaseException:
            self._stop()
            raise
        await self.finish()
        if self.background is not None:
            await self.background()


async def _send_chunks(response: PassedResponse | _Running, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )
    complete = False
    async for chunk in response.body_iterator:
        if isinstance(chunk, MutableMapping):
            complete = True
            await send(cast("Message", chunk))
        else:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    if not complete:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def accelerate(app: Any, inside: Inside | None) -> tuple[ASGIApp, Inside | None]:
    """The middleware `app`, or what does the same faster; and what it is together with `inside`."""
    if (
        inside is not None
        and isinstance(app, BaseHTTPMiddleware)
        and type(app).__call__ is BaseHTTPMiddleware.__call__
        and app.app is inside.app
    ):
        fast = FastHTTPMiddleware(app, inside)
        return fast, inside.within(fast)
    return app, None
