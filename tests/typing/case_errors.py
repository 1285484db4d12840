"""HTTPException and its relatives, and the handlers of exceptions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_type

from starlette.exceptions import HTTPException as StarletteHTTPException

from turboapi import (
    FastAPI,
    HTTPException,
    Request,
    Response,
    WebSocket,
    WebSocketException,
    status,
)
from turboapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
)
from turboapi.exceptions import (
    FastAPIError,
    RequestValidationError,
    ResponseValidationError,
    WebSocketRequestValidationError,
)
from turboapi.responses import JSONResponse

app = FastAPI()

error = HTTPException(status_code=404, detail={"reason": "none"}, headers={"X-A": "b"})
assert_type(error, HTTPException)
assert_type(error.status_code, int)
assert_type(error.detail, str)
assert_type(error.headers, Mapping[str, str] | None)
as_starlette: StarletteHTTPException = error
code: int = status.HTTP_404_NOT_FOUND
assert_type(WebSocketException(code=status.WS_1008_POLICY_VIOLATION).code, int)


class Unicorn(Exception):
    def __init__(self, name: str) -> None:
        self.name = name


@app.exception_handler(Unicorn)
async def on_unicorn(request: Request, exc: Unicorn) -> JSONResponse:
    return JSONResponse({"name": exc.name}, status_code=418)


@app.exception_handler(404)
def on_missing(request: Request, exc: HTTPException) -> Response:
    return Response(status_code=exc.status_code)


@app.exception_handler(RequestValidationError)
async def on_invalid(request: Request, exc: RequestValidationError) -> Response:
    assert_type(exc.errors(), Sequence[Any])
    assert_type(exc.body, Any)
    return await request_validation_exception_handler(request, exc)


@app.exception_handler(StarletteHTTPException)
async def on_http(request: Request, exc: StarletteHTTPException) -> Response:
    answer = await http_exception_handler(request, exc)
    assert_type(answer, Response)
    return answer


async def any_error(request: Request, exc: Exception) -> Response:
    return Response()


async def any_socket_error(websocket: WebSocket, exc: Exception) -> None: ...


async def unicorn_by_table(request: Request, exc: Unicorn) -> Response:
    return Response()


app.add_exception_handler(Exception, any_error)
app.add_exception_handler(500, any_error)
app.add_exception_handler(WebSocketRequestValidationError, any_socket_error)
table = FastAPI(exception_handlers={Unicorn: unicorn_by_table, 404: any_error})
handlers: dict[Any, Callable[[Request, Any], Any]] = {**app.exception_handlers}


async def decorated_functions_keep_their_types(request: Request) -> None:
    assert_type(await on_unicorn(request, Unicorn("a")), JSONResponse)
    assert_type(on_missing(request, error), Response)


def others(invalid: ResponseValidationError) -> None:
    base: Exception = FastAPIError()
    del base
    assert_type(str(invalid), str)


def wrong(request: Request) -> None:
    HTTPException("404")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    HTTPException()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    HTTPException(404, headers=["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    HTTPException(404, message="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.exception_handler("404")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.add_exception_handler(500, wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.add_exception_handler(Exception)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    on_missing(request, Unicorn("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
