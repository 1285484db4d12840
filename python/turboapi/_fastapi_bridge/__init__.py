"""Unchanged FastAPI applications on the native server.

An `app` that is a real `fastapi.FastAPI` has its *path operations* compiled into plans of ours
where that can't change what clients see; everything else goes through the application's own ASGI
callable. `fastapi` is no dependency: it is there when the application is, and found in
`sys.modules`.

| file | what is in it |
|---|---|
| `_theirs.py` | the modules of the installed FastAPI, and whether they are as released |
| `_instrumentation.py`, `_wrapped.py` | what instrumentation replaced in it, with plans inside |
| `_translate.py` | its Dependants and fields as ours |
| `_hooks.py` | what a plan asks during a request, answered with its classes |
| `_table.py` | its tree of routes as a table for `_core.Router` |
| `_stack.py` | the inside of its middleware, in C |
| `_bridge.py` | the application as the server and its own middleware see it |
"""

import sys
from typing import Any

from turboapi import _core


def is_fastapi(app: Any) -> bool:
    """Return whether it is an application of the FastAPI that is installed, not one of ours."""
    module = sys.modules.get("fastapi.applications")
    theirs = getattr(module, "FastAPI", None)
    return (
        isinstance(theirs, type)
        and theirs.__module__ == "fastapi.applications"
        and theirs in type(app).__mro__
    )


def native_app(app: Any, *, compile_fastapi: bool = True) -> Any:
    """Return the `_core.App` of any ASGI application: ours, a FastAPI one, or another.

    Called when its lifespan has started: what that changed, counts.
    """
    own = getattr(app, "_native_app", None)
    if own is not None:
        return own()
    if not (compile_fastapi and is_fastapi(app)):
        from turboapi.middleware.compress import packs_itself  # lazy: only for these

        return _core.App(app, packs=packs_itself(app))
    from turboapi._fastapi_bridge._bridge import Bridge  # lazy: only for these

    return Bridge.of(app).native_app()
