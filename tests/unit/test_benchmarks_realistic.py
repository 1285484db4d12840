"""The realistic benchmark's parts: its clients' histograms, its cases, its report."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
PACKAGES = ("harness", "real", "realistic", "run")


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in PACKAGES:
            del sys.modules[name]


def test_percentiles_of_a_histogram(part: Any) -> None:
    percentile = part("real.load").percentile
    histogram = [[10, 50], [20, 49], [500, 1]]
    assert percentile(histogram, 0.5) == 10
    assert percentile(histogram, 0.51) == 20
    assert percentile(histogram, 0.99) == 20
    assert percentile(histogram, 0.999) == 500
    assert percentile([[7, 1]], 0.001) == 7
    assert percentile([], 0.5) == 0


def test_a_line_of_a_generator(part: Any) -> None:
    load = part("real.load")
    found = {
        "requests": 200,
        "answered": 400,
        "seconds": 2.0,
        "errors": 1,
        "unanswered": 0,
        "histogram": [[1000, 198], [30000, 2]],
    }
    read = load.read(json.dumps(found), 100.0, 0.04, 50.0)
    assert read.rps == 100
    assert read.cpu_us == pytest.approx(100)
    assert (read.p50, read.p99, read.p999) == (1.0, 1.0, 30.0)
    assert (read.errors, read.memory) == (1, 50.0)
    # Who never got an answer waited longest.
    found["unanswered"] = 10
    read = load.read(json.dumps(found), 100.0)
    assert read.p50 == 1.0
    assert read.p99 == 1e6
    found["requests"] = 0
    with pytest.raises(part("harness.measure").ServerFailed):
        load.read(json.dumps(found), 100.0)


def test_requests_as_bytes(part: Any) -> None:
    cases = part("real.cases").BY_KEY
    load = part("real.load")
    get = load.request_bytes(cases["jwt"])
    assert get.startswith(b"GET /me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ")
    assert get.endswith(b"\r\n\r\n")
    assert get.count(b"\r\n\r\n") == 1
    assert load.request_bytes(cases["redis_set"]).endswith(b"Content-Length: 0\r\n\r\n")


def test_checks_refuse_other_answers(part: Any) -> None:
    cases = part("real.cases")
    row = cases.BY_KEY["row"].check
    assert row(b'{"id": 7, "name": "item 7", "price": 7.25}')
    assert not row(b'{"id": 8, "name": "item 8", "price": 8.25}')
    assert not row(b"Internal Server Error")
    fortunes = cases.BY_KEY["fortunes"].check
    lines = sorted([cases.ADDED, *cases.FORTUNES])
    numbers = {message: i for i, message in enumerate([cases.ADDED, *cases.FORTUNES])}
    page = "".join(f"<tr><td>{numbers[each]}</td><td>{{}}</td></tr>" for each in lines)
    escaped = [each.replace("<", "&lt;").replace(">", "&gt;") for each in lines]
    assert fortunes(page.format(*escaped).encode())
    assert not fortunes(page.format(*lines).encode()), "a script that is not escaped"
    assert not fortunes(page.format(*reversed(escaped)).encode())


def test_the_harness_checks_answers_of_these_cases(part: Any) -> None:
    measure, cases = part("harness.measure"), part("real.cases").BY_KEY
    body = b'{"id": 7, "name": "item 7", "price": 7.25}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    measure.check_answer(cases["row"], Slow([head + body]).port)
    for wrong in (head + body.replace(b"7", b"8"), ANSWER, head.replace(b"200", b"500") + body):
        with pytest.raises(measure.ServerFailed, match="row"):
            measure.check_answer(cases["row"], Slow([wrong]).port)


def test_each_server_can_be_started_for_its_cases(part: Any) -> None:
    servers, cases = part("real.servers"), part("real.cases")
    setup = part("harness.servers").Setup("python", Path("/peers"), Path("/build"), ["--x"])
    for server in servers.SERVERS:
        assert set(server.cases) <= set(cases.BY_KEY)
        for variant in ("plain", "guarded"):
            command = server.command(setup, variant, 1234)
            assert all(isinstance(word, str) for word in command)
            assert command[0] == "env"
            assert "PYTHONPATH=" in command[1]
    for name in servers.OURS:
        assert "--x" in servers.BY_KEY[name].command(setup, "plain", 1)


def run_of(cpu: float, p99: float, **more: Any) -> dict[str, Any]:
    load = {"rate": 1.0, "rps": 1e6 / cpu, "cpu_us": cpu, "p50": 1.0, "p99": p99, "p999": p99}
    load |= {"requests": 1000, "errors": 0, "unanswered": 0, "memory": 80.0, **more}
    return {"rest": 70.0, "peak": load, "half": load, "most": load}


def test_medians_of_rounds(part: Any) -> None:
    median = part("realistic").median
    found = median([run_of(10, 1), run_of(30, 5), run_of(20, 2)])
    assert found["peak"]["cpu_us"] == 20
    assert found["half"]["p99"] == 2
    assert found["rest"] == 70


def test_the_report_tells_where_we_are_behind(part: Any) -> None:
    report = part("real.report")
    results = [
        {"server": "turboapi", "case": "row", **run_of(100, 2)},
        {"server": "unchanged", "case": "row", **run_of(90, 1)},
        {"server": "fastapi-uvicorn", "case": "row", **run_of(300, 3)},
        {"server": "raw-peregrine", "case": "row", **run_of(95, 1.5, unanswered=4, errors=2)},
    ]
    meta = {"date": "today", "cpu": "x", "kernel": "6", "python": "3", "versions": {"redis": "1"}}
    meta |= {"duration": 2.0, "repeat": 1, "server_cpus": "0", "client_cpus": "1"}
    meta |= {"minutes": 3.0, "load_before": 0.5}
    data = {
        "meta": meta,
        "results": results,
        "alone": {"row": {"turboapi": 75.0, "uvloop": 80.0}},
        "failures": ["Litestar: does not start"],
    }
    text = report.markdown(data)
    for expected in (
        "95.0 (2 errors)",
        "1.00 / 1.50 / 1.50 (4 unanswered)",
        "| `row` | 100 | 75.0 | 75% | 25.0 | 220 |",
        "row: raw ASGI + peregrine takes 95.0 us, ours 100.0",
        "row: p99 of raw ASGI + peregrine 1.50 ms, ours 2.00",
        "Litestar: does not start",
    ):
        assert expected in text
    assert "FastAPI under turboapi run takes" not in text, "ours are no peers"
    assert "8 WRONG" not in report.line(results[0])
    assert "18 WRONG" in report.line(results[3])


def test_command_line(part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    realistic = part("realistic")
    monkeypatch.setattr(sys, "argv", ["realistic.py", "--cases", "chat,row", "--quick"])
    args = realistic.parse()
    assert args.cases == ["row", "chat"]
    assert args.duration == 0.5
    monkeypatch.setattr(sys, "argv", ["realistic.py", "--servers", "nobody"])
    with pytest.raises(SystemExit, match="no such server"):
        realistic.parse()


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Slow:
    """Answers on one connection, after a stop of 200 ms before the tenth answer."""

    def __init__(self, answers: list[bytes]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answers = answers
        self.served = 0
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection, self.listener:
            while connection.recv(4096):
                self.served += 1
                if self.served == 10:
                    threading.Event().wait(0.2)
                connection.sendall(self.answers[self.served % len(self.answers)])


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    target = str(tmp_path_factory.mktemp("load") / "open_load")
    source = str(FOLDER / "floor" / "open_load.c")
    subprocess.run([compiler, "-O1", "-Wall", "-Werror", "-o", target, source, "-lm"], check=True)
    return target


def drive(generator: str, port: int, rate: float, folder: Path) -> dict[str, Any]:
    request = folder / "request"
    request.write_bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    command = [generator, str(port), str(request), "1", str(rate), "0", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_stop_is_charged_to_all_who_would_have_come(
    part: Any, generator: str, tmp_path: Path
) -> None:
    server = Slow([ANSWER])
    found = drive(generator, server.port, 200, tmp_path)
    assert found["errors"] == found["unanswered"] == 0
    assert found["requests"] == server.served == sum(n for _, n in found["histogram"])
    late = sum(n for end, n in found["histogram"] if end > 50_000)
    # 200 a second come while it stops for 0.2 s; a closed loop would have charged one of them.
    assert late >= 15
    assert part("real.load").percentile(found["histogram"], 1.0) >= 190_000
    ends = [end for end, _ in found["histogram"]]
    assert ends == sorted(ends)
    assert all(math.isfinite(end) for end in ends)


def test_other_answers_are_errors(generator: str, tmp_path: Path) -> None:
    server = Slow([ANSWER, ANSWER.replace(b"ok", b"no"), ANSWER.replace(b"200 OK", b"500 No")])
    found = drive(generator, server.port, 100, tmp_path)
    assert found["requests"] > 20
    # The second of the answers comes first, and is the one that the others must be.
    assert found["errors"] == server.served - (server.served + 2) // 3
