"""A signal to stop that came before the server had handlers of its own."""

import signal

from turboapi._serving import process
from turboapi._serving.server import serve
from turboapi.config import Config


def test_a_signal_whose_exception_was_swallowed_still_stops_the_server(monkeypatch):
    started = []

    async def app(scope, receive, send):
        started.append(scope["type"])
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    monkeypatch.setattr(process, "_came", signal.SIGTERM)
    assert serve(app, Config(port=0, interface="asgi")) == 0
    assert started in ([], ["lifespan"])
