"""send() and receive() on another thread's event loop: a broadcast to WebSockets of two loops."""

import asyncio
import threading

import pytest
from server_kit import TIMEOUT, running
from ws_kit import client, websocket_app

from turboapi import FastAPI, WebSocket, WebSocketDisconnect
from turboapi._testclient import NativeTestClient


class Room:
    """FastAPI's tutorial's ConnectionManager, as ASGI: what one member sends, all get."""

    def __init__(self):
        self.members = []
        self.threads = set()
        self.failed = []
        self.answers = []
        self.app = websocket_app(self.serve)

    async def serve(self, scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        self.members.append((send, receive))
        self.threads.add(threading.get_ident())
        while (message := await receive())["type"] == "websocket.receive":
            if message["text"] == "leave":
                break
            await self.take(message["text"])
        self.members.remove((send, receive))

    async def take(self, text):
        if text == "ask the first":
            self.answers.append(await self.members[0][1]())
            return
        for send, _ in list(self.members):
            try:
                await send({"type": "websocket.send", "text": text})
            except OSError as error:
                self.failed.append(error)


def test_a_broadcast_reaches_the_websockets_of_every_loop():
    room = Room()
    with (
        running(room.app) as one,
        running(room.app) as two,
        client(one) as first,
        client(two) as second,
    ):
        for i in range(50):
            first.send(f"from one {i}")
            second.send(f"from two {i}")
        want = {f"from {name} {i}" for name in ("one", "two") for i in range(50)}
        for ws in (first, second):
            got = [ws.recv(timeout=TIMEOUT) for _ in range(100)]
            assert set(got) == want
            for name in ("one", "two"):  # the messages of one sender stay in order
                assert [m for m in got if name in m] == [f"from {name} {i}" for i in range(50)]
    assert len(room.threads) == 2
    assert room.failed == []


def test_a_message_larger_than_the_buffers_waits_for_the_other_loop_s_client():
    room = Room()
    text = "x" * 8_000_000
    with running(room.app) as one, running(room.app) as two, client(one) as first:
        with client(two) as second:
            second.send(text)
            assert second.recv(timeout=TIMEOUT) == text
        assert first.recv(timeout=TIMEOUT) == text


def test_receive_of_another_loop_s_connection():
    room = Room()
    with running(room.app) as one, running(room.app) as two:
        with client(one) as first, client(two) as second:
            first.send("hello")
            assert first.recv(timeout=TIMEOUT) == second.recv(timeout=TIMEOUT) == "hello"
            second.send("ask the first")
            second.send("done")  # taken once the first was heard
            first.send("an answer")
            first.send("bye")
            assert {second.recv(timeout=TIMEOUT), second.recv(timeout=TIMEOUT)} <= {
                "done",
                "bye",
                "an answer",
            }
    assert len(room.answers) == 1


def test_a_loop_that_has_ended_is_a_connection_error():
    room = Room()
    with running(room.app) as two, client(two) as second:
        with running(room.app) as one, client(one) as first:
            first.send("hello")
            assert first.recv(timeout=TIMEOUT) == second.recv(timeout=TIMEOUT) == "hello"
            gone = next(m for m in room.members if m is not room.members[0])
        room.members.append(gone)
        second.send("good day")
        assert second.recv(timeout=TIMEOUT) == "good day"
    assert [type(error) for error in room.failed] == [ConnectionError]


def test_sessions_of_test_clients_without_a_common_portal():
    """Each has an event loop of its own; as in FastAPI's tests of its chat.

    Starlette's own client is left out: its queues do not wake a reader on another loop.
    """
    app = FastAPI()
    members = []

    @app.websocket("/")
    async def chat(ws: WebSocket):
        await ws.accept()
        members.append(ws)
        try:
            while True:
                text = await ws.receive_text()
                for member in members:
                    await member.send_text(text)
        except WebSocketDisconnect:
            members.remove(ws)
            for member in members:
                await member.send_text("one has left")

    test_client = NativeTestClient(app)
    with test_client.websocket_connect("/") as first:
        with test_client.websocket_connect("/") as second:
            second.send_text("hello")
            assert first.receive_text() == second.receive_text() == "hello"
            first.send_text("good day")
            assert first.receive_text() == second.receive_text() == "good day"
            second.close()  # the end of `with` cancels what it has not done by then
            assert first.receive_text() == "one has left"


def test_a_cancelled_send_is_cancelled_on_the_other_loop():
    async def scenario():
        from turboapi._serving.other_loop import run_there

        cancelled = threading.Event()
        started = threading.Event()

        async def wait():
            started.set()
            try:
                await asyncio.sleep(TIMEOUT)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        other = asyncio.new_event_loop()
        thread = threading.Thread(target=other.run_forever)
        thread.start()
        try:
            task = asyncio.ensure_future(run_there(other, wait()))
            await asyncio.to_thread(started.wait, TIMEOUT)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(cancelled.wait, TIMEOUT)
        finally:
            other.call_soon_threadsafe(other.stop)
            thread.join()
            other.close()

    asyncio.run(scenario())
