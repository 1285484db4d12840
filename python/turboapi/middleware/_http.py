"""`@app.middleware("http")` without a stream of messages between the middleware and the endpoint.

Starlette's `BaseHTTPMiddleware` runs what is inside of it as an ASGI application in a task of its
own and gets the response back, message by message, through a memory stream. When all that is
inside are such middlewares and then the application's own routers, and the routers' table has
a plan for the request, no messages are needed: `call_next` asks the plan for its response and
passes that to the function. The inside still runs in a task (`_inside_task.py`) with a copy of the
context, but that task begins at once. Starlette's own class handles everything else.

Two differences are improvements and intended: `call_next` may be called again, and a body that ends
with an exception does not pass for a complete one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from contextvars import Context, copy_context
from functools import partial
from typing import Any, cast

import anyio
from starlette._utils import get_route_path
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware, _CachedRequest
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turboapi._core import in_context
from turboapi._request import EngineRequest
from turboapi.middleware._inside_task import Flight, Level
from turboapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from turboapi.routing import APIRouter
from turboapi.routing._instrumented import is_instrumented

# (exception, whether the response has begun) -> the answer of a handler: RequestHooks.handle_error
OnError = Callable[[Exception, bool], Awaitable[Response] | None]
# With the context in which it runs.
Respond = Callable[
    [Scope, Receive, Send, Level, Context], Coroutine[Any, Any, "PassedResponse | _Running"]
]
_PLAIN_CALL = Response.__call__


class Inside:
    """What a middleware has inside of it, as an object that returns responses."""

    def __init__(self, router: APIRouter, errors: ExceptionMiddleware) -> None:
        self.router = router
        self.errors = (errors._exception_handlers, errors._status_handlers)
        self.app: ASGIApp = errors
        self.respond: Respond = self._endpoint

    @classmethod
    def of(cls, router: APIRouter, app: ASGIApp, errors: ExceptionMiddleware) -> Inside | None:
        """`errors` round `app`; None when that is not just the router with its exit stack."""
        own = type(app) is AsyncExitStackMiddleware and cast("Any", app).app is router
        plain = type(router).app is APIRouter.app and type(router).__call__ is APIRouter.__call__
        if not own or not plain or router.middleware_stack != router.app:
            return None
        return cls(router, errors)

    def knows(self, scope: Scope) -> bool:
        """Return whether `respond` can answer this request."""
        return self._target(scope) is not None

    def _target(self, scope: Scope) -> tuple[Any, dict[str, Any]] | None:
        if "fastapi.telemetry" in scope or scope["type"] != "http":
            return None
        table = self.router._route_table()
        found = table.match(scope["method"], get_route_path(scope))
        if found is None:
            return None
        target: Any = table.targets[found[0]]
        if target.limited is not None or target.plan is None:
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

    async def _endpoint(
        self, scope: Scope, receive: Receive, send: Send, level: Level, context: Context
    ) -> PassedResponse | _Running:
        found = self._target(scope)
        if found is None:  # the middleware has changed the request
            return await _Running.start(self.app, scope, receive, send, level)
        target, path_params = found
        assert target.hooks is not None
        scope["starlette.exception_handlers"] = self.errors
        if "router" not in scope:
            scope["router"] = self.router
        target.enter(scope, path_params)
        request = EngineRequest(scope, receive, send)
        on_error = partial(target.hooks.handle_error, request)
        try:
            response: Response = await target.plan.respond(request)
            if _is_plain(response) or _is_stream(response):
                return PassedResponse(response, level, context, on_error)
            # It may set its headers, or fail, only when it is sent: a file does.
            return await _Running.start(response, scope, receive, send, level, on_error)
        except Exception as exc:
            handled = on_error(exc, False)
            if handled is None:
                raise
            response = await handled
        if cast("Response | None", response) is None:  # a handler may give anything
            raise RuntimeError("No response returned.")
        return await _passed(response, scope, receive, send, level, context)

    def within(self, middleware: FastHTTPMiddleware) -> Inside:
        """Return the same with `middleware` round it."""
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
        flight = Flight()
        request = _CachedRequest(scope, receive, send)
        inside_receive = flight.receive_until_answered(request.wrapped_receive)
        try:
            response = await self._dispatch(request, inside_receive, send, flight)
            await response(scope, request.wrapped_receive, send)
            await flight.land()
        except BaseException:
            await flight.end()
            raise

    async def respond(
        self, scope: Scope, receive: Receive, send: Send, outer: Level, context: Context
    ) -> PassedResponse | _Running:
        """Return the response of the function, not sent yet: for the middleware outside of this
        one.
        """
        level = Level(outer)
        request = _CachedRequest(scope, receive, send)
        try:
            response = await self._dispatch(request, request.wrapped_receive, send, level)
            receive = request.wrapped_receive
            passed = await _passed(response, scope, receive, send, level, context)
        except BaseException:
            await level.end()
            raise
        level.leave()
        return passed

    async def _dispatch(
        self, request: _CachedRequest, receive: Receive, send: Send, level: Level
    ) -> Response:
        respond = self.inside.respond

        async def call_next(_: Request) -> Response:
            context = copy_context()
            inside = respond(request.scope, receive, send, level, context)
            return await level.run(inside, context)

        return await self.dispatch_func(request, call_next)


def _in_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _is_plain(response: Response) -> bool:
    return type(response).__call__ is _PLAIN_CALL


def _is_stream(response: Response) -> bool:
    """Return whether it is a stream that gives the status and headers that it has now."""
    cls = type(response)
    return (
        issubclass(cls, StreamingResponse)
        and cls.__call__ is StreamingResponse.__call__
        and cls.stream_response is StreamingResponse.stream_response
    )


async def _passed(
    response: Response, scope: Scope, receive: Receive, send: Send, level: Level, context: Context
) -> PassedResponse | _Running:
    """Return the response as its outer middleware gets it."""
    known = isinstance(response, PassedResponse | _Running)
    if known or _is_plain(response) or _is_stream(response):
        return PassedResponse(response, level, context)
    return await _Running.start(response, scope, receive, send, level)


class PassedResponse(Response):
    """What `call_next` returns: a response of the inside, to be read, changed or replaced.

    As with Starlette's, its body is `body_iterator`, to be iterated or set. While nobody does
    so, the original response sends itself. If it does not, its background is left to `finish`.

    Attributes:
        context: that of the inside; the original is sent in it, too.
    """

    def __init__(
        self, original: Response, level: Level, context: Context, on_error: OnError | None = None
    ) -> None:
        self.original = original
        self.context = context
        self.status_code = original.status_code
        self.raw_headers = original.raw_headers
        self.media_type = None
        self.background: BackgroundTask | None = None
        self._on_error = on_error
        self._iterator: Any = None
        self._plain = _is_plain(original)
        self._sent = False
        if original.background is not None:
            level.add(self)

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
        if self._plain:
            if original.body:
                yield original.body
            return
        iterator: AsyncIterator[Any] = cast("Any", original).body_iterator.__aiter__()
        # A stream that sends itself does so in a task, beside one that waits for the disconnect.
        context = self.context.copy()
        while True:
            try:
                chunk = await in_context(context, iterator.__anext__())
            except StopAsyncIteration:
                return
            except Exception as exc:
                self._too_late(exc)
                raise
            yield chunk.encode(original.charset) if isinstance(chunk, str) else chunk

    def _sends_itself(self) -> bool:
        original = self.original
        if self._iterator is not None or self.background is not None:
            return False
        # A plain one may be somebody's constant: not to be changed.
        return not self._plain or (
            self.status_code == original.status_code and self.raw_headers is original.raw_headers
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it (ASGI 3)."""
        if not self._sends_itself():
            await _send_chunks(self, send)
            if self.background is not None:
                await self.background()
            return
        self._sent = True
        original = self.original
        if self._plain and original.background is None:
            await original(scope, receive, send)  # runs no code of the inside
            return
        original.status_code = self.status_code
        original.raw_headers = self.raw_headers
        try:
            await in_context(self.context, original(scope, receive, send))
        except Exception as exc:
            self._too_late(exc)
            raise

    async def finish(self) -> None:
        """Do what the original does after it was sent, unless it was, and did."""
        background = None if self._sent else self.original.background
        self._sent = True
        if background is not None:
            try:
                await in_context(self.context, background())
            except Exception as exc:
                self._too_late(exc)
                raise

    def abandon(self) -> None:
        """Do nothing: the request has failed, and no task is to be ended."""

    def _too_late(self, exc: Exception) -> None:
        """Raise what a handler of the exception can't answer any more, if there is one."""
        if self._on_error is not None:
            self._on_error(exc, True)


class _Running(Response):
    """A response that an ASGI application is sending, in a task of its own."""

    def __init__(self, on_error: OnError | None) -> None:
        self.status_code = 200
        self.raw_headers = []
        self.background: BackgroundTask | None = None
        self._on_error = on_error
        self._sending, self._receiving = anyio.create_memory_object_stream[Message]()
        self._sent = anyio.Event()
        self._task: asyncio.Task[None] | None = None
        self.body_iterator: Any = self._chunks()

    @classmethod
    async def start(
        cls,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        level: Level,
        on_error: OnError | None = None,
    ) -> _Running:
        """Run `app` until it begins its response."""
        self = cls(on_error)
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
            self.abandon()
            await asyncio.wait([self._task])
            raise
        self.status_code = message["status"]
        self.raw_headers = message.get("headers", [])
        level.add(self)
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

    async def _chunks(self) -> AsyncIterator[bytes | MutableMapping[str, Any]]:
        async for message in self._receiving:
            if message["type"] == "http.response.pathsend":
                yield message
                return
            if body := message.get("body", b""):
                yield body
            if not message.get("more_body", False):
                return

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it (ASGI 3)."""
        await _send_chunks(self, send)
        if self.background is not None:
            await self.background()

    async def finish(self) -> None:
        """Let the application do what it does after the response; raise what it raises."""
        self._sent.set()
        self._receiving.close()
        assert self._task is not None
        try:
            await self._task
        except asyncio.CancelledError:
            self.abandon()
            await asyncio.wait([self._task])
            raise
        except Exception as exc:
            if self._on_error is not None:
                self._on_error(exc, True)
            raise

    def abandon(self) -> asyncio.Task[None] | None:
        """End the application, as the request has failed."""
        self._receiving.close()
        if self._task is not None:
            self._task.cancel()
        return self._task


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
    """Return the middleware `app`, or what does the same faster; and what it is together with
    `inside`.
    """
    if (
        inside is not None
        and isinstance(app, BaseHTTPMiddleware)
        and type(app).__call__ is BaseHTTPMiddleware.__call__
        and app.app is inside.app
    ):
        fast = FastHTTPMiddleware(app, inside)
        return fast, inside.within(fast)
    return app, None
