"""A route as a path item: one operation for each of its methods."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from turboapi.openapi._dependencies import Needs, examples_of
from turboapi.openapi._responses import add_validation_error, describe_responses
from turboapi.openapi.constants import METHODS_WITH_BODY, REF_PREFIX
from turboapi.routing import APIRoute
from turboapi.utils import deep_dict_update

if TYPE_CHECKING:
    from turboapi._compat import ModelField
    from turboapi.openapi._schemas import Schemas
    from turboapi.params import Body

VALIDATION_ERROR: dict[str, Any] = {
    "title": "ValidationError",
    "type": "object",
    "properties": {
        "loc": {
            "title": "Location",
            "type": "array",
            "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        },
        "msg": {"title": "Message", "type": "string"},
        "type": {"title": "Error Type", "type": "string"},
        "input": {"title": "Input"},
        "ctx": {"title": "Context", "type": "object"},
    },
    "required": ["loc", "msg", "type"],
}

HTTP_VALIDATION_ERROR: dict[str, Any] = {
    "title": "HTTPValidationError",
    "type": "object",
    "properties": {
        "detail": {
            "title": "Detail",
            "type": "array",
            "items": {"$ref": REF_PREFIX + "ValidationError"},
        }
    },
}


@dataclass
class Described:
    """What one route adds to the document.

    Attributes:
        operations: the path item, by method in lower case.
        security_schemes: for `components.securitySchemes`.
        definitions: for `components.schemas`.
    """

    operations: dict[str, Any] = field(default_factory=dict[str, Any])
    security_schemes: dict[str, Any] = field(default_factory=dict[str, Any])
    definitions: dict[str, Any] = field(default_factory=dict[str, Any])


def describe_route(route: Any, schemas: Schemas, operation_ids: set[str]) -> Described:
    """Describe a route (an `APIRoute` or the context of one); nothing if it is not to be shown.

    `operation_ids` are those used so far; the route's are added.
    """
    described = Described()
    if not route.include_in_schema:
        return described
    needs = Needs.of(route.dependant)
    can_be_invalid = needs.any_parameter() or bool(route.body_field)
    described.security_schemes = needs.security_schemes()
    parameters = needs.parameters(schemas)
    # What is built per method rather than shared: openapi_extra is merged into it in place.
    for method in route.methods:
        operation = describe_metadata(route, method, operation_ids)
        if requirements := needs.security_requirements():
            operation["security"] = requirements
        if parameters:
            operation["parameters"] = list(parameters)
        if method in METHODS_WITH_BODY and (body := describe_body(route.body_field, schemas)):
            operation["requestBody"] = body
        if route.callbacks:
            operation["callbacks"] = _describe_callbacks(route, schemas, operation_ids)
        operation["responses"] = describe_responses(route, schemas)
        if can_be_invalid and add_validation_error(operation["responses"]):
            described.definitions["ValidationError"] = VALIDATION_ERROR
            described.definitions["HTTPValidationError"] = HTTP_VALIDATION_ERROR
        if route.openapi_extra:
            deep_dict_update(operation, route.openapi_extra)
        described.operations[method.lower()] = operation
    return described


def summary_of(route: Any) -> str:
    """Return the declared summary, or the name as a heading."""
    return route.summary or route.name.replace("_", " ").title()  # type: ignore[no-any-return]


def describe_metadata(route: Any, method: str, operation_ids: set[str]) -> dict[str, Any]:
    """Return tags, texts and the operation's id; warn if another operation has the same."""
    operation: dict[str, Any] = {"tags": route.tags} if route.tags else {}
    operation["summary"] = summary_of(route)
    if route.description:
        operation["description"] = route.description
    operation_id = route.operation_id or route.unique_id
    if operation_id in operation_ids:
        _warn_of_duplicate(operation_id, route.endpoint)
    operation_ids.add(operation_id)
    operation["operationId"] = operation_id
    if route.deprecated:
        operation["deprecated"] = route.deprecated
    return operation


def _warn_of_duplicate(operation_id: str, endpoint: Any) -> None:
    name = getattr(endpoint, "__name__", "<unnamed_endpoint>")
    message = f"Duplicate Operation ID {operation_id} for function {name}"
    if file := getattr(endpoint, "__globals__", {}).get("__file__"):
        message += f" at {file}"
    warnings.warn(message, stacklevel=1)


def describe_body(body_field: ModelField | None, schemas: Schemas) -> dict[str, Any] | None:
    """Return the `requestBody`, if there is a body."""
    if not body_field:
        return None
    info = cast("Body", body_field.field_info)
    required = {"required": True} if info.is_required() else {}
    media = {"schema": schemas.of(body_field)} | examples_of(info)
    return {**required, "content": {info.media_type: media}}


def _describe_callbacks(route: Any, schemas: Schemas, operation_ids: set[str]) -> dict[str, Any]:
    """Return the `callbacks`: requests that the application makes itself."""
    return {
        callback.name: {callback.path: describe_route(callback, schemas, operation_ids).operations}
        for callback in route.callbacks
        if isinstance(callback, APIRoute)
    }
