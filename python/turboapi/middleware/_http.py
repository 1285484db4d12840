"""`@app.middleware("http")` without a stream of messages between the middleware and the endpoint.

Starlette's `BaseHTTPMiddleware` runs what is inside of it as an ASGI application in a task of its
own and gets the response back, message by message, through a memory stream. When all that is
inside are such middlewares and then the application's own routers, and the routers' table has
a plan for the request, no messages are needed: `call_next` asks the plan for its response and
passes that to the function. The inside still runs in a task (`_inside_task.py`) with a copy of the
context, but that task begins at once. Starlette's own class handles everything else.

All of this is C (`_core.HTTPMiddleware`), for responses that are whole: a status, headers and
a body. So are files that can be read at once, of a `FileResponse` or a mounted `StaticFiles`. What
is here deals with the others: streams, large files, responses with background tasks.

Two differences are improvements and intended: `call_next` may be called again, and a body that ends
with an exception does not pass for a complete one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
from starlette import datastructures, requests
from starlette.background import BackgroundTask
from starlette.datastructures import MutableHeaders
from starlette.middleware import base
from starlette.middleware.base import BaseHTTPMiddleware, _CachedRequest
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turboapi import _core
from turboapi._core import in_context
from turboapi._request import EngineRequest
from turboapi._untouched import is_from
from turboapi.middleware import _inside_task
from turboapi.middleware._innermost import InnermostMiddleware, WholeFile
from turboapi.middleware._inside_task import Exit, Flight, Level
from turboapi.middleware.asyncexitstack import AsyncExitStackMiddleware

if TYPE_CHECKING:
    from turboapi.routing import APIRouter

# (exception, whether the response has begun) -> the answer of a handler: RequestHooks.handle_error
OnError = Callable[[Exception, bool], Awaitable[Response] | None]
_PLAIN_CALL = Response.__call__


class LevelRequest(_CachedRequest):
    """What the function gets: Starlette's request, as C makes it."""

    # As __init__ sets them.
    _stream_consumed = False
    _is_disconnected = False
    _form = None
    _wrapped_rcv_disconnected = False
    _wrapped_rcv_consumed = False


LevelRequest.__name__ = LevelRequest.__qualname__ = _CachedRequest.__name__
LevelRequest.__module__ = _CachedRequest.__module__


class FastHTTPMiddleware(_core.HTTPMiddleware):
    """A `BaseHTTPMiddleware` whose inside is known; see the module."""

    def __init__(
        self,
        original: BaseHTTPMiddleware,
        innermost: InnermostMiddleware,
        inner: FastHTTPMiddleware | None,
    ) -> None:
        self.original = original
        self.app = original.app
        self.dispatch_func = original.dispatch_func
        self._innermost = innermost
        self._prepare(original.dispatch_func, innermost, inner, _KIT)

    def _serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve what has no plan: files without messages."""
        awaitable = None
        if self._innermost.find_files(scope) is not None:
            awaitable = self._respond(scope, receive, send)
        return self.original(scope, receive, send) if awaitable is None else awaitable

    # -- what C asks for --------------------------------------------------------------------------

    async def _pass(
        self,
        response: Response,
        scope: Scope,
        receive: Receive,
        send: Send,
        level: Level,
        context: Context,
    ) -> PassedResponse | _Running:
        """Return the response of the function as the middleware outside gets it."""
        return await _passed(response, scope, receive, send, level, context)

    async def _run(
        self,
        _: None,
        plan: None,
        scope: Scope,
        receive: Receive,
        send: Send,
        level: Level,
        context: Context,
    ) -> PassedResponse | _Running:
        """Return the response of the application, since no plan can answer."""
        file = self._innermost.read_file(scope, receive, send)
        if file is not None:
            return _whole(file)
        return await _Running.start(self._innermost, scope, receive, send, level)

    async def _give(
        self,
        response: Response | None,
        plan: Any,
        scope: Scope,
        receive: Receive,
        send: Send,
        level: Level,
        context: Context,
    ) -> PassedResponse | _Running:
        """Return the response of an endpoint as the innermost middleware gets it."""
        if response is None:  # a handler may give anything
            raise RuntimeError("No response returned.")
        if (file := _read_file(response, scope, receive, send)) is not None:
            return _whole(file)
        on_error = partial(plan.hooks.handle_error, EngineRequest(scope, receive, send))
        if _is_plain(response) or _is_stream(response):
            return PassedResponse(response, level, context, on_error)
        # It may set its headers, or fail, only when it is sent: a file does.
        try:
            return await _Running.start(response, scope, receive, send, level, on_error)
        except Exception as exc:
            handled = on_error(exc, False)
            if handled is None:
                raise
            answer = cast("Response | None", await handled)
        if answer is None:
            raise RuntimeError("No response returned.")
        return await _passed(answer, scope, receive, send, level, context)

    async def _failed(
        self,
        exc: Exception,
        plan: Any,
        scope: Scope,
        receive: Receive,
        send: Send,
        level: Level,
        context: Context,
    ) -> _Running:
        """Return the answer to an exception that has left the route, or raise it."""
        errors = self._innermost
        if not errors._handles(exc):
            try:
                raise exc
            finally:
                del exc  # a cycle, with its traceback

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            awaitable = errors._failed(exc, False, scope, receive, send)
            assert awaitable is not None  # it handles it
            await awaitable

        return await _Running.start(answer, scope, receive, send, level)


# What C needs of this module (src/py/plan/http_middleware.c).
def _kit() -> tuple[Any, ...]:
    receive = Flight.receive_inside
    start, eager = _inside_task.start, _inside_task.EAGER
    return LevelRequest, Level, Flight, PassedResponse, Exit, start, receive, eager


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
    if (file := _read_file(response, scope, receive, send)) is not None:
        return _whole(file)
    return await _Running.start(response, scope, receive, send, level)


def _read_file(response: Response, scope: Scope, receive: Receive, send: Send) -> WholeFile | None:
    """Return what the response sends, if it is just a file that can be read at once."""
    if not isinstance(response, FileResponse) or response.background is not None:
        return None
    return _core.read_file(response, scope, receive, send)


class _Fields(_core.HeaderFields, MutableHeaders):
    """The headers of a `PassedResponse`: Starlette's class, whose common methods are C."""

    # What C leaves to it.
    _get_other = MutableHeaders.__getitem__
    _set_other = MutableHeaders.__setitem__
    _delete_other = MutableHeaders.__delitem__
    _has_other = MutableHeaders.__contains__


_Fields.__name__ = _Fields.__qualname__ = MutableHeaders.__name__
_Fields.__module__ = MutableHeaders.__module__


class PassedResponse(_core.PassedResponse, Response):  # type: ignore[misc]
    """What `call_next` returns: a response of the inside, to be read, changed or replaced.

    As with Starlette's, its body is `body_iterator`, to be iterated or set. While nobody does
    so, the original response sends itself. If it does not, its background is left to `finish`.
    C makes those of whole responses, without `__init__`.

    Attributes:
        original: the response of the inside; None for a whole one, whose parts are here.
        context: that of the inside; the original is sent in it, too.
        _body: that of a whole response, else None.
        _iterator: what `body_iterator` is, if somebody has asked for it or set it.
        _sent: the original was sent, with its background.
    """

    _headers_type = _Fields

    def __init__(
        self,
        original: Response | _Running,
        level: Level,
        context: Context,
        on_error: OnError | None = None,
    ) -> None:
        self.original = original
        self.context = context
        self.status_code = original.status_code
        self.raw_headers = original.raw_headers
        self._on_error = on_error
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
        original: Any = self.original
        if original is None or _is_plain(original):
            body = self._body if original is None else original.body
            if body:
                yield body
            return
        iterator: AsyncIterator[Any] = original.body_iterator.__aiter__()
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
        original: Any = self.original
        if original is None or self._iterator is not None or self.background is not None:
            return False
        # A plain one may be somebody's constant: not to be changed.
        return not _is_plain(original) or (
            self.status_code == original.status_code and self.raw_headers is original.raw_headers
        )

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, since it is not just a whole response."""
        if not self._sends_itself():
            await _send_chunks(self, send)
            if self.background is not None:
                await self.background()
            return
        self._sent = True
        original: Any = self.original
        if _is_plain(original) and original.background is None:
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
        original: Any = self.original
        background = None if self._sent else original.background
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


def _whole(file: WholeFile) -> PassedResponse:
    response = PassedResponse.__new__(PassedResponse)
    response.status_code, response.raw_headers, response._body = file
    return response


_KIT = _kit()


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
    shown: Any = response
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": shown.raw_headers,
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


def known_inside(router: APIRouter, below: ASGIApp, app: ASGIApp) -> InnermostMiddleware | None:
    """Return `app`, round `below`, if that is just the router with its exit stack; else None."""
    if not isinstance(app, InnermostMiddleware):
        return None
    own = type(below) is AsyncExitStackMiddleware and cast("Any", below).app is router
    return app if own and router.middleware_stack == router.app else None


def accelerate(app: Any, inside: Any) -> tuple[ASGIApp, Any]:
    """Return the middleware `app`, or what does the same faster; and what is inside of the next
    one, if it is known.
    """
    if (
        isinstance(inside, InnermostMiddleware | FastHTTPMiddleware)
        and isinstance(app, BaseHTTPMiddleware)
        and type(app).__call__ is BaseHTTPMiddleware.__call__
        and app.app is inside
        and all(is_from(getattr(cls, name), module) for cls, name, module in _KNOWN)
    ):
        inner = inside if isinstance(inside, FastHTTPMiddleware) else None
        innermost = inside if inner is None else inner._innermost
        fast = FastHTTPMiddleware(app, cast("InnermostMiddleware", innermost), inner)
        return fast, fast
    return app, None


# Functions that C does not call, since it does what they do.
_KNOWN: list[tuple[type, str, Any]] = [
    (BaseHTTPMiddleware, "__call__", base),
    (_CachedRequest, "__init__", base),
    (Request, "__init__", requests),
    (HTTPConnection, "__init__", requests),
    (MutableHeaders, "__init__", datastructures),
    *((MutableHeaders, f"__{name}__", datastructures) for name in ("setitem", "delitem")),
    *((MutableHeaders, f"__{name}__", datastructures) for name in ("getitem", "contains")),
]
