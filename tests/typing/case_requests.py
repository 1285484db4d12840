"""Request, WebSocket, BackgroundTasks, the response to change, and the test client."""

from typing import Any, assert_type

from turboapi import BackgroundTasks, FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from turboapi.datastructures import URL, FormData, Headers, QueryParams, State
from turboapi.requests import HTTPConnection
from turboapi.testclient import TestClient
from turboapi.websockets import WebSocketState

app = FastAPI()


def write_log(message: str, *, level: int = 0) -> None: ...


async def send_mail(to: str) -> None: ...


@app.get("/")
async def read(request: Request, tasks: BackgroundTasks, response: Response) -> str:
    assert_type(request.method, str)
    assert_type(request.url, URL)
    assert_type(request.headers, Headers)
    assert_type(request.headers.get("a"), str | None)
    assert_type(request.query_params, QueryParams)
    assert_type(request.path_params, dict[str, Any])
    assert_type(request.cookies, dict[str, str])
    assert_type(request.state, State)
    assert_type(request.app, Any)
    assert_type(await request.body(), bytes)
    assert_type(await request.json(), Any)
    assert_type(await request.is_disconnected(), bool)
    async for chunk in request.stream():
        assert_type(chunk, bytes)
    async with request.form(max_files=3) as form:
        assert_type(form, FormData)
    if request.client is not None:
        assert_type(request.client.host, str)
    assert_type(tasks.add_task(write_log, "a", level=1), None)
    tasks.add_task(send_mail, to="a")
    response.headers["X-A"] = "a"
    response.status_code = 201
    assert_type(response.set_cookie("a", "b", max_age=3, httponly=True), None)
    return str(request.url_for("read"))


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    assert_type(await websocket.accept(subprotocol="a", headers=[(b"a", b"b")]), None)
    assert_type(websocket.client_state, WebSocketState)
    assert_type(websocket.query_params["a"], str)
    try:
        async for text in websocket.iter_text():
            assert_type(text, str)
        assert_type(await websocket.receive_text(), str)
        assert_type(await websocket.receive_bytes(), bytes)
        assert_type(await websocket.receive_json(), Any)
        await websocket.send_json({"a": 1}, mode="binary")
        await websocket.send_text("a")
    except WebSocketDisconnect as gone:
        assert_type(gone.code, int)
        assert_type(gone.reason, str)
    await websocket.close(code=1000, reason="done")


def either(connection: HTTPConnection) -> str:
    return connection.url.path


def test_app() -> None:
    with TestClient(app, base_url="http://a", raise_server_exceptions=False) as client:
        answer = client.get("/", params={"a": 1}, headers={"A": "b"})
        assert_type(answer.status_code, int)
        assert_type(answer.text, str)
        assert_type(answer.json(), Any)
        client.post("/", json={"a": 1})
        client.put("/", content=b"a")
        client.post("/", data={"a": "b"}, files={"f": b"a"})
        with client.websocket_connect("/ws", subprotocols=["a"]) as session:
            session.send_text("a")
            assert_type(session.receive_text(), str)
            assert_type(session.receive_json(), Any)


async def wrong(request: Request, tasks: BackgroundTasks, websocket: WebSocket) -> None:
    request.body.decode()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    request.form(files=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tasks.add_task(write_log, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.add_task(write_log, "a", lvl=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tasks.add_task(write_log)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tasks.add_task(send_mail("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await websocket.send_text(b"a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await websocket.close(code="1000")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TestClient(app, url="http://a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    TestClient("app")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
