"""Starlette's test client under FastAPI's module name.

With TURBOAPI_TESTCLIENT=native in the environment requests go over a socket to the native server;
with TURBOAPI_TESTCLIENT=h2 they do so over HTTP/2.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.testclient import TestClient as TestClient
elif os.environ.get("TURBOAPI_TESTCLIENT") == "native":
    from turboapi._testclient import NativeTestClient as TestClient
elif os.environ.get("TURBOAPI_TESTCLIENT") == "h2":
    from turboapi._testclient import Http2TestClient as TestClient
else:
    from starlette.testclient import TestClient as TestClient
