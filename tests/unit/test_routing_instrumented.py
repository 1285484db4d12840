"""Tools that put functions of their own into turboapi.routing see every request."""

import pytest

from turboapi import BackgroundTasks, Depends, FastAPI, Form, Response, WebSocket, routing
from turboapi.responses import PlainTextResponse
from turboapi.testclient import TestClient


@pytest.fixture
def seen(monkeypatch):
    seen = []
    solve, run = routing.solve_dependencies, routing.run_endpoint_function

    async def solve_dependencies(**kwargs):
        solved = await solve(**kwargs)
        seen.append(("solved", dict(solved.values)))
        return solved

    async def run_endpoint_function(**kwargs):
        seen.append(("run", kwargs["dependant"].call.__name__, kwargs["is_coroutine"]))
        return await run(**kwargs)

    monkeypatch.setattr(routing, "solve_dependencies", solve_dependencies)
    monkeypatch.setattr(routing, "run_endpoint_function", run_endpoint_function)
    return seen


@pytest.fixture
def app():
    app = FastAPI(openapi_url=None)
    app.done = []

    def dependency(response: Response):
        response.headers["x-dependency"] = "yes"
        response.status_code = 202
        return 5

    @app.get("/sync/{item}")
    def sync(item: int, value: int = Depends(dependency)):
        return [item, value]

    @app.post("/json")
    async def from_json(data: dict, tasks: BackgroundTasks) -> dict:
        tasks.add_task(app.done.append, "task")
        return data

    @app.post("/form")
    async def from_form(field: str = Form()):
        return PlainTextResponse(field)

    @app.get("/stream")
    async def stream():
        yield 1

    @app.websocket("/ws/{item}")
    async def socket(websocket: WebSocket, item: int):
        await websocket.accept()
        await websocket.send_json(item)
        await websocket.close()

    return app


def test_requests(app, seen):
    client = TestClient(app)
    response = client.get("/sync/3")
    assert (response.json(), response.status_code) == ([3, 5], 202)
    assert response.headers["x-dependency"] == "yes"
    assert seen == [("solved", {"item": 3, "value": 5}), ("run", "sync", False)]


def test_bodies(app, seen):
    client = TestClient(app)
    assert client.post("/json", json={"a": 1}).json() == {"a": 1}
    assert app.done == ["task"]
    assert client.post("/form", data={"field": "text"}).text == "text"
    assert seen[-1] == ("run", "from_form", True)
    headers = {"content-type": "application/json"}
    broken = client.post("/json", content=b"{", headers=headers)
    assert broken.status_code == 422
    assert broken.json()["detail"][0]["type"] == "json_invalid"
    missing = client.post("/form")
    assert missing.json()["detail"][0]["loc"] == ["body", "field"]


def test_streams_and_websockets(app, seen):
    client = TestClient(app)
    assert client.get("/stream").text == "1\n"
    with client.websocket_connect("/ws/7") as session:
        assert session.receive_json() == 7
    assert [each[0] for each in seen] == ["solved", "solved"]
    assert seen[1][1]["item"] == 7


def test_without_instrumentation_nothing_of_it_runs(app, monkeypatch):
    from turboapi.routing import _instrumented

    monkeypatch.setattr(_instrumented, "respond", None)
    assert TestClient(app).get("/sync/3").json() == [3, 5]
