"""What every test here starts with."""

import logging

import pytest
import server_kit

from turboapi import _core
from turboapi._serving import twins


@pytest.fixture(params=["h1", "h2"])
def protocol(request, monkeypatch):
    """Runs a test over HTTP/1 and over HTTP/2: see server_kit.both_protocols."""
    if request.param == "h2":
        pytest.importorskip("h2")
        if _core.LIBRARIES["nghttp2"] is None:
            pytest.skip("HTTP/2 was not built in: no nghttp2")
    monkeypatch.setattr(server_kit, "PROTOCOL", request.param)
    return request.param


@pytest.fixture(autouse=True)
def plain_loggers():
    """Loggers as an application finds them: another test may have configured them."""
    for name in server_kit.LOGGERS:
        logger = logging.getLogger(name)
        logger.disabled, logger.propagate = False, True
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        if type(logger).__module__ == twins.__name__:
            logger.__class__ = logging.Logger
    twins._remembered, twins._own_handlers = None, frozenset()
