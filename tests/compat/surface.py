"""A module's public names as data: signatures, class members, fields."""

import enum
import inspect
import types
from typing import Any

# Modules that exist to give names to things which are defined elsewhere.
GATHERING = (
    "",
    "concurrency",
    "middleware",
    "middleware.cors",
    "middleware.gzip",
    "middleware.httpsredirect",
    "middleware.trustedhost",
    "middleware.wsgi",
    "requests",
    "responses",
    "routing",
    "security",
    "staticfiles",
    "telemetry",
    "templating",
    "testclient",
    "websockets",
)


def public_names(module: types.ModuleType, package: str) -> list[str]:
    """Return the names that a module means to offer: defined there, or gathered there."""
    short = module.__name__.removeprefix(package).removeprefix(".")
    names = []
    for name, value in vars(module).items():
        if name.startswith("_") or isinstance(value, types.ModuleType) or not callable(value):
            continue
        origin = str(getattr(value, "__module__", ""))
        gathered = short in GATHERING and origin.partition(".")[0] in (package, "starlette")
        if origin == module.__name__ or gathered:
            names.append(name)
    return sorted(names)


def describe(value: Any, package: str) -> dict[str, Any]:
    """Return what can be seen of a class or function; for those of other packages just their name."""
    origin = str(getattr(value, "__module__", ""))
    if origin.partition(".")[0] != package:
        return {"of": origin.partition(".")[0]}
    if not isinstance(value, type):
        return {"parameters": parameters(value)}
    if issubclass(value, enum.Enum):
        return {"members": sorted(value.__members__)}
    if hasattr(value, "__total__"):
        return {"keys": sorted(value.__annotations__)}
    return _describe_class(value, package)


def _describe_class(cls: type, package: str) -> dict[str, Any]:
    members: dict[str, Any] = {}
    fields = getattr(cls, "model_fields", None)
    if isinstance(fields, dict):
        return {"fields": {name: default_text(field.default) for name, field in fields.items()}}
    for name in sorted(dir(cls)):
        if name.startswith("_"):
            continue
        value = inspect.getattr_static(cls, name)
        defined = next((base for base in cls.__mro__ if name in vars(base)), cls)
        if defined.__module__.partition(".")[0] != package:
            continue
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        if isinstance(value, types.FunctionType):
            members[name] = parameters(value)
    described: dict[str, Any] = {"members": members}
    init = inspect.getattr_static(cls, "__init__", None)
    if isinstance(init, types.FunctionType):
        described["init"] = parameters(init)
    return described


def parameters(function: Any) -> list[list[str]] | None:
    """Name, kind and default of each parameter; None when there is no signature."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    return [
        [each.name, each.kind.name, default_text(each.default)]
        for each in signature.parameters.values()
        if not each.name.startswith("_")
    ]


def default_text(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "-"
    if type(default).__name__ == "DefaultPlaceholder":
        return f"Default({default_text(default.value)})"
    if isinstance(default, (types.FunctionType, type)):
        return default.__qualname__
    text = repr(default)
    return type(default).__name__ if " at 0x" in text or " object" in text else text
