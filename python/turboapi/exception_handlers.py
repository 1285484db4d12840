"""The default answers to exceptions.  See
https://fastapi.tiangolo.com/tutorial/handling-errors/#reuse-fastapis-exception-handlers.
"""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.status import WS_1008_POLICY_VIOLATION

from turboapi.encoders import jsonable_encoder
from turboapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from turboapi.utils import is_body_allowed_for_status_code
from turboapi.websockets import WebSocket


async def http_exception_handler(request: Request, exc: HTTPException) -> Response:
    """``{"detail": ...}`` with the exception's status and headers; no body where none may be."""
    headers = getattr(exc, "headers", None)
    if is_body_allowed_for_status_code(exc.status_code):
        return JSONResponse({"detail": exc.detail}, status_code=exc.status_code, headers=headers)
    return Response(status_code=exc.status_code, headers=headers)


async def request_validation_exception_handler(
    request: Request, exc: RequestValidationError
) -> JSONResponse:
    """422 with the list of errors as ``detail``."""
    return JSONResponse({"detail": jsonable_encoder(exc.errors())}, status_code=422)


async def websocket_request_validation_exception_handler(
    websocket: WebSocket, exc: WebSocketRequestValidationError
) -> None:
    """Close with 1008 and the list of errors as the reason."""
    reason = jsonable_encoder(exc.errors())
    await websocket.close(code=WS_1008_POLICY_VIOLATION, reason=reason)
