"""Where the names of `turboapi.routing` are looked up that somebody may have replaced.

Instrumentation puts its own functions in the place of `turboapi.routing.get_request_handler` and
others, so what uses them reads the attribute of that module each time. The modules that it is made
of can't import it; it introduces itself when it is complete.
"""

from typing import Any

# The module `turboapi.routing`; None only while it is being imported.
routing: Any = None
