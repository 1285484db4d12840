"""A FastAPI-compatible web framework whose request path is written in C."""

# ruff: noqa: E402

import os as _os

from ._version import __version__ as __version__

# A module that only PyPI's `turboapi` has, another project.
if _os.path.exists(f"{__path__[0]}/main_app.py"):  # noqa: PTH110 (pathlib takes long to import)
    from ._other_project import refuse as _refuse

    _refuse(__path__[0])

# isort: split
from ._serving.process import guard_start as _guard_start

_guard_start()  # the imports below take a while

from typing import TYPE_CHECKING as _TYPE_CHECKING

from starlette import status as status
from starlette.responses import Response as Response

from ._alias import as_fastapi as as_fastapi
from .applications import FastAPI as FastAPI
from .applications import TurboAPI as TurboAPI
from .background import BackgroundTasks as BackgroundTasks
from .datastructures import UploadFile as UploadFile
from .exceptions import HTTPException as HTTPException
from .exceptions import WebSocketException as WebSocketException
from .param_functions import Body as Body
from .param_functions import Cookie as Cookie
from .param_functions import Depends as Depends
from .param_functions import File as File
from .param_functions import Form as Form
from .param_functions import Header as Header
from .param_functions import Path as Path
from .param_functions import Query as Query
from .param_functions import Security as Security
from .requests import Request as Request
from .routing import APIRouter as APIRouter
from .websockets import WebSocket as WebSocket
from .websockets import WebSocketDisconnect as WebSocketDisconnect

if _TYPE_CHECKING:
    from ._serving.embedded import Config as Config
    from ._serving.embedded import Server as Server
    from ._serving.run import run as run


def __getattr__(name: str) -> object:
    if name in ("Config", "Server"):
        from ._serving import embedded  # lazy: under another server nobody needs it

        return getattr(embedded, name)
    if name == "run":
        from ._serving.run import run  # lazy: the same

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
