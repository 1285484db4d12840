"""What tests of shapes share: C against FastAPI's `serialize_response`."""

import enum
import warnings
from typing import Any

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from turboapi import _core
from turboapi._compat import ModelField
from turboapi._compile.plan import dump_shape


class Color(enum.Enum):
    RED = "red"
    ONE = 1


class Level(enum.StrEnum):
    LOW = "low"
    HIGH = "high"


class Part(BaseModel):
    x: int
    label: str = Field("none", max_length=6)


class Thing:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def field_for(type_: Any) -> ModelField:
    return ModelField(field_info=FieldInfo.from_annotation(type_), name="response")


def expected_of(field: ModelField, value: Any, **options: Any) -> bytes | None:
    """FastAPI's way; None when it raises, or pydantic warns: then C must not decide."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checked, errors = field.validate(value, {}, loc=("response",))
        if errors:
            return None
        content = field.serialize_json(checked, **options)
    return None if caught else content


def shape_for(type_: Any, **options: Any) -> _core.Shape:
    shape = dump_shape(field_for(type_), {"by_alias": True, **options})
    assert shape is not None
    return shape


def same(type_: Any, value: Any, **options: Any) -> None:
    """C writes it, as pydantic does."""
    found = shape_for(type_, **options).encode(value)
    assert found is not None
    assert found == expected_of(field_for(type_), value, **options)


def declines(type_: Any, value: Any, **options: Any) -> None:
    assert shape_for(type_, **options).encode(value) is None
