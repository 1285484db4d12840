"""`ModelField`: a parameter, body or response with its pydantic validator."""

import warnings
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import SimpleNamespace
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints
from uuid import UUID

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic import PydanticSchemaGenerationError as PydanticSchemaGenerationError
from pydantic import PydanticUndefinedAnnotation as PydanticUndefinedAnnotation
from pydantic import ValidationError as ValidationError
from pydantic.fields import FieldInfo as FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_core import Url as Url
from pydantic_core.core_schema import (
    with_info_plain_validator_function as with_info_plain_validator_function,
)

from turboapi._compat import shared
from turboapi._compat._schema import GenerateJsonSchema as GenerateJsonSchema
from turboapi._compat._schema import get_definitions as get_definitions
from turboapi._compat._schema import (
    get_flat_models_from_annotation as get_flat_models_from_annotation,
)
from turboapi._compat._schema import get_flat_models_from_field as get_flat_models_from_field
from turboapi._compat._schema import get_flat_models_from_fields as get_flat_models_from_fields
from turboapi._compat._schema import get_flat_models_from_model as get_flat_models_from_model
from turboapi._compat._schema import get_model_name_map as get_model_name_map
from turboapi._compat._schema import get_schema_from_model_field as get_schema_from_model_field
from turboapi._compat.shared import lenient_issubclass
from turboapi.types import IncEx

RequiredParam = PydanticUndefined
Undefined = PydanticUndefined

_Loc = tuple[int | str, ...]

# What a FieldInfo passes on when its type is built anew; older pydantic lacks some of these.
_ATTRIBUTES = (
    "default",
    "default_factory",
    "alias",
    "alias_priority",
    "validation_alias",
    "serialization_alias",
    "title",
    "field_title_generator",
    "description",
    "examples",
    "exclude",
    "exclude_if",
    "discriminator",
    "deprecated",
    "json_schema_extra",
    "frozen",
    "validate_default",
    "repr",
    "init",
    "init_var",
    "kw_only",
)


def _attributes(field_info: FieldInfo) -> dict[str, Any]:
    found = ((name, getattr(field_info, name, Undefined)) for name in _ATTRIBUTES)
    return {name: value for name, value in found if value is not Undefined}


def _make_adapter(field_info: FieldInfo, config: ConfigDict | None) -> TypeAdapter[Any]:
    with warnings.catch_warnings():
        # pydantic 2.12 warns of attributes that mean nothing outside of a model, such as alias.
        if shared.PYDANTIC_VERSION_MINOR_TUPLE >= (2, 12):
            from pydantic.warnings import UnsupportedFieldAttributeWarning

            warnings.simplefilter("ignore", category=UnsupportedFieldAttributeWarning)
        annotated = (
            field_info.annotation,
            *field_info.metadata,
            Field(**_attributes(field_info)),
        )
        return TypeAdapter(cast("Any", Annotated[annotated]), config=config)


# Building an adapter is most of the cost of a route, and many fields need the same one:
# `limit: int = 10`, or a model that is the response of many routes.  Only what is known to
# describe the adapter wholly is shared: these types and complete models, these constraints, and
# attributes that are plain values.
_SHARED_TYPES = frozenset(
    {str, int, float, bool, bytes, UUID, Decimal, date, datetime, time, timedelta, type(None)}
)
_SHARED_CONSTRAINTS = frozenset(
    {
        annotated_types.Gt,
        annotated_types.Ge,
        annotated_types.Lt,
        annotated_types.Le,
        annotated_types.MultipleOf,
        annotated_types.MinLen,
        annotated_types.MaxLen,
    }
)
_PLAIN = frozenset({str, int, float, bool, type(None)})


class _AdapterKey:
    """Compares by what an adapter depends on, and carries what it is made from."""

    __slots__ = ("field_info", "key")

    def __init__(self, field_info: FieldInfo, key: tuple[Any, ...]) -> None:
        self.field_info = field_info
        self.key = key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _AdapterKey) and self.key == other.key


def _is_shared_type(annotation: Any) -> bool:
    if not isinstance(annotation, type):
        return False
    return annotation in _SHARED_TYPES or (
        issubclass(annotation, BaseModel) and annotation.__pydantic_complete__
    )


def _adapter_key(info: FieldInfo) -> _AdapterKey | None:
    # The order of a union's members matters, as it may decide.  A model that is rebuilt gets
    # another validator, which tells whether an adapter is still right.
    union = shared.is_union(info.annotation)
    types = get_args(info.annotation) if union else (info.annotation,)
    if not all(map(_is_shared_type, types)):
        return None
    if not all(type(item) in _SHARED_CONSTRAINTS for item in info.metadata):
        return None
    attributes: list[object] = []
    for name in _ATTRIBUTES:
        value = getattr(info, name, None)
        if value is None or value is Undefined:
            # A default of None is not the same as no default.
            attributes.append(value is None)
        elif type(value) in _PLAIN:
            attributes.append(repr(value))
        else:
            return None
    validators = [getattr(kind, "__pydantic_validator__", None) for kind in types]
    return _AdapterKey(info, (types, *validators, repr(info.metadata), *attributes))


@lru_cache(maxsize=2048)
def _shared_adapter(key: _AdapterKey) -> TypeAdapter[Any]:
    return _make_adapter(key.field_info, None)


def _adapter(field_info: FieldInfo, config: ConfigDict | None) -> TypeAdapter[Any]:
    key = _adapter_key(field_info) if config is None else None
    return _make_adapter(field_info, config) if key is None else _shared_adapter(key)


@dataclass(eq=False)
class ModelField:
    """A named value with its type; equal only to itself.

    Raises PydanticSchemaGenerationError when the annotation is no type for pydantic.
    """

    field_info: FieldInfo
    name: str
    mode: Literal["validation", "serialization"] = "validation"
    config: ConfigDict | None = None
    _type_adapter: TypeAdapter[Any] = field(init=False, repr=False)
    # What turboapi.dependencies._extract found out about it, when it first needed that.
    _lookup: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._type_adapter = _adapter(self.field_info, self.config)

    @property
    def alias(self) -> str:
        alias = self.field_info.alias
        return self.name if alias is None else alias

    @property
    def validation_alias(self) -> str | None:
        alias = self.field_info.validation_alias
        return alias if isinstance(alias, str) and alias else None

    @property
    def serialization_alias(self) -> str | None:
        return self.field_info.serialization_alias or None

    @property
    def default(self) -> Any:
        return self.get_default()

    def get_default(self) -> Any:
        """Return the default, or what its factory makes; Undefined when there is none."""
        if self.field_info.is_required():
            return Undefined
        return self.field_info.get_default(call_default_factory=True)

    def validate(
        self,
        value: Any,
        values: dict[str, Any] | None = None,
        *,
        loc: _Loc = (),
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Return the validated value and no errors, or None and errors located below ``loc``."""
        try:
            return self._type_adapter.validator.validate_python(value, from_attributes=True), []
        except ValidationError as exc:
            return None, _regenerate_error_with_loc(
                errors=exc.errors(include_url=False), loc_prefix=loc
            )

    def serialize(
        self,
        value: Any,
        *,
        mode: Literal["json", "python"] = "json",
        include: IncEx | None = None,
        exclude: IncEx | None = None,
        by_alias: bool = True,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
    ) -> Any:
        """Return a validated value as plain data."""
        return self._type_adapter.dump_python(
            value,
            mode=mode,
            include=include,
            exclude=exclude,
            by_alias=by_alias,
            exclude_unset=exclude_unset,
            exclude_defaults=exclude_defaults,
            exclude_none=exclude_none,
        )

    def serialize_json(
        self,
        value: Any,
        *,
        include: IncEx | None = None,
        exclude: IncEx | None = None,
        by_alias: bool = True,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
    ) -> bytes:
        """Return a validated value as JSON, in one step."""
        return self._type_adapter.dump_json(
            value,
            include=include,
            exclude=exclude,
            by_alias=by_alias,
            exclude_unset=exclude_unset,
            exclude_defaults=exclude_defaults,
            exclude_none=exclude_none,
        )


def evaluate_forwardref(
    value: Any,
    globalns: dict[str, Any] | None = None,
    localns: dict[str, Any] | None = None,
) -> Any:
    """Return what a string annotation names; the value itself when a name is not (yet) defined."""
    holder = SimpleNamespace(__annotations__={"value": value})
    try:
        return get_type_hints(holder, globalns, localns, include_extras=True)["value"]
    except NameError:
        return value


def is_scalar_field(field: ModelField) -> bool:
    from turboapi import params

    info = field.field_info
    return not isinstance(info, params.Body) and shared.field_annotation_is_scalar(info.annotation)


def copy_field_info(*, field_info: FieldInfo, annotation: Any) -> FieldInfo:
    """Return a copy of ``field_info`` with all that the metadata of ``annotation`` says merged into
    it.
    """
    merged: Any = type(field_info).from_annotation(annotation)
    result = copy(field_info)
    for name, value in _attributes(merged).items():
        setattr(result, name, value)
    result._attributes_set = merged._attributes_set.copy()
    result.metadata = merged.metadata
    result.annotation = merged.annotation
    return result


def serialize_sequence_value(*, field: ModelField, value: Any) -> Sequence[Any]:
    """``value`` as the kind of sequence that the annotation asks for."""
    annotation = field.field_info.annotation
    if shared.is_union(annotation):
        annotation = next(arg for arg in get_args(annotation) if arg is not type(None))
    kind = get_origin(annotation) or annotation
    assert issubclass(kind, shared.sequence_types)  # type: ignore[arg-type]
    return cast("Sequence[Any]", shared.sequence_annotation_to_type[kind](value))


def get_missing_field_error(loc: _Loc) -> dict[str, Any]:
    """Return the error of a required value that is absent."""
    return {"type": "missing", "loc": loc, "msg": "Field required", "input": None}


def create_body_model(
    *, fields: Sequence[ModelField], model_name: str, config: ConfigDict | None = None
) -> type[BaseModel]:
    members: dict[str, Any] = {f.name: (f.field_info.annotation, f.field_info) for f in fields}
    return create_model(model_name, __config__=config, **members)


def get_model_fields(model: type[BaseModel]) -> list[ModelField]:
    return [
        ModelField(
            field_info=info,
            name=name,
            config=None if _has_own_config(info.annotation) else model.model_config,
        )
        for name, info in model.model_fields.items()
    ]


def _has_own_config(annotation: Any) -> bool:
    return lenient_issubclass(annotation, (BaseModel, dict)) or is_dataclass(annotation)


@lru_cache(maxsize=512)
def get_cached_model_fields(model: type[BaseModel]) -> list[ModelField]:
    return get_model_fields(model)


def _regenerate_error_with_loc(*, errors: Sequence[Any], loc_prefix: _Loc) -> list[dict[str, Any]]:
    return [{**error, "loc": loc_prefix + error.get("loc", ())} for error in errors]
