"""Starlette's test client under FastAPI's module name.

With TURBOAPI_TESTCLIENT=native in the environment requests go over a socket to the native server.
"""

import os

if os.environ.get("TURBOAPI_TESTCLIENT") == "native":
    from turboapi._testclient import NativeTestClient as TestClient
else:
    from starlette.testclient import TestClient as TestClient  # type: ignore[assignment]
