"""The ``max_body_size`` setting: over Starlette's middleware, which counts and answers 413."""

from typing import Any, cast

import starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turboapi.exception_handlers import http_exception_handler

try:
    from starlette.middleware import body_limit
except ImportError:  # before 1.6
    body_limit = None  # type: ignore[assignment]

# Starlette's signals have no public names; a version without them just has nothing to tell apart.
_TOO_LARGE: Any = getattr(body_limit, "_RequestBodyTooLarge", ())
_ANSWERED: Any = getattr(body_limit, "_RequestBodyLimitResponseSent", ())
_SIGNALS = tuple(signal for signal in (_TOO_LARGE, _ANSWERED) if signal)


def validate_max_body_size(max_body_size: int | None) -> None:
    """ValueError unless it is None or an int of at least 0."""
    is_number = isinstance(max_body_size, int) and not isinstance(max_body_size, bool)
    if max_body_size is not None and not (is_number and max_body_size >= 0):
        raise ValueError("max_body_size must be a non-negative integer or None")
    if max_body_size is not None and body_limit is None:
        raise RuntimeError(
            f"max_body_size needs Starlette 1.6 or newer; {starlette.__version__} is installed"
        )


def get_body_size_limit(*limits: int | None) -> int | None:
    """Return the first limit that is set, the innermost being given first."""
    return next((limit for limit in limits if limit is not None), None)


def get_body_limit_error(exc: Exception) -> Exception | None:
    """Return the limiter's own exception: ``exc``, or in a group that holds nothing else."""
    if isinstance(exc, ExceptionGroup):
        # Middleware that reads and sends in tasks of a group raises a group.
        group = cast("ExceptionGroup[Exception]", exc)
        if group.split(_SIGNALS)[1] is not None:
            return None
        # "Answered" wins: there must not be a second response.
        found: Exception = group.subgroup(_ANSWERED) or group
        while isinstance(found, ExceptionGroup):
            found = cast("ExceptionGroup[Exception]", found).exceptions[0]
        return found
    return exc if isinstance(exc, _SIGNALS) else None


class _Ungroup:
    """Lets Starlette's middleware see its exceptions although a task group wrapped them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except ExceptionGroup as group:
            error = get_body_limit_error(group) if scope["type"] == "http" else None
            if error is None:
                raise
            raise error from group


def wrap_app_with_body_limit(app: ASGIApp, max_body_size: int | None) -> ASGIApp:
    """``app`` with requests of more than ``max_body_size`` bytes answered by 413."""
    if max_body_size is None:
        return app
    validate_max_body_size(max_body_size)
    assert body_limit is not None, "validate_max_body_size() has seen it"
    return body_limit.RequestBodyLimitMiddleware(_Ungroup(app), max_body_size=max_body_size)


class AppBodyLimitMiddleware:
    """The limit of a whole app, which may be mounted in another one that has a limit."""

    def __init__(self, app: ASGIApp, max_body_size: int | None) -> None:
        self.app = wrap_app_with_body_limit(app, max_body_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if body_limit is None or body_limit.MAX_BODY_SIZE_SCOPE_KEY not in scope:
            await self.app(scope, receive, send)
            return
        # The outer app's limiter is at work and would answer; but the error handler of this
        # app stands between and would make it a 500, so the answer is given here.
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as exc:
            error = get_body_limit_error(exc)
            if started or not isinstance(error, HTTPException):
                raise
            response = await http_exception_handler(Request(scope, receive), error)
            await response(scope, receive, send)
