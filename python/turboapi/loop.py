"""TurboAPI's event loop: asyncio's, with its queues, handles and turns in C.

    loop = turboapi.loop.new_event_loop()
    asyncio.run(main(), loop_factory=turboapi.loop.new_event_loop)      # Python 3.12

It is what `turboapi run` serves on by default (`--loop turboapi`), and can be used without the
server. Futures and Tasks are CPython's, and so are all methods of the loop but those that every
waiting coroutine passes through: call_soon, call_later, call_at, create_future, create_task and the
turn of the loop itself. Semantics are asyncio's, in debug mode too. A subclass or a patch that
replaces something of asyncio's inner workings (`time`, `_run_once`, ...) gets asyncio's own code
for all of it.
"""

import asyncio
import selectors
import socket
import sys
from asyncio import base_events, events, format_helpers, futures, selector_events, trsock
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from turboapi import _core, _loop_threads
from turboapi.logger import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["EventLoop", "Lag", "lag", "new_event_loop"]

# Names of asyncio that are not public, and that the loop stands on. Where one of them is missing,
# new_event_loop() gives the standard loop.
_NEEDED: dict[Any, tuple[str, ...]] = {
    asyncio.BaseEventLoop: (
        *("_run_once", "_check_closed", "_check_thread", "_check_callback", "_call_soon"),
        *("_add_callback", "_timer_handle_cancelled"),
    ),
    asyncio.SelectorEventLoop: (
        *("_process_events", "_write_to_self", "_add_reader", "_add_writer"),
        *("_remove_reader", "_remove_writer", "_ensure_fd_no_transport"),
        *("_make_socket_transport",),
    ),
    asyncio.base_events.Server: ("_attach", "_detach"),
    selector_events: ("_SelectorSocketTransport",),
    trsock: ("TransportSocket",),
    futures: ("_set_result_unless_cancelled",),
    events: ("Handle", "TimerHandle"),
    format_helpers: ("_format_callback_source",),
    base_events: ("_format_handle", "_set_nodelay"),
}

# From 3.13 on a Server is told which transports are its own; before, it only counts them.
_TOLD = 1 if sys.version_info >= (3, 13) else 0


class EventLoop(_core.LoopBase, asyncio.SelectorEventLoop):
    """An event loop of asyncio whose queues, handles and turns are C.

    Args:
        selector: what waits for files; by default TurboAPI's own, in which a native server of this
            loop serves its connections.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(selector if selector is not None else _core.Selector())
        self._turboapi_anyio_queue = _loop_threads.give_anyio_threads(self)

    def _make_executor(self) -> "ThreadPoolExecutor | None":
        """Make the default executor, of whose threads C knows; None: asyncio has to."""
        base: Any = self
        return _loop_threads.new_executor(base._selector)

    if hasattr(asyncio.BaseEventLoop, "_run_forever_setup"):  # Python 3.13

        def run_forever(self) -> None:
            """Run until stop() is called."""
            base: Any = self
            base._run_forever_setup()  # where it fails, another loop runs: nothing to clean up
            try:
                self._spin()
            finally:
                base._run_forever_cleanup()
                self._rest()

    else:

        def run_forever(self) -> None:
            """Run until stop() is called."""
            try:
                super().run_forever()
            finally:
                self._rest()

    def _rest(self) -> None:
        if self._turboapi_anyio_queue is not None:
            self._turboapi_anyio_queue.rest()

    # -- files: as asyncio's, with handles of ours ------------------------------------------------

    def _watch(
        self, fd: Any, event: int, callback: "Callable[..., Any]", args: Any, context: Any
    ) -> Any:
        base: Any = self
        base._check_closed()
        handle_type: Any = events.Handle if self.get_debug() else _core.Handle
        handle = handle_type(callback, args, self, context)
        selector = base._selector
        key = selector.get_map().get(fd)
        if key is None:
            pair = (handle, None) if event == selectors.EVENT_READ else (None, handle)
            selector.register(fd, event, pair)
            return handle
        reader, writer = key.data
        if event == selectors.EVENT_READ:
            selector.modify(fd, key.events | event, (handle, writer))
            replaced = reader
        else:
            selector.modify(fd, key.events | event, (reader, handle))
            replaced = writer
        if replaced is not None:
            replaced.cancel()
        return handle

    # Python 3.15 gives a context.

    def _add_reader(
        self, fd: Any, callback: "Callable[..., Any]", *args: Any, context: Context | None = None
    ) -> Any:
        return self._watch(fd, selectors.EVENT_READ, callback, args, context)

    def _add_writer(
        self, fd: Any, callback: "Callable[..., Any]", *args: Any, context: Context | None = None
    ) -> Any:
        return self._watch(fd, selectors.EVENT_WRITE, callback, args, context)

    # -- stream sockets: a transport in C ----------------------------------------------------------

    def _make_socket_transport(
        self,
        sock: Any,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: Context | None = None,  # Python 3.15: the connection's
    ) -> Any:
        base: Any = self
        if self.get_debug() or not _fits(self, sock):
            more: dict[str, Any] = {} if context is None else {"context": context}
            return super()._make_socket_transport(  # type: ignore[misc]
                sock, protocol, waiter, extra=extra, server=server, **more
            )
        base._ensure_fd_no_transport(sock)
        extra = {} if extra is None else extra
        extra["socket"] = trsock.TransportSocket(sock)
        try:
            extra["sockname"] = sock.getsockname()
        except OSError:
            extra["sockname"] = None
        if "peername" not in extra:
            try:
                extra["peername"] = sock.getpeername()
            except OSError:
                extra["peername"] = None
        transport = _core.SocketTransport(self, sock, protocol, extra, server, context)
        if server is not None:
            server._attach(*[transport][:_TOLD])
        base._transports[transport._sock_fd] = transport
        base_events._set_nodelay(sock)  # type: ignore[attr-defined]
        self.call_soon(protocol.connection_made, transport, context=context)
        # It only starts reading when connection_made() has been called, as has what waits for that.
        self.call_soon(transport._start_reading, context=context)
        if waiter is not None:
            module: Any = futures
            self.call_soon(module._set_result_unless_cancelled, waiter, None, context=context)
        return transport

    def _detach_transport(self, server: Any, transport: Any) -> None:
        server._detach(*[transport][:_TOLD])

    # -- what C asks for ---------------------------------------------------------------------------

    def _report_failure(self, handle: Any, error: BaseException) -> None:
        """Give an exception of a callback to the exception handler, as Handle._run() does."""
        source = format_helpers._format_callback_source(handle._callback, handle._args)
        self.call_exception_handler(
            {"message": f"Exception in callback {source}", "exception": error, "handle": handle}
        )

    def _debug_run(self, handle: Any) -> None:
        """Run a handle and report when it takes long, as BaseEventLoop._run_once() does."""
        base: Any = self
        inner: Any = base_events
        try:
            base._current_handle = handle
            begun = self.time()
            handle._run()
            took = self.time() - begun
            if took >= self.slow_callback_duration:
                text: str = inner._format_handle(handle)
                inner.logger.warning("Executing %s took %.3f seconds", text, took)
        finally:
            base._current_handle = None
            # The frames in the traceback of a task's exception lead here: no cycle through them.
            handle = None

    def _debug_timer(
        self,
        when: float,
        callback: "Callable[..., Any]",
        args: "Sequence[Any]",
        context: Context | None,
    ) -> Any:
        """Return a timer with a traceback, for call_at()."""
        base: Any = self
        base._check_thread()
        base._check_callback(callback, "call_at")
        timer: Any = events.TimerHandle(when, callback, args, self, context)
        if timer._source_traceback:
            del timer._source_traceback[-1]
        return timer


class Lag(NamedTuple):
    """For how long a loop did not look for events, in seconds (in steps of a millisecond).

    What has arrived meanwhile waited for so long. The time between two runs of a loop counts, too.
    """

    current: float
    """Of what the loop is at now; 0.0 while it waits for events."""
    highest: float
    """The most since `lag()` was last called for this loop, including what it is at now."""


def lag(loop: asyncio.AbstractEventLoop | None = None) -> Lag:
    """Return the lag of an event loop: by default of the running one.

    From any thread, if the loop is given. A monitor calls it at intervals: each call gives the
    highest lag of its interval.

    Raises:
        LookupError: the loop has no selector of TurboAPI's, as uvloop, and asyncio's own outside of
            the server.
        RuntimeError: no loop is given, and none is running.
    """
    each: Any = asyncio.get_running_loop() if loop is None else loop
    selector = getattr(each, "_selector", None)
    if not isinstance(selector, _core.Selector):
        raise LookupError(f"the lag of {each!r} is not known: it has no selector of TurboAPI's")
    return Lag(selector.lag(), selector.highest_lag())


# What a transport of ours does not call: where somebody has replaced one of these, the transport is
# asyncio's own, which does.
_socket_class = socket.socket
_socket_methods = ("recv", "recv_into", "send", "sendmsg")
_loop_methods = ("_add_reader", "_add_writer", "_remove_reader", "_remove_writer", "_watch")
_transport_class: Any = getattr(selector_events, "_SelectorSocketTransport", object)
_transport_members: list[tuple[Any, dict[str, Any]]] = [
    (kind, dict(cast("dict[str, Any]", vars(kind))))
    for kind in _transport_class.__mro__
    if kind.__module__ in ("asyncio.selector_events", "asyncio.transports")
]


def _fits(loop: Any, sock: Any) -> bool:
    """Return whether nobody could tell a transport of ours from asyncio's own."""
    kind = cast("Any", type(loop))
    own = cast("dict[str, Any]", vars(loop))
    inner: Any = selector_events
    return (
        type(sock) is _socket_class
        and type(loop._selector) is _core.Selector
        and inner._SelectorSocketTransport is _transport_class
        and all(getattr(kind, name) is getattr(EventLoop, name) for name in _loop_methods)
        and own.keys().isdisjoint(_loop_methods)
        and vars(_socket_class).keys().isdisjoint(_socket_methods)
        and all(cast("Any", vars(each)) == members for each, members in _transport_members)
    )


def missing_names() -> list[str]:
    """Private names of asyncio that EventLoop needs and this Python does not have."""
    return [
        f"{getattr(place, '__qualname__', place.__name__)}.{name}"
        for place, names in _NEEDED.items()
        for name in names
        if not hasattr(place, name)
    ]


def new_event_loop(selector: selectors.BaseSelector | None = None) -> asyncio.AbstractEventLoop:
    """Make an event loop: an EventLoop, or asyncio's own where this Python is not known to fit."""
    missing = missing_names()
    if missing:
        logger.warning(
            "This Python's asyncio has no %s: asyncio's own event loop is used", ", ".join(missing)
        )
        return asyncio.SelectorEventLoop(selector if selector is not None else _core.Selector())
    return EventLoop(selector)
