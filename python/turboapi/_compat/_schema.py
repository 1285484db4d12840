"""The JSON schemas of fields, for OpenAPI."""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema as _GenerateJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core.core_schema import BytesSchema

from turboapi._compat._field import ModelField
from turboapi._compat.shared import lenient_issubclass
from turboapi.types import ModelNameMap

_Mode = Literal["validation", "serialization"]
_FieldSchemas = dict[tuple[ModelField, _Mode], JsonSchemaValue]
TypeModelOrEnum = type[BaseModel] | type[Enum]
TypeModelSet = set[TypeModelOrEnum]

REF_TEMPLATE = "#/components/schemas/{model}"


class GenerateJsonSchema(_GenerateJsonSchema):
    """pydantic's generator with OpenAPI 3.1's form of binary strings."""

    def bytes_schema(self, schema: BytesSchema) -> JsonSchemaValue:
        result = {"type": "string", "contentMediaType": "application/octet-stream"}
        config = self._config
        dumping = self.mode == "serialization"
        if (config.ser_json_bytes if dumping else config.val_json_bytes) == "base64":
            result["contentEncoding"] = "base64"
        self.update_with_validations(result, schema, self.ValidationsMapping.bytes)
        return result


def _has_computed_fields(field: ModelField) -> bool:
    # The core schema also tells of dataclasses, which are no models.
    inner = field._type_adapter.core_schema.get("schema", {})
    if inner.get("computed_fields", []):
        return True
    return _annotation_has_computed_fields(field.field_info.annotation, known_models=set())


def _annotation_has_computed_fields(annotation: Any, *, known_models: set[type[BaseModel]]) -> bool:
    if not lenient_issubclass(annotation, BaseModel):
        parts: Any = get_args(annotation)
    elif annotation in known_models:
        return False
    elif annotation.model_computed_fields:
        return True
    else:
        known_models.add(annotation)
        parts = [info.annotation for info in annotation.model_fields.values()]
    return any(_annotation_has_computed_fields(p, known_models=known_models) for p in parts)


def _schema_mode(field: ModelField, separate_input_output_schemas: bool) -> _Mode:
    if separate_input_output_schemas or _has_computed_fields(field):
        return field.mode
    return "validation"


def get_schema_from_model_field(
    *,
    field: ModelField,
    model_name_map: ModelNameMap,
    field_mapping: _FieldSchemas,
    separate_input_output_schemas: bool = True,
    field_alias: str | None = None,
) -> dict[str, Any]:
    """Return the schema of ``field`` out of `get_definitions`, with a title unless it is a
    reference.
    """
    schema = field_mapping[field, _schema_mode(field, separate_input_output_schemas)].copy()
    if "$ref" not in schema:
        if field_alias is None:
            validating = field.mode == "validation"
            alias = field.validation_alias if validating else field.serialization_alias
            field_alias = alias or field.alias
        schema["title"] = field.field_info.title or field_alias.title().replace("_", " ")
    return schema


def get_definitions(
    *,
    fields: Sequence[ModelField],
    model_name_map: ModelNameMap,
    separate_input_output_schemas: bool = True,
) -> tuple[_FieldSchemas, dict[str, dict[str, Any]]]:
    """Return the schemas of all fields, and those of the models that they refer to."""
    declared = {field.field_info.annotation for field in fields}
    modes: tuple[_Mode, _Mode] = ("validation", "serialization")
    # Models inside of others get a schema of their own too.
    nested = [
        ModelField(field_info=FieldInfo(annotation=model), name=model.__name__, mode=mode)
        for mode in modes
        for model in get_flat_models_from_fields(
            [field for field in fields if field.mode == mode], known_models=set()
        )
        if model not in declared
    ]
    generator = GenerateJsonSchema(ref_template=REF_TEMPLATE)
    schemas, definitions = generator.generate_definitions(
        [
            (
                field,
                _schema_mode(field, separate_input_output_schemas),
                field._type_adapter.core_schema,
            )
            for field in [*fields, *nested]
        ]
    )
    for definition in definitions.values():
        # A form feed in a docstring hides what follows from the documentation.
        if "description" in definition:
            definition["description"] = definition["description"].split("\f")[0]
    return schemas, definitions  # type: ignore[return-value]


def normalize_name(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9.\-_]", "_", name)


def get_model_name_map(unique_models: TypeModelSet) -> ModelNameMap:
    by_name = {normalize_name(model.__name__): model for model in unique_models}
    return {model: name for name, model in by_name.items()}


def get_flat_models_from_model(
    model: type[BaseModel], known_models: TypeModelSet | None = None
) -> TypeModelSet:
    known_models = known_models or set()
    for info in model.model_fields.values():
        _add_models(info.annotation, known_models)
    return known_models


def get_flat_models_from_annotation(annotation: Any, known_models: TypeModelSet) -> TypeModelSet:
    """Models and enums among the arguments of a generic, and inside of those models."""
    if get_origin(annotation) is not None:
        for arg in get_args(annotation):
            _add_models(arg, known_models)
    return known_models


def _add_models(annotation: Any, known_models: TypeModelSet) -> None:
    if not lenient_issubclass(annotation, (BaseModel, Enum)):
        get_flat_models_from_annotation(annotation, known_models)
    elif annotation not in known_models:
        known_models.add(annotation)  # type: ignore[arg-type]
        if lenient_issubclass(annotation, BaseModel):
            get_flat_models_from_model(annotation, known_models)


def get_flat_models_from_field(field: ModelField, known_models: TypeModelSet) -> TypeModelSet:
    _add_models(field.field_info.annotation, known_models)
    return known_models


def get_flat_models_from_fields(
    fields: Sequence[ModelField], known_models: TypeModelSet
) -> TypeModelSet:
    """Return all models and enums that ``fields`` use, added to ``known_models``, which is
    returned.
    """
    for field in fields:
        get_flat_models_from_field(field, known_models)
    return known_models
