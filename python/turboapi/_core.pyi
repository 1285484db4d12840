"""The C core. docs/engine.md and docs/loop.md are the contracts."""

import os
from asyncio import AbstractEventLoop, Transport
from asyncio import Handle as AbstractHandle
from asyncio import TimerHandle as AbstractTimerHandle
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from logging import Logger
from selectors import BaseSelector, SelectorKey
from socket import socket
from typing import Any, Final, Self, TypeVar, final
from weakref import ref

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import Buffer, disjoint_base

_T = TypeVar("_T")

MISSING: Final[Any]

# Members of ta_http_limits by name: (default, highest value).
HTTP_LIMITS: Final[Mapping[str, tuple[int, int]]]
LIBRARIES: Final[Mapping[str, str | None]]

class ClientDisconnected(OSError): ...  # noqa: N818

def encode_json(value: object, /) -> bytes | None: ...
def encode_json_item(value: object, /) -> bytes | None: ...
def init_json_response(
    guards: tuple[tuple[Any, str, Any], ...],
    response: object,
    content: object,
    status_code: object,
    headers: object,
    media_type: object,
    background: object,
    /,
) -> bool: ...
def init_file_response(
    guards: tuple[tuple[Any, str, Any], ...],
    response: object,
    path: object,
    status_code: object,
    headers: object,
    media_type: object,
    background: object,
    filename: object,
    disposition: object,
    /,
) -> bool: ...
def read_file(
    response: object, scope: Scope, receive: Receive, send: Send, /
) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None: ...
def path_text(path: str | bytes | os.PathLike[Any], /) -> str | bytes: ...
def attributes_hold(guards: tuple[tuple[Any, str, Any], ...], /) -> bool: ...
def parse_urlencoded(body: bytes, /) -> list[tuple[str, str]]: ...
def parse_multipart(
    body: bytes,
    content_type: bytes,
    max_files: int,
    max_fields: int,
    max_part_size: int,
    make_file: Callable[[str, bytes, list[tuple[bytes, bytes]]], _T],
    /,
) -> list[tuple[str, str | _T]] | None: ...
def in_context(context: Context, awaitable: Awaitable[_T], /) -> Coroutine[Any, Any, _T]: ...

@final
class Solved:
    @property
    def values(self) -> dict[str, Any]: ...
    @property
    def errors(self) -> list[Any]: ...
    @property
    def background_tasks(self) -> Any: ...
    @property
    def response(self) -> Response: ...
    @property
    def dependency_cache(self) -> dict[int, Any]: ...
    @property
    def body(self) -> Any: ...

@final
class Shape:
    def __new__(
        cls, spec: tuple[Any, ...], *, exclude_none: bool = ..., exclude_unset: bool = ...
    ) -> Self: ...
    def encode(self, value: Any, /, *, trusted: bool = ...) -> bytes | None: ...

@final
class Plan:
    def __new__(cls, **spec: Any) -> Self: ...
    @property
    def spec(self) -> dict[str, Any]: ...
    @property
    def hooks(self) -> Any: ...
    @property
    def needs_stacks(self) -> bool: ...
    def asgi(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]: ...
    def respond(self, request: Any) -> Coroutine[Any, Any, Response]: ...
    def solve(self, connection: Any, body: Any = ...) -> Coroutine[Any, Any, Solved]: ...

@final
class Router:
    def __new__(
        cls,
        entries: Sequence[
            tuple[str, str, frozenset[str] | None, Plan | App | None, dict[str, Any] | None]
            | tuple[str, str, frozenset[str] | None, Plan | App | None, dict[str, Any] | None, Any]
        ],
    ) -> Self: ...
    def match(self, method: str, path: str, /) -> tuple[int, dict[str, Any]] | None: ...
    def find(
        self, method: str, path: str, start: int = 0, /
    ) -> tuple[int, int | None, Any] | None: ...
    def target(self, index: int, /) -> Plan | App | None: ...
    def __len__(self) -> int: ...

@disjoint_base
class Innermost:
    def _prepare(
        self,
        router: Any,
        handlers: tuple[Any, Any],
        guards: tuple[tuple[dict[str, Any], str, Any], ...],
        /,
    ) -> None: ...
    def _use(
        self,
        table: tuple[
            Router,
            tuple[tuple[dict[str, Any] | None, Any, dict[str, Any] | None] | None, ...],
        ]
        | None,
        /,
    ) -> None: ...
    def _drop(self) -> None: ...
    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]: ...

@disjoint_base
class InnerFilter:
    def _prepare(self, filters: tuple[tuple[Any, ...]], /) -> None: ...
    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]: ...

@disjoint_base
class HTTPMiddleware:
    def _prepare(
        self,
        dispatch: Callable[..., Awaitable[Any]],
        innermost: Innermost,
        inner: HTTPMiddleware | None,
        kit: tuple[Any, ...],
        /,
    ) -> None: ...
    def knows(self, scope: Any, /) -> bool: ...
    def _respond(self, scope: Any, receive: Any, send: Any, /) -> Awaitable[None] | None: ...
    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]: ...

@disjoint_base
class HTTPLevel:
    _left: bool
    answered: bool
    @property
    def _parent(self) -> Any: ...
    @property
    def request(self) -> Any: ...
    @property
    def _running(self) -> list[Any]: ...
    @property
    def _responses(self) -> list[Any]: ...
    @property
    def _waiting(self) -> list[Any]: ...

@disjoint_base
class HeaderFields:
    _list: Any
    def __getitem__(self, key: str, /) -> str: ...
    def __setitem__(self, key: str, value: str, /) -> None: ...
    def __delitem__(self, key: str, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...

@disjoint_base
class PassedResponse:
    original: Any
    @property
    def headers(self) -> Any: ...
    context: Any
    status_code: Any
    raw_headers: Any
    media_type: Any
    background: Any
    _on_error: Any
    _iterator: Any
    _body: Any
    _sent: bool
    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]: ...

@final
class Exchange:
    def gather(self) -> bytes | Awaitable[bytes] | None: ...
    def cancel(self, msg: str, /) -> None: ...

@final
class App:
    def __new__(
        cls,
        asgi: ASGIApp,
        *,
        router: Router | None = None,
        direct: bool = False,
        error_app: ASGIApp | None = None,
        rebuild: Callable[[], App] | None = None,
        scope_items: dict[str, Any] | None = None,
        root_path: str = "",
        filters: tuple[tuple[Any, ...], ...] = (),
        pathsend: bool = False,
        answers: tuple[str, ...] = (),
        stack: ASGIApp | None = None,
        guards: tuple[tuple[dict[str, Any], str, Any], ...] = (),
        prefix: str = "",
        packs: bool = False,
    ) -> Self: ...
    @property
    def asgi(self) -> ASGIApp: ...
    @property
    def router(self) -> Router | None: ...
    @property
    def direct(self) -> bool: ...
    @property
    def error_app(self) -> ASGIApp | None: ...
    def invalidate(self) -> None: ...

@final
class StaticFiles:
    def __new__(
        cls,
        app: object,
        directories: list[Any],
        guards: tuple[tuple[Any, str, Any], ...],
        packed: tuple[str, ...] = (),
    ) -> Self: ...
    def read(
        self, scope: Scope, receive: Receive, send: Send, /
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None: ...

@final
class Handle(AbstractHandle):
    def __new__(
        cls,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: AbstractEventLoop,
        context: Context | None = None,
    ) -> Self: ...
    def get_context(self) -> Context: ...

@final
class TimerHandle(AbstractTimerHandle):
    def __new__(
        cls,
        when: float,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: AbstractEventLoop,
        context: Context | None = None,
    ) -> Self: ...
    def get_context(self) -> Context: ...

@disjoint_base
class LoopBase:
    """What turboapi.loop.EventLoop has in place of asyncio's Python; the methods are asyncio's."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def time(self) -> float: ...
    def is_running(self) -> bool: ...
    def get_debug(self) -> bool: ...
    def _spin(self) -> None: ...

@final
class CallQueue:
    """Calls that wait for a thread; it has what ThreadPoolExecutor and anyio expect of a queue."""

    def __new__(
        cls,
        selector: BaseSelector,
        start: Callable[[bool], object],
        max_threads: int,
        idle_seconds: int,
        extra: tuple[Any, ...],
    ) -> Self: ...
    @property
    def queue(self) -> Self: ...
    def put(self, item: Any, /) -> None: ...
    def put_nowait(self, item: Any, /) -> None: ...
    def get_nowait(self) -> Any: ...
    def qsize(self) -> int: ...
    def limit(self, threads: int, /) -> None: ...
    def rest(self) -> None: ...
    def work(self) -> None: ...

@final
class IdleThreads(deque[Any]):
    def __init__(self, queue: CallQueue, backend: dict[str, Any], loop: ref[Any]) -> None: ...

@final
class SocketTransport(Transport):
    """asyncio's transport of a stream socket, for a turboapi EventLoop."""

    _sock_fd: int
    def __init__(
        self,
        loop: LoopBase,
        sock: socket,
        protocol: Any,
        extra: dict[str, Any],
        server: Any,
        context: Context | None = None,
    ) -> None: ...
    @property
    def max_size(self) -> int: ...
    def _start_reading(self) -> None: ...

@final
class Selector(BaseSelector):
    def __new__(cls, backend: str = "auto") -> Self: ...
    def attach(self, loop: AbstractEventLoop, /) -> None: ...
    def fileno(self) -> int: ...
    def turn(self) -> None: ...
    def lag(self) -> float: ...
    def highest_lag(self) -> float: ...
    @property
    def _calls(self) -> int | None: ...
    def spawn(
        self,
        coro: Coroutine[Any, Any, Any],
        callback: Callable[[Any, BaseException | None], object] | None = None,
        /,
    ) -> None: ...
    # The interface of BaseSelector, which it has without being derived from it.
    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey: ...
    def unregister(self, fileobj: Any) -> SelectorKey: ...
    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey: ...
    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]: ...
    def close(self) -> None: ...
    def get_key(self, fileobj: Any) -> SelectorKey: ...
    def get_map(self) -> Mapping[Any, SelectorKey]: ...

@final
class LogWriter:
    def __new__(cls, fd: int, room: int) -> Self: ...
    @property
    def dropped(self) -> int: ...
    def put(self, lines: str, /) -> None: ...
    def flush(self, seconds: float, /) -> bool: ...
    def close(self, seconds: float, /) -> bool: ...
    def untold(self) -> int: ...

STATS_BOUNDS: tuple[float, ...]

@final
class Stats:
    def __new__(cls, fd: int, slots: int, routes: int) -> Self: ...
    @staticmethod
    def size(slots: int, routes: int, /) -> int: ...
    def claim(self, thread: int, /) -> int: ...
    def pid(self, slot: int, /) -> int: ...
    def set_state(self, slot: int, state: int, /) -> None: ...
    def retire(self, slot: int, /) -> None: ...
    def count_restart(self) -> None: ...
    def read(self, slot: int, /) -> dict[str, Any] | None: ...

@final
class TLS:
    def __new__(
        cls,
        pairs: list[tuple[str, str | None]],
        *,
        password: str | None = None,
        ca_certs: str | None = None,
        crl: str | None = None,
        verify: int = 0,
        ciphers: str | None = None,
        tls13_only: bool = False,
        alpn: bytes = b"",
        secret: bytes | None = None,
    ) -> Self: ...
    def expires(self, pair: int, /) -> int: ...

CODINGS: dict[str, tuple[str, int, int]]
UNPACKED: tuple[str, ...]

@final
class Unpacker:
    def __new__(cls, coding: str) -> Self: ...
    def feed(self, data: Buffer, /) -> None: ...
    def take(self, most: int, /) -> bytes: ...
    def is_complete(self) -> bool: ...

def choose_coding(values: list[bytes], codings: tuple[str, ...], /) -> tuple[str, bool]: ...

@final
class Packer:
    def __new__(cls, coding: str, level: int) -> Self: ...
    @property
    def coding(self) -> str: ...
    def pack(self, data: Buffer, last: bool = False, /) -> bytes: ...

@final
class Server:
    def __new__(
        cls,
        selector: Selector,
        app: App,
        *,
        limits: dict[str, int] = ...,
        server_header: str | None = "turboapi",
        date_header: bool = True,
        root_path: str = "",
        state: dict[str, Any] | None = None,
        access_log: Callable[..., object] | None = None,
        logger: Logger | None = None,
        log_level: int = 30,
        max_requests: int = 0,
        threads: int = 0,
        spec_version: str = "2.3",
        proxy: Any = None,
        watch: Callable[[Any, tuple[str, int] | None], Any] | None = None,
        ws_deflate: bool = True,
        access_writer: Any = None,
        stats: Stats | None = None,
        stats_slot: int = 0,
        request_ids: tuple[bytes | None, Callable[[str | None], bool] | None, bytes | None]
        | None = None,
        more_headers: list[tuple[bytes, bytes]] | None = None,
        http2: bool = False,
        compress: tuple[Any, ...] | None = None,
        front: tuple[App | None, tuple[str, ...], App | None] | None = None,
    ) -> Self: ...
    @property
    def app(self) -> App: ...
    @property
    def active(self) -> int: ...
    @property
    def connections(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def tasks(self) -> int: ...
    def listen(self, fd: int, shared: bool = False, /) -> None: ...
    def use_tls(self, tls: TLS, /) -> None: ...
    def use_proxy_protocol(self, trusts: Callable[[str], bool], /) -> None: ...
    def shutdown(
        self, on_done: Callable[[], object], stream_grace: float | None = None, /
    ) -> None: ...
    def pending(self) -> tuple[int, int, int, int]: ...
    def cancel(self, msg: str, /) -> None: ...
    def close(self) -> None: ...
