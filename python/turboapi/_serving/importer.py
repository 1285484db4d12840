"""Finding and importing the application that the server is to serve.

What names an application: `package.module:attribute`, `package.module`, `path/to/file.py`,
`path/to/file.py:attribute`, or nothing (a file of a usual name, or pyproject.toml).
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.machinery
import inspect
import logging
import os
import pkgutil
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from turboapi._fastapi_bridge import is_fastapi
from turboapi._own import is_own
from turboapi._serving import process
from turboapi._serving.settings import ConfigError
from turboapi.config import ENV_PREFIX, settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

    from turboapi.config import Config

_logger = logging.getLogger("turboapi.server")

# Where an application is looked for when none is named.
USUAL_FILES = ("main.py", "app.py", "api.py", "app/main.py", "app/app.py", "app/api.py")
USUAL_ATTRIBUTES = ("app", "api", "application")
USUAL_FACTORIES = ("create_app", "make_app", "get_app")


class AppError(Exception):
    """The application can't be found or made; the message is for the user, hints included."""


@dataclass(frozen=True)
class Location:
    """Where an application is.

    Attributes:
        module: to import.
        attribute: of the module, dots allowed; None: look for one.
        folder: to put first on `sys.path`.
        found_as: how it was found, in words (behind "Found as").
    """

    module: str
    attribute: str | None
    folder: Path
    found_as: str = "given"

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}" if self.attribute else self.module


def locate(name: str | None, app_dir: str | None = None) -> Location:
    """Find out what `name` means; nothing is imported.

    Raises:
        AppError: there is no such file, or nothing usual is there.
    """
    base = Path(app_dir or ".")
    if not base.is_dir():
        raise ConfigError("app_dir", f"there is no folder {app_dir}")
    base = base.resolve()
    if name is None:
        return _locate_usual(base)
    target, separator, attribute = name.rpartition(":")
    if not separator:
        target, attribute = name, ""
    if not target or (separator and not attribute):
        raise AppError(f"{name!r} does not name an application. Write 'package.module:attribute'.")
    if ":" in target:
        raise AppError(
            f"{name!r} has more than one colon. Write 'package.module:attribute'; "
            "an attribute of an attribute follows behind a dot."
        )
    if _looks_like_path(target, base):
        return _locate_path(base / target, attribute or None)
    if "." in target and (base / target).is_file():
        return _locate_path(base / target, attribute or None)
    return Location(target, attribute or None, base)


def _looks_like_path(target: str, base: Path) -> bool:
    if target.endswith(".py") or os.sep in target:
        return True
    return "." not in target and (base / target).is_dir()


def _locate_usual(base: Path) -> Location:
    if entry := _entry_of_pyproject(base):
        found = locate(entry, str(base))
        return replace(found, found_as=f"the entrypoint in {base / 'pyproject.toml'}")
    for usual in USUAL_FILES:
        if (base / usual).is_file():
            found = _locate_path(base / usual, None)
            return replace(found, found_as=f"{usual}, one of the usual files")
    raise AppError(
        "No application was named, and there is none of the usual files "
        f"({', '.join(USUAL_FILES)}) in {base}. Name it: turboapi run package.module:attribute"
    )


def _entry_of_pyproject(base: Path) -> str | None:
    """`entrypoint` of [tool.turboapi] or [tool.fastapi]."""
    path = base / "pyproject.toml"
    tools = _tools_of_pyproject(path)
    for tool in ("turboapi", "fastapi"):
        entry = _section(path, tools, tool).get("entrypoint")
        if entry is None:
            continue
        if not isinstance(entry, str) or ":" not in entry:
            raise AppError(
                f"{path}: entrypoint of [tool.{tool}] must be 'package.module:attribute', "
                f"not {entry!r}"
            )
        return entry
    return None


def _tools_of_pyproject(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tools: dict[str, Any] = tomllib.loads(path.read_text("utf-8")).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AppError(f"{path} can't be read: {error}") from error
    return tools


def _section(path: Path, tools: dict[str, Any], tool: str) -> dict[str, Any]:
    section = tools.get(tool, {})
    if not isinstance(section, dict):
        raise AppError(f"{path}: tool.{tool} must be a table, not {section!r}")
    return cast("dict[str, Any]", section)


def strange_keys(app_dir: str | None) -> Iterator[str]:
    """Yield what to say of keys of [tool.turboapi] that nobody reads."""
    path = Path(app_dir or ".").resolve() / "pyproject.toml"
    try:
        keys = _section(path, _tools_of_pyproject(path), "turboapi").keys() - {"entrypoint"}
    except (AppError, OSError):
        return  # an error where it is needed, to find the application
    for key in sorted(keys):
        name = key.replace("-", "_").lower()
        hint = "only entrypoint is"
        one = settings().get(name)
        if one is not None and one.command_line:
            hint += f"; set {ENV_PREFIX}{name.upper()}, or give --{name.replace('_', '-')}"
        elif name == "app" or _similar(name, ["entrypoint"]):
            hint = "did you mean entrypoint?"
        yield f"{path}: {key} of [tool.turboapi] is not read: {hint}"


def _locate_path(path: Path, attribute: str | None) -> Location:
    """Return a file or package: its dotted name, seen from the first folder that is no package."""
    if not path.exists():
        near = _similar(path.name, (p.name for p in _children(path.parent)))
        raise AppError(f"There is no file {path}.{_did_you_mean(near)}")
    path = path.resolve()
    if path.is_file() and not path.name.endswith(tuple(importlib.machinery.all_suffixes())):
        raise AppError(f"{path} is a file, but not of Python: its name must end in .py.")
    if path.is_dir() and not (path / "__init__.py").is_file():
        raise AppError(f"{path} is a folder without __init__.py: name the file in it.")
    if path.name == "__init__.py":
        path = path.parent
    names = [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    return Location(".".join(names), attribute, folder)


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def load(config: Config) -> Any:
    """Import the application that a configuration names; call it if it is a factory.

    Raises:
        AppError: it can't be found, or the factory failed.
        Exception: whatever the modules of the application raise when they are imported.
    """
    location = locate(config.app, config.app_dir)
    if str(location.folder) not in sys.path:
        sys.path.insert(0, str(location.folder))
    module = _import(location)
    if location.attribute is None:
        found = _search(module, factory=config.factory)
    else:
        found = _attribute(module, location.attribute)
    return make(found, str(location), factory=config.factory, interface=config.interface)


def _import(location: Location) -> ModuleType:
    try:
        return importlib.import_module(location.module)
    except ModuleNotFoundError as error:
        # A module that the application itself imports is another matter: its traceback tells.
        missing = error.name or ""
        if location.module != missing and not location.module.startswith(missing + "."):
            raise
        raise AppError(_no_module(location, missing)) from None
    except SystemExit as error:
        process.check_stopped()  # a signal to stop raises it, too
        raise AppError(
            f"{location.module} called sys.exit({error.code!r}) when it was imported."
        ) from error


def _no_module(location: Location, missing: str) -> str:
    parent, _, last = missing.rpartition(".")
    if parent:
        module = sys.modules.get(parent)
        rest = location.module[len(parent) + 1 :]
        if location.attribute is None and _has(module, rest):
            return f"There is no module '{missing}'. Did you mean '{parent}:{rest}'?"
        search = list(getattr(module, "__path__", []))
        where = f"package '{parent}'"
    else:
        search = [str(location.folder)]
        where = str(location.folder)
    names = [found.name for found in pkgutil.iter_modules(search)]
    prefix = parent + "." if parent else ""
    near = [prefix + name for name in _similar(last, names)]
    hint = _did_you_mean(near)
    if not hint and not parent:
        hint = " Is it in another folder? --app-dir names it."
    return f"There is no module '{missing}' in {where}.{hint}"


def _has(found: Any, path: str) -> bool:
    """Return whether an object has an attribute, or one of attributes."""
    for name in path.split("."):
        found = getattr(found, name, None)
    return found is not None


def _attribute(module: ModuleType, path: str) -> Any:
    found: Any = module
    for name in path.split("."):
        if name.endswith("()"):
            raise AppError(
                f"'{path}' is a call: name the function without parentheses, and use --factory."
            )
        try:
            found = getattr(found, name)
        except AttributeError:
            near = _similar(name, _public_names(found)) or _apps_of(found)
            owner = f"module '{module.__name__}'" if found is module else f"{found!r}"
            raise AppError(
                f"There is no attribute '{name}' in {owner}.{_did_you_mean(near)}"
            ) from None
    return found


def _search(module: ModuleType, *, factory: bool) -> Any:
    """Return the application of a module, where nobody named the attribute."""
    names = USUAL_FACTORIES if factory else USUAL_ATTRIBUTES
    for name in names:
        if callable(getattr(module, name, None)):
            return getattr(module, name)
    if not factory and (apps := _apps_of(module)):
        return getattr(module, apps[0])
    hint = ""
    if not factory:
        makers = [name for name in USUAL_FACTORIES if callable(getattr(module, name, None))]
        hint = f" Or use --factory for {makers[0]}()." if makers else ""
    raise AppError(
        f"There is no application in module '{module.__name__}' (looked for {', '.join(names)}). "
        f"Name it: {module.__name__}:attribute.{hint}"
    )


def _apps_of(owner: Any) -> list[str]:
    """Return names of attributes that are applications of a framework derived from Starlette."""
    from starlette.applications import Starlette

    return [name for name in _public_names(owner) if isinstance(getattr(owner, name), Starlette)]


def make(found: Any, name: str, *, factory: bool = False, interface: str = "auto") -> Any:
    """Return the application that an object is or, called as a factory, makes.

    What can be called without arguments is no application, which needs some: it is taken for a
    factory, with a warning unless `factory` says so. ASGI 2 applications (`app(scope)` gives what
    is called with (receive, send)) are wrapped.

    Args:
        found: what an import string named, or what `run()` was given.
        name: of it, for messages.
        factory: it is one.
        interface: as in the settings; "auto" takes any.

    Raises:
        AppError: it can't be an application.
    """
    if not factory and _shape_of(found, interface) == "factory":
        if _is_async(found):
            raise AppError(
                f"{name} is no application but an async function without arguments. If it makes "
                "the application it must be a plain function, to be used with --factory."
            )
        _logger.warning(
            "%s can't be an application, as it takes no arguments: it is called, to make one. "
            "Use --factory to say so.",
            name,
        )
        factory = True
    if factory:
        found = _call_factory(found, name)
        name = f"What {name} returned"
    match _shape_of(found, interface):
        case "application":
            return found
        case "asgi2":
            return _Asgi2(found)
        case "factory":
            what = "something that is called without arguments"
        case what:
            pass
    needed = "(scope, receive, send)"
    if interface == "wsgi":
        needed = "(environ, start_response)"
    elif interface == "auto":
        needed += ", or for WSGI with (environ, start_response)"
    raise AppError(
        f"{name} is no application but {what}: an application can be called with {needed}."
    )


def _shape_of(found: Any, interface: str) -> str:
    """Return what an object is: "application", "asgi2", "factory", or else in words."""
    if inspect.iscoroutine(found):
        return "a coroutine"
    if not callable(found):
        return _a(type(found).__name__)
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return "application"  # nobody can tell
    takes = signature.parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in takes) and not inspect.isclass(found):
        return "application"  # a wrapper, likely
    if _binds(signature, 0):
        return "factory"
    kind = "class" if inspect.isclass(found) else "function"
    if kind == "class":
        # Its instances answer when they are awaited, called once more, or iterated over.
        asgi, wsgi = hasattr(found, "__await__"), hasattr(found, "__iter__")
        asgi2 = _is_async(found.__call__) if "__call__" in dir(found) else False
    else:
        if inspect.isasyncgenfunction(found):
            return "an async generator function"
        asgi, wsgi = True, not _is_async(found)
        asgi2 = wsgi and next(iter(takes)).name == "scope"
    if interface != "wsgi":
        if asgi and _binds(signature, 3):
            return "application"
        if asgi2 and _binds(signature, 1):
            return "asgi2"
    if interface in ("auto", "wsgi") and wsgi and _binds(signature, 2):
        return "application"
    needs = [p for p in takes if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    names = ", ".join(p.name for p in needs)
    return f"{_a('async ' + kind if _is_async(found) else kind)} of ({names})"


def _binds(signature: inspect.Signature, count: int) -> bool:
    """Return whether it can be called with so many positional arguments."""
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _is_async(call: Any) -> bool:
    """Return whether calling it gives a coroutine."""
    while isinstance(call, functools.partial):
        call = call.func
    if not inspect.isroutine(call) and not inspect.isclass(call):
        call = type(call).__call__
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(inspect.unwrap(call))


class _Asgi2:
    """An application of ASGI 2 as one of ASGI 3."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope)(receive, send)


def _call_factory(factory: Any, name: str) -> Any:
    if not callable(factory):
        raise AppError(f"--factory: {name} is no function but {_a(type(factory).__name__)}.")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise AppError(f"--factory: {name} can't be called without arguments: {error}") from None
    except ValueError:
        pass  # No signature to look at: the call will tell.
    app = factory()
    if inspect.iscoroutine(app):
        app.close()
        raise AppError(f"--factory: {name} is an async function; a factory must be a plain one.")
    return app


def detect_interface(app: Any) -> str:
    """Return "turboapi", "fastapi", "asgi" or "wsgi"; what is none for sure counts as ASGI."""
    if is_own(app):
        return "turboapi"
    if is_fastapi(app):
        return "fastapi"
    if _is_async(app):
        return "asgi"
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return "asgi"
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    return "wsgi" if len(required) <= 2 <= len(positional) else "asgi"


def _public_names(owner: Any) -> list[str]:
    return [name for name in dir(owner) if not name.startswith("_")]


def _similar(name: str, among: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, list(among), n=3, cutoff=0.6)


def _did_you_mean(names: list[str]) -> str:
    if not names:
        return ""
    return f" Did you mean {' or '.join(repr(name) for name in names)}?"


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
