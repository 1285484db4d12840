"""The server's lines on stderr, written so that a reader who is stuck holds up nobody.

stderr of a service is mostly a pipe. When its reader is stuck and the pipe is full, a write waits
for ever: of a worker, its event loop would stand still at the next exception of a handler, and of a
supervisor, nobody would replace workers that die. So a thread writes (`_core.LogWriter`), and what
there is no room for is dropped and counted.

Lines are nevertheless written when `emit` returns, as whoever logs may end the process next, as
long as the reader keeps up.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import select
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

    from turboapi import _core

# Bytes of lines that may wait for the reader.
_ROOM = 1 << 18
# How long a line is waited for, in seconds; after one that took longer only when all are written.
_PATIENCE = 0.05
# How long the end waits for whoever reads the log, and a line for the thread's turn to write it.
_FLUSH = 2.0


class _Sink:
    """The thread that writes to stderr, and whether its reader keeps up."""

    def __init__(self, writer: _core.LogWriter, descriptor: int) -> None:
        self._writer = writer
        self._descriptor = descriptor
        self._behind = False

    def put(self, text: str) -> None:
        if lost := self._writer.untold():
            text = (
                f"WARNING:  {lost} lines of this log were dropped: its reader was too slow\n{text}"
            )
        self._writer.put(text.encode("utf-8", "backslashreplace").decode())
        self._behind = not (
            self._writer.flush(0 if self._behind else _PATIENCE)
            # On a busy machine the thread may only wait for its turn.
            or (self._has_room() and self._writer.flush(_FLUSH))
        )

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(0))

    def close(self) -> None:
        # Even if lines wait already: a reader that is slow may still take them.
        self._writer.close(_FLUSH)


class Handler(logging.StreamHandler[Any]):
    """Writes to its stream, or where that is stderr and `unblocked` says so, through a thread."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if _state.sink is None or self.stream is not _state.stream:
            super().emit(record)
            return
        try:
            _state.sink.put(self.format(record) + self.terminator)
        except RecursionError:  # as logging has it
            raise
        except Exception:
            self.handleError(record)


def write(text: str) -> None:
    """Write to stderr as the handler does; a terminal that is gone is no error."""
    if _state.sink is not None and sys.stderr is _state.stream:
        _state.sink.put(text)
        return
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


class _LastResort(Handler):
    """Has the place of logging's own for loggers that nobody has configured, such as asyncio's."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setLevel(logging.WARNING)


class _State:
    """What holds while `unblocked` is entered; for the whole process, as stderr is."""

    sink: _Sink | None = None
    stream: Any = None


_state = _State()


@contextmanager
def unblocked() -> Generator[None]:
    """Have nobody wait for the reader of stderr, if that is a pipe, a socket or a terminal."""
    writer = _writer() if _state.sink is None else None
    if writer is None:
        yield
        return
    _state.sink, _state.stream = _Sink(writer, sys.stderr.fileno()), sys.stderr
    last_resort = logging.lastResort
    if last_resort is not None and type(last_resort).__module__ == "logging":
        logging.lastResort = _LastResort()
    try:
        yield
    finally:
        logging.lastResort = last_resort
        _close()


def _close() -> None:
    sink, _state.sink = _state.sink, None
    if sink is not None:  # a child of fork() has none
        sink.close()


def _writer() -> _core.LogWriter | None:
    stream = sys.stderr
    raw = getattr(getattr(stream, "buffer", None), "raw", None) or getattr(stream, "buffer", None)
    if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO or stream.closed:
        return None
    if codecs.lookup(stream.encoding).name not in ("utf-8", "ascii"):
        return None
    if stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        return None  # which has no reader to wait for
    from turboapi import _core  # lazy: not for other commands

    return _core.LogWriter(raw.fileno(), _ROOM)


def _in_child() -> None:
    _state.sink = None  # it has no such thread


os.register_at_fork(after_in_child=_in_child)
