"""A signal to stop that came before the server had handlers of its own."""

import signal
import sys
import weakref

from turboapi._serving import process
from turboapi._serving.server import serve
from turboapi._serving.signals import Signals
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


def test_a_signal_whose_exception_was_swallowed_still_stops_a_supervisor(monkeypatch):
    monkeypatch.setattr(process, "_came", signal.SIGTERM)
    with Signals((signal.SIGTERM, signal.SIGCHLD)) as signals:
        assert signals.wait(10) == [signal.SIGTERM]


def test_only_what_signals_raise_is_kept_from_the_report_of_lost_exceptions(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    monkeypatch.setattr(process, "_came", None)
    monkeypatch.setattr(process, "_ends", True)  # nothing is to send this process the signal again

    class Thing:
        pass

    def stop(_reference):
        process._on_signal(signal.SIGTERM, None)

    def fail(_reference):
        raise SystemExit(3)

    for end in (stop, fail):
        thing = Thing()
        reference = weakref.ref(thing, end)
        del thing
        assert reference() is None
    assert [found.exc_value.code for found in reported] == [3]
