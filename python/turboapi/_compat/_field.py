"""`ModelField`: a parameter, body or response with its pydantic validator."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal, cast, get_args
from uuid import UUID

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from turboapi._compat import shared
from turboapi.types import IncEx

RequiredParam = PydanticUndefined
Undefined = PydanticUndefined

Loc = tuple[int | str, ...]

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


def attributes_of(field_info: FieldInfo) -> dict[str, Any]:
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
            Field(**attributes_of(field_info)),
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
        loc: Loc = (),
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


def _regenerate_error_with_loc(*, errors: Sequence[Any], loc_prefix: Loc) -> list[dict[str, Any]]:
    return [{**error, "loc": loc_prefix + error.get("loc", ())} for error in errors]
