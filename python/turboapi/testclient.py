"""Starlette's test client under FastAPI's module name.

With TURBOAPI_TESTCLIENT=native in the environment requests go over a socket to the native server;
with TURBOAPI_TESTCLIENT=h2 they do so over HTTP/2. Any other value is an error.
"""

import os
from typing import TYPE_CHECKING

_door = os.environ.get("TURBOAPI_TESTCLIENT", "")

if _door not in ("", "native", "h2"):
    raise RuntimeError(f"TURBOAPI_TESTCLIENT must be native or h2, or not be set; it is {_door!r}")

if TYPE_CHECKING:
    from starlette.testclient import TestClient as TestClient
elif _door == "native":
    from turboapi._testclient import NativeTestClient as TestClient
elif _door == "h2":
    from turboapi._testclient import Http2TestClient as TestClient
else:
    from starlette.testclient import TestClient as TestClient
