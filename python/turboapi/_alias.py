"""`import fastapi` gives TurboAPI: for code that can't be changed, or not yet."""

import importlib
import importlib.util
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_ALIAS = "fastapi"
_TARGET = "turboapi"
_lock = threading.Lock()


def as_fastapi() -> None:
    """From now on `fastapi` and its modules are TurboAPI's: the very same module objects.

        import turboapi

        turboapi.as_fastapi()

        from fastapi import FastAPI  # is turboapi.FastAPI

    Holds for the whole process, for libraries too, and also when FastAPI is installed: a module
    that TurboAPI lacks is not found. To be called before anything imports FastAPI; more calls do
    nothing. See docs/migration.md.

    Raises:
        RuntimeError: the real FastAPI has been imported already.
    """
    with _lock:
        if any(type(finder) is _Finder for finder in sys.meta_path):
            return
        loaded = sys.modules.get(_ALIAS)
        if loaded is not None and loaded is not sys.modules[_TARGET]:
            raise RuntimeError(
                "fastapi has been imported already: call turboapi.as_fastapi() before that"
            )
        sys.meta_path.insert(0, _Finder())
        sys.modules[_ALIAS] = sys.modules[_TARGET]


class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _ALIAS and not fullname.startswith(_ALIAS + "."):
            return None
        name = _TARGET + fullname.removeprefix(_ALIAS)
        ours = importlib.util.find_spec(name)
        if ours is None:
            # Not None: the search must not go on and find the real one.
            raise ModuleNotFoundError(
                f"No module named {fullname!r} (it is {name!r} by turboapi.as_fastapi())",
                name=fullname,
            )
        is_package = ours.submodule_search_locations is not None
        # Not one of importlib.abc's, which takes long to import, but it has their methods.
        loader: Any = _Loader(name)
        return ModuleSpec(fullname, loader, origin=ours.origin, is_package=is_package)


class _Loader:
    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> None:
        return None  # as usual

    def exec_module(self, module: ModuleType) -> None:
        # The import system takes what is in sys.modules after this; the new module is dropped.
        assert module.__spec__ is not None
        sys.modules[module.__spec__.name] = importlib.import_module(self._name)
