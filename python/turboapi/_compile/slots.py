"""The parts of a plan's nodes that parameters and bodies are (docs/engine.md).

What can be decided before a request is decided here: which values C may make itself, which
defaults may be shared, which validators may be tried on what.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic_core import SchemaValidator
from starlette.datastructures import FormData

from turboapi import params
from turboapi._compat import ModelField
from turboapi._compile.jsonmode import json_mode_is_equal, runs_user_code
from turboapi.dependencies._body import form_reader, is_single_body, request_body_to_args
from turboapi.dependencies._extract import (
    _validate_value_with_model_field,
    lookup_of,
    members_of,
    read_param,
)
from turboapi.dependencies.models import Dependant

Slot = dict[str, Any]
_Validate = Callable[[Any, dict[str, Any]], tuple[Any, list[Any]]]

# A default of these types can be given to every request without a copy.
_IMMUTABLE = frozenset(
    {type(None), bool, int, float, complex, str, bytes, Decimal, UUID}
    | {date, datetime, time, timedelta}
)
# What C may coerce; a schema with more keys than these has constraints.
_CONVERSIONS = frozenset({"str", "int", "float", "bool"})
_TRANSPARENT = {
    "default": frozenset({"type", "schema", "default", "metadata", "copy_default"}),
    "nullable": frozenset({"type", "schema", "metadata"}),
}
_NO_CONSTRAINTS = frozenset({"type", "metadata"})


def core_schema_of(field: ModelField) -> Any:
    """Return the schema that is validated; None while there is none.

    The type may name what is not defined yet, or use `defer_build` and prove impossible: then
    requests that have a value for it fail, not the route.
    """
    schema: Any = field._type_adapter.core_schema
    try:
        schema["type"]  # pydantic puts it together now if it did not before
    except Exception:
        return None
    return field._type_adapter.core_schema


def conversion(field: ModelField) -> str | None:
    """Return what C may make of a text that is plainly valid, with the same result as the
    validator.
    """
    schema = core_schema_of(field)
    if field.config or schema is None:
        return None
    while (known := _TRANSPARENT.get(schema["type"])) is not None:
        if not schema.keys() <= known:
            return None
        schema = schema["schema"]
    plain = schema["type"] in _CONVERSIONS and schema.keys() <= _NO_CONSTRAINTS
    return schema["type"] if plain else None


def bound_validator(field: ModelField, method: str = "validate_python") -> Any:
    """Return the bound method of pydantic-core's validator; None when something wraps it.

    It is wrapped while a model is incomplete. Plugins of pydantic wrap it, and are there as soon
    as they are installed; but the methods of those that do not record anything are its own.
    """
    validator: Any = field._type_adapter.validator
    if type(validator).__module__ == "pydantic.plugin._schema_validator":
        validator = getattr(getattr(validator, method, None), "__self__", None)
    return getattr(validator, method) if type(validator) is SchemaValidator else None


def _validator(field: ModelField) -> Any:
    # The schema first: asking for it completes a type that waits to be built.
    return None if core_schema_of(field) is None else bound_validator(field)


def _quick(field: ModelField) -> tuple[bool, Any]:
    schema = core_schema_of(field)
    # A failure is repeated: the validator must not run code of the user's.
    repeats = schema is not None and not runs_user_code(schema)
    return conversion(field) == "str", bound_validator(field) if repeats else None


def shared_default(field: ModelField) -> Slot:
    """``{"default": value}`` when the default needs neither copy, nor call, nor validation."""
    info = field.field_info
    if info.is_required() or info.validate_default or info.default_factory is not None:
        return {}
    default = field.get_default()
    if type(default) in _IMMUTABLE or isinstance(default, Enum):
        return {"default": default}
    return {}


def _validate_as(field: ModelField, loc: tuple[str, ...]) -> _Validate:
    def validate(raw: Any, values: dict[str, Any]) -> tuple[Any, list[Any]]:
        return _validate_value_with_model_field(field=field, value=raw, values=values, loc=loc)

    return validate


def _validate_json_text(field: ModelField, loc: tuple[str, ...]) -> _Validate:
    """For JSON of a sequence: an empty text counts as absent."""
    lookup, alias = lookup_of(field), loc[-1]

    def validate(raw: Any, values: dict[str, Any]) -> tuple[Any, list[Any]]:
        value = lookup.take({alias: raw}, alias) if isinstance(raw, str) else raw
        return _validate_value_with_model_field(field=field, value=value, values=values, loc=loc)

    return validate


def _extract(field: ModelField) -> _Validate:
    def extract(container: Any, values: dict[str, Any]) -> tuple[Any, list[Any]]:
        return read_param(field, container)

    return extract


def _query_model(field: ModelField) -> Slot:
    """How C reads a model of query parameters, if each field has just one name there."""
    lookup, info = lookup_of(field), field.field_info
    validator = _validator(field) if lookup.model is not None else None
    if (
        validator is None
        or not isinstance(info, params.Query)
        or info.annotation is not lookup.model
    ):
        return {}
    members: list[tuple[str, bool]] = []
    for member in members_of(lookup):
        alias = member.aliases[0]
        if (
            len(member.aliases) > 1
            or alias.validation != alias.request
            or member.lookup.is_sequence != member.lookup.as_list
        ):
            return {}
        members.append((alias.request, member.lookup.as_list))
    if len(dict(members)) != len(members):
        return {}
    return {"model": tuple(members), "validator": validator, "loc": (info.in_.value,)}


def _fields(dependant: Dependant) -> Iterator[tuple[str, ModelField]]:
    for source in ("path", "query", "header", "cookie"):
        for field in getattr(dependant, f"{source}_params"):
            yield source, field


def param_slots(
    dependant: Dependant, path_positions: Mapping[str, int] | None = None
) -> list[Slot]:
    """Return the ``params`` of a node.

    ``path_positions`` has the position in the path of each part that is a plain text there.
    """
    positions = path_positions or {}
    return [_param_slot(source, field, positions) for source, field in _fields(dependant)]


def _param_slot(source: str, field: ModelField, positions: Mapping[str, int]) -> Slot:
    lookup = lookup_of(field)
    alias = lookup.aliases[0].request
    slot: Slot = {
        "name": field.name,
        "source": source,
        "alias": alias.lower() if source == "header" else alias,
        "required": field.field_info.is_required(),
    }
    many = lookup.as_list and source in ("query", "header")
    if len(lookup.aliases) > 1 or lookup.model is not None or lookup.as_list:
        slot["extract"] = _extract(field)
        slot.update(_query_model(field))
        if not many or len(lookup.aliases) > 1:
            return slot
        slot["many"] = True
    if source == "path":
        slot["index"] = positions.get(alias)
    loc = (source, alias)
    slot.update(shared_default(field))
    if lookup.is_sequence and not many:
        slot["validate"] = _validate_json_text(field, loc)
        return slot
    slot["conv"] = conversion(field)
    slot["validator"] = _validator(field)
    slot["loc"] = loc
    slot["validate"] = _validate_as(field, loc)
    return slot


def body_slot(
    body_fields: Sequence[ModelField], embed_body_fields: bool, *, is_form: bool = False
) -> Slot | None:
    """Return the ``body`` of a node; None when it takes nothing from the body.

    ``is_form``: the route's body is read as a form, whatever this node declares.
    """
    if not body_fields:
        return None
    fields = list(body_fields)
    first = fields[0]
    is_form = is_form or isinstance(first.field_info, params.Form)
    if is_form or not is_single_body(fields, embed_body_fields):
        at_once = form_reader(fields, embed_body_fields, _quick) if is_form else None

        def extract(body: Any, values: dict[str, Any]) -> Any:
            if at_once is not None and type(body) is FormData:
                return at_once(body)
            return request_body_to_args(fields, body, embed_body_fields)

        return {"extract": extract, "names": _names(fields)}
    return {
        "single": {
            "name": first.name,
            "validator": _validator(first),
            "loc": ("body",),
            "json_validator": _json_validator(first),
            "validate": _validate_as(first, ("body",)),
        }
    }


def _json_validator(field: ModelField) -> Any:
    schema = core_schema_of(field)
    if schema is None or runs_user_code(schema) or not json_mode_is_equal(schema):
        return None
    return bound_validator(field, "validate_json")


def _names(fields: Iterable[ModelField]) -> list[str]:
    return list(dict.fromkeys(field.name for field in fields))
