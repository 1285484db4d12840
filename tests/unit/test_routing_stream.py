"""Endpoints that yield: their order, pings, errors and cleanup."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from pydantic import BaseModel

from turboapi import Depends, FastAPI, Response, routing
from turboapi.exceptions import ResponseValidationError
from turboapi.routing._stream import _Mailbox
from turboapi.sse import EventSourceResponse, ServerSentEvent, format_sse_event
from turboapi.testclient import TestClient


class Item(BaseModel):
    name: str
    secret: int | None = None


@pytest.fixture
def app():
    return FastAPI(openapi_url=None)


def test_json_lines_of_plain_data(app):
    @app.get("/")
    async def stream():
        yield {"a": 1}
        yield [float("nan"), float("inf"), {"x": -float("inf")}]
        yield "text\nline"

    response = TestClient(app).get("/")
    assert response.headers["content-type"] == "application/jsonl"
    lines = response.text.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"a": 1},
        [None, None, {"x": None}],
        "text\nline",
    ]


def test_json_lines_of_a_model_in_a_thread(app):
    # Before the first item: what the endpoint itself would set comes too late.
    def prepare(response: Response):
        response.headers["x-stream"] = "yes"
        response.status_code = 202

    @app.get("/", response_model_exclude_none=True, dependencies=[Depends(prepare)])
    def stream() -> Iterator[Item]:
        yield {"name": "a"}
        yield Item(name="b", secret=1)

    response = TestClient(app).get("/")
    assert (response.status_code, response.headers["x-stream"]) == (202, "yes")
    assert response.text == '{"name":"a"}\n{"name":"b","secret":1}\n'


def test_an_item_that_does_not_fit_ends_the_stream(app):
    @app.get("/x")
    async def stream() -> AsyncIterator[Item]:
        yield {"name": "a"}
        yield {"wrong": 1}

    with pytest.raises(ResponseValidationError, match="GET /x"):
        TestClient(app).get("/x")


def test_dependencies_are_open_while_items_are_sent(app):
    steps = []

    def resource():
        steps.append("open")
        yield 1
        steps.append("close")

    @app.get("/")
    async def stream(value: int = Depends(resource)):
        for number in range(2):
            steps.append(number)
            yield number

    assert TestClient(app).get("/").text == "0\n1\n"
    assert steps == ["open", 0, 1, "close"]


def test_chunks_for_a_response_class(app):
    from turboapi.responses import StreamingResponse

    @app.get("/", response_class=StreamingResponse)
    async def stream():
        yield b"a"
        yield "b"

    assert TestClient(app).get("/").content == b"ab"


# -- events --------------------------------------------------------------------------------------


def test_events_of_every_kind(app):
    @app.get("/", response_class=EventSourceResponse)
    async def stream():
        yield {"a": 1}
        yield Item(name="m")
        yield ServerSentEvent(data="quoted", event="e", id="1", retry=5, comment="c\nd")
        yield ServerSentEvent(raw_data="two\r\nlines")
        yield ServerSentEvent(data=Item(name="x"))
        yield ServerSentEvent(comment="only")

    response = TestClient(app).get("/")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.text.split("\n\n")[:-1] == [
        'data: {"a": 1}',
        'data: {"name": "m", "secret": null}',
        ': c\n: d\nevent: e\ndata: "quoted"\nid: 1\nretry: 5',
        "data: two\ndata: lines",
        'data: {"name":"x","secret":null}',
        ": only",
    ]


@pytest.mark.parametrize("is_async", [True, False])
def test_pings_while_the_endpoint_waits(app, monkeypatch, is_async):
    import time

    monkeypatch.setattr(routing, "_PING_INTERVAL", 0.02)

    async def wait_async():
        await asyncio.sleep(0.1)
        yield 1

    def wait_sync():
        time.sleep(0.1)
        yield 1

    app.get("/", response_class=EventSourceResponse)(wait_async if is_async else wait_sync)
    text = TestClient(app).get("/").text
    assert text.count(": ping\n\n") >= 2
    assert text.endswith("data: 1\n\n")


def test_an_error_in_an_endpoint_of_events_is_raised(app):
    @app.get("/", response_class=EventSourceResponse)
    async def stream():
        yield 1
        raise LookupError("broken")

    with pytest.raises(ExceptionGroup) as caught:
        TestClient(app).get("/")
    assert caught.group_contains(LookupError, match="broken")


SCOPE = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "query_string": b"",
    "headers": [],
}


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
@pytest.mark.parametrize("seconds", [None, 0.0, 0.01])
@pytest.mark.parametrize("events", range(4))
def test_an_error_ends_the_events_after_the_last_one(app, spec, seconds, events):
    @app.get("/", response_class=EventSourceResponse)
    async def stream():
        for number in range(events):
            yield number
        if seconds is not None:
            await asyncio.sleep(seconds)
        raise LookupError("broken")

    sent = []

    async def send(message):
        if events or seconds is not None:
            await asyncio.sleep(0)
        sent.append(message)

    async def run():
        await app({**SCOPE, "asgi": {"spec_version": spec}}, asyncio.Event().wait, send)

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(run())
    assert caught.group_contains(LookupError, match="broken")
    assert sent.pop(0)["status"] == 200
    assert [message["body"] for message in sent] == [b"data: %d\n\n" % n for n in range(events)]
    assert all(message["more_body"] for message in sent)


def test_an_error_of_an_endpoint_of_events_that_is_left_is_raised(app):
    @app.get("/", response_class=EventSourceResponse)
    async def stream():
        yield 1
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("broken")

    gone = asyncio.Event()

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.body":
            gone.set()

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(app({**SCOPE, "asgi": {"spec_version": "2.3"}}, receive, send))
    assert caught.group_contains(LookupError, match="broken")


def test_an_endpoint_of_events_is_stopped_with_its_client(app):
    closed = []

    @app.get("/", response_class=EventSourceResponse)
    async def stream():
        try:
            while True:
                yield "x"
        finally:
            closed.append(True)

    async def run():
        sent, gone = [], anyio.Event()

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)
            if len(sent) == 4:
                gone.set()

        with anyio.fail_after(5):
            await app({**SCOPE, "asgi": {"spec_version": "2.3"}}, receive, send)
        return sent

    assert len(anyio.run(run)) >= 4
    assert closed == [True]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_mailbox_keeps_order_and_loses_nothing(backend):
    if backend == "trio":
        pytest.importorskip("trio")

    async def run():
        box, got = _Mailbox(), []

        async def produce():
            for number in range(50):
                await box.put(str(number).encode())
                if number % 7 == 0:
                    await anyio.sleep(0.001)
            box.close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce)
            while True:
                with anyio.move_on_after(0.0005) as waiting:
                    await box.wait()
                if waiting.cancelled_caught:
                    continue
                event = box.take()
                if event is None:
                    break
                got.append(int(event))
        return got

    assert anyio.run(run, backend=backend) == list(range(50))


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\r\nb"])
def test_fields_of_one_line(field, text):
    with pytest.raises(ValueError, match=f"SSE '{field}' must be a single line"):
        ServerSentEvent(**{field: text})


def test_ids_without_nul():
    with pytest.raises(ValueError, match="null characters"):
        ServerSentEvent(id="a\0b")


def test_one_payload():
    with pytest.raises(ValueError, match="Cannot set both"):
        ServerSentEvent(data=1, raw_data="x")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, b"\n"),
        ({"data_str": ""}, b"data: \n\n"),
        ({"data_str": "a\n"}, b"data: a\ndata: \n\n"),
        ({"data_str": "a\x85b\u2028c"}, "data: a\x85b\u2028c\n\n".encode()),
        ({"retry": 0, "id": ""}, b"id: \nretry: 0\n\n"),
    ],
)
def test_wire_format(given, expected):
    assert format_sse_event(**given) == expected
