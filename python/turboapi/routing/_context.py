"""Where an endpoint is in the source, for the text of validation errors."""

import inspect
from typing import Any

from turboapi.exceptions import EndpointContext


def extract_endpoint_context(call: Any) -> EndpointContext:
    """File, line and name of `call`, as far as they can be found. Never raises."""
    context: EndpointContext = {}
    try:
        if (file := inspect.getsourcefile(call)) is not None:
            context["file"] = file
        context["line"] = inspect.getsourcelines(call)[1]
        if (name := getattr(call, "__name__", None)) is not None:
            context["function"] = name
    except Exception:  # no source: built in, made at run time, removed since
        return {}
    return context
