"""Response classes.  See https://fastapi.tiangolo.com/advanced/custom-response/."""

import importlib
from typing import Any

from starlette.responses import HTMLResponse as HTMLResponse
from starlette.responses import PlainTextResponse as PlainTextResponse
from starlette.responses import RedirectResponse as RedirectResponse
from starlette.responses import Response as Response
from starlette.responses import StreamingResponse as StreamingResponse
from typing_extensions import deprecated

from turboapi._response_classes import FileResponse as FileResponse
from turboapi._response_classes import JSONResponse as JSONResponse
from turboapi.exceptions import FastAPIDeprecationWarning
from turboapi.sse import EventSourceResponse as EventSourceResponse


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


ujson = _optional("ujson")
orjson = _optional("orjson")

# The messages are literals: type checkers show no other.


@deprecated(
    "UJSONResponse is deprecated, FastAPI now serializes data directly to JSON "
    "bytes via Pydantic when a return type or response model is set, which is "
    "faster and doesn't need a custom response class. Read more in the FastAPI "
    "docs: https://fastapi.tiangolo.com/advanced/custom-response/#orjson-or-response-model "
    "and https://fastapi.tiangolo.com/tutorial/response-model/",
    category=FastAPIDeprecationWarning,
    stacklevel=2,
)
class UJSONResponse(JSONResponse):
    """JSON by the ``ujson`` package, which must be installed.  Deprecated."""

    def render(self, content: Any) -> bytes:
        """``content`` as JSON bytes."""
        assert ujson is not None, "ujson must be installed to use UJSONResponse"
        return ujson.dumps(content, ensure_ascii=False).encode("utf-8")  # type: ignore[no-any-return]


@deprecated(
    "ORJSONResponse is deprecated, FastAPI now serializes data directly to JSON "
    "bytes via Pydantic when a return type or response model is set, which is "
    "faster and doesn't need a custom response class. Read more in the FastAPI "
    "docs: https://fastapi.tiangolo.com/advanced/custom-response/#orjson-or-response-model "
    "and https://fastapi.tiangolo.com/tutorial/response-model/",
    category=FastAPIDeprecationWarning,
    stacklevel=2,
)
class ORJSONResponse(JSONResponse):
    """JSON by the ``orjson`` package, which must be installed.  Deprecated."""

    def render(self, content: Any) -> bytes:
        """``content`` as JSON bytes."""
        assert orjson is not None, "orjson must be installed to use ORJSONResponse"
        options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
        return orjson.dumps(content, option=options)  # type: ignore[no-any-return]
