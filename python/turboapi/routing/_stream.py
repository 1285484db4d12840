"""Endpoints that yield: JSON Lines, Server-Sent Events, and chunks for a streaming response."""

import json
import math
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, cast

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from turboapi import _core
from turboapi.dependencies.models import _is_async_gen_callable
from turboapi.encoders import jsonable_encoder
from turboapi.exceptions import ResponseValidationError
from turboapi.routing import _replaceable
from turboapi.sse import KEEPALIVE_COMMENT, ServerSentEvent, format_sse_event

if TYPE_CHECKING:
    from turboapi._compile.hooks import RequestHooks


async def stream_response(route: "RequestHooks", request: Request, solved: Any) -> Response:
    """Return the response of an endpoint that yields, started but not sent."""
    items = route.call(**solved.values)
    is_async = _is_async_gen_callable(route.call)
    encode = _ItemEncoder(route, request)
    given = response_arguments(route.status_code, solved)
    response: Response
    if route.is_sse:
        events: Any = _event_texts_async(items, encode) if is_async else _event_texts(items, encode)
        response = _EventStream(events, **given)
        response.headers["Cache-Control"] = "no-cache"
        # nginx would hold the events back.
        response.headers["X-Accel-Buffering"] = "no"
    elif route.is_json_stream:
        lines: Any = _lines_async(items, encode) if is_async else _lines(items, encode)
        response = StreamingResponse(lines, media_type="application/jsonl", **given)
    else:
        response = route.response_class(content=_chunks(items) if is_async else items, **given)
    response.headers.raw.extend(solved.response.headers.raw)
    return response


def response_arguments(status_code: int | None, solved: Any) -> dict[str, Any]:
    """Keywords for a response class: the background tasks and, when one was set, the status.

    The status that a dependency or the endpoint set on its `response` parameter wins.
    """
    given: dict[str, Any] = {"background": solved.background_tasks}
    status = solved.response.status_code or status_code
    if status is not None:
        given["status_code"] = status
    return given


class _ItemEncoder:
    """One item as JSON bytes: through the item's model when the endpoint declares one."""

    def __init__(self, route: "RequestHooks", request: Request) -> None:
        self.route = route
        self.request = request

    def __call__(self, item: Any) -> bytes:
        field = self.route.stream_item_field
        if field is None:
            return _dumps(item)
        shape = self.route.stream_item_shape
        plain: bytes | None = None if shape is None else shape.encode(item)
        if plain is not None:
            return plain
        value, errors = field.validate(item, {}, loc=("response",))
        if errors:
            raise ResponseValidationError(
                errors=errors, body=item, endpoint_ctx=self.route.endpoint_context(self.request)
            )
        return field.serialize_json(value, **self.route.dump_options)

    def event(self, item: Any) -> bytes:
        """One item as an event of the stream."""
        if not isinstance(item, ServerSentEvent):
            return format_sse_event(data_str=self(item).decode())
        data = item.raw_data
        if data is None and item.data is not None:
            dump = getattr(item.data, "model_dump_json", None)
            data = dump() if dump is not None else _dumps(item.data).decode()
        return format_sse_event(
            data_str=data, event=item.event, id=item.id, retry=item.retry, comment=item.comment
        )


def _dumps(value: Any) -> bytes:
    """Return json.dumps(jsonable_encoder(value)) as bytes, with null for NaN and infinities."""
    plain = _core.encode_json_item(value)
    return json.dumps(_finite(jsonable_encoder(value))).encode() if plain is None else plain


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in cast("Any", value).items()}
    return [_finite(each) for each in cast("Any", value)] if isinstance(value, list) else value


def _lines(items: Iterator[Any], encode: _ItemEncoder) -> Iterator[bytes]:
    for item in items:
        yield encode(item) + b"\n"


async def _lines_async(items: AsyncIterator[Any], encode: _ItemEncoder) -> AsyncIterator[bytes]:
    turn = _Turn()
    async for item in items:
        yield encode(item) + b"\n"
        if turn.is_over():
            await anyio.sleep(0)


async def _chunks(items: AsyncIterator[Any]) -> AsyncIterator[Any]:
    turn = _Turn()
    async for item in items:
        yield item
        if turn.is_over():
            await anyio.sleep(0)


class _Turn:
    """Tell when an endpoint that never waits must let others run, also its own cancellation."""

    SECONDS = 0.001

    def __init__(self) -> None:
        self._end = time.monotonic() + self.SECONDS

    def is_over(self) -> bool:
        """Return whether the turn is over; if it is, the next one begins."""
        now = time.monotonic()
        if now < self._end:
            return False
        self._end = now + self.SECONDS
        return True


class _Mailbox:
    """Hold one event between the endpoint's task and the response's.

    Attributes:
        used: there was an event, or somebody waits for one.
    """

    def __init__(self) -> None:
        self.used = False
        self._event: bytes | None = None
        self._error: Exception | None = None
        self._closed = False
        self._filled = anyio.Event()
        self._emptied = anyio.Event()

    async def put(self, event: bytes) -> None:
        while self._event is not None:
            await self._emptied.wait()
        self.used = True
        self._event = event
        self._filled.set()

    def close(self, error: Exception | None = None) -> None:
        """Let nothing follow but the event that is here, and then the error."""
        self._error = error
        self._closed = True
        self._filled.set()

    async def wait(self) -> None:
        """Wait until `take` has an answer; may be cancelled without losing an event."""
        self.used = True
        await self._filled.wait()

    def take(self) -> bytes | None:
        """Return the event; None: there will be no further one. Only after `wait`.

        Raises:
            Exception: the endpoint's, after its last event.
        """
        event, self._event = self._event, None
        if event is None:
            self.raise_error()
        if not self._closed:
            self._filled = anyio.Event()
        self._emptied.set()
        self._emptied = anyio.Event()
        return event

    def raise_error(self) -> None:
        """Raise the endpoint's error, unless that was done."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # a cycle, with its traceback


class _EventStream(StreamingResponse):
    """Events, and pings while the endpoint makes none.

    The native server sends the pings itself and iterates over the events
    (src/py/server/streaming_response.c, which asks for the attribute), unless there are background
    tasks: after a disconnect these run first, and then the endpoint is cancelled. Here, as for
    other servers, a task of its own runs the endpoint, which keeps its body in one context from
    start to end. An error of the endpoint ends the stream after its last event, and not as if it
    were complete (FastAPI's tasks race for that); before the first event it is raised at once, so
    that middleware which has not got the head yet may answer.
    """

    media_type = "text/event-stream"

    def __init__(self, events: Any, **given: Any) -> None:
        super().__init__(events, **given)
        ping_interval = _replaceable.routing._PING_INTERVAL
        self._turboapi_keep_alive = (ping_interval, KEEPALIVE_COMMENT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        source = cast("AsyncIterator[bytes]", self.body_iterator)
        mailbox = _Mailbox()
        self.body_iterator = _events(mailbox, self._turboapi_keep_alive[0])

        over = False

        async def produce() -> None:
            error = None
            try:
                async for event in source:
                    await mailbox.put(event)
            except Exception as exc:
                if over or not mailbox.used:  # maybe no response has begun
                    raise
                error = exc
            finally:
                mailbox.close(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce)
            try:
                await super().__call__(scope, receive, send)
            finally:
                over = True
            tasks.cancel_scope.cancel()
            mailbox.raise_error()


def _event_texts(items: Iterator[Any], encode: _ItemEncoder) -> Iterator[bytes]:
    for item in items:
        yield encode.event(item)


async def _event_texts_async(
    items: AsyncIterator[Any], encode: _ItemEncoder
) -> AsyncIterator[bytes]:
    async for item in items:
        yield encode.event(item)


async def _events(mailbox: _Mailbox, ping_interval: float) -> AsyncIterator[bytes]:
    turn = _Turn()
    while True:
        with anyio.move_on_after(ping_interval) as waiting:
            await mailbox.wait()
        if waiting.cancelled_caught:
            yield KEEPALIVE_COMMENT
        else:
            event = mailbox.take()
            if event is None:
                return
            yield event
        if turn.is_over():
            await anyio.sleep(0)
