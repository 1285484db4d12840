"""The benchmark's parts: its application answers as its cases expect, its report adds up."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from turboapi.testclient import TestClient

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.syspath_prepend(str(FOLDER / "apps"))
    monkeypatch.setenv("BENCH_FRAMEWORK", "turboapi")
    before = set(sys.modules)
    yield lambda name: importlib.import_module(name)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("harness", "shared_app", "bench_data", "run"):
            del sys.modules[name]


def test_the_application_answers_each_case(harness: Any) -> None:
    cases = harness("harness.cases").CASES
    apps = harness("shared_app")
    for case in cases:
        client = TestClient(getattr(apps, case.variant))
        if case.kind == "ws":
            with client.websocket_connect(case.path) as session:
                session.send_text("abc")
                assert session.receive_text() == "abc"
            continue
        got = client.request(case.method, case.path, content=case.body, headers=case.headers)
        assert got.status_code == 200, case.key
        assert case.check(got.content), case.key
        assert not case.needs_header or case.needs_header in got.headers, case.key
        assert not case.check(b"else"), case.key
    client = TestClient(apps.plain)
    assert client.get("/sleep100").json() == {"ok": True}


def test_servers_name_known_cases(harness: Any) -> None:
    known = harness("harness.cases").BY_KEY
    servers = harness("harness.servers")
    setup = servers.Setup("python", Path("/peers"), Path("/build"), ["--threads", "2"])
    for server in servers.SERVERS:
        assert set(server.cases) <= set(known)
        variants = {known[key].variant for key in server.cases}
        for variant in variants:
            command = server.command(setup, variant, 1234)
            assert all(isinstance(part, str) for part in command)
    assert "--threads" in servers.BY_KEY["turboapi"].command(setup, "plain", 1)


def result(server: str, case: str, cpu: float, **more: Any) -> dict[str, Any]:
    return {
        "server": server,
        "case": case,
        "rps": 1e6 / cpu,
        "cpu_us": cpu,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "errors": 0,
        "requests": 1000,
        "mb_per_s": 0.0,
        **more,
    }


def data(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    meta = {
        "date": "today",
        "cpu": "x",
        "kernel": "6",
        "python": "3",
        "versions": {"turboapi": "1"},
        "duration": 5.0,
        "repeat": 1,
        "server_cpus": "0",
        "client_cpus": "1",
    }
    return {"meta": meta, "results": results, "burst": {}, "idle": {}, "failures": [], **more}


def test_report(harness: Any) -> None:
    report = harness("harness.report")
    measured = data(
        result("floor", "sync", 5.0),
        result("turboapi", "sync", 7.0),
        result("turboapi", "async", 9.0),
        result("fastapi-uvicorn", "async", 90.0, errors=3),
        result("robyn", "sync", 6.0),
        result("turboapi", "upload", 500.0, mb_per_s=2000.0),
        burst={"turboapi": {"all_ms": 120.0, "worst_ms": 119.0}},
        idle={"turboapi": {"bytes": 5000.0}},
        failures=["Falcon: does not start"],
    )
    text = report.markdown(measured)
    for part in ("90.0 (3 errors)", "(2,000 MB/s)", "120.0", "Falcon: does not start", "Robyn"):
        assert part in text
    met = {goal: verdict for goal, _, verdict in report.goals(measured)}
    assert met["sync constant at most 1.6 times the floor"] == "yes"
    assert met["async constant at most 1.6 times the floor"] == "no"
    assert met["async at most 1.15 times sync"] == "no"
    assert met["async: at least 12 times less CPU than FastAPI + uvicorn"] == "no"
    assert met["every case ahead of every peer"] == "no"
    assert met["1,000 connections sleeping 100 ms all answered within 150 ms"] == "yes"
    assert met["memory per idle connection below 4 KB"] == "no"
    assert report.goals(data()) == []


def test_command_line(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = harness("run")
    monkeypatch.setattr(sys, "argv", ["run.py", "--cases", "async,sync", "--servers", "floor"])
    args = run.parse()
    assert args.cases == ["sync", "async"]
    assert args.servers == ["floor"]
    assert harness("harness.options").cpu_set("0,2-4") == {0, 2, 3, 4}
    monkeypatch.setattr(sys, "argv", ["run.py", "--cases", "nope"])
    with pytest.raises(SystemExit, match="no such case"):
        run.parse()
