"""Forms: which parameters are models of a whole form, and what the form's items give each."""

from collections.abc import Iterator, Sequence
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, Union, cast, get_args, get_origin
from urllib.parse import unquote_plus

from pydantic import BaseModel, BeforeValidator, Tag
from starlette import formparsers
from starlette import requests as starlette_requests
from starlette.datastructures import FormData, Headers, ImmutableMultiDict, UploadFile
from starlette.formparsers import FormParser, MultiPartParser
from starlette.requests import Request

from turboapi import _core, params
from turboapi._compat import (
    ModelField,
    Undefined,
    get_cached_model_fields,
    is_bytes_or_nonable_bytes_annotation,
    is_bytes_sequence_annotation,
    lenient_issubclass,
    serialize_sequence_value,
    value_is_sequence,
)
from turboapi._compat.shared import is_union
from turboapi._request import EngineRequest
from turboapi.dependencies._extract import (
    _get_model_type,
    _get_multidict_extras,
    _is_json_field,
    lookup_of,
)
from turboapi.logger import logger

multipart_not_installed_error = (
    'Form data requires "python-multipart" to be installed. \n'
    'You can install "python-multipart" with: \n\n'
    "pip install python-multipart\n"
)
multipart_incorrect_install_error = (
    'Form data requires "python-multipart" to be installed. '
    'It seems you installed "multipart" instead. \n'
    'You can remove "multipart" with: \n\n'
    "pip uninstall multipart\n\n"
    'And then install "python-multipart" with: \n\n'
    "pip install python-multipart\n"
)


def ensure_multipart_is_installed() -> None:
    """RuntimeError, logged too, when forms could not be parsed."""
    try:
        from python_multipart import __version__ as version

        if version > "0.0.12":
            return
    except ImportError:
        pass
    # The old python-multipart and the unrelated "multipart" share a module name; only the
    # former has parse_options_header there.
    error = multipart_not_installed_error
    try:
        from multipart import (  # type: ignore[import-untyped]
            __version__ as other_version,
        )

        if other_version:
            error = multipart_incorrect_install_error
            from multipart.multipart import (  # type: ignore[import-untyped]
                parse_options_header,
            )

            if parse_options_header:  # pyright: ignore[reportUnnecessaryComparison]
                return
    except ImportError:
        pass
    logger.error(error)
    raise RuntimeError(error) from None


def _get_form_union_models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models of a union of several models (and None); else nothing."""
    if not is_union(annotation):
        return []
    choices = [arg for arg in get_args(annotation) if arg is not type(None)]
    models = [get_args(c)[0] if get_origin(c) is Annotated else c for c in choices]
    if len(models) > 1 and all(lenient_issubclass(model, BaseModel) for model in models):
        return models
    return []


def _get_form_models(field: ModelField) -> list[type[BaseModel]]:
    """Return the models that take the whole form for this parameter; none for an ordinary one."""
    lookup = lookup_of(field)
    if lookup.form_models is None:
        info = field.field_info
        if not isinstance(info, params.Form) or info.embed or _is_json_field(field):
            lookup.form_models = []
        elif (model := _get_model_type(info.annotation)) is not None:
            lookup.form_models = [model]
        else:
            lookup.form_models = _get_form_union_models(info.annotation)
    return lookup.form_models


def _get_form_model(field: ModelField) -> type[BaseModel] | None:
    models = _get_form_models(field)
    return models[0] if len(models) == 1 else None


def is_nullable(field: ModelField) -> bool:
    return type(None) in get_args(field.field_info.annotation)


def own_names(models: Sequence[type[BaseModel]]) -> set[str]:
    """Return all keys by which a form can give something to one of ``models``."""
    return {
        alias.validation
        for model in models
        for field in get_cached_model_fields(model)
        for alias in lookup_of(field).aliases
    }


def takes_extras(models: Sequence[type[BaseModel]]) -> bool:
    return any(model.model_config.get("extra") in ("allow", "forbid") for model in models)


def _add_form_union_validators(annotation: Any) -> Any:
    """Return the union with each of its models made to read the form's items by its own fields.

    Which keys are lists depends on the model, so it can't be decided before the choice.
    """
    return Union[tuple(map(_with_form_validator, get_args(annotation)))]  # noqa: UP007


def _with_form_validator(choice: Any) -> Any:
    if choice is type(None):
        return choice
    model, *metadata = get_args(choice) if get_origin(choice) is Annotated else (choice,)
    # Errors name the choice by its tag; without one a validator's own name would show.
    tags = [item for item in metadata if isinstance(item, Tag)]
    tag = tags[-1] if tags else Tag(model.__name__)
    return Annotated[choice, BeforeValidator(partial(_normalize_form_model, model=model)), tag]


def _normalize_form_model(value: Any, *, model: type[BaseModel]) -> Any:
    if not isinstance(value, dict):
        return value
    items_by_key = cast("dict[str, Any]", value)
    form = FormData(
        [
            (key, item)
            for key, items in items_by_key.items()
            for item in cast("Any", items if isinstance(items, list) else [items])
        ]
    )
    result = {
        alias: item for alias, item, _ in extract_form_items(get_cached_model_fields(model), form)
    }
    # No browser sends these, but another validator can have put them in.
    result.update((key, item) for key, item in items_by_key.items() if item is None or item == [])
    return result


def extract_form_items(
    body_fields: Sequence[ModelField], received_body: FormData
) -> Iterator[tuple[str, Any, ModelField | None]]:
    """(alias, value, field) of each field that is there, then the extras with field None."""
    tried: set[str] = set()
    for field in body_fields:
        lookup = lookup_of(field)
        for alias, _ in lookup.aliases:
            tried.add(alias)
            value = lookup.take(received_body, alias)
            if value is not Undefined:
                yield alias, value, field
                break
    for key, value in _get_multidict_extras(received_body, tried):
        yield key, value, None


async def _read_file_bytes(file: UploadFile) -> bytes:
    # Other parameters may use the same file: leave it where it was.
    position = file.file.tell()
    try:
        return await file.read()
    finally:
        await file.seek(position)


async def _as_declared(field: ModelField, value: Any) -> Any:
    """Return the value, with uploads read into memory if the parameter is declared as bytes."""
    annotation = field.field_info.annotation
    if not isinstance(field.field_info, params.File):
        return value
    if isinstance(value, UploadFile):
        if is_bytes_or_nonable_bytes_annotation(annotation):
            return await _read_file_bytes(value)
    elif is_bytes_sequence_annotation(annotation) and value_is_sequence(value):
        # One after the other: uploads may share a disk, and their order is kept.
        items = [
            await _read_file_bytes(item) if isinstance(item, UploadFile) else item for item in value
        ]
        return serialize_sequence_value(field=field, value=items)
    return value


def reads_files(field: ModelField) -> bool:
    """Return whether an upload may have to be read for this parameter."""
    annotation = field.field_info.annotation
    return isinstance(field.field_info, params.File) and (
        is_bytes_or_nonable_bytes_annotation(annotation) or is_bytes_sequence_annotation(annotation)
    )


async def read_form_items(
    body_fields: Sequence[ModelField], received_body: FormData
) -> dict[str, Any]:
    """Return what a form has for these fields and beside them, by alias."""
    result: dict[str, Any] = {}
    for alias, value, field in extract_form_items(body_fields, received_body):
        result[alias] = value if field is None else await _as_declared(field, value)
    return result


async def read_form_field(field: ModelField, received_body: FormData) -> tuple[str, Any]:
    """Return the alias by which the form has a field, and its value; Undefined when it does not."""
    lookup = lookup_of(field)
    for alias, _ in lookup.aliases:
        value = lookup.take(received_body, alias)
        if value is not Undefined:
            return alias, await _as_declared(field, value)
    return lookup.aliases[0].validation, Undefined


async def _extract_form_model(
    field: ModelField, models: list[type[BaseModel]], received_body: FormData
) -> Any:
    """Return what a parameter that takes the whole form is validated from, or Undefined."""
    if is_nullable(field):
        supplied = any(name in received_body for name in own_names(models))
        # Asked of the raw form: an empty text counts as given although it is dropped below.
        if not supplied and not (takes_extras(models) and received_body):
            return Undefined
    # The choices of a union read the items themselves.
    fields = get_cached_model_fields(models[0]) if len(models) == 1 else []
    return await read_form_items(fields, received_body)


_URLENCODED = frozenset(
    f"application/x-www-form-urlencoded{charset}"
    for charset in ("", "; charset=utf-8", ";charset=utf-8", "; charset=UTF-8", ";charset=UTF-8")
)


async def read_form(
    request: Request,
    *,
    max_files: int | float = 1000,
    max_fields: int | float = 1000,
    max_part_size: int = 1024 * 1024,
) -> FormData:
    """Return ``request.form()``, faster if it is a small URL-encoded one.

    HTTPException 400 for a form beyond the limits or one that can't be parsed.
    """
    # Only a plain request whose body nobody has begun to read is known to give the same.
    if (
        type(request) in (EngineRequest, Request)
        and request._form is None
        and not request._stream_consumed
    ):
        headers = request.headers
        length = headers.get("content-length", "")
        if (
            headers.get("content-type") in _URLENCODED
            and len(length) < 10
            and length.isdecimal()
            and int(length) <= max_part_size
        ):
            body = await request.body()
            # No part can be longer than the whole; what may break a limit is left to Starlette.
            if len(body) <= max_part_size and body.count(b"&") < max_fields:
                request._form = form = _parse_urlencoded(body)
                return form
    # The engine may have read it for `parse_whole_form`, which left it to Starlette.
    gathered = (
        type(request) is EngineRequest
        and hasattr(request, "_body")
        and not request._stream_consumed
    )
    try:
        return await request.form(
            max_files=max_files, max_fields=max_fields, max_part_size=max_part_size
        )
    finally:
        if gathered:  # as a stream that was parsed while it came
            del request._body
            request._stream_consumed = True


def _parse_urlencoded(body: bytes) -> FormData:
    items: list[tuple[str, str | UploadFile]] = []
    for part in body.decode("latin-1").split("&"):
        if part:
            name, _, value = part.partition("=")
            items.append((unquote_plus(name), unquote_plus(value)))
    return FormData(items)


_URLENCODED_BYTES = frozenset(each.encode() for each in _URLENCODED)
# What C and the functions below stand in for, which somebody may replace.
_REPLACEABLE: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (Request, ("form", "_get_form", "stream", "body")),
    (EngineRequest, ("form", "body")),
    (starlette_requests, ("FormParser", "MultiPartParser", "parse_options_header")),
    (FormParser, ("__init__", "parse", "on_field_start", "on_field_name", "on_field_data")),
    (FormParser, ("on_field_end",)),
    (
        MultiPartParser,
        ("__init__", "parse", "on_part_begin", "on_part_data", "on_part_end", "on_header_field"),
    ),
    (MultiPartParser, ("on_header_value", "on_header_end", "on_headers_finished")),
    (formparsers, ("SpooledTemporaryFile", "UploadFile", "FormData", "multipart")),
    (FormData, ("__init__",)),
    (ImmutableMultiDict, ("__init__",)),
)
_GUARDS = tuple(
    (owner, name, getattr(owner, name)) for owner, names in _REPLACEABLE for name in names
)


def parse_whole_form(
    body: bytes,
    content_type: bytes,
    *,
    max_files: int = 1000,
    max_fields: int = 1000,
    max_part_size: int = 1024 * 1024,
) -> FormData | None:
    """Return what Starlette's parsers would make of a form, or None: they have to be asked."""
    if not _core.attributes_hold(_GUARDS):
        return None
    if content_type in _URLENCODED_BYTES:
        # No part can be longer than the whole.
        if len(body) > max_part_size or body.count(b"&") >= max_fields:
            return None
        return _form_of(_core.parse_urlencoded(body))
    if len(body) > MultiPartParser.spool_max_size > 0:
        return None  # a file may have to be on disk
    items = _core.parse_multipart(
        body, content_type, max_files, max_fields, max_part_size, _make_upload
    )
    return None if items is None else _form_of(items)


def _form_of(items: list[tuple[str, Any]]) -> FormData:
    """`FormData(items)`, without its questions what the argument is."""
    form = FormData.__new__(FormData)
    form._dict = dict(items)
    form._list = items
    return form


def _make_upload(filename: str, data: bytes, headers: list[tuple[bytes, bytes]]) -> UploadFile:
    # Not SpooledTemporaryFile[bytes]: that would leave an attribute in what errors show of it.
    file: Any = SpooledTemporaryFile(max_size=MultiPartParser.spool_max_size)  # noqa: SIM115
    file.write(data)
    file.seek(0)
    return UploadFile(file=file, size=len(data), filename=filename, headers=Headers(raw=headers))
