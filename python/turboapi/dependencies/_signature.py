"""The signature of a callable with its annotations evaluated."""

import inspect
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from typing import Any, ForwardRef, get_args, get_origin

from turboapi._compat import evaluate_forwardref

_STREAM_ORIGINS = frozenset(
    {AsyncIterable, AsyncIterator, AsyncGenerator, Iterable, Iterator, Generator}
)


def _signature(call: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(call, eval_str=True)
    except NameError:
        # A name that only type checkers see; it may be one that nobody asks for.
        if sys.version_info >= (3, 14):
            from annotationlib import Format

            return inspect.signature(call, annotation_format=Format.FORWARDREF)
        return inspect.signature(call)


def _globals_of(call: Callable[..., Any]) -> dict[str, Any]:
    return getattr(inspect.unwrap(call), "__globals__", {})


def get_typed_annotation(annotation: Any, globalns: dict[str, Any]) -> Any:
    """Return the annotation, evaluated if it is a string; None for the type of None."""
    if not isinstance(annotation, str):
        return annotation
    value = evaluate_forwardref(ForwardRef(annotation), globalns, globalns)
    return None if value is type(None) else value


def get_typed_signature(call: Callable[..., Any]) -> inspect.Signature:
    """Return the parameters of ``call``, annotations evaluated where their names are known."""
    parameters = list(_signature(call).parameters.values())
    if any(isinstance(parameter.annotation, str) for parameter in parameters):
        globalns = _globals_of(call)
        parameters = [
            parameter.replace(annotation=get_typed_annotation(parameter.annotation, globalns))
            for parameter in parameters
        ]
    return inspect.Signature(parameters)


def get_typed_return_annotation(call: Callable[..., Any]) -> Any:
    """Return the evaluated return annotation; None when there is none."""
    annotation = _signature(call).return_annotation
    if annotation is inspect.Signature.empty:
        return None
    return get_typed_annotation(annotation, _globals_of(call))


def get_stream_item_type(annotation: Any) -> Any | None:
    """Return what an iterable, iterator or generator type gives; None for any other type."""
    if get_origin(annotation) not in _STREAM_ORIGINS:
        return None
    args = get_args(annotation)
    return args[0] if args else Any
