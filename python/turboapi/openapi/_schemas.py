"""The schemas of an application's fields, made once for a whole document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from turboapi._compat import (
    ModelField,
    get_definitions,
    get_flat_models_from_fields,
    get_model_name_map,
    get_schema_from_model_field,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turboapi.types import ModelNameMap

FieldMapping: TypeAlias = dict[
    tuple[ModelField, Literal["validation", "serialization"]], dict[str, Any]
]


@dataclass(frozen=True)
class Schemas:
    """Looks up what pydantic generated.

    Attributes:
        names: the key under `components.schemas` of each model and enumeration.
        by_field: the schema of each field in each mode.
        separate: whether a model that differs as input and as output has two schemas.
    """

    names: ModelNameMap
    by_field: FieldMapping
    separate: bool = True

    @classmethod
    def generate(
        cls, fields: Sequence[ModelField], separate: bool
    ) -> tuple[Schemas, dict[str, dict[str, Any]]]:
        """Make the schemas of `fields`, and the definitions that they refer to."""
        names = get_model_name_map(get_flat_models_from_fields(fields, known_models=set()))
        by_field, definitions = get_definitions(
            fields=fields, model_name_map=names, separate_input_output_schemas=separate
        )
        return cls(names, by_field, separate), definitions

    def of(self, field: ModelField, alias: str | None = None) -> dict[str, Any]:
        """Return the schema of a field; `alias` is what its title is made of."""
        return get_schema_from_model_field(
            field=field,
            model_name_map=self.names,
            field_mapping=self.by_field,
            separate_input_output_schemas=self.separate,
            field_alias=alias,
        )
