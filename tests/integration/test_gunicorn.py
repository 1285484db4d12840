"""gunicorn with `turboapi.gunicorn.Worker`."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys

import patience
import pytest
from certificates import Authority
from patience import until

from turboapi.config import Config

pytest.importorskip("gunicorn", reason="gunicorn is not installed")

APP = """
import os
from turboapi import FastAPI, Request

app = FastAPI()

@app.get("/")
async def root(request: Request):
    return [os.getpid(), request.url.scheme]
"""


# The start takes as long as there is the file "hold"; the end says so.
SLOW_START = """
import asyncio, contextlib, os, pathlib, time
from turboapi import FastAPI

@contextlib.asynccontextmanager
async def start(app):
    print("starting", os.getpid(), flush=True)
    while pathlib.Path("hold").exists():
        await asyncio.sleep(0.02)
    yield
    print("ended", os.getpid(), flush=True)

app = FastAPI(lifespan=start)

@app.get("/")
async def root():
    return [os.getpid()]

@app.get("/hold")
async def hold():
    time.sleep(60)

@app.get("/wait")
async def wait():
    await asyncio.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@contextlib.contextmanager
def gunicorn(folder, *options, **environ):
    """gunicorn as a process, its log and its port."""
    log = folder / "log.txt"
    # Not -m gunicorn: with that, gunicorn does not find its modules again after SIGUSR2.
    (folder / "start.py").write_text("from gunicorn.app.wsgiapp import run\nrun()\n")
    command = [sys.executable, "start.py", "-k", "turboapi.gunicorn.Worker"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--bind", "127.0.0.1:0", *options, "main:app"],
            cwd=folder,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
        )
    try:
        until(lambda: process.poll() is not None or "Listening at" in log.read_text())
        found = re.search(r"Listening at: https?://[^ ]*:(\d+)", log.read_text())
        assert found, log.read_text()
        yield process, log, int(found[1])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(patience.seconds(15))
            finally:
                process.kill()


def ask(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience.seconds(10))
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read()


def test_serves_and_ends(folder):
    with gunicorn(folder, "--workers", "2", "--access-logfile", "-") as (process, log, port):
        seen = set()
        until(lambda: seen.add(ask(port)) or len(seen) == 2, what="two workers")
        until(lambda: log.read_text().count('"GET / HTTP/1.1" 200') >= 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(patience.seconds(15)) == 0
        assert "Traceback" not in log.read_text()
        assert log.read_text().count("Application shutdown complete") == 2


def test_replaces_workers_after_so_many_requests(folder):
    with gunicorn(folder, "--max-requests", "3") as (_, log, port):
        seen = set()

        def two():
            with contextlib.suppress(OSError, http.client.HTTPException):
                seen.add(ask(port))
            return len(seen) > 1

        until(two, what="another worker")
        assert "Maximum request limit of 3" in log.read_text()


def test_an_application_that_does_not_start(folder):
    (folder / "main.py").write_text(
        APP.replace("FastAPI()", "FastAPI(lifespan=start)").replace(
            "app =",
            "import contextlib\n"
            "@contextlib.asynccontextmanager\n"
            "async def start(app):\n    raise RuntimeError('not today')\n    yield\n"
            "app =",
        )
    )
    with gunicorn(folder) as (process, log, _):
        assert process.wait(patience.seconds(15)) == 3
        assert "not today" in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTTOU, signal.SIGHUP])
def test_a_worker_that_is_told_to_end_while_it_starts_ends_alone(folder, number):
    (folder / "main.py").write_text(SLOW_START)
    (folder / "hold").touch()
    with gunicorn(folder, "--workers", "2") as (process, log, port):
        until(lambda: log.read_text().count("starting") == 2, what="two that start")
        process.send_signal(number)
        until(lambda: "Worker exiting" in log.read_text(), what="the end of one")
        (folder / "hold").unlink()
        assert int(ask(port).strip(b"[]"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(patience.seconds(15)) == 0
        assert "Worker failed to boot" not in log.read_text()


def test_a_worker_that_is_told_to_end_during_the_import_ends(folder):
    wait = "while pathlib.Path('hold').exists():\n    time.sleep(0.02)\n"
    (folder / "main.py").write_text(
        SLOW_START.replace("app =", f"print('importing', flush=True)\n{wait}app =")
    )
    (folder / "hold").touch()
    with gunicorn(folder) as (process, log, port):
        until(lambda: "importing" in log.read_text())
        process.send_signal(signal.SIGHUP)
        until(lambda: log.read_text().count("importing") == 2, what="the next one")
        (folder / "hold").unlink()
        until(lambda: log.read_text().count("Worker exiting") == 1, what="the end of the old one")
        assert f"starting {int(ask(port).strip(b'[]'))}" in log.read_text()


def test_a_worker_that_does_not_answer_in_time_is_replaced(folder):
    (folder / "main.py").write_text(SLOW_START)
    with gunicorn(folder, "--timeout", "2") as (_, log, port):
        before = ask(port)
        with contextlib.suppress(OSError, http.client.HTTPException):
            ask(port, "/hold")
        assert "WORKER TIMEOUT" in log.read_text()
        until(lambda: log.read_text().count("starting") == 2, what="another worker")
        assert ask(port) != before


def test_reloads_when_a_file_changes(folder):
    with gunicorn(folder, "--reload", "--reload-engine", "poll") as (_, log, port):
        before = ask(port)
        (folder / "main.py").write_text(APP.replace("os.getpid()", "'changed'"))
        until(lambda: "Worker reloading" in log.read_text())
        until(lambda: log.read_text().count("Listening on") == 2, what="another worker")
        assert b"changed" in ask(port)
        assert b"changed" not in before


def test_the_application_ends_in_order_after_the_graceful_timeout(folder):
    (folder / "main.py").write_text(SLOW_START)
    hook = folder / "hooks.py"
    hook.write_text("def worker_int(worker):\n    print('interrupted', flush=True)\n")
    options = ("--graceful-timeout", "2", "--config", str(hook))
    with gunicorn(folder, *options) as (process, log, port):
        ask(port)
        waiting = http.client.HTTPConnection("127.0.0.1", port, timeout=patience.seconds(10))
        with contextlib.closing(waiting):
            waiting.request("GET", "/wait")
            ask(port)
            process.send_signal(signal.SIGINT)
            assert waiting.getresponse().status == 500
        process.wait(patience.seconds(15))
        assert "\nended" in log.read_text()
        assert "interrupted" in log.read_text()


def test_the_environment_does_not_say_how_many_processes_a_worker_is(folder):
    environ = {"WEB_CONCURRENCY": "2", "TURBOAPI_RELOAD": "1", "TURBOAPI_PRELOAD": "1"}
    with gunicorn(folder, **environ) as (_, log, port):
        ask(port)
        assert "one process with one loop" not in log.read_text()


def test_a_setting_that_can_not_be_used_ends_all(folder):
    with gunicorn(folder, TURBOAPI_TIMEOUT_WRITE="soon") as (process, log, _):
        assert process.wait(patience.seconds(15)) in (1, 3)  # 1: gunicorn's own traceback
        assert "TURBOAPI_TIMEOUT_WRITE: must be a time" in log.read_text()


def test_the_access_log_has_the_form_that_the_environment_says(folder):
    lines = folder / "access.txt"
    environ = {"TURBOAPI_ACCESS_LOG_FORMAT": "json"}
    with gunicorn(folder, "--access-logfile", str(lines), **environ) as (_, log, port):
        ask(port)
        until(lambda: lines.read_text().endswith("\n"))
        found = json.loads(lines.read_text())
        assert (found["method"], found["target"], found["status"]) == ("GET", "/", 200)
        assert "--access-logformat" not in log.read_text()


def test_what_has_no_effect_is_told_once(folder):
    environ = {"TURBOAPI_LIMIT_BODY_BYTE": "10M", "TURBOAPI_PORTT": "5000"}
    options = ("--workers", "2", "--access-logformat", "%(h)s")
    with gunicorn(folder, *options, **environ) as (process, log, port):
        ask(port)
        process.send_signal(signal.SIGTERM)
        process.wait(patience.seconds(15))
        for words in (
            "--access-logformat (access_log_format) has no effect",
            "did you mean TURBOAPI_LIMIT_BODY_BYTES?",
            "did you mean TURBOAPI_PORT?",
        ):
            assert log.read_text().count(words) == 1


def settings(**options):
    from gunicorn.config import Config as Theirs

    from turboapi.gunicorn import Worker

    theirs = Theirs()
    for name, value in options.items():
        theirs.set(name, value)
    worker = Worker(1, os.getppid(), [], None, 15, theirs, None)
    worker.tmp.close()
    config = Config(**worker._settings())
    return {name: getattr(config, name) for name in CHECKED}


CHECKED = (
    "proxy_protocol",
    "backlog",
    "limit_request_line",
    "limit_header_count",
    "ssl_ciphers",
    "access_log",
)


def test_options_that_have_their_effect():
    ours = Config()
    assert settings() == {name: getattr(ours, name) for name in CHECKED} | {"access_log": False}
    ciphers = "ECDHE-RSA-AES256-GCM-SHA384"
    certificate = {"certfile": __file__, "keyfile": __file__}
    given = settings(
        proxy_protocol=True,
        backlog=64,
        limit_request_line=8000,
        limit_request_fields=50,
        ciphers=ciphers,
        **certificate,
    )
    assert given == dict(zip(CHECKED, (True, 64, 8000, 50, ciphers, False), strict=True))
    assert settings(**certificate)["ssl_ciphers"] == ours.ssl_ciphers


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ({}, False),
        ({"accesslog": "-"}, True),
        ({"logconfig_dict": {"version": 1}}, True),
        ({"syslog": True}, True),
        ({"syslog": True, "disable_redirect_access_to_syslog": True}, False),
    ],
)
def test_when_there_is_an_access_log(options, written):
    assert settings(**options)["access_log"] is written


def test_keep_alive_of_zero_is_one_request_a_connection(folder):
    with gunicorn(folder, "--keep-alive", "0") as (_, _log, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience.seconds(10))
        with contextlib.closing(connection):
            connection.request("GET", "/")
            assert connection.getresponse().headers["connection"] == "close"


class Shown:
    """What the address of the metrics, a unix socket, says."""

    def __init__(self, folder):
        self.path = folder / "metrics.sock"
        self.environ = {"TURBOAPI_METRICS": f"unix:{self.path}"}

    def ask(self, path):
        connection = http.client.HTTPConnection("localhost", timeout=patience.seconds(10))
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.connect(str(self.path))
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def count(self, name):
        found = re.findall(rf"^turboapi_{name}(?:{{.*}})? (\d+)$", self.ask("/metrics"), re.M)
        return sum(map(int, found))

    def pids(self):
        """Those that serve; none where the one that was asked ended just then."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            found = re.findall(r'worker_resident_memory_bytes{pid="(\d+)"}', self.ask("/metrics"))
            return {int(pid) for pid in found}
        return set()


def test_metrics_are_of_all_workers_and_outlive_them(folder):
    shown = Shown(folder)
    with gunicorn(folder, "--workers", "2", **shown.environ) as (process, log, port):
        until(lambda: "Booting worker" in log.read_text())
        until(lambda: len(shown.pids()) == 2, what="two workers")
        for _ in range(10):
            ask(port)
        assert shown.ask("/-/ready") == "ready\n"
        until(lambda: shown.count("requests_total") == 10)
        assert {shown.count("requests_total") for _ in range(10)} == {10}

        before = shown.pids()
        process.send_signal(signal.SIGHUP)
        until(lambda: len(shown.pids()) == 2 and not shown.pids() & before, what="successors")
        ask(port)
        until(lambda: shown.count("requests_total") == 11)
        assert shown.count("worker_restarts_total") == 0

        os.kill(victim := min(shown.pids()), signal.SIGKILL)
        until(lambda: len(shown.pids()) == 2 and victim not in shown.pids(), what="a successor")
        assert shown.count("requests_total") == 11
        assert shown.count("worker_restarts_total") == 1

        process.send_signal(signal.SIGTERM)
        assert process.wait(patience.seconds(15)) == 0
        assert "Traceback" not in log.read_text()
    assert not shown.path.exists()


def test_metrics_of_one_worker_whose_application_is_being_imported(folder):
    (folder / "hold").touch()
    wait = "import pathlib, time\nwhile pathlib.Path('hold').exists():\n    time.sleep(0.02)\n"
    (folder / "main.py").write_text(wait + APP)
    shown = Shown(folder)
    with gunicorn(folder, **shown.environ) as (_, log, port):
        until(lambda: "Booting worker" in log.read_text())
        assert shown.ask("/-/ready") == "no\n"
        (folder / "hold").unlink()
        ask(port)
        assert shown.ask("/-/ready") == "ready\n"


def test_metrics_at_an_address_in_use_end_all(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with gunicorn(folder, TURBOAPI_METRICS=address) as (process, log, _):
            assert process.wait(patience.seconds(15)) == 3
            assert log.read_text().count(f"{address} is in use") == 1
            assert "TURBOAPI_METRICS" in log.read_text()
            assert "Traceback" not in log.read_text()
            assert "Booting worker" not in log.read_text()


def test_metrics_go_on_when_another_gunicorn_takes_over(folder):
    shown = Shown(folder)
    pid_file = folder / "gunicorn.pid"
    options = ("--pid", str(pid_file))
    with gunicorn(folder, *options, **shown.environ) as (process, log, port):
        ask(port)
        process.send_signal(signal.SIGUSR2)
        until(lambda: len(shown.pids()) == 2, what="a worker of the new one")
        successor = int(log.with_name("gunicorn.pid.2").read_text())
        try:
            process.send_signal(signal.SIGTERM)
            assert process.wait(patience.seconds(15)) == 0
            until(lambda: len(shown.pids()) == 1)
            ask(port)
            until(lambda: shown.count("requests_total") == 2)
            assert shown.ask("/-/ready") == "ready\n"
        finally:
            os.kill(successor, signal.SIGTERM)
        until(lambda: not shown.path.exists(), what="the end of the new one")
        assert "in use" not in log.read_text()


@pytest.fixture
def encrypted(folder):
    """An authority, and the options for a certificate of it."""
    authority = Authority(folder)
    file, key = authority.issue("localhost")
    return authority, ("--certfile", file, "--keyfile", key)


def test_a_further_worker_shares_the_port_that_redirects_to_https(folder, encrypted):
    with socket.create_server(("127.0.0.1", 0)) as free:
        plain = free.getsockname()[1]
    environ = {"TURBOAPI_REDIRECT_HTTP": str(plain)}
    with gunicorn(folder, *encrypted[1], **environ) as (process, log, _):
        until(lambda: log.read_text().count("Listening on") == 1)
        process.send_signal(signal.SIGTTIN)
        until(lambda: log.read_text().count("Listening on") == 2, what="another worker")
        ask(plain)
        assert "in use" not in log.read_text()


def test_a_port_that_is_taken_and_is_to_redirect_ends_all(folder, encrypted):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environ = {"TURBOAPI_REDIRECT_HTTP": str(taken.getsockname()[1])}
        with gunicorn(folder, *encrypted[1], **environ) as (process, log, _):
            assert process.wait(patience.seconds(15)) == 3
            assert log.read_text().count("TURBOAPI_REDIRECT_HTTP") == 1
            assert "Booting worker" not in log.read_text()


def test_sessions_of_tls_outlive_the_worker(folder, encrypted):
    authority, options = encrypted
    context = authority.context()

    def connect(port, session):
        with (
            socket.create_connection(("127.0.0.1", port), patience.seconds(10)) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as sock,
        ):
            sock.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert sock.recv(1000)
            return sock.session_reused, sock.session

    with gunicorn(folder, *options) as (process, log, port):
        _, session = connect(port, None)
        process.send_signal(signal.SIGHUP)
        until(lambda: "Worker exiting" in log.read_text(), what="the end of the old worker")
        assert connect(port, session)[0]
