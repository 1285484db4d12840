"""The OpenAPI document of an application's routes.

`get_openapi()` is what `app.openapi()` calls; the other functions give parts of a document.
See https://fastapi.tiangolo.com/how-to/extending-openapi/.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from turboapi import routing
from turboapi.dependencies.utils import get_flat_params
from turboapi.encoders import jsonable_encoder
from turboapi.exceptions import FastAPIDeprecationWarning
from turboapi.openapi import _operation
from turboapi.openapi._responses import STATUS_PATTERNS as status_code_ranges  # noqa: N811
from turboapi.openapi._schemas import Schemas
from turboapi.utils import generate_operation_id_for_path

# isort: split
# Libraries also import these from here, where FastAPI only uses them.
from starlette.responses import JSONResponse as JSONResponse
from starlette.responses import Response as Response
from starlette.routing import BaseRoute as BaseRoute

from turboapi._compat import ModelField as ModelField
from turboapi._compat import get_definitions as get_definitions
from turboapi._compat import get_flat_models_from_fields as get_flat_models_from_fields
from turboapi._compat import get_model_name_map as get_model_name_map
from turboapi._compat import get_schema_from_model_field as get_schema_from_model_field
from turboapi._compat import lenient_issubclass as lenient_issubclass
from turboapi.datastructures import DefaultPlaceholder as DefaultPlaceholder
from turboapi.dependencies.models import Dependant as Dependant
from turboapi.dependencies.models import _get_cache_key as _get_cache_key
from turboapi.dependencies.models import _get_oauth_scopes as _get_oauth_scopes
from turboapi.dependencies.models import _get_security_scheme as _get_security_scheme
from turboapi.dependencies.models import _is_security_scheme as _is_security_scheme
from turboapi.dependencies.utils import _get_flat_fields_from_params as _get_flat_fields_from_params
from turboapi.dependencies.utils import _get_param_aliases as _get_param_aliases
from turboapi.dependencies.utils import _get_param_model as _get_param_model
from turboapi.params import Body as Body
from turboapi.params import ParamTypes as ParamTypes
from turboapi.utils import deep_dict_update as deep_dict_update
from turboapi.utils import is_body_allowed_for_status_code as is_body_allowed_for_status_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from turboapi.openapi._schemas import FieldMapping
    from turboapi.types import ModelNameMap

__all__ = [
    "generate_operation_id",
    "generate_operation_summary",
    "get_fields_from_routes",
    "get_openapi",
    "get_openapi_operation_metadata",
    "get_openapi_operation_request_body",
    "get_openapi_path",
    "status_code_ranges",
    "validation_error_definition",
    "validation_error_response_definition",
]

validation_error_definition = _operation.VALIDATION_ERROR
validation_error_response_definition = _operation.HTTP_VALIDATION_ERROR


def get_openapi(
    *,
    title: str,
    version: str,
    openapi_version: str = "3.1.0",
    summary: str | None = None,
    description: str | None = None,
    routes: Sequence[BaseRoute | routing.RouteContext],
    webhooks: Sequence[BaseRoute | routing.RouteContext] | None = None,
    tags: list[dict[str, Any]] | None = None,
    servers: list[dict[str, str | Any]] | None = None,
    terms_of_service: str | None = None,
    contact: dict[str, str | Any] | None = None,
    license_info: dict[str, str | Any] | None = None,
    separate_input_output_schemas: bool = True,
    external_docs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the document as a dict that is ready for JSON.

    Args:
        title: of the API.
        version: of the API.
        openapi_version: of the specification; tools look at it.
        summary: in one line.
        description: in Markdown.
        routes: those that are not path operations are left out.
        webhooks: routes that describe requests which the application makes.
        tags: descriptions of tags, in the order to show them.
        servers: where the API is served.
        terms_of_service: a URL.
        contact: `name`, `url`, `email`.
        license_info: `name`, and `url` or `identifier`.
        separate_input_output_schemas: False shows one schema for a model although it differs as
            input and as output.
        external_docs: `url` and `description`.

    Raises:
        pydantic.ValidationError: metadata of the application's is not valid OpenAPI.
    """
    webhooks = webhooks or []
    schemas, definitions = Schemas.generate(
        get_fields_from_routes([*routes, *webhooks]), separate_input_output_schemas
    )
    operation_ids: set[str] = set()
    security_schemes: dict[str, Any] = {}

    def describe(group: Sequence[BaseRoute | routing.RouteContext]) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        for route in _path_operations(group):
            described = _operation.describe_route(route, schemas, operation_ids)
            if described.operations:
                paths.setdefault(route.path_format, {}).update(described.operations)
            security_schemes.update(described.security_schemes)
            definitions.update(described.definitions)
        return paths

    paths = describe(routes)
    webhook_paths = describe(webhooks)
    components = {
        "securitySchemes": security_schemes,
        "schemas": dict(sorted(definitions.items())),
    }
    info = {
        "title": title,
        "version": version,
        "summary": summary,
        "description": description,
        "termsOfService": terms_of_service,
        "contact": contact,
        "license": license_info,
    }
    document = {
        "openapi": openapi_version,
        "info": _without_empty(info, keep=("title", "version")),
        "servers": servers,
        "components": _without_empty(components),
        "paths": paths,
        "webhooks": webhook_paths,
        "tags": tags,
        "externalDocs": external_docs,
    }
    from turboapi.openapi.models import OpenAPI  # lazy: takes long, for documents only

    checked = OpenAPI.model_validate(_without_empty(document, keep=("openapi", "paths")))
    return jsonable_encoder(checked, by_alias=True, exclude_none=True)  # type: ignore[no-any-return]


def _without_empty(members: dict[str, Any], keep: tuple[str, ...] = ()) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value or name in keep}


def _path_operations(routes: Sequence[BaseRoute | routing.RouteContext]) -> Iterator[Any]:
    """Yield the contexts of API routes; the other kinds have nothing to describe."""
    for context in routing.iter_route_contexts(routes):
        if isinstance(context.original_route, routing.APIRoute):
            yield context


def get_fields_from_routes(
    routes: Sequence[BaseRoute | routing.RouteContext],
) -> list[ModelField]:
    """Return all fields of the routes that are shown: those whose schemas a document needs."""
    of_callbacks: list[ModelField] = []
    of_bodies: list[ModelField] = []
    of_responses: list[ModelField] = []
    of_requests: list[ModelField] = []
    for route in _path_operations(routes):
        if not route.include_in_schema:
            continue
        if route.body_field:
            of_bodies.append(route.body_field)
        responses = [route.response_field, *route.response_fields.values(), route.stream_item_field]
        of_responses += [field for field in responses if field]
        of_callbacks += get_fields_from_routes(route.callbacks or [])
        of_requests += get_flat_params(route.dependant)
    return of_callbacks + of_bodies + of_responses + of_requests


def get_openapi_path(
    *,
    route: Any,
    operation_ids: set[str],
    model_name_map: ModelNameMap,
    field_mapping: FieldMapping,
    separate_input_output_schemas: bool = True,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return a route's path item, security schemes and definitions; add to `operation_ids`."""
    schemas = Schemas(model_name_map, field_mapping, separate_input_output_schemas)
    described = _operation.describe_route(route, schemas, operation_ids)
    return described.operations, described.security_schemes, described.definitions


def get_openapi_operation_request_body(
    *,
    body_field: ModelField | None,
    model_name_map: ModelNameMap,
    field_mapping: FieldMapping,
    separate_input_output_schemas: bool = True,
) -> dict[str, Any] | None:
    """Return an operation's `requestBody`, or None for a route without a body."""
    schemas = Schemas(model_name_map, field_mapping, separate_input_output_schemas)
    return _operation.describe_body(body_field, schemas)


def get_openapi_operation_metadata(
    *, route: Any, method: str, operation_ids: set[str]
) -> dict[str, Any]:
    """Return an operation's tags, texts and id; add the id to `operation_ids`."""
    return _operation.describe_metadata(route, method, operation_ids)


def generate_operation_summary(*, route: Any, method: str) -> str:
    """Return an operation's `summary`."""
    return _operation.summary_of(route)


def generate_operation_id(*, route: Any, method: str) -> str:
    """Return an operation id. Deprecated: they come from `generate_unique_id_function`."""
    warnings.warn(
        "fastapi.openapi.utils.generate_operation_id() was deprecated, "
        "it is not used internally, and will be removed soon",
        FastAPIDeprecationWarning,
        stacklevel=2,
    )
    return route.operation_id or generate_operation_id_for_path(
        name=route.name, path=route.path_format, method=method
    )


def __getattr__(name: str) -> Any:
    """Return `OpenAPI`, which libraries import from here, too."""
    if name != "OpenAPI":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from turboapi.openapi.models import OpenAPI  # lazy: as above

    return OpenAPI


def __dir__() -> list[str]:
    return sorted({*globals(), "OpenAPI"})
