"""Questions about annotations: scalar, sequence, bytes, upload; through unions and Annotated."""

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from types import UnionType
from typing import Annotated, Any, TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.version import VERSION as PYDANTIC_VERSION
from starlette.datastructures import UploadFile

_T = TypeVar("_T")

PYDANTIC_VERSION_MINOR_TUPLE = tuple(int(part) for part in PYDANTIC_VERSION.split(".")[:2])

sequence_annotation_to_type: dict[Any, Callable[..., Any]] = {
    Sequence: list,
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    deque: deque,
}
sequence_types: tuple[type[Any], ...] = tuple(sequence_annotation_to_type)


def lenient_issubclass(
    cls: Any, class_or_tuple: type[_T] | tuple[type[_T], ...] | None
) -> TypeGuard[type[_T]]:
    """``issubclass`` that is false for what is not a class, such as ``list[int]``."""
    return isinstance(cls, type) and issubclass(cls, class_or_tuple)  # type: ignore[arg-type]


def is_union(annotation: object) -> bool:
    origin = get_origin(annotation)
    return origin is Union or origin is UnionType


def _is_sequence_class(annotation: object) -> bool:
    return lenient_issubclass(annotation, sequence_types) and not issubclass(
        annotation, (str, bytes)
    )


def field_annotation_is_sequence(annotation: object) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return field_annotation_is_sequence(get_args(annotation)[0])
    if is_union(annotation):
        return any(map(field_annotation_is_sequence, get_args(annotation)))
    return _is_sequence_class(annotation) or _is_sequence_class(origin)


def value_is_sequence(value: Any) -> bool:
    return isinstance(value, sequence_types) and not isinstance(value, (str, bytes))


def _is_complex_class(annotation: object) -> bool:
    return (
        lenient_issubclass(annotation, (BaseModel, Mapping, UploadFile))
        or _is_sequence_class(annotation)
        or is_dataclass(annotation)
    )


def field_annotation_is_complex(annotation: object) -> bool:
    origin = get_origin(annotation)
    if is_union(annotation):
        return any(map(field_annotation_is_complex, get_args(annotation)))
    if origin is Annotated:
        return field_annotation_is_complex(get_args(annotation)[0])
    return (
        _is_complex_class(annotation)
        or _is_complex_class(origin)
        or hasattr(origin, "__pydantic_core_schema__")
        or hasattr(origin, "__get_pydantic_core_schema__")
    )


def field_annotation_is_scalar(annotation: Any) -> bool:
    # The Ellipsis of tuple[int, ...] is asked about too.
    return annotation is Ellipsis or not field_annotation_is_complex(annotation)


def field_annotation_is_scalar_sequence(annotation: object) -> bool:
    if get_origin(annotation) is Annotated:
        return field_annotation_is_scalar_sequence(get_args(annotation)[0])
    args = get_args(annotation)
    if is_union(annotation):
        sequences = [arg for arg in args if field_annotation_is_scalar_sequence(arg)]
        return bool(sequences) and all(
            field_annotation_is_scalar(arg) for arg in args if arg not in sequences
        )
    return field_annotation_is_sequence(annotation) and all(map(field_annotation_is_scalar, args))


def _is_or_none(annotation: Any, kind: type[Any]) -> bool:
    """``kind``, or a union that has it."""
    return lenient_issubclass(annotation, kind) or (
        is_union(annotation) and any(lenient_issubclass(a, kind) for a in get_args(annotation))
    )


def _is_sequence_of(annotation: Any, kind: type[Any]) -> bool:
    """Return whether it is a sequence of ``kind`` (or with no item type), or a union with one."""
    args = get_args(annotation)
    if is_union(annotation):
        return any(_is_sequence_of(arg, kind) for arg in args)
    return field_annotation_is_sequence(annotation) and all(_is_or_none(a, kind) for a in args)


def is_bytes_or_nonable_bytes_annotation(annotation: Any) -> bool:
    return _is_or_none(annotation, bytes)


def is_uploadfile_or_nonable_uploadfile_annotation(annotation: Any) -> bool:
    return _is_or_none(annotation, UploadFile)


def is_bytes_sequence_annotation(annotation: Any) -> bool:
    return _is_sequence_of(annotation, bytes)


def is_uploadfile_sequence_annotation(annotation: Any) -> bool:
    return _is_sequence_of(annotation, UploadFile)


def _v1_base_model() -> type[Any] | None:
    # Without an import of pydantic.v1 nobody can have a model of it; importing it would be slow.
    module = sys.modules.get("pydantic.v1")
    return getattr(module, "BaseModel", None)


def is_pydantic_v1_model_instance(obj: Any) -> bool:
    base = _v1_base_model()
    return base is not None and isinstance(obj, base)


def is_pydantic_v1_model_class(cls: Any) -> bool:
    base = _v1_base_model()
    return base is not None and lenient_issubclass(cls, base)


def annotation_is_pydantic_v1(annotation: Any) -> bool:
    """Return a model of ``pydantic.v1``, a union that has one, or a sequence of either."""
    if _v1_base_model() is None:
        return False
    if is_pydantic_v1_model_class(annotation):
        return True
    args = get_args(annotation)
    if is_union(annotation) and any(map(is_pydantic_v1_model_class, args)):
        return True
    return field_annotation_is_sequence(annotation) and any(map(annotation_is_pydantic_v1, args))
