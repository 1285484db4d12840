"""The same test client code through both doors: ASGI, and a socket to the native server."""

import contextlib

from starlette.testclient import TestClient

from turboapi._testclient import NativeTestClient

DOORS = {"asgi": TestClient, "native": NativeTestClient}


def both(scenario):
    """What `scenario(client class)` gives; it must be the same through both doors."""
    results = {}
    for door, client_class in DOORS.items():
        results[door] = scenario(client_class)
    assert results["native"] == results["asgi"], results
    return results["native"]


def caught(call, *args, **kwargs):
    """The kind of exception that a call raises and what it says."""
    try:
        call(*args, **kwargs)
    except BaseException as error:
        return describe(error)
    raise AssertionError("nothing was raised")


def describe(error):
    return type(error).__name__, getattr(error, "code", None), getattr(error, "reason", str(error))


@contextlib.contextmanager
def noted(into):
    """Keep what the block raises."""
    try:
        yield
    except BaseException as error:
        into.append(describe(error))


class Outer:
    """Pure ASGI middleware that adds a field to the list that it gets."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def noted(message):
            if message["type"] == "http.response.start":
                assert isinstance(message["headers"], list)
                message["headers"].append((b"x-outer", b"1"))
            await send(message)

        await self.app(scope, receive, noted)
