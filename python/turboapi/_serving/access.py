"""The access log without a log record for each request, where nobody could tell the difference.

Python's logging takes longer for a line than the server for a request. With the logging that
`turboapi run` sets up, lines are always the same, so that the C core makes them (access_log.c) and
hands them to a thread that writes them, or where the stream is no descriptor those of a batch to
`AccessWriter.write`. Anything else (other handlers, filters, formats, record factories, of
`turboapi.access` or of `uvicorn.access`) is served by the loggers themselves.
"""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

from turboapi import _core
from turboapi._serving import log, twins
from turboapi._serving.access_format import spec_of

if TYPE_CHECKING:
    from turboapi._serving.access_format import Spec
    from turboapi.config import Config

_logger = log.access_logger
_twin = logging.getLogger(twins.ACCESS)

# How lines are made, for access_log.c.
GENERAL = 0  # by the logger's method
QUICK = 1  # by C
SILENT = 2  # not at all, as nobody would see them


# How long the end waits for whoever reads the log, in seconds.
_FLUSH = 2.0


class AccessLog:
    """The access log of a process: a writer for each of its servers, and what they share."""

    def __init__(self, config: Config) -> None:
        """Read the settings; until `open` the loops write to the stream themselves."""
        self._format = spec_of(config.access_log_format)
        self._room = config.access_log_buffer
        self._sink: _core.LogWriter | None = None

    def open(self) -> None:
        """Have a thread write the lines from now on, if they go to a descriptor."""
        handler = _plain_handler(_the_one() or _logger)
        descriptor = _descriptor(handler.stream) if handler is not None else None
        if descriptor is not None and self._room:
            self._sink = _core.LogWriter(descriptor, self._room)

    def writer(self) -> AccessWriter | None:
        """Return a writer for the log as it is now; None: use the logger, for good."""
        logger = _the_one() or _logger
        handler = _plain_handler(logger)
        if handler is None and not twins.is_paired(_logger) and self._format is None:
            return None  # whose changes nobody counts
        return AccessWriter(handler, self._format, self._sink)

    def close(self) -> None:
        """Write what is left, as far as it is read within a moment."""
        if self._sink is None:
            return
        self._sink.close(_FLUSH)
        if lost := self._sink.untold():
            log.server_logger.warning(
                "%d lines of the access log were dropped, as its reader was too slow", lost
            )


class AccessWriter:
    """Writes lines as `handler` would.

    Attributes:
        prefix: begins each line of uvicorn's form: the level.
        opening: stands before the request line.
        closing: stands behind it.
        format: of lines in another form, or None.
        sink: takes the lines in place of `write`, or None.
        changes: a buffer of one byte: when it is another than before, `mode` has to be asked.
    """

    changes = twins.changes

    def __init__(
        self,
        handler: logging.StreamHandler[Any] | None,
        format: Spec | None = None,
        sink: _core.LogWriter | None = None,
    ) -> None:
        self._handler = handler
        self._formatter = handler.formatter if handler is not None else None
        self.format = format
        self.sink = sink
        parts = ("", "", "")
        if isinstance(self._formatter, log.Formatter):
            parts = self._formatter.access_parts()
        self.prefix, self.opening, self.closing = parts

    def mode(self) -> int:
        """Return how lines are to be made now."""
        logger = _the_one()
        if logger is None:
            return GENERAL
        if not twins.wants(logger, logging.INFO):
            return SILENT
        handler = self._handler
        return QUICK if handler is not None and _plain_handler(logger) is handler else GENERAL

    def outcome(self, status: int) -> str:
        """Return what the line says of a status: its number and phrase."""
        assert isinstance(self._formatter, log.Formatter)
        return self._formatter.outcome(status)

    def write(self, lines: str) -> bool:
        """Write whole lines; False when `mode` has to be asked, though nothing was counted."""
        return self._use(lines)

    def check(self) -> bool:
        """Flush what others have printed; False as `write`."""
        return self._use("")

    def _use(self, lines: str) -> bool:
        handler = self._handler
        assert handler is not None
        handler.acquire()
        try:
            if lines:
                handler.stream.write(lines)
            handler.flush()
        except Exception:
            handler.handleError(logging.makeLogRecord({"msg": lines}))
        finally:
            handler.release()
        return (
            handler.formatter is self._formatter
            and not handler.filters
            and handler.level <= logging.INFO
            and _logger.manager.disable < logging.INFO
            and logging.getLogRecordFactory() is logging.LogRecord
            # Lists that were changed in place.
            and len(_logger.handlers) == 1
            and not _logger.filters
            and len(_twin.handlers) <= 1
            and not _twin.filters
        )


def _descriptor(stream: Any) -> int | None:
    """Return what a text stream writes to, if that is all it does."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None) or getattr(stream, "buffer", None)
    if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO or stream.closed:
        return None
    return raw.fileno()


def _the_one() -> logging.Logger | None:
    """Return the logger that decides alone what becomes of a line; None: both do."""
    if not twins.is_paired(_logger) or not twins.is_changed(_twin):
        return _logger
    if not twins.is_changed(_logger):
        return _twin
    # Where nobody knows what was changed, a logger without handlers has no say.
    if not _twin.hasHandlers():
        return _logger
    return None if _logger.hasHandlers() else _twin


def _plain_handler(logger: logging.Logger) -> logging.StreamHandler[Any] | None:
    """Return the one handler of the logger, if all that it does is to write our lines."""
    if len(logger.handlers) != 1 or logger.propagate or logger.filters or logger.disabled:
        return None
    handler = logger.handlers[0]
    if (
        type(handler) is not logging.StreamHandler
        or type(handler.formatter) is not log.Formatter
        or not handler.formatter.is_plain
        or handler.filters
        or handler.level > logging.INFO
        or not logging.Logger.isEnabledFor(logger, logging.INFO)
        or logging.getLogRecordFactory() is not logging.LogRecord
        or not (type(logger) is logging.Logger or twins.is_watched(logger))
    ):
        return None
    return handler  # pyright: ignore[reportUnknownVariableType]
