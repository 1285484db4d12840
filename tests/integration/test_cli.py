"""The command line as users run it: a process, a socket, signals."""

import contextlib
import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from cli_kit import APP, LOCAL, PATIENCE, Clients, Server, gone, run, until

from turboapi._serving.signals import ONE_STOP


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


# -- Words


def test_versions_and_help(folder):
    import turboapi

    assert run(folder, "--version") == (0, f"turboapi {turboapi.__version__}\n")
    code, output = run(folder, "version")
    assert code == 0
    assert output.startswith(f"turboapi {turboapi.__version__}\n")
    assert re.search(r"^fastapi (\d[\d.]*|\(not installed\))$", output, re.M)
    code, output = run(folder, "docs-assets", "--help")
    assert code == 0
    assert "pip install 'turboapi-c[docs]'" in output
    code, output = run(folder, "run", "--help")
    assert code == 0
    for panel in ("Application", "Where it listens", "Limits", "Timeouts", "Reloading"):
        assert f"─ {panel}" in output
    assert "TURBOAPI_LIMIT_HEADER_BYTES" in output
    assert "[default: 65536]" in output


@pytest.mark.parametrize("command", ["module", "script"])
@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_told_without_the_framework(folder, command, option):
    import turboapi

    script = "from turboapi.cli import main; main()"
    (folder / "turboapi").write_text(script)
    called = ["-m", "turboapi"] if command == "module" else [str(folder / "turboapi")]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *called, option],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (0, f"turboapi {turboapi.__version__}\n")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "turboapi._serving.process" in imported
    packages = {name.partition(".")[0] for name in imported}
    assert not packages & {"typer", "rich", "starlette", "pydantic", "asyncio"}
    assert not {"turboapi._core", "turboapi.applications", "turboapi.cli._commands"} & imported


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


@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--reload",)], ids=str)
def test_a_package_that_is_missing(folder, options):
    code = "import sys; sys.modules['uvloop'] = None; from turboapi.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "main:app", *LOCAL, "--loop", "uvloop", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    words = "Error: --loop: uvloop needs the package uvloop: pip install uvloop\n"
    assert (done.returncode, done.stderr) == (2, words)


NOT_USABLE = {
    "--app-dir": ["/nonexistent", "file"],
    "--reload-dir": ["/nonexistent", "file"],
    "--uds": ["", "/nonexistent/s", "file", "x" * 108],
    "--fd": ["99", "0", "x", "-1"],
    "--forwarded-allow-ips": ["foo", "10.0.0.0/99"],
    "--limit-request-line": ["15", "-1", "x"],
    "--limit-header-bytes": ["1"],
    "--limit-write-buffer": ["1"],
    "--port": ["65536", "-1", "x"],
    "--workers": ["0", "x"],
    "--uds-permissions": ["660", "8"],
    "--timeout-stream-shutdown": ["-1", "x"],
    "--log-config": ["/nonexistent"],
    "--env-file": ["/nonexistent"],
    "--root-path": ["foo"],
}


@pytest.mark.parametrize("option", NOT_USABLE)
def test_a_setting_that_is_wrong(folder, option):
    """One line with the setting as it was written, and exit code 2."""
    (folder / "file").touch()
    variable = "TURBOAPI_" + option[2:].upper().replace("-", "_")
    for value in NOT_USABLE[option]:
        code, words = run(folder, "run", "main:app", option, value)
        assert (code, words.count("\n")) == (2, 1), words
        assert words.startswith(f"Error: {option}: "), words
    code, words = run(folder, "run", "main:app", **{variable: NOT_USABLE[option][-1]})
    assert (code, words.count("\n")) == (2, 1), words
    assert words.startswith(f"Error: {variable}: "), words


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--uds", "s", "--port", "1"), "--port"),
        (("--uds", "s", "--host", "h"), "--host"),
        (("--fd", "3", "--port", "1"), "--port"),
        (("--uds", "s", "--fd", "3"), "--uds"),
        (("--reload", "--workers", "2"), "--reload"),
        (("--uds", "s", "--bind", ":0"), "--bind"),
    ],
)
def test_settings_that_exclude_each_other(folder, options, named):
    code, words = run(folder, "run", "main:app", *options)
    assert (code, words.count("\n")) == (2, 1), words
    assert words.startswith(f"Error: {named}: "), words


@pytest.mark.parametrize(
    ("options", "environ", "words"),
    [
        (("--uds", "s", "--host", "h"), {}, "--host: can't be used together with --uds"),
        (("--redirect-http", "80"), {}, "--redirect-http: needs --ssl-certfile"),
        (("--ca-certs", "x"), {}, "--ca-certs: needs --ssl-certfile"),
        ((), {"TURBOAPI_SSL_CRL": "x"}, "TURBOAPI_SSL_CRL: needs --ssl-certfile"),
        (
            ("--redirect-http", "81", "--certfile", "x"),
            {"PORT": "81"},
            "--redirect-http: must be another port than PORT",
        ),
        (
            ("--port", "81", "--metrics", "127.0.0.1:81"),
            {},
            "--metrics: 127.0.0.1:81 is the server's own address (of --port)",
        ),
        (
            ("-b", ":80", "-b", "unix:s", "--metrics", "unix:s"),
            {},
            "--metrics: unix:s is the server's own address (of --bind)",
        ),
        (
            ("-b", ":80", "-b", ":81", "--redirect-http", "81", "--certfile", "x"),
            {},
            "--redirect-http: must be another port than --bind",
        ),
        (
            ("--redirect-http", "81", "--certfile", "x", "--metrics", "localhost:81"),
            {"TURBOAPI_HOST": "127.0.0.1"},
            "--metrics: localhost:81 is that of --redirect-http, too",
        ),
        (("--certfile", "c", "--ssl-certfile", "d"), {}, " can't be used together with --"),
        (
            ("--ssl-certfile", "main.py", "--keyfile", "x", "--keyfile", "y"),
            {},
            "--keyfile: 2 given for 1 of --ssl-certfile",
        ),
        (("--ssl-keyfile", "x"), {}, "--ssl-keyfile: needs --ssl-certfile"),
        (
            ("--ssl-min-version", "1.1"),
            {},
            "--ssl-min-version: must be one of 1.2, 1.3, got '1.1'\n",
        ),
    ],
    ids=str,
)
def test_other_settings_are_named_as_they_were_given(folder, options, environ, words):
    code, output = run(folder, "run", "main:app", *options, **environ)
    assert code == 2
    assert words in output, output


def test_what_is_wrong_with_a_log_config_is_told(folder):
    file = folder / "log.json"
    file.write_text('{"version": 1, "handlers": {"x": {"class": "nope"}}}')
    code, output = run(folder, "run", "main:app", "--log-config", str(file))
    assert code == 2
    assert "Unable to configure handler 'x': Cannot resolve 'nope'" in output


@pytest.mark.parametrize("columns", ["80", "140"])
@pytest.mark.parametrize(
    ("command", "argument"),
    [("run", "[APP]"), ("cert", "[HOST]..."), ("status", "[ADDRESS]"), ("migrate", "[PATH]...")],
)
def test_the_usage_has_one_pair_of_brackets(folder, command, argument, columns):
    for option in ("--help", "--no-such-option"):
        _, output = run(folder, command, option, COLUMNS=columns)
        (usage,) = [line for line in output.splitlines() if "Usage:" in line]
        assert usage.strip() == f"Usage: turboapi {command} [OPTIONS] {argument}"


def test_keys_of_pyproject_that_nobody_reads(folder):
    (folder / "pyproject.toml").write_text("[tool.turboapi]\nport = 1\n")
    with Server(folder, "run", "main:app", *LOCAL) as server:
        server.saw(r"WARNING: .*pyproject.toml: port of \[tool.turboapi\] is not read")
    (folder / "pyproject.toml").unlink()


def test_addresses_that_are_not_to_be_had(folder):
    """The settings may be right: exit code 1, and the words name them."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_UNIX) as live:
        live.bind(str(folder / "live"))
        live.listen()
        port = str(taken.getsockname()[1])
        for options, named in [
            (("--host", "127.0.0.1", "--port", port), "--port"),
            (("--host", "no such host"), "--host"),
            (("--host", "192.0.2.1"), "--host"),
            (("--uds", str(folder / "live")), "--uds"),
        ]:
            for mode in ([], ["--workers", "2"], ["--reload"]):
                code, words = run(folder, "run", "main:app", *options, *mode)
                assert code == 1, words
                assert "Traceback" not in words
                assert words.splitlines()[-1].startswith("Error: ")
                assert named in words
        assert (folder / "live").exists()


@pytest.mark.parametrize("option", ["--uds-permissions", "--uds-mode"])
@pytest.mark.parametrize("mode", [[], ["--workers", "2"], ["--reload"]])
def test_permissions_of_a_unix_socket(folder, option, mode):
    path = folder / "socket"
    with Server(folder, "run", "--uds", str(path), option, "640", *mode) as server:
        server.saw("Listening on unix:")
        assert path.stat().st_mode & 0o777 == 0o640
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert not path.exists()


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


def test_a_file_that_is_not_of_python(folder):
    (folder / "main.conf").touch()
    for name in ("main.conf", "./main.conf", "main.conf:app"):
        code, output = run(folder, "run", name)
        assert code == 1
        assert "main.conf is a file, but not of Python: its name must end in .py." in output


def test_an_application_without_its_fastapi(folder):
    (folder / "fastapi.py").write_text("raise ModuleNotFoundError('No', name='fastapi')\n")
    (folder / "main.py").write_text("from fastapi import FastAPI\n")
    code, output = run(folder, "run", "main:app", *LOCAL)
    assert code == 3
    last = output.splitlines()[-1]
    assert last.startswith("The application needs FastAPI, which is not installed: pip install")


def test_a_name_that_is_nearly_right(folder):
    code, output = run(folder, "run", "main:app", "--log-level", "warn")
    assert code == 2
    assert output.endswith("got 'warn': did you mean warning?\n")
    environ = {"TURBOAPI_WORKRES": "3", "TURBOAPI_TIMEOUT_KEEP_ALIVE": "3", "TURBOAPI_X_Y": "3"}
    with Server(folder, "run", *LOCAL, **environ).started() as server:
        for name, ours in (("WORKRES", "WORKERS"), ("TIMEOUT_KEEP_ALIVE", "TIMEOUT_IDLE")):
            line = f"TURBOAPI_{name} is no setting: did you mean TURBOAPI_{ours}?"
            assert server.log.count(line) == 1
        assert "TURBOAPI_X_Y" not in server.log


def test_broken_application_shows_its_own_traceback(folder):
    (folder / "main.py").write_text("def f():\n    1 / 0\nf()\n")
    code, output = run(folder, "run", *LOCAL)
    assert code == 3
    assert "ZeroDivisionError" in output
    assert "1 / 0" in output
    assert "importer.py" not in output


def test_port_in_use(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for more in ((), ("--workers", "2"), ("--reload",)):
            code, output = run(folder, "run", "--host", "127.0.0.1", "--port", port, *more)
            assert code == 1
            assert output.startswith(f"Error: Port {port} on 127.0.0.1 is in use by ")
            assert "--port (TURBOAPI_PORT)" in output
        code, output = run(folder, "run", *LOCAL, "--metrics", f"127.0.0.1:{port}")
        assert code == 1
        assert re.match(
            rf"Error: 127.0.0.1:{port} is in use by \S+ \(process {os.getpid()}\)", output
        )
        assert "with --metrics (TURBOAPI_METRICS)" in output


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
            time.sleep(2 * ONE_STOP)
            assert server.process.poll() is None
            server.send(signal.SIGINT)
            assert server.ended() == 1


@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--reload",)], ids=str)
def test_signals_that_come_together_are_one(folder, options):
    """`timeout` and process managers tell a process, and then the group that it is in."""
    with Server(folder, "run", *LOCAL, *options).started() as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
            client.sendall(b"GET /sleep1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            time.sleep(0.3)
            children = pathlib.Path(
                f"/proc/{server.process.pid}/task/{server.process.pid}/children"
            )
            own_group = os.getpgid(server.process.pid)
            told = [server.process.pid] + [
                int(pid)
                for pid in children.read_text().split()
                if os.getpgid(int(pid)) == own_group
            ]
            server.send(signal.SIGTERM)
            for pid in told:
                os.kill(pid, signal.SIGTERM)
            assert b"".join(iter(lambda: client.recv(4096), b"")).endswith(b"one")
        assert server.ended() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_is_lost_in_the_end(folder, workers):
    arguments = ("run", *LOCAL, "--no-access-log", "--workers", workers)
    with Server(folder, *arguments).started() as server, Clients(server.port) as clients:
        until(lambda: clients.answered > 100, "answers")
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert clients.lost == []


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


def test_stops_while_a_change_waits_for_what_is_in_flight(folder):
    with Server(folder, "dev", "--port", "0").started() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"GET /sleep100 HTTP/1.1\r\nhost: x\r\n\r\n")
            server.get()
            (folder / "main.py").write_text(APP.replace('"one"', '"two!"'))
            server.saw("Waiting for 1 request to end")
            server.send(signal.SIGTERM)
            server.saw("SIGTERM: stopping")
            time.sleep(3 * ONE_STOP)
            server.send(signal.SIGTERM)
            assert server.ended() == 1
        assert "cut off 1 request" in server.log


# -- From Python


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_reloading_ends_by_a_signal_while_the_code_is_broken(folder, number, code):
    (folder / "main.py").write_text("syntax error(")
    with Server(folder, "dev", "--port", "0") as server:
        server.saw("it starts again on a change")
        server.send(number)
        assert server.ended() == code


def test_run_from_a_script(folder):
    (folder / "script.py").write_text(
        "from main import app\nfrom turboapi._serving.run import run\nrun(app, port=0)\n"
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
    from turboapi._serving.run import run as run_app
    from turboapi.config import ConfigError

    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    with pytest.raises(ConfigError, match="workers: needs the application as an import string"):
        run_app(lambda scope, receive, send: None, workers=2)
