"""WebSocket sessions of the test client: the same through ASGI and over a socket."""

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
import pytest
from doors_kit import DOORS, both, caught, noted
from starlette.testclient import WebSocketDenialResponse

from turboapi import (
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Request,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from turboapi._testclient import NativeTestClient
from turboapi.responses import JSONResponse, StreamingResponse


def websocket_app(endpoint, path="/ws", **options):
    app = FastAPI(**options)
    app.websocket(path)(endpoint)
    return app


def sessions(app, use, path="/ws", **options):
    """A scenario: use(session) within a session of `app`."""

    def scenario(client_class):
        with client_class(app).websocket_connect(path, **options) as session:
            return use(session)

    return scenario


async def echo(websocket: WebSocket):
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        pass


# -- messages


def test_texts_bytes_and_json():
    def use(session):
        session.send_text("grün 😀")
        session.send_bytes(b"\x00\xff")
        session.send_json({"a": [1, "ü"]})
        session.send_json({"b": None}, mode="binary")
        session.send_text("")
        return [
            session.receive_text(),
            session.receive_bytes(),
            session.receive_json(),
            session.receive_json(mode="binary"),
            session.receive(),
        ]

    seen = both(sessions(websocket_app(echo), use))
    assert seen[:2] == ["grün 😀", b"\x00\xff"]
    assert seen[4] == {"type": "websocket.send", "text": ""}


def test_the_socket_is_a_real_one():
    seen = []

    async def endpoint(websocket: WebSocket):
        seen.append(websocket.scope)
        await websocket.accept()

    with NativeTestClient(websocket_app(endpoint)).websocket_connect("/ws") as session:
        assert session.scope is seen[0]
    headers = dict(seen[0]["headers"])
    assert headers[b"upgrade"] == b"websocket"
    assert len(headers[b"sec-websocket-key"]) == 24


def test_nothing_waits_for_room():
    """Neither side reads while the other one sends more than sockets hold."""

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.receive_text()
        for _ in range(40):
            await websocket.send_bytes(b"x" * 1_000_000)
        total = 0
        while (data := await websocket.receive_bytes()) != b"end":
            total += len(data)
        await websocket.send_text(str(total))
        await websocket.close()

    def use(session):
        session.send_text("go")
        for _ in range(40):
            session.send_bytes(b"y" * 1_000_000)
        session.send_bytes(b"end")
        received = sum(len(session.receive_bytes()) for _ in range(40))
        return received, session.receive_text(), session.receive()["code"]

    result = both(sessions(websocket_app(endpoint), use))
    assert result == (40_000_000, "40000000", 1000)


# -- opening


def test_subprotocol_and_headers():
    async def endpoint(websocket: WebSocket):
        offered = websocket.scope["subprotocols"]
        await websocket.accept("two", headers=[(b"x-one", b"1"), (b"set-cookie", b"a=b")])
        await websocket.send_json(offered)
        await websocket.close()

    def use(session):
        return session.accepted_subprotocol, session.extra_headers, session.receive_json()

    result = both(sessions(websocket_app(endpoint), use, subprotocols=["one", "two"]))
    assert result == ("two", [(b"x-one", b"1"), (b"set-cookie", b"a=b")], ["one", "two"])


def test_a_subprotocol_that_was_not_offered():
    async def endpoint(websocket: WebSocket):
        await websocket.accept("mine")
        await websocket.close()

    assert both(sessions(websocket_app(endpoint), lambda s: s.accepted_subprotocol)) == "mine"


def test_neither_subprotocol_nor_headers():
    app = websocket_app(echo)
    result = both(sessions(app, lambda s: (s.accepted_subprotocol, s.extra_headers)))
    assert result == (None, [])


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("http://testserver", "/ws/caf%C3%A9?q=1&q=2"),
        ("http://testserver", "wss://example.org:8443/ws/x?q=%20"),
        ("https://example.org", "/ws/x"),
    ],
)
def test_the_scope(base_url, path):
    async def endpoint(websocket: WebSocket, item: str):
        scope = websocket.scope
        await websocket.accept()
        await websocket.send_json(
            {
                **{k: scope[k] for k in ("path", "root_path", "scheme", "server", "client")},
                "raw_path": scope["raw_path"].decode(),
                "query": scope["query_string"].decode(),
                "headers": [
                    (k.decode(), v.decode())
                    for k, v in scope["headers"]
                    if k not in (b"upgrade", b"connection") and b"sec-websocket" not in k
                ],
                "extensions": sorted(scope["extensions"]),
                "item": item,
                "url": str(websocket.url),
                "q": websocket.query_params.multi_items(),
            }
        )
        await websocket.close()

    app = websocket_app(endpoint, "/ws/{item}")

    def scenario(client_class):
        client = client_class(app, base_url=base_url, client=("10.0.0.1", 99), cookies={"c": "d"})
        with client.websocket_connect(path, headers={"x-name": "value"}) as session:
            return session.receive_json()

    seen = both(scenario)
    assert seen["client"] == ["10.0.0.1", 99]
    assert ["cookie", "c=d"] in seen["headers"] or ("example.org" in seen["server"])


def test_parameters_and_dependencies():
    events = []

    async def resource():
        events.append("opened")
        yield "resource"
        events.append("closed")

    async def endpoint(
        websocket: WebSocket,
        item: int,
        who: Annotated[str, Cookie()],
        resource: Annotated[str, Depends(resource)],
        token: Annotated[str | None, Header()] = None,
        limit: int = 1,
    ):
        await websocket.accept()
        await websocket.send_json([item, who, token, limit, resource])
        await websocket.close(4001, "done")

    app = websocket_app(endpoint, "/ws/{item}")

    def scenario(client_class):
        events.clear()
        client = client_class(app, cookies={"who": "me"}, headers={"token": "secret"})
        with client.websocket_connect("/ws/7?limit=3") as session:
            first = session.receive_json()
            closed = caught(session.receive_json)
        return first, closed, list(events)

    assert both(scenario) == (
        [7, "me", "secret", 3, "resource"],
        ("WebSocketDisconnect", 4001, "done"),
        ["opened", "closed"],
    )


def test_parameters_that_are_wrong():
    async def endpoint(websocket: WebSocket, number: int):
        await websocket.accept()

    def scenario(client_class):
        return caught(client_class(app).websocket_connect("/ws?number=x").__enter__)

    app = websocket_app(endpoint)
    assert both(scenario)[1] == 1008


def test_root_path():
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_json([websocket.scope["root_path"], websocket.scope["path"]])
        await websocket.close()

    app = websocket_app(endpoint)

    @app.get("/ws")
    async def read(request: Request):
        return [request.scope["root_path"], request.scope["path"]]

    def scenario(client_class):
        client = client_class(app, root_path="/api")
        seen = [client.get(path).json() for path in ("/ws", "/api/ws")]
        for path in ("/ws", "/api/ws"):
            with client.websocket_connect(path) as session:
                seen.append(session.receive_json())
        return seen

    assert both(scenario) == [["/api", "/ws"], ["/api", "/api/ws"]] * 2


def test_lifespan_state():
    @asynccontextmanager
    async def lifespan(app):
        yield {"shared": "yes"}

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text(websocket.state.shared)
        await websocket.close()

    app = websocket_app(endpoint, lifespan=lifespan)

    def scenario(client_class):
        with client_class(app) as client, client.websocket_connect("/ws") as session:
            return session.receive_text()

    assert both(scenario) == "yes"


# -- refusals


@pytest.mark.parametrize(("code", "reason"), [(1000, None), (4003, "no"), (1008, "grün")])
def test_closed_before_it_is_accepted(code, reason):
    async def endpoint(websocket: WebSocket):
        await websocket.close(code, reason)

    app = websocket_app(endpoint)
    result = both(lambda client: caught(client(app).websocket_connect("/ws").__enter__))
    assert result == ("WebSocketDisconnect", code, reason or "")


def test_no_such_path():
    app = websocket_app(echo)
    result = both(lambda client: caught(client(app).websocket_connect("/other").__enter__))
    assert result == ("WebSocketDisconnect", 1000, "")


def test_refused_by_a_dependency():
    def refuse():
        raise WebSocketException(1008, "not you")

    async def endpoint(websocket: WebSocket, _: Annotated[None, Depends(refuse)]):
        raise AssertionError

    app = websocket_app(endpoint)
    result = both(lambda client: caught(client(app).websocket_connect("/ws").__enter__))
    assert result == ("WebSocketDisconnect", 1008, "not you")


@pytest.mark.parametrize("kind", ["json", "empty", "stream", "exception"])
def test_denied_with_a_response(kind):
    async def pieces():
        yield b"one "
        yield b"two"

    async def endpoint(websocket: WebSocket):
        if kind == "exception":
            raise HTTPException(401, "who are you?", headers={"www-authenticate": "Basic"})
        headers = {"x-why": "because"}
        response = {
            "json": lambda: JSONResponse({"a": 1}, 403, headers=headers),
            "empty": lambda: JSONResponse(None, 404, headers=headers),
            "stream": lambda: StreamingResponse(pieces(), 418, headers=headers),
        }[kind]()
        await websocket.send_denial_response(response)

    app = websocket_app(endpoint)

    def scenario(client_class):
        with pytest.raises(WebSocketDenialResponse) as raised:
            with client_class(app).websocket_connect("/ws"):
                raise AssertionError
        response = raised.value
        # What frames the message is the server's.
        framing = ("transfer-encoding", "connection")
        headers = [pair for pair in response.headers.multi_items() if pair[0] not in framing]
        return response.status_code, headers, response.content

    status, _, body = both(scenario)
    assert (status, body) == {
        "json": (403, b'{"a":1}'),
        "empty": (404, b"null"),
        "stream": (418, b"one two"),
        "exception": (401, b'{"detail":"who are you?"}'),
    }[kind]


# -- its end, by the application


@pytest.mark.parametrize(("code", "reason"), [(1000, None), (1001, "bye"), (3999, "ü" * 50)])
def test_the_application_closes(code, reason):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("last")
        await websocket.close(code, reason)

    def use(session):
        return session.receive_text(), session.receive()

    result = both(sessions(websocket_app(endpoint), use))
    assert result == ("last", {"type": "websocket.close", "code": code, "reason": reason or ""})


@pytest.mark.parametrize("method", ["receive_text", "receive_bytes", "receive_json"])
def test_disconnect_is_raised(method):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.close(4000, "enough")

    result = both(sessions(websocket_app(endpoint), lambda s: caught(getattr(s, method))))
    assert result == ("WebSocketDisconnect", 4000, "enough")


def test_it_returns_without_closing():
    events = []

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("only this")
        events.append("done")

    def scenario(client_class):
        events.clear()
        with client_class(app).websocket_connect("/ws") as session:
            text = session.receive_text()
            session.send_text("nobody takes it")
        return text, list(events)

    app = websocket_app(endpoint)
    assert both(scenario) == ("only this", ["done"])


def test_it_returns_without_closing_and_is_asked_for_more():
    """Starlette's client waits for ever; on a socket the server closes it."""

    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    with NativeTestClient(websocket_app(endpoint)).websocket_connect("/ws") as session:
        assert session.receive() == {"type": "websocket.close", "code": 1000, "reason": ""}
        session.send_text("nobody takes it")
        with pytest.raises(anyio.EndOfStream):
            session.receive()


def test_it_returns_without_accepting():
    """Starlette's client waits for ever; on a socket the server answers."""

    async def endpoint(websocket: WebSocket):
        pass

    with pytest.raises(WebSocketDenialResponse) as raised:
        NativeTestClient(websocket_app(endpoint)).websocket_connect("/ws").__enter__()
    assert raised.value.status_code == 500


@pytest.mark.parametrize("raising", [True, False])
@pytest.mark.parametrize("when", ["at once", "accepted", "asked", "waited for", "sent to"])
def test_it_fails(when, raising):
    async def endpoint(websocket: WebSocket):
        if when == "at once":
            raise ValueError("broken")
        await websocket.accept()
        if when == "asked":
            await websocket.receive_text()
        if when == "waited for":
            await asyncio.sleep(0.01)
        raise ValueError("broken")

    def scenario(client_class):
        client = client_class(app, raise_server_exceptions=raising)
        within = []
        with pytest.raises(ValueError, match="broken"):
            with client.websocket_connect("/ws") as session:
                if when == "asked":
                    session.send_text("go")
                    with noted(within):
                        session.receive_text()
                elif when == "waited for":
                    session.receive_text()
                elif when == "sent to":
                    with noted(within):
                        while True:
                            session.send_text("x")
        # Which one, and whether it comes to that, is a matter of time with Starlette's.
        assert {kind for kind, *_ in within} <= {"EndOfStream", "ClosedResourceError"}

    app = websocket_app(endpoint)
    both(scenario)


def test_it_fails_behind_its_close():
    async def endpoint(websocket: WebSocket):
        await websocket.close(4000)
        raise ValueError("afterwards")

    app = websocket_app(endpoint)
    result = both(lambda client: caught(client(app).websocket_connect("/ws").__enter__))
    assert result[0] == "ValueError"


# -- its end, by the test


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, None), (1001, None), (3001, "grün"), (1005, None), (1006, None)]
)
def test_the_test_closes(code, reason):
    seen = []

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as error:
            seen.append((error.code, error.reason))

    def scenario(client_class):
        seen.clear()
        with client_class(app).websocket_connect("/ws") as session:
            session.close(code, reason)
        return list(seen)

    app = websocket_app(endpoint)
    assert both(scenario) == [(code, reason or "")]


def test_the_application_does_not_mind_the_disconnect():
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        while True:
            await websocket.receive_text()

    def scenario(client_class):
        return caught(lambda: sessions(app, lambda session: None)(client_class))

    app = websocket_app(endpoint)
    assert both(scenario) == ("WebSocketDisconnect", 1000, "")


def test_left_while_the_application_waits_for_something_else():
    events = []

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise
        finally:
            events.append("finally")

    def scenario(client_class):
        events.clear()
        with client_class(app).websocket_connect("/ws"):
            pass
        return list(events)

    app = websocket_app(endpoint)
    assert both(scenario) == ["cancelled", "finally"]


def test_what_a_disconnect_brings_about_is_cancelled_where_it_waits():
    events = []

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect:
            events.append("told")
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0.05)
            events.append("shielded")
            await asyncio.sleep(0.2)
            events.append("never")

    def scenario(client_class):
        events.clear()
        with client_class(app).websocket_connect("/ws"):
            pass
        return list(events)

    app = websocket_app(endpoint)
    assert both(scenario) == ["told", "shielded"]


def test_left_while_the_application_sends():
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        number = 0
        while True:
            await websocket.send_text(str(number))
            await asyncio.sleep(0)
            number += 1

    app = websocket_app(endpoint)
    for _ in range(5):
        assert both(sessions(app, lambda session: session.receive_text())) == "0"


def test_left_by_an_exception_of_the_test():
    events = []

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as error:
            events.append(error.code)

    def scenario(client_class):
        events.clear()
        with pytest.raises(ZeroDivisionError):
            with client_class(app).websocket_connect("/ws"):
                raise ZeroDivisionError
        return list(events)

    app = websocket_app(endpoint)
    assert both(scenario) == [1000]


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_dependencies_are_cleaned_up(kind):
    events = []

    async def asynchronous():
        try:
            yield
        finally:
            events.append("cleaned up")

    def synchronous():
        try:
            yield
        finally:
            events.append("cleaned up")

    dependency = {"async": asynchronous, "sync": synchronous}[kind]

    async def endpoint(websocket: WebSocket, _: Annotated[None, Depends(dependency)]):
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect:
            events.append("left")

    def scenario(client_class):
        events.clear()
        with client_class(app).websocket_connect("/ws"):
            pass
        return list(events)

    app = websocket_app(endpoint)
    assert both(scenario) == ["left", "cleaned up"]


def test_a_cleanup_that_fails():
    async def dependency():
        yield
        raise ValueError("in the cleanup")

    async def endpoint(websocket: WebSocket, _: Annotated[None, Depends(dependency)]):
        await websocket.accept()
        await websocket.close()

    def use(session):
        return session.receive()["code"]

    app = websocket_app(endpoint)
    result = both(lambda client_class: caught(sessions(app, use), client_class))
    assert result[0] == "ValueError"


# -- several at once


def room():
    app = FastAPI()
    members = []

    @app.websocket("/ws/{name}")
    async def join(websocket: WebSocket, name: str):
        await websocket.accept()
        members.append(websocket)
        try:
            while True:
                text = await websocket.receive_text()
                for each in members:
                    await each.send_text(f"{name}: {text}")
        except WebSocketDisconnect:
            members.remove(websocket)
            for each in members:
                await each.send_text(f"{name} left")

    @app.get("/members")
    async def count():
        return len(members)

    return app


def test_two_sessions_and_a_request_between():
    def scenario(client_class):
        seen = []
        with client_class(room()) as client:
            with client.websocket_connect("/ws/one") as one:
                with client.websocket_connect("/ws/two") as two:
                    seen.append(client.get("/members").json())
                    one.send_text("hello")
                    seen += [one.receive_text(), two.receive_text()]
                seen.append(one.receive_text())
                seen.append(client.get("/members").json())
            seen.append(client.get("/members").json())
        return seen

    assert both(scenario) == [2, "one: hello", "one: hello", "two left", 1, 0]


def test_without_a_started_client_each_has_a_loop_of_its_own():
    app = room()

    def scenario(client_class):
        client = client_class(app)
        with client.websocket_connect("/ws/one") as one:
            count = client.get("/members").json()
            one.send_text("x")
            return count, one.receive_text(), client.get("/members").json()

    assert both(scenario) == (1, "one: x", 1)


def test_many_sessions_one_after_another():
    app = websocket_app(echo)
    for client_class in DOORS.values():
        with client_class(app) as client:
            for number in range(50):
                with client.websocket_connect("/ws") as session:
                    session.send_text(str(number))
                    assert session.receive_text() == str(number)


def test_a_session_that_is_open_when_the_client_ends():
    events = []

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        try:
            await asyncio.sleep(3600)
        finally:
            events.append("ended")

    with NativeTestClient(websocket_app(endpoint)) as client:
        session = client.websocket_connect("/ws").__enter__()
        session.exit_stack.close()
    assert events == ["ended"]


# -- what it needs


def test_trio_goes_through_asgi():
    app = websocket_app(echo)
    with NativeTestClient(app, backend="trio").websocket_connect("/ws") as session:
        session.send_text("x")
        assert session.receive_text() == "x"
        assert b"upgrade" not in dict(session.scope["headers"])


def test_uvloop():
    pytest.importorskip("uvloop")
    client = NativeTestClient(websocket_app(echo), backend_options={"use_uvloop": True})
    with client, client.websocket_connect("/ws") as session:
        session.send_text("x")
        assert session.receive_text() == "x"
        assert b"upgrade" in dict(session.scope["headers"])


def test_without_the_package(monkeypatch):
    app = websocket_app(echo)
    for name in list(sys.modules):
        if name.startswith("websockets.") or name == "turboapi._testclient._websocket":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "websockets", None)
    client = NativeTestClient(app)
    assert client.get("/openapi.json").status_code == 200
    with pytest.raises(RuntimeError, match=r"pip install websockets"):
        client.websocket_connect("/ws")
