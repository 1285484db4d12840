"""The command line as users run it: a process, a socket, signals. Every wait has an end."""

import contextlib
import http.client
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import patience
import pytest

PATIENCE = patience.seconds(10)

APP = """
import asyncio, os

BODY = "one"

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = {"/pid": str(os.getpid()), "/env": os.environ.get("GREETING", "")}.get(
        scope["path"], BODY
    )
    if scope["path"].startswith("/sleep"):
        await asyncio.sleep(float(scope["path"][6:]))
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
"""


def until(condition, what):
    """Asks until the answer is true; gives it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"in vain: {what}")


class Server:
    """`turboapi ...` in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, pass_fds=(), **environ: str):
        self.log_path = folder / "log.txt"
        self.port = 0
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "turboapi", *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
                pass_fds=pass_fds,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def saw(self, pattern: str) -> re.Match[str]:
        def look():
            found = re.search(pattern, self.log)
            if found is None and self.process.poll() is not None:
                found = re.search(pattern, self.log)
                assert found, f"it ended without {pattern!r}:\n{self.log}"
            return found

        try:
            return until(look, pattern)
        except AssertionError:
            raise AssertionError(f"no {pattern!r} in:\n{self.log}") from None

    def started(self):
        try:
            self.port = int(self.saw(r"Listening on http://[^ ]*:(\d+)")[1])
            until(self.answers, f"an answer; the log has:\n{self.log}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def get(self, path: str = "/", timeout: float = PATIENCE) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"connection": "close"})
            return connection.getresponse().read().decode()

    def answers(self) -> str | None:
        try:
            return self.get(timeout=2)
        except (OSError, http.client.HTTPException):
            return None

    def pids(self, count: int) -> set[int]:
        """Process ids of `count` different workers that answer."""
        found: set[int] = set()

        def ask():
            found.add(int(self.get("/pid")))
            return len(found) >= count

        until(ask, f"{count} workers, only {found}")
        return found

    def send(self, number: signal.Signals):
        self.process.send_signal(number)

    def ended(self, patience: float = PATIENCE) -> int:
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.log}") from None


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def run(folder, *arguments, **environ):
    """Runs a command to its end; gives exit code and output."""
    done = subprocess.run(
        [sys.executable, "-m", "turboapi", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environ},
    )
    return done.returncode, done.stdout


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


LOCAL = ("--host", "127.0.0.1", "--port", "0")


# -- Words


def test_versions_and_help(folder):
    import turboapi

    assert run(folder, "--version") == (0, f"turboapi {turboapi.__version__}\n")
    code, output = run(folder, "version")
    assert code == 0
    assert output.startswith(f"turboapi {turboapi.__version__}\n")
    code, output = run(folder, "run", "--help")
    assert code == 0
    for panel in ("Application", "Where it listens", "Limits", "Timeouts", "Reloading"):
        assert f"─ {panel}" in output
    assert "TURBOAPI_LIMIT_HEADER_BYTES" in output
    assert "[default: 65536]" in output


def test_bad_settings_name_where_they_were_given(folder):
    code, output = run(folder, "run", "--port", "70000")
    assert (code, output) == (2, "Error: --port: must be between 0 and 65535, got 70000\n")
    code, output = run(folder, "run", TURBOAPI_TIMEOUT_IDLE="soon")
    assert code == 2
    assert output.startswith("Error: TURBOAPI_TIMEOUT_IDLE: must be a time such as")
    code, output = run(folder, "run", "--env-file", "nowhere")
    assert (code, output) == (2, "Error: --env-file: there is no file nowhere\n")
    code, output = run(folder, "run", "main", "--entrypoint", "main:app")
    assert code == 2


def test_applications_that_are_not_there(folder):
    for name, message in {
        "mian:app": "There is no module 'mian' in .* Did you mean 'main'?",
        "main:ap": "There is no attribute 'ap' in module 'main'. Did you mean 'app'?",
        "other.py": "There is no file .*other.py",
    }.items():
        code, output = run(folder, "run", name, *LOCAL)
        assert code in (1, 3)
        assert re.search(message.replace("?", r"\?"), output), output
    (folder / "main.py").unlink()
    code, output = run(folder, "run")
    assert code == 1
    assert "none of the usual files" in output


def test_broken_application_shows_its_own_traceback(folder):
    (folder / "main.py").write_text("def f():\n    1 / 0\nf()\n")
    code, output = run(folder, "run", *LOCAL)
    assert code == 3
    assert "ZeroDivisionError" in output
    assert "1 / 0" in output
    assert "_importer.py" not in output


def test_port_in_use(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for more in ((), ("--workers", "2"), ("--reload",)):
            code, output = run(folder, "run", "--host", "127.0.0.1", "--port", port, *more)
            assert code == 1
            assert output.startswith(f"Error: Port {port} on 127.0.0.1 is in use by ")
            assert "--port (TURBOAPI_PORT)" in output


# -- One process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_a_signal(folder, number):
    with Server(folder, "run", *LOCAL).started() as server:
        assert server.get() == "one"
        assert server.get("/pid") == str(server.process.pid)
        server.send(number)
        assert server.ended() == 0
    assert re.search(r'"GET /pid HTTP/1\.1" 200', server.log), server.log


def test_environment_file_and_variables(folder):
    (folder / "my.env").write_text("GREETING=hello\nTURBOAPI_ACCESS_LOG=no\n")
    with Server(folder, "run", *LOCAL, TURBOAPI_ENV_FILE="my.env").started() as server:
        assert server.get("/env") == "hello"
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert "GET /env" not in server.log


def test_names_and_folders(folder):
    (folder / "deep").mkdir()
    (folder / "deep" / "shop.py").write_text(APP.replace("async def app", "async def shop"))
    (folder / "deep" / "made.py").write_text(APP + "\ndef create_app():\n    return app\n")
    for arguments in (
        ("deep/shop.py:shop",),
        ("shop:shop", "--app-dir", "deep"),
        ("shop", "--app", "shop", "--app-dir", "deep"),
        ("-e", "shop:shop", "--app-dir", "deep"),
        ("made:create_app", "--factory", "--app-dir", "deep"),
    ):
        with Server(folder, "run", *arguments, *LOCAL).started() as server:
            assert server.get() == "one"


def test_a_factory_without_the_option(folder):
    (folder / "main.py").write_text(
        APP + "def create(): return app\n"
        "def other(a, b, c, d, e): ...\n"
        "from pydantic import BaseModel\n"
        "class Item(BaseModel): a: int\n"
    )
    with Server(folder, "run", "main:create", *LOCAL).started() as server:
        assert server.get() == "one"
        assert "WARNING:" in server.log
        assert "--factory" in server.log
    for name, what in (("other", "a function of (a, b, c, d, e)"), ("Item", "a class of (a)")):
        code, output = run(folder, "run", f"main:{name}", *LOCAL)
        assert (code, "Traceback" in output) == (3, False)
        assert f"main:{name} is no application but {what}" in output


def test_wsgi_application(folder):
    (folder / "main.py").write_text(
        "def app(environ, start_response):\n"
        "    body = environ['wsgi.input'].read()\n"
        "    start_response('200 OK', [('content-type', 'text/plain')])\n"
        "    yield environ['REQUEST_METHOD'].encode()\n"
        "    yield body\n"
    )
    with Server(folder, "run", *LOCAL).started() as server:
        assert server.get() == "GET"
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("POST", "/", body=b"x" * 1_000_000)
            assert connection.getresponse().read() == b"POST" + b"x" * 1_000_000


def test_an_application_of_ours(folder):
    (folder / "main.py").write_text(
        "from turboapi import FastAPI\n"
        "app = FastAPI()\n"
        "@app.get('/')\n"
        "async def root(q: int = 1):\n"
        "    return {'q': q}\n"
    )
    with Server(folder, "run", *LOCAL).started() as server:
        assert server.get("/?q=5") == '{"q":5}'
        assert '"openapi":"3.1.0"' in server.get("/openapi.json")
        assert "swagger-ui" in server.get("/docs")


def test_unix_socket(folder):
    path = folder / "socket"
    with Server(folder, "run", "--uds", str(path)) as server:
        server.saw("Listening on unix:")

        def ask():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                client.connect(str(path))
                client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                return b"".join(iter(lambda: client.recv(4096), b""))
            return None

        assert until(ask, "an answer").endswith(b"one")
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert not path.exists()


def test_inherited_socket(folder):
    with socket.create_server(("127.0.0.1", 0)) as bound:
        fd = bound.fileno()
        with Server(folder, "run", "--fd", str(fd), pass_fds=(fd,)).started() as server:
            assert server.port == bound.getsockname()[1]
            assert server.get() == "one"


def test_socket_of_systemd(folder):
    with socket.create_server(("127.0.0.1", 0)) as bound:
        script = (
            f"exec 3<&{bound.fileno()}; export LISTEN_PID=$$ LISTEN_FDS=1; "
            f"exec {sys.executable} -m turboapi run --workers 2"
        )
        server = Server.__new__(Server)
        server.log_path, server.port = folder / "log.txt", 0
        with server.log_path.open("wb") as log:
            server.process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=folder,
                stdout=log,
                stderr=log,
                pass_fds=(bound.fileno(),),
            )
        with server.started():
            assert server.port == bound.getsockname()[1]
            assert server.get() == "one"
            server.send(signal.SIGTERM)
            assert server.ended() == 0


def test_in_flight_requests_end(folder):
    with Server(folder, "run", *LOCAL).started() as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
            client.sendall(b"GET /sleep1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            time.sleep(0.3)
            server.send(signal.SIGTERM)
            assert b"".join(iter(lambda: client.recv(4096), b"")).endswith(b"one")
        assert server.ended() == 0


def test_second_signal_stops_at_once(folder):
    with Server(folder, "run", *LOCAL).started() as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
            client.sendall(b"GET /sleep60 HTTP/1.1\r\nhost: x\r\n\r\n")
            time.sleep(0.3)
            server.send(signal.SIGINT)
            time.sleep(0.5)
            assert server.process.poll() is None
            server.send(signal.SIGINT)
            server.ended(8)


class Clients:
    """Threads that ask one question after another on connections that they keep."""

    def __init__(self, port: int, count: int = 8):
        self.port = port
        self.answered = 0
        self.lost: list[str] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(PATIENCE)

    def _ask(self):
        while not self.stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            try:
                connection.connect()
            except OSError:  # Nobody listens: nothing was promised.
                time.sleep(0.01)
                continue
            with contextlib.closing(connection):
                self._ask_on(connection)

    def _ask_on(self, connection):
        for number in itertools.count():
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                assert answer.read() == b"one"
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"request {number} of a connection: {error!r}")
                return
            self.answered += 1
            if self.stop.is_set() or answer.will_close:
                return


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_is_lost_in_the_end(folder, workers):
    arguments = ("run", *LOCAL, "--no-access-log", "--workers", workers)
    with Server(folder, *arguments).started() as server, Clients(server.port) as clients:
        until(lambda: clients.answered > 100, "answers")
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert clients.lost == []


# -- Several


@pytest.fixture
def two(folder):
    with Server(folder, "run", *LOCAL, "--workers", "2", "--no-access-log").started() as server:
        yield server


def test_workers_serve_and_end(two):
    pids = two.pids(2)
    assert two.process.pid not in pids
    two.send(signal.SIGTERM)
    assert two.ended() == 0
    assert all(gone(pid) for pid in pids)
    assert "All workers have ended" in two.log


def test_port_of_other_workers_is_not_shared(two, folder):
    code, output = run(
        folder, "run", "--host", "127.0.0.1", "--port", str(two.port), "--workers", "2"
    )
    assert code == 1
    assert output.startswith(f"Error: Port {two.port} on 127.0.0.1 is in use by ")


def test_clients_do_not_wait_for_a_worker_that_keeps_dying(folder):
    (folder / "main.py").write_text(
        APP + "\n"
        "import pathlib\n"
        "if pathlib.Path('first').exists():\n"
        "    os._exit(7)\n"
        "pathlib.Path('first').touch()\n"
    )
    # The first worker to come serves, all others die at once.
    with Server(folder, "run", *LOCAL, "--workers", "2").started() as server:
        server.saw(r"starting another in 1 s")
        for _ in range(30):
            assert server.get(timeout=2) == "one"


def test_dead_worker_is_replaced(two):
    victim, other = two.pids(2)
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in two.pids(2), "a new worker")
    assert other in two.pids(2)
    assert re.search(rf"process {victim}\) was ended by SIGKILL; starting another", two.log)


def test_rolling_reload_loses_nothing(two):
    before = two.pids(2)
    with Clients(two.port) as clients:
        two.send(signal.SIGHUP)
        until(lambda: all(gone(pid) for pid in before), "the old workers' end")
    assert clients.answered > 10
    assert clients.lost == []
    assert not two.pids(2) & before


def test_rolling_reload_keeps_old_workers_when_the_new_code_is_broken(two, folder):
    before = two.pids(2)
    (folder / "main.py").write_text("raise RuntimeError('broken')\n")
    two.send(signal.SIGHUP)
    two.saw("the old workers go on")
    assert two.pids(2) == before


def test_more_and_fewer_workers(two):
    two.pids(2)
    two.send(signal.SIGTTIN)
    assert len(two.pids(3)) == 3
    # One after the other, as equal signals that wait count as one.
    two.send(signal.SIGTTOU)
    two.saw("SIGTTOU: 2 workers from now on")
    two.send(signal.SIGTTOU)
    two.saw("SIGTTOU: 1 workers from now on")
    two.send(signal.SIGTTOU)
    two.saw("the last worker stays")
    time.sleep(1)
    assert len({two.get("/pid") for _ in range(10)}) == 1


def test_workers_do_not_outlive_a_killed_supervisor(two):
    pids = two.pids(2)
    two.send(signal.SIGKILL)
    two.ended()
    until(lambda: all(gone(pid) for pid in pids), "the workers' end")


def test_supervisor_stops_at_once_on_the_second_signal(two):
    with socket.create_connection(("127.0.0.1", two.port), PATIENCE) as client:
        client.sendall(b"GET /sleep60 HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(0.3)
        two.send(signal.SIGTERM)
        two.saw("SIGTERM: stopping the workers")
        time.sleep(0.3)
        two.send(signal.SIGTERM)
        two.ended(10)


def test_application_that_no_worker_can_import(folder):
    code, output = run(folder, "run", "main:nope", *LOCAL, "--workers", "2")
    assert code == 3
    assert "There is no attribute 'nope'" in output


# -- Reloading


@pytest.mark.parametrize("watcher", ["watchfiles", "stat"])
def test_reloads_on_changes(folder, watcher, monkeypatch):
    if watcher == "watchfiles":
        pytest.importorskip("watchfiles")
        environ = {}
    else:
        # A module of that name that has nothing: as if the package were not installed.
        hidden = folder / "hidden"
        hidden.mkdir()
        (hidden / "watchfiles.py").write_text("raise ImportError\n")
        environ = {"PYTHONPATH": os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])}
    main = folder / "main.py"
    with Server(folder, "dev", "--port", "0", **environ).started() as server:
        assert server.get() == "one"
        main.write_text(APP.replace('"one"', '"two!"'))
        until(lambda: server.answers() == "two!", "the new code")
        main.write_text("syntax error(")
        server.saw("SyntaxError")
        server.saw("it starts again on a change")
        main.write_text(APP.replace('"one"', '"three"'))
        until(lambda: server.answers() == "three", "the repaired code")
        (folder / "notes.txt").write_text("not watched")
        pid = server.get("/pid")
        time.sleep(1)
        assert server.get("/pid") == pid
        server.send(signal.SIGTERM)
        assert server.ended() == 0
        assert gone(int(pid))


# -- From Python


def test_run_from_a_script(folder):
    (folder / "script.py").write_text(
        "from main import app\nfrom turboapi._run import run\nrun(app, port=0)\n"
    )
    server = Server.__new__(Server)
    server.log_path, server.port = folder / "log.txt", 0
    with server.log_path.open("wb") as log:
        server.process = subprocess.Popen(
            [sys.executable, "script.py"], cwd=folder, stdout=log, stderr=log
        )
    with server.started():
        assert server.get() == "one"
        server.send(signal.SIGTERM)
        assert server.ended() == 0


def test_run_of_an_object_has_one_process(monkeypatch):
    from turboapi._run import run as run_app
    from turboapi.config import ConfigError

    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    with pytest.raises(ConfigError, match="workers: needs the application as an import string"):
        run_app(lambda scope, receive, send: None, workers=2)
