"""Whether a function is the one that its module defines: instrumentation puts others there."""

from types import FunctionType
from typing import Any


def is_from(function: Any, module: Any) -> bool:
    """Return whether it is a function of that module's file, and not something round it.

    Wrappers are objects of other types, whatever they say of themselves (`__class__`, `__code__`
    and `__wrapped__` of wrapt's are those of what is wrapped), or functions of other files.
    """
    function = getattr(function, "__func__", function)
    return type(function) is FunctionType and function.__code__.co_filename == module.__file__
