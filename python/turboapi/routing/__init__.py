"""Routes and routers. https://fastapi.tiangolo.com/reference/apirouter/"""

import sys

from starlette.routing import BaseRoute as BaseRoute
from starlette.routing import Match as Match
from starlette.routing import Mount as Mount
from starlette.routing import NoMatchFound as NoMatchFound
from starlette.routing import compile_path as compile_path
from starlette.routing import get_name as get_name

from turboapi.dependencies.utils import solve_dependencies as solve_dependencies
from turboapi.sse import _PING_INTERVAL as _PING_INTERVAL

# isort: split
from turboapi.routing import _included, _instrumented, _replaceable, _route, _scope, _state
from turboapi.routing._handler import get_request_handler as get_request_handler
from turboapi.routing._handler import get_websocket_app as get_websocket_app
from turboapi.routing._handler import request_response as request_response
from turboapi.routing._handler import run_endpoint_function as run_endpoint_function
from turboapi.routing._handler import serialize_response as serialize_response
from turboapi.routing._handler import websocket_session as websocket_session
from turboapi.routing._include_context import _RouterIncludeContext as _RouterIncludeContext
from turboapi.routing._included import RouteContext as RouteContext
from turboapi.routing._included import _EffectiveRouteContext as _EffectiveRouteContext
from turboapi.routing._included import _IncludedRouter as _IncludedRouter
from turboapi.routing._included import (
    _iter_included_route_candidates as _iter_included_route_candidates,
)
from turboapi.routing._included import iter_route_contexts as iter_route_contexts
from turboapi.routing._route import APIRoute as APIRoute
from turboapi.routing._route import APIWebSocketRoute as APIWebSocketRoute
from turboapi.routing._router import APIRouter as APIRouter

# isort: split
# Applications also import these from here, where FastAPI only uses them.
from starlette._exception_handler import (
    wrap_app_handling_exceptions as wrap_app_handling_exceptions,
)
from starlette._utils import get_route_path as get_route_path
from starlette._utils import is_async_callable as is_async_callable
from starlette.concurrency import iterate_in_threadpool as iterate_in_threadpool
from starlette.concurrency import run_in_threadpool as run_in_threadpool
from starlette.datastructures import URL as URL
from starlette.datastructures import URLPath as URLPath
from starlette.exceptions import HTTPException as HTTPException
from starlette.middleware import Middleware as Middleware
from starlette.requests import Request as Request
from starlette.responses import JSONResponse as JSONResponse
from starlette.responses import PlainTextResponse as PlainTextResponse
from starlette.responses import RedirectResponse as RedirectResponse
from starlette.responses import Response as Response
from starlette.responses import StreamingResponse as StreamingResponse
from starlette.staticfiles import StaticFiles as StaticFiles
from starlette.websockets import WebSocket as WebSocket

from turboapi._body_limit import get_body_limit_error as get_body_limit_error
from turboapi._body_limit import get_body_size_limit as get_body_size_limit
from turboapi._body_limit import validate_max_body_size as validate_max_body_size
from turboapi._body_limit import wrap_app_with_body_limit as wrap_app_with_body_limit
from turboapi._compat import ModelField as ModelField
from turboapi._compat import Undefined as Undefined
from turboapi._compat import lenient_issubclass as lenient_issubclass
from turboapi.datastructures import Default as Default
from turboapi.datastructures import DefaultPlaceholder as DefaultPlaceholder
from turboapi.dependencies.models import Dependant as Dependant
from turboapi.dependencies.models import _is_async_gen_callable as _is_async_gen_callable
from turboapi.dependencies.models import _is_coroutine_callable as _is_coroutine_callable
from turboapi.dependencies.models import _is_gen_callable as _is_gen_callable
from turboapi.dependencies.utils import SolvedDependency as SolvedDependency
from turboapi.dependencies.utils import _get_body_field as _get_body_field
from turboapi.dependencies.utils import _get_flat_body_params as _get_flat_body_params
from turboapi.dependencies.utils import _should_embed_body_fields as _should_embed_body_fields
from turboapi.dependencies.utils import get_dependant as get_dependant
from turboapi.dependencies.utils import (
    get_parameterless_sub_dependant as get_parameterless_sub_dependant,
)
from turboapi.dependencies.utils import get_stream_item_type as get_stream_item_type
from turboapi.dependencies.utils import (
    get_typed_return_annotation as get_typed_return_annotation,
)
from turboapi.encoders import jsonable_encoder as jsonable_encoder
from turboapi.exceptions import EndpointContext as EndpointContext
from turboapi.exceptions import FastAPIError as FastAPIError
from turboapi.exceptions import RequestValidationError as RequestValidationError
from turboapi.exceptions import ResponseValidationError as ResponseValidationError
from turboapi.exceptions import (
    WebSocketRequestValidationError as WebSocketRequestValidationError,
)
from turboapi.sse import EventSourceResponse as EventSourceResponse
from turboapi.sse import ServerSentEvent as ServerSentEvent
from turboapi.sse import format_sse_event as format_sse_event
from turboapi.telemetry import get_telemetry_data as get_telemetry_data
from turboapi.types import DecoratedCallable as DecoratedCallable
from turboapi.types import IncEx as IncEx
from turboapi.utils import create_model_field as create_model_field
from turboapi.utils import generate_unique_id as generate_unique_id
from turboapi.utils import get_value_or_default as get_value_or_default
from turboapi.utils import is_body_allowed_for_status_code as is_body_allowed_for_status_code

# FastAPI's private names of these.
_APIRouteLike = _state.OperationState
_effective_route_context_var = _route.effective_route
_get_scope_effective_route_context = _scope.effective_route_context
_iter_routes_with_context = _included.routes_with_context
_restore_fastapi_scope_key = _scope.restore_key

_replaceable.routing = sys.modules[__name__]
_instrumented.remember()

__all__ = [
    "APIRoute",
    "APIRouter",
    "APIWebSocketRoute",
    "BaseRoute",
    "Match",
    "Mount",
    "NoMatchFound",
    "RouteContext",
    "compile_path",
    "get_name",
    "get_request_handler",
    "get_websocket_app",
    "iter_route_contexts",
    "request_response",
    "run_endpoint_function",
    "serialize_response",
    "websocket_session",
]
