"""From a callable to its `Dependant`: what each parameter is, and the dependencies below it."""

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, cast, get_args, get_origin

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket
from typing_inspection.typing_objects import is_typealiastype

from turboapi import params
from turboapi._compat import (
    ModelField,
    RequiredParam,
    Undefined,
    copy_field_info,
    field_annotation_is_scalar,
    field_annotation_is_scalar_sequence,
    get_cached_model_fields,
    is_scalar_field,
    is_uploadfile_or_nonable_uploadfile_annotation,
    is_uploadfile_sequence_annotation,
    lenient_issubclass,
)
from turboapi.concurrency import _DependencyConcurrency
from turboapi.dependencies._extract import _get_model_type, _get_param_model
from turboapi.dependencies._forms import (
    _add_form_union_validators,
    _get_form_union_models,
    ensure_multipart_is_installed,
)
from turboapi.dependencies._signature import get_typed_signature
from turboapi.dependencies.models import (
    Dependant,
    _call_kind,
    _get_cache_key,
    _get_computed_scope,
    _UsesScopesCache,
)
from turboapi.exceptions import DependencyScopeError
from turboapi.security._scopes import SecurityScopes
from turboapi.types import DependencyCacheKey
from turboapi.utils import create_model_field, get_path_param_names

_EMPTY = inspect.Signature.empty

# Types that are given by the framework, and the Dependant's attribute for the parameter's name.
# Order matters: requests and WebSockets are connections.
_INJECTED: tuple[tuple[type[Any], str], ...] = (
    (Request, "request_param_name"),
    (WebSocket, "websocket_param_name"),
    (HTTPConnection, "http_connection_param_name"),
    (Response, "response_param_name"),
    (StarletteBackgroundTasks, "background_tasks_param_name"),
    (SecurityScopes, "security_scopes_param_name"),
)
_INJECTED_TYPES = tuple(kind for kind, _ in _INJECTED)


@dataclass
class ParamDetails:
    """What a parameter is: a dependency, a field, or (both None) something injected."""

    type_annotation: Any
    depends: params.Depends | None
    field: ModelField | None


def get_dependant(
    *,
    path: str,
    call: Callable[..., Any],
    name: str | None = None,
    own_oauth_scopes: list[str] | None = None,
    parent_oauth_scopes: list[str] | None = None,
    use_cache: bool = True,
    scope: Literal["function", "request"] | None = None,
    concurrency: _DependencyConcurrency | None = None,
) -> Dependant:
    """Analyse ``call`` and, through its dependencies, everything below it.

    AssertionError for declarations that contradict each other, DependencyScopeError for a
    dependency that would end too early, FastAPIError for a type that pydantic does not know.
    """
    dependant = Dependant(
        call=call,
        name=name,
        path=path,
        use_cache=use_cache,
        scope=scope,
        concurrency=concurrency,
        own_oauth_scopes=own_oauth_scopes,
        parent_oauth_scopes=parent_oauth_scopes,
    )
    scopes = (parent_oauth_scopes or []) + (own_oauth_scopes or [])
    path_param_names = get_path_param_names(path)
    for param_name, parameter in get_typed_signature(call).parameters.items():
        details = analyze_param(
            param_name=param_name,
            annotation=parameter.annotation,
            value=parameter.default,
            path_param_names=path_param_names,
        )
        if details.depends is not None:
            _check_scope(dependant, details.depends)
            dependant.dependencies.append(
                _get_sub_dependant(
                    details.depends, path=path, name=param_name, parent_oauth_scopes=scopes
                )
            )
        elif add_non_field_param_to_dependency(
            param_name=param_name, type_annotation=details.type_annotation, dependant=dependant
        ):
            assert details.field is None, (
                f"Cannot specify multiple FastAPI annotations for {param_name!r}"
            )
        else:
            assert details.field is not None
            if isinstance(details.field.field_info, params.Body):
                dependant.body_params.append(details.field)
            else:
                add_param_to_fields(field=details.field, dependant=dependant)
    return dependant


def _check_scope(dependant: Dependant, depends: params.Depends) -> None:
    if depends.scope != "function" or _get_computed_scope(dependant=dependant) != "request":
        return
    kind = _call_kind(dependant.call)
    if kind.generator or kind.async_generator:
        call_name = getattr(dependant.call, "__name__", "<unnamed_callable>")
        raise DependencyScopeError(
            f'The dependency "{call_name}" has a scope of '
            '"request", it cannot depend on dependencies with scope "function".'
        )


def _get_sub_dependant(
    depends: params.Depends, *, path: str, name: str, parent_oauth_scopes: list[str]
) -> Dependant:
    assert depends.dependency
    return get_dependant(
        path=path,
        call=depends.dependency,
        name=name,
        own_oauth_scopes=_scopes_of(depends),
        parent_oauth_scopes=parent_oauth_scopes,
        use_cache=depends.use_cache,
        scope=depends.scope,
        concurrency=depends._concurrency,
    )


def _scopes_of(depends: params.Depends) -> list[str]:
    return list(depends.scopes or []) if isinstance(depends, params.Security) else []


def get_parameterless_sub_dependant(*, depends: params.Depends, path: str) -> Dependant:
    """Return the dependant of an entry of ``dependencies=[...]``."""
    assert callable(depends.dependency), (
        "A parameter-less dependency must have a callable dependency"
    )
    return get_dependant(
        path=path,
        call=depends.dependency,
        scope=depends.scope,
        concurrency=depends._concurrency,
        own_oauth_scopes=_scopes_of(depends),
    )


def add_non_field_param_to_dependency(
    *, param_name: str, type_annotation: Any, dependant: Dependant
) -> bool | None:
    """Note the parameter if it is a request, response, ...; None when it is not."""
    for kind, attribute in _INJECTED:
        if lenient_issubclass(type_annotation, kind):
            setattr(dependant, attribute, param_name)
            return True
    return None


def add_param_to_fields(*, field: ModelField, dependant: Dependant) -> None:
    """Put a field into the list for the place it is looked for."""
    where = getattr(field.field_info, "in_", None)
    assert isinstance(where, params.ParamTypes), (
        f"non-body parameters must be in path, query, header or cookie: {field.name}"
    )
    getattr(dependant, f"{where.value}_params").append(field)


def analyze_param(
    *, param_name: str, annotation: Any, value: Any, path_param_names: set[str]
) -> ParamDetails:
    """Return what one parameter is, from its annotation and default (Signature.empty: none).

    AssertionError when the two contradict each other or the type does not fit the place.
    """
    is_path_param = param_name in path_param_names
    if is_typealiastype(annotation):
        annotation = annotation.__value__
    declared: Any = Any if annotation is _EMPTY else annotation
    bare = get_args(declared)[0] if get_origin(declared) is Annotated else declared

    info, depends = _from_annotated(param_name, declared, value, is_path_param)
    if isinstance(value, params.Depends):
        assert depends is None, (
            f"Cannot specify `Depends` in `Annotated` and default value together for {param_name!r}"
        )
        assert info is None, (
            "Cannot specify a FastAPI annotation in `Annotated` and `Depends` as a"
            f" default value together for {param_name!r}"
        )
        depends = value
    elif isinstance(value, FieldInfo):
        assert info is None, (
            "Cannot specify FastAPI annotations in `Annotated` and default value"
            f" together for {param_name!r}"
        )
        # A copy: the same object may be the default of several parameters.
        info = copy(value)
        info.annotation = bare
    if depends is not None:
        if depends.dependency is None:
            depends = replace(depends, dependency=bare)
    elif lenient_issubclass(bare, _INJECTED_TYPES):
        assert info is None, f"Cannot specify FastAPI annotation for type {bare!r}"
    elif info is None:
        info = _inferred(declared, bare, value, is_path_param)

    field = None
    if info is not None:
        field = _make_field(param_name, info, declared, path_param_names)
    return ParamDetails(type_annotation=bare, depends=depends, field=field)


def _from_annotated(
    param_name: str, declared: Any, value: Any, is_path_param: bool
) -> tuple[FieldInfo | None, params.Depends | None]:
    """Return the declaration in ``Annotated``, the last one if there are more."""
    if get_origin(declared) is not Annotated:
        return None, None
    markers = [
        item
        for item in get_args(declared)[1:]
        if isinstance(item, (params.Param, params.Body, params.Depends))
    ]
    marker = markers[-1] if markers else None
    if marker is None or isinstance(marker, params.Depends):
        return None, marker
    info = copy_field_info(field_info=marker, annotation=declared)
    assert info.default is Undefined, (
        f"`{info.__class__.__name__}` default value cannot be set in"
        f" `Annotated` for {param_name!r}. Set the default value with `=` instead."
    )
    if value is not _EMPTY:
        assert not is_path_param, "Path parameters cannot have default values"
        info.default = value
    return info, None


def _inferred(declared: Any, bare: Any, value: Any, is_path_param: bool) -> FieldInfo:
    """Return the declaration of a parameter that has only a type, and perhaps a plain default."""
    default = RequiredParam if value is _EMPTY else value
    info: FieldInfo
    if is_path_param:
        # A default is ignored: the same function may be used where the path has no such part.
        info = params.Path(annotation=declared)
        default = info.default
    elif is_uploadfile_or_nonable_uploadfile_annotation(bare) or is_uploadfile_sequence_annotation(
        bare
    ):
        info = params.File(annotation=declared, default=default)
    elif field_annotation_is_scalar(bare):
        info = params.Query(annotation=declared, default=default)
    else:
        info = params.Body(annotation=declared, default=default)
    if get_origin(declared) is Annotated:
        info = copy_field_info(field_info=info, annotation=declared)
        info.default = default
        if is_path_param:
            info.default_factory = None
    return info


def _make_field(
    param_name: str, info: FieldInfo, declared: Any, path_param_names: set[str]
) -> ModelField:
    is_path_param = param_name in path_param_names
    if is_path_param:
        assert isinstance(info, params.Path), (
            f"Cannot use `{info.__class__.__name__}` for path param {param_name!r}"
        )
    elif isinstance(info, params.Param) and getattr(info, "in_", None) is None:
        info.in_ = params.ParamTypes.query
    if isinstance(info, params.Form):
        ensure_multipart_is_installed()
        if _get_form_union_models(info.annotation):
            info.annotation = _add_form_union_validators(info.annotation)
    elif isinstance(info, params.Path):
        _choose_path_alias(info, path_param_names)
    alias = info.alias
    if not alias:
        dashed = getattr(info, "convert_underscores", False)
        alias = param_name.replace("_", "-") if dashed else param_name
    info.alias = alias
    field = create_model_field(
        name=param_name, type_=declared, default=info.default, alias=alias, field_info=info
    )
    if is_path_param:
        assert is_scalar_field(field=field), "Path params must be of one of the supported types"
    elif isinstance(info, params.Query):
        assert (
            is_scalar_field(field)
            or field_annotation_is_scalar_sequence(info.annotation)
            or _get_model_type(info.annotation) is not None
        ), f"Query parameter {param_name!r} must be one of the supported types"
    return field


def _choose_path_alias(info: params.Path, path_param_names: set[str]) -> None:
    """Of several aliases, the one that the path has: it is the name in OpenAPI too."""
    alias = info.validation_alias
    if isinstance(alias, AliasChoices) and all(isinstance(c, str) for c in alias.choices):
        for choice in cast("list[str]", alias.choices):
            if choice in path_param_names:
                info.validation_alias = choice
                break


def _get_flat_fields_from_params(fields: Sequence[ModelField]) -> list[ModelField]:
    """Return the fields, those of a parameter model in its place."""
    flat: list[ModelField] = []
    for field in fields:
        model = _get_param_model(field)
        flat.extend([field] if model is None else get_cached_model_fields(model))
    return flat


def get_flat_params(dependant: Dependant) -> list[ModelField]:
    """Return all parameters of the tree but those of bodies: path, query, header, cookie."""
    seen: set[DependencyCacheKey] = set()
    found: tuple[list[ModelField], ...] = ([], [], [], [])
    scopes_cache: _UsesScopesCache = {}
    for each in _walk(dependant, seen, scopes_cache):
        own = (each.path_params, each.query_params, each.header_params, each.cookie_params)
        for fields, more in zip(found, own, strict=True):
            fields.extend(more)
    return [field for fields in found for field in _get_flat_fields_from_params(fields)]


def _walk(
    dependant: Dependant, seen: set[DependencyCacheKey], scopes_cache: _UsesScopesCache
) -> list[Dependant]:
    """Return the tree, users before what they use, without repetitions."""
    key = _get_cache_key(dependant=dependant, uses_scopes_cache=scopes_cache)
    if key in seen:
        return []
    seen.add(key)
    result = [dependant]
    for sub in dependant.dependencies:
        result += _walk(sub, seen, scopes_cache)
    return result


def _get_flat_body_params(dependant: Dependant) -> list[ModelField]:
    fields = list(dependant.body_params)
    for sub in dependant.dependencies:
        fields += _get_flat_body_params(sub)
    return fields
