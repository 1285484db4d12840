"""The options of a path operation, defined once.

FastAPI repeats its 25 options in every method that declares a route. Here they are in one
`TypedDict` for type checkers. `takes_options` gives each method the signature that editors and
`inspect.signature` see, and fills in the defaults, so that an overridden method gets all of them.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, cast, get_type_hints

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from turboapi import params
from turboapi._form_limits import _FormLimits
from turboapi.datastructures import Default, DefaultPlaceholder
from turboapi.types import IncEx
from turboapi.utils import generate_unique_id

if TYPE_CHECKING:
    from turboapi.routing._route import APIRoute

RunMode = Literal["inline", "thread"]


class _CommonOptions(TypedDict, total=False):
    """What every way to declare a *path operation* takes."""

    response_model: Any
    status_code: int | None
    tags: list[str | Enum] | None
    dependencies: Sequence[params.Depends] | None
    summary: str | None
    description: str | None
    response_description: str
    responses: dict[int | str, dict[str, Any]] | None
    deprecated: bool | None
    operation_id: str | None
    response_model_include: IncEx | None
    response_model_exclude: IncEx | None
    response_model_by_alias: bool
    response_model_exclude_unset: bool
    response_model_exclude_defaults: bool
    response_model_exclude_none: bool
    include_in_schema: bool
    name: str | None
    openapi_extra: dict[str, Any] | None
    max_body_size: int | None
    form_limits: _FormLimits | None
    run: RunMode | None
    """Ours: where a `def` endpoint runs; None lets the server find out (see docs/loop.md)."""


class RouteOptions(_CommonOptions, total=False):
    """What `get`, `post` and the other methods take. https://fastapi.tiangolo.com/reference/apirouter/."""

    response_class: type[Response]
    callbacks: list[BaseRoute] | None
    generate_unique_id_function: Callable[["APIRoute"], str]


class MethodsOptions(RouteOptions, total=False):
    """`RouteOptions` of `api_route`, which also takes the methods."""

    methods: list[str] | None


class AppMethodsOptions(_CommonOptions, total=False):
    """Options of the application's `api_route`."""

    methods: list[str] | None
    response_class: type[Response]
    generate_unique_id_function: Callable[["APIRoute"], str]


# Those that are not decorators may get what a route or router has: also defaults that nobody set.


class AddRouteOptions(_CommonOptions, total=False):
    """Options of `add_api_route`."""

    methods: list[str] | set[str] | None
    response_class: type[Response] | DefaultPlaceholder
    generate_unique_id_function: Callable[["APIRoute"], str] | DefaultPlaceholder
    route_class_override: type["APIRoute"] | None
    callbacks: list[BaseRoute] | None
    strict_content_type: bool | DefaultPlaceholder


class RouteInitOptions(_CommonOptions, total=False):
    """Options of `APIRoute`."""

    methods: list[str] | set[str] | None
    response_class: type[Response] | DefaultPlaceholder
    generate_unique_id_function: Callable[["APIRoute"], str] | DefaultPlaceholder
    dependency_overrides_provider: Any | None
    callbacks: list[BaseRoute] | None
    strict_content_type: bool | DefaultPlaceholder


class AppAddRouteOptions(_CommonOptions, total=False):
    """Options of the application's `add_api_route`."""

    methods: list[str] | None
    response_class: type[Response] | DefaultPlaceholder
    generate_unique_id_function: Callable[["APIRoute"], str]


class IncludeOptions(TypedDict, total=False):
    """What `include_router` takes besides the router."""

    prefix: str
    tags: list[str | Enum] | None
    dependencies: Sequence[params.Depends] | None
    default_response_class: type[Response]
    responses: dict[int | str, dict[str, Any]] | None
    callbacks: list[BaseRoute] | None
    deprecated: bool | None
    include_in_schema: bool
    generate_unique_id_function: Callable[["APIRoute"], str]
    max_body_size: int | None
    form_limits: _FormLimits | None


DEFAULTS: Mapping[str, Any] = {
    "response_model": Default(None),
    "response_description": "Successful Response",
    "response_model_by_alias": True,
    "response_model_exclude_unset": False,
    "response_model_exclude_defaults": False,
    "response_model_exclude_none": False,
    "include_in_schema": True,
    "response_class": Default(JSONResponse),
    "default_response_class": Default(JSONResponse),
    "generate_unique_id_function": Default(generate_unique_id),
    "strict_content_type": Default(True),
    "prefix": "",
}
"""Every option that is not here defaults to None."""


def _insert(names: tuple[str, ...], new: str, after: str) -> tuple[str, ...]:
    at = names.index(after) + 1
    return (*names[:at], new, *names[at:])


def _drop(names: tuple[str, ...], *gone: str) -> tuple[str, ...]:
    return tuple(name for name in names if name not in gone)


# The order in which FastAPI's signatures have them.
_common = _insert(tuple(_CommonOptions.__annotations__), "response_class", "include_in_schema")
_common = _insert(_common, "generate_unique_id_function", "openapi_extra")
ROUTE = _insert(_common, "callbacks", "name")
API_ROUTE = _insert(ROUTE, "methods", "deprecated")
ADD_API_ROUTE = _insert(
    _insert(API_ROUTE, "route_class_override", "name"),
    "strict_content_type",
    "generate_unique_id_function",
)
APP_ADD_ROUTE = APP_API_ROUTE = _insert(_common, "methods", "deprecated")
_route_init = _insert(_drop(_common, "name"), "name", "deprecated")
_route_init = _insert(_route_init, "methods", "name")
_route_init = _insert(_route_init, "dependency_overrides_provider", "response_class")
_route_init = _insert(_route_init, "callbacks", "dependency_overrides_provider")
ROUTE_INIT = _insert(_route_init, "strict_content_type", "generate_unique_id_function")
INCLUDE = tuple(IncludeOptions.__annotations__)
APP_INCLUDE = (
    "prefix",
    "tags",
    "dependencies",
    "responses",
    "deprecated",
    "include_in_schema",
    "default_response_class",
    "callbacks",
    "generate_unique_id_function",
    "max_body_size",
    "form_limits",
)

_Method = TypeVar("_Method", bound=Callable[..., Any])


def takes_options(names: Sequence[str]) -> Callable[[_Method], _Method]:
    """Decorate a method that ends in `**options`: these keywords, each with its default.

    Raises:
        TypeError: at the call, for a keyword that is not in `names`.
    """
    defaults = {name: DEFAULTS.get(name) for name in names}

    def decorate(method: _Method) -> _Method:
        declared = inspect.signature(method)
        own = [p for p in declared.parameters.values() if p.kind is not p.VAR_KEYWORD]
        known = {p.name for p in own} | defaults.keys()
        keywords = [_keyword(name) for name in names]

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if unknown := kwargs.keys() - known:
                raise TypeError(
                    f"{method.__qualname__}() got an unexpected keyword argument "
                    f"{sorted(unknown)[0]!r}"
                )
            return method(*args, **{**defaults, **kwargs})

        call.__signature__ = declared.replace(parameters=[*own, *keywords])  # type: ignore[attr-defined]
        return cast("_Method", call)

    return decorate


@functools.cache
def _keyword(name: str) -> inspect.Parameter:
    """Return an option as signatures have it; the same one for all of them."""
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=DEFAULTS.get(name),
        annotation=_annotations().get(name, Any),
    )


@functools.cache
def _annotations() -> dict[str, Any]:
    names: dict[str, Any] = {"APIRoute": Any}
    found: dict[str, Any] = {}
    for options in (AddRouteOptions, RouteInitOptions, RouteOptions, IncludeOptions):
        found.update(get_type_hints(options, localns=names))
    return found
