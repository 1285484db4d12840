"""Whether telemetry is on is found out without asking the environment for every request."""

import os

import pytest
from opentelemetry import _logs, metrics, trace

from turboapi import FastAPI
from turboapi.telemetry import _asgi


class Environ(dict):
    asked = 0

    def __contains__(self, key):
        type(self).asked += 1
        return super().__contains__(key)


def test_the_environment_is_asked_once(monkeypatch):
    native = FastAPI(openapi_url=None)._native_telemetry
    monkeypatch.setattr(os, "environ", Environ(os.environ))
    Environ.asked = 0
    assert not native.enabled()
    first = Environ.asked
    assert not native.enabled()
    assert Environ.asked == first


MADE = (trace.NoOpTracerProvider, metrics.NoOpMeterProvider, _logs.NoOpLoggerProvider)


@pytest.mark.parametrize("kind", range(3))
def test_a_global_provider_is_seen_at_once(monkeypatch, kind):
    native = FastAPI(openapi_url=None)._native_telemetry
    assert not native.enabled()
    module, function, cell = _asgi._PROVIDER_CELLS[kind]
    monkeypatch.setitem(getattr(module, function).__globals__, cell, MADE[kind]())
    assert native.enabled()


@pytest.mark.parametrize("kind", range(3))
def test_a_function_in_the_place_of_the_apis_is_asked(monkeypatch, kind):
    native = FastAPI(openapi_url=None)._native_telemetry
    assert not native.enabled()
    module, function, _ = _asgi._PROVIDER_CELLS[kind]
    monkeypatch.setattr(module, function, MADE[kind])
    assert native.enabled()


def test_other_versions_of_the_api_are_asked_themselves(monkeypatch):
    monkeypatch.setattr(_asgi, "_PROVIDER_CELLS", ((trace, "get_tracer_provider", "_OTHER"),))
    native = FastAPI(openapi_url=None)._native_telemetry
    assert native._quick_look() is None
    assert not native.enabled()


def test_given_providers_count():
    native = FastAPI(telemetry={"meter_provider": metrics.NoOpMeterProvider()})._native_telemetry
    assert native.enabled()
    native = FastAPI(
        telemetry={"meter_provider": metrics.NoOpMeterProvider(), "metrics": False}
    )._native_telemetry
    assert not native.enabled()
