"""uvicorn's loggers beside ours: what an application does to them has its effect here, too.

Applications written for uvicorn filter `uvicorn.access`, hang handlers on `uvicorn.error`, silence
one of them or send all of them elsewhere. Each of our loggers has a twin among those:

    turboapi.access                    uvicorn.access
    turboapi.error, turboapi.server    uvicorn.error

Records are made by our logger. As long as nobody has changed anything, or has changed ours only,
it hands them out. When only the twin was changed they are the twin's, with its name: its level,
filters and handlers decide. When both were changed, the handlers of both get them, each handler
once, and the server's own handlers only where neither logger has refused the record or lost the
handler.

"Changed" is what differs from what `remember` saw, so it counts whenever it is done. With a logging
configuration of the user's own it is what differs from a logger that nobody has touched: what was
written for uvicorn is about its loggers, and the records are theirs alone. If it touched neither,
nobody knows, and both count as changed. For the access
log, whose lines C makes while there is nothing to be asked (`access`), changes of the two loggers
are counted in `changes`.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

ACCESS = "uvicorn.access"
ERROR = "uvicorn.error"
_TWINS = {"turboapi.access": ACCESS, "turboapi.error": ERROR, "turboapi.server": ERROR}
# Loggers whose settings decide what becomes of a record; where it is not the logger alone.
_LINES = {
    "turboapi.error": ("turboapi.error", "turboapi"),
    "turboapi.server": ("turboapi.server", "turboapi"),
    ERROR: (ERROR, "uvicorn"),
}

# Goes up (modulo 256) with each change of an access logger; C reads it at each request.
changes = bytearray(1)

_State = tuple[int, bool, bool, tuple[Any, ...], tuple[Any, ...]]
_UNTOUCHED: _State = (logging.NOTSET, False, True, (), ())
# What `remember` saw, by name of the logger; None: nothing, as a configuration decides.
_remembered: dict[str, _State] | None = None
_own_handlers: frozenset[logging.Handler] = frozenset()


def _count() -> None:
    changes[0] = (changes[0] + 1) & 255


class _Watched(logging.Logger):
    """A logger of the access log: its changes are counted."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        _count()

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802
        super().addHandler(hdlr)
        _count()

    def removeHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802
        super().removeHandler(hdlr)
        _count()

    def addFilter(self, filter: Any) -> None:  # noqa: N802
        super().addFilter(filter)
        _count()

    def removeFilter(self, filter: Any) -> None:  # noqa: N802
        super().removeFilter(filter)
        _count()


class _Twinned(logging.Logger):
    """A logger of ours: its records go the way that it and its twin agree on."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        """Return whether it or its twin wants records of this level; `handle` looks closer."""
        if super().isEnabledFor(level):
            return True
        twin = twin_of(self)
        return twin.isEnabledFor(level) and is_changed(twin)

    def handle(self, record: logging.LogRecord) -> None:
        twin = twin_of(self)
        if not is_changed(twin):
            if super().isEnabledFor(record.levelno):
                super().handle(record)
            return
        other = copy.copy(record)
        other.name = twin.name
        if not is_changed(self):
            if twin.isEnabledFor(record.levelno):
                twin.handle(other)
            return
        _hand_to_both(self, record, twin, other)


class _TwinnedAccess(_Twinned, _Watched):
    pass


def twin_of(logger: logging.Logger) -> logging.Logger:
    """Return uvicorn's logger that one of ours answers to."""
    return logging.getLogger(_TWINS[logger.name])


def pair() -> None:
    """Make our loggers heed their twins; may be called again."""
    for name, twin in _TWINS.items():
        access = twin == ACCESS
        _make(logging.getLogger(name), _TwinnedAccess if access else _Twinned)
        if access:
            _make(logging.getLogger(twin), _Watched)


def _make(logger: logging.Logger, kind: type[logging.Logger]) -> None:
    if type(logger) is logging.Logger:  # another class is somebody's who knows what he wants
        logger.__class__ = kind


def is_paired(logger: logging.Logger) -> bool:
    """Return whether `pair` was called, and the logger could be changed."""
    return isinstance(logger, _Twinned)


def is_watched(logger: logging.Logger) -> bool:
    """Return whether its class is the one that counts its changes."""
    return type(logger) in (_Watched, _TwinnedAccess)


def remember() -> None:
    """Take the loggers as they are for the server's own doing."""
    global _remembered, _own_handlers
    names = {*_TWINS, *_TWINS.values(), "turboapi", "uvicorn"}
    loggers = {name: logging.getLogger(name) for name in names}
    _remembered = {name: _state(logger) for name, logger in loggers.items()}
    _own_handlers = frozenset(h for logger in loggers.values() for h in logger.handlers)
    _count()


def forget() -> None:
    """Take nothing for the server's own doing."""
    global _remembered, _own_handlers
    _remembered, _own_handlers = None, frozenset()
    _count()


def _state(logger: logging.Logger) -> _State:
    return (
        logger.level,
        logger.disabled,
        logger.propagate,
        tuple(logger.handlers),
        tuple(logger.filters),
    )


def is_changed(logger: logging.Logger) -> bool:
    """Return whether somebody has changed what decides on its records, or may have."""
    if _remembered is None:
        return _is_touched(logger.name) or not any(map(_is_touched, _others_of(logger.name)))
    return any(
        _state(logging.getLogger(name)) != _remembered[name]
        for name in _LINES.get(logger.name, (logger.name,))
    )


def _is_touched(name: str) -> bool:
    return any(_state(logging.getLogger(each)) != _UNTOUCHED for each in _LINES.get(name, (name,)))


def _others_of(name: str) -> list[str]:
    """Return the twin of a logger of ours, or the loggers of ours that this one is the twin of."""
    return [twin if name == ours else ours for ours, twin in _TWINS.items() if name in (ours, twin)]


def wants(logger: logging.Logger, level: int) -> bool:
    """Return whether records of this level are heard by a handler, as far as the logger itself
    decides.
    """
    return logging.Logger.isEnabledFor(logger, level) and logger.hasHandlers()


def _hand_to_both(
    ours: logging.Logger,
    record: logging.LogRecord,
    twin: logging.Logger,
    other: logging.LogRecord,
) -> None:
    record, mine = _outlets(ours, record)
    other, theirs = _outlets(twin, other)
    if not ours.hasHandlers() and not twin.hasHandlers():
        # As logging has it for loggers that nobody has configured.
        _emit(record, [logging.lastResort] if logging.lastResort else [])
        return
    _emit(other, [h for h in theirs if h not in _own_handlers or h in mine])
    _emit(record, [h for h in mine if h not in _own_handlers and h not in theirs])


def _outlets(
    logger: logging.Logger, record: logging.LogRecord
) -> tuple[logging.LogRecord, list[logging.Handler]]:
    """Return the record as the filters leave it, and the handlers that it gets to."""
    found: list[logging.Handler] = []
    if not logging.Logger.isEnabledFor(logger, record.levelno):
        return record, found
    passed: Any = logger.filter(record)
    if not passed:
        return record, found
    if isinstance(passed, logging.LogRecord):  # since Python 3.12 a filter may replace it
        record = passed
    at: logging.Logger | None = logger
    while at is not None:
        found += at.handlers
        at = at.parent if at.propagate else None
    return record, found


def _emit(record: logging.LogRecord, handlers: Iterable[logging.Handler]) -> None:
    for handler in handlers:
        if record.levelno >= handler.level:
            handler.handle(record)
