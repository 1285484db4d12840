"""Whether the framework's own handlers of exceptions do what C does in their place (errors.c)."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from starlette import responses
from starlette.responses import JSONResponse, Response

from turboapi import exception_handlers, exceptions
from turboapi._untouched import is_from
from turboapi.encoders import jsonable_encoder

_INIT, _RENDER = JSONResponse.__init__, JSONResponse.render
_BASE_INIT, _BASE_RENDER = Response.__init__, Response.render
_HEADERS, _CALL = Response.init_headers, Response.__call__

_PRISTINE = all(
    is_from(each, responses) for each in (_INIT, _RENDER, _BASE_INIT, _BASE_RENDER, _HEADERS, _CALL)
)


def json_response_is_plain() -> bool:
    """Return whether nobody has replaced a method of `JSONResponse` that makes one."""
    return (
        _PRISTINE
        and JSONResponse.__init__ is _INIT
        and JSONResponse.render is _RENDER
        and Response.__init__ is _BASE_INIT
        and JSONResponse.init_headers is _HEADERS
        and JSONResponse.__call__ is _CALL
    )


def is_plain_class(cls: type[Response]) -> bool:
    """Return whether the methods of `Response`, as they were, make a response of that class."""
    return (
        _PRISTINE
        and cls.__init__ is _BASE_INIT
        and cls.render is _BASE_RENDER
        and cls.init_headers is _HEADERS
        and cls.__call__ is _CALL
        and cls.charset == "utf-8"
    )


class Defaults:
    """The handlers that a framework gives each application: ours, or FastAPI's."""

    def __init__(self, handlers: ModuleType, exceptions: ModuleType, encoder: Any) -> None:
        self._handlers = handlers
        self._encoder = encoder
        self._http = handlers.http_exception_handler
        self._invalid = handlers.request_validation_exception_handler
        self._error = exceptions.RequestValidationError
        self._init, self._errors = self._error.__init__, self._error.errors
        self._pristine = (
            is_from(self._http, handlers)
            and is_from(self._invalid, handlers)
            and is_from(self._init, exceptions)
            and is_from(self._errors, exceptions)
        )

    def _is_plain(self) -> bool:
        handlers = self._handlers
        return (
            self._pristine
            and handlers.JSONResponse is JSONResponse
            and handlers.jsonable_encoder is self._encoder
            and json_response_is_plain()
        )

    def is_default_handler(self, handler: Any) -> bool:
        """Return whether it is the framework's for HTTPException, and as it was."""
        return handler is self._http and self._is_plain()

    def answers_invalid(self, by_class: Mapping[Any, Any]) -> bool:
        """Return whether the framework's handler gets a RequestValidationError, as it was."""
        error = self._error
        return (
            by_class.get(error) is self._invalid
            and error.__init__ is self._init
            and error.errors is self._errors
            and self._is_plain()
        )


OURS = Defaults(exception_handlers, exceptions, jsonable_encoder)
