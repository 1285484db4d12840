"""Fields of models and bodies, under the names of FastAPI's module."""

from collections.abc import Sequence
from copy import copy
from dataclasses import is_dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model
from pydantic import PydanticSchemaGenerationError as PydanticSchemaGenerationError
from pydantic import PydanticUndefinedAnnotation as PydanticUndefinedAnnotation
from pydantic import ValidationError as ValidationError
from pydantic.fields import FieldInfo as FieldInfo
from pydantic_core import Url as Url
from pydantic_core.core_schema import (
    with_info_plain_validator_function as with_info_plain_validator_function,
)

from turboapi import params
from turboapi._compat import shared
from turboapi._compat._field import Loc, attributes_of
from turboapi._compat._field import ModelField as ModelField
from turboapi._compat._field import RequiredParam as RequiredParam
from turboapi._compat._field import Undefined as Undefined
from turboapi._compat._field import _regenerate_error_with_loc as _regenerate_error_with_loc
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
    info = field.field_info
    return not isinstance(info, params.Body) and shared.field_annotation_is_scalar(info.annotation)


def copy_field_info(*, field_info: FieldInfo, annotation: Any) -> FieldInfo:
    """Return a copy of ``field_info`` with all that the metadata of ``annotation`` says merged into
    it.
    """
    merged: Any = type(field_info).from_annotation(annotation)
    result = copy(field_info)
    for name, value in attributes_of(merged).items():
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


def get_missing_field_error(loc: Loc) -> dict[str, Any]:
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
