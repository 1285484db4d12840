"""The exceptions that handlers raise and that the framework raises.

See https://fastapi.tiangolo.com/tutorial/handling-errors/.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.exceptions import WebSocketException as StarletteWebSocketException


class EndpointContext(TypedDict, total=False):
    """Where the endpoint of a failed validation is defined."""

    function: str
    path: str
    file: str
    line: int


class HTTPException(StarletteHTTPException):
    """An answer with an error status; raise it anywhere below a handler.

    ``detail`` may be anything that JSON can carry; it becomes ``{"detail": ...}``.

    See https://fastapi.tiangolo.com/tutorial/handling-errors/#use-httpexception.
    """

    def __init__(
        self,
        status_code: int,
        detail: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status_code=status_code, detail=detail, headers=headers)


class WebSocketException(StarletteWebSocketException):
    """Closes a WebSocket with ``code`` (RFC 6455, section 7.4.1) and ``reason``.

    See https://fastapi.tiangolo.com/advanced/websockets/.
    """

    def __init__(self, code: int, reason: str | None = None) -> None:
        super().__init__(code=code, reason=reason)


if TYPE_CHECKING:
    from pydantic import BaseModel

    RequestErrorModel: type[BaseModel]
    WebSocketErrorModel: type[BaseModel]

_MODELS = {"RequestErrorModel": "Request", "WebSocketErrorModel": "WebSocket"}


def __getattr__(name: str) -> Any:
    """Return one of the models that nothing uses but old libraries, made at the first use."""
    if name not in _MODELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pydantic import create_model  # lazy: takes long

    return globals().setdefault(name, create_model(_MODELS[name], __module__=__name__))


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODELS})


class FastAPIError(RuntimeError):
    """A mistake in the use of the framework."""


class DependencyScopeError(FastAPIError):
    """A dependency uses another one whose scope ends before its own."""


class PydanticV1NotSupportedError(FastAPIError):
    """A model of ``pydantic.v1`` was used."""


class ValidationException(Exception):  # noqa: N818
    """Data that does not validate; ``errors()`` gives pydantic's list of them."""

    def __init__(
        self, errors: Sequence[Any], *, endpoint_ctx: EndpointContext | None = None
    ) -> None:
        self._errors = errors
        self.endpoint_ctx = endpoint_ctx
        where = endpoint_ctx or {}
        self.endpoint_function = where.get("function")
        self.endpoint_path = where.get("path")
        self.endpoint_file = where.get("file")
        self.endpoint_line = where.get("line")

    def errors(self) -> Sequence[Any]:
        """Return the errors as dicts, each with type, loc, msg and input."""
        return self._errors

    def _format_endpoint_context(self) -> str:
        path = self.endpoint_path
        if self.endpoint_file and self.endpoint_line and self.endpoint_function:
            place = (
                f'\n  File "{self.endpoint_file}", line {self.endpoint_line},'
                f" in {self.endpoint_function}"
            )
            return f"{place}\n    {path}" if path else place
        return f"\n  Endpoint: {path}" if path else ""

    def __str__(self) -> str:
        count = len(self._errors)
        lines = [f"{count} validation error{'' if count == 1 else 's'}:"]
        lines += [f"  {error}" for error in self._errors]
        return ("\n".join(lines) + "\n" + self._format_endpoint_context()).rstrip()


class _BodyValidationException(ValidationException):
    def __init__(
        self,
        errors: Sequence[Any],
        *,
        body: Any = None,
        endpoint_ctx: EndpointContext | None = None,
    ) -> None:
        super().__init__(errors, endpoint_ctx=endpoint_ctx)
        self.body = body


class RequestValidationError(_BodyValidationException):
    """A request that does not fit the declared parameters; ``body`` is what was received."""


class WebSocketRequestValidationError(ValidationException):
    """A WebSocket handshake that does not fit the declared parameters."""


class ResponseValidationError(_BodyValidationException):
    """What a handler returned does not fit its response model; ``body`` is that value."""


class FastAPIDeprecationWarning(UserWarning):
    """Deprecated use; unlike ``DeprecationWarning`` shown by default."""
