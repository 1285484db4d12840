"""The responses of an operation."""

from __future__ import annotations

import copy
import http
import inspect
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import JSONResponse

from turboapi._compat import lenient_issubclass
from turboapi.datastructures import DefaultPlaceholder
from turboapi.openapi.constants import REF_PREFIX
from turboapi.sse import _SSE_EVENT_SCHEMA
from turboapi.utils import deep_dict_update, is_body_allowed_for_status_code

if TYPE_CHECKING:
    from starlette.responses import Response

    from turboapi.openapi._schemas import Schemas

# Descriptions of the patterns that stand for many status codes.
STATUS_PATTERNS: dict[str, str] = {
    "1XX": "Information",
    "2XX": "Success",
    "3XX": "Redirection",
    "4XX": "Client Error",
    "5XX": "Server Error",
    "DEFAULT": "Default Response",
}

_COVERS_422 = ("422", "4XX", "default")


def describe_responses(route: Any, schemas: Schemas) -> dict[str, Any]:
    """Return an operation's `responses`: the route's own, then those declared with it."""
    response_class = _response_class(route)
    responses: dict[str, Any] = {}
    own = responses.setdefault(_status_code(route, response_class), {})
    own["description"] = route.response_description
    if is_body_allowed_for_status_code(route.status_code) and (
        content := _content(route, response_class, schemas)
    ):
        own["content"] = content
    declarations: dict[int | str, Any] = route.responses or {}
    for status, declared in declarations.items():
        _add_declared(responses, route, status, declared, response_class.media_type, schemas)
    return responses


def add_validation_error(responses: dict[str, Any]) -> bool:
    """Add the response to an invalid request, unless the route declares one for its status."""
    if any(status in responses for status in _COVERS_422):
        return False
    schema = {"$ref": REF_PREFIX + "HTTPValidationError"}
    content = {"application/json": {"schema": schema}}
    responses["422"] = {"description": "Validation Error", "content": content}
    return True


def _response_class(route: Any) -> type[Response]:
    chosen = route.response_class
    if isinstance(chosen, DefaultPlaceholder):
        chosen = chosen.value
    if not chosen:
        raise AssertionError("A response class is needed to generate OpenAPI")
    return chosen  # type: ignore[no-any-return]


def _status_code(route: Any, response_class: type[Response]) -> str:
    """Return the route's status, else the default of its response class's constructor."""
    if route.status_code is not None:
        return str(route.status_code)
    parameter = inspect.signature(response_class.__init__).parameters.get("status_code")
    if parameter is not None and isinstance(parameter.default, int):
        return str(int(parameter.default))
    return "200"


def _content(route: Any, response_class: type[Response], schemas: Schemas) -> dict[str, Any]:
    """Return the route's own `content`: a stream of items, or a whole body of the class's type."""
    item = route.stream_item_field
    if route.is_json_stream:
        return {"application/jsonl": {"itemSchema": schemas.of(item) if item else {}}}
    if route.is_sse_stream:
        event = copy.deepcopy(_SSE_EVENT_SCHEMA)
        if item:
            event["required"] = ["data"]
            event["properties"]["data"] = {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": schemas.of(item),
            }
        return {"text/event-stream": {"itemSchema": event}}
    if not response_class.media_type:
        return {}
    schema: dict[str, Any] = {"type": "string"}
    if lenient_issubclass(response_class, JSONResponse):
        schema = schemas.of(route.response_field) if route.response_field else {}
    return {response_class.media_type: {"schema": schema}}


def _add_declared(
    responses: dict[str, Any],
    route: Any,
    status: int | str,
    declared: Any,
    media_type: str | None,
    schemas: Schemas,
) -> None:
    """Merge an entry of `responses={...}` into what is there for its status."""
    if not isinstance(declared, dict):
        raise AssertionError("An additional response must be a dict")
    added = copy.deepcopy(cast("dict[str, Any]", declared))
    added.pop("model", None)
    key = str(status).upper()
    shown = responses.setdefault("default" if key == "DEFAULT" else key, {})
    if field := route.response_fields.get(status):
        content = added.setdefault("content", {}).setdefault(media_type or "application/json", {})
        deep_dict_update(content.setdefault("schema", {}), schemas.of(field))
    # int() refuses what is neither a number nor a pattern.
    phrase = STATUS_PATTERNS.get(key) or _reason_phrase(int(status))
    description = added.get("description") or shown.get("description") or phrase
    deep_dict_update(shown, added)
    shown["description"] = description or "Additional Response"


def _reason_phrase(status: int) -> str | None:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return None
