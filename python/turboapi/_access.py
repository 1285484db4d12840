"""The access log without a log record for each request, where nobody could tell the difference.

Python's logging takes longer for a line than the server for a request. With the logging that
`turboapi run` sets up, lines are always the same, so that the C core makes them (access_log.c) and
hands those of a batch to `AccessWriter.write`. Anything else (other handlers, filters, formats,
record factories) is served by the logger itself.
"""

from __future__ import annotations

import logging
from typing import Any

from turboapi import _log

_logger = _log.access_logger


class AccessWriter:
    """Writes lines as `handler` would.

    Attributes:
        prefix: begins each line: the level.
        opening: stands before the request line.
        closing: stands behind it.
    """

    def __init__(self, handler: logging.StreamHandler[Any], formatter: _log.Formatter) -> None:
        self._handler = handler
        self._formatter = formatter
        self.prefix, self.opening, self.closing = formatter.access_parts()

    def outcome(self, status: int) -> str:
        """What the line says of a status: its number and phrase."""
        return self._formatter.outcome(status)

    def write(self, lines: str) -> bool:
        """Writes whole lines; False when the logger has been changed and must be used itself."""
        handler = self._handler
        handler.acquire()
        try:
            handler.stream.write(lines)
            handler.flush()
        except Exception:
            handler.handleError(logging.makeLogRecord({"msg": lines}))
        finally:
            handler.release()
        return _plain_handler() is handler


def access_writer() -> AccessWriter | None:
    """A writer for the logger `turboapi.access` as it is now; None: use the logger."""
    handler = _plain_handler()
    if handler is None or not isinstance(handler.formatter, _log.Formatter):
        return None
    return AccessWriter(handler, handler.formatter)


def _plain_handler() -> logging.StreamHandler[Any] | None:
    """The one handler of the logger, if all that it does is to write our lines."""
    if len(_logger.handlers) != 1 or _logger.propagate or _logger.filters or _logger.disabled:
        return None
    handler = _logger.handlers[0]
    if (
        type(handler) is not logging.StreamHandler
        or type(handler.formatter) is not _log.Formatter
        or not handler.formatter.is_plain
        or handler.filters
        or handler.level > logging.INFO
        or not _logger.isEnabledFor(logging.INFO)
        or logging.getLogRecordFactory() is not logging.LogRecord
        or type(_logger) is not logging.Logger
    ):
        return None
    return handler  # pyright: ignore[reportUnknownVariableType]
