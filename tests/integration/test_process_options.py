"""What decides about processes: when workers are replaced, where they listen, who is told."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_kit import APP, LOCAL, PATIENCE, Clients, Server, gone, run, until

QUIET = (*LOCAL, "--no-access-log")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def fails(folder, *options):
    code, words = run(folder, "run", "main:app", *options)
    assert code == 2, words
    return words


# -- Workers that are replaced


def test_a_worker_is_replaced_after_its_last_request(folder):
    with Server(folder, "run", *QUIET, "--max-requests", "10").started() as server:
        first = int(server.get("/pid"))  # the second one, after that of started()
        for _ in range(7):
            assert server.get("/pid") == str(first)
        time.sleep(0.6)
        assert server.get("/pid") == str(first)  # the tenth
        server.saw(rf"Process {first} asks to be replaced: 10 requests \(max_requests\)")
        until(lambda: server.get("/pid") != str(first), "a successor")
        until(lambda: gone(first), "the end of the first")
        server.send(signal.SIGTERM)
        assert server.ended() == 0


def test_replacing_all_the_time_loses_nothing(folder):
    options = ("--max-requests", "200", "--max-requests-jitter", "50", "--workers", "2")
    with Server(folder, "run", *QUIET, *options).started() as server, Clients(server.port) as all_:
        until(lambda: server.log.count(" is to replace ") >= 4, "successors")
    assert all_.lost == []
    assert all_.answered > 400


def test_a_successor_that_does_not_start_leaves_the_worker(folder):
    with Server(folder, "run", *QUIET, "--max-requests", "3").started() as server:
        first = server.get("/pid")
        (folder / "main.py").write_text("raise RuntimeError('broken')\n")
        server.get()
        server.saw("the old workers go on")
        time.sleep(1)
        assert server.log.count(" is to replace ") == 1  # and it waits before the next
        assert server.get("/pid") == first


def test_a_worker_is_replaced_when_it_is_old(folder):
    with Server(folder, "run", *QUIET, "--max-lifetime", "1s").started() as server:
        first = server.get("/pid")
        until(lambda: server.get("/pid") != first, "a successor")
        server.saw(r"asks to be replaced: 1 s \(max_lifetime\)")


def test_a_worker_is_replaced_when_it_is_large(folder):
    grow = '\n    if scope["path"] == "/grow":\n        GROWN.append(b"x" * (300 << 20))\n'
    text = APP.replace('    body = {"/pid"', grow + '    body = {"/pid"') + "\nGROWN = []\n"
    (folder / "main.py").write_text(text)
    with Server(folder, "run", *QUIET, "--max-rss", "250M").started() as server:
        first = server.get("/pid")
        time.sleep(1)
        assert server.get("/pid") == first
        server.get("/grow")
        until(lambda: server.get("/pid") != first, "a successor")
        server.saw(r"asks to be replaced: \d+ MiB of memory \(max_rss\)")


def test_settings_of_replacement_that_can_not_be(folder):
    assert fails(folder, "--max-requests", "-1").startswith("Error: --max-requests: must be")
    assert "--max-requests-jitter: needs --max-requests" in fails(
        folder, "--max-requests-jitter", "5"
    )
    assert "--max-rss: can't be used together with --reload" in fails(
        folder, "--max-rss", "1G", "--reload"
    )
    assert "--max-lifetime: must be a time" in fails(folder, "--max-lifetime", "soon")


# -- Names and numbers


@pytest.mark.parametrize("mode", [[], ["--workers", "2"], ["--reload"]])
def test_pid_file(folder, mode):
    path = folder / "pid"
    with Server(folder, "run", *LOCAL, "--pid-file", str(path), *mode).started() as server:
        assert path.read_text() == f"{server.process.pid}\n"
        assert fails(folder, *LOCAL, "--pid-file", str(path)).startswith(
            f"Error: --pid-file: {path} names process {server.process.pid}, which runs"
        )
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert not path.exists()


def test_pid_file_of_a_dead_process_and_of_no_folder(folder):
    path = folder / "pid"
    path.write_text("4194305\n")  # above the highest there can be
    with Server(folder, "run", *LOCAL, "--pid-file", str(path)).started() as server:
        assert path.read_text() == f"{server.process.pid}\n"
        path.write_text("1\n")  # another's now
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert path.read_text() == "1\n"
    words = fails(folder, *LOCAL, "--pid-file", str(folder / "no" / "pid"))
    assert words.startswith("Error: --pid-file: there is no folder ")


def test_process_name(folder):
    with Server(
        folder, "run", *QUIET, "--workers", "2", "--process-name", "shop"
    ).started() as all_:
        for pid in {all_.process.pid, *all_.pids(2)}:
            assert Path(f"/proc/{pid}/comm").read_text() == "shop\n"


# -- Requests in flight


def test_limit_of_concurrency(folder):
    options = ("--limit-concurrency", "2")
    with Server(folder, "run", *QUIET, *options).started() as server:
        waiting = [ask(server.port, "/sleep2") for _ in range(2)]
        time.sleep(0.3)
        with ask(server.port, "/") as third:
            answer = third.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert answer.endswith(b"\r\n\r\nService Unavailable")
        for each in waiting:
            with each:
                assert each.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        assert server.get() == "one"
        assert server.log.count("which is the limit (limit_concurrency)") == 1


def ask(port, path):
    client = socket.create_connection(("127.0.0.1", port), PATIENCE)
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    return client


# -- Fields of every response


def test_fields_of_every_response(folder):
    options = ("--header", "X-One: 1, 2", "--header", "Server: mine", "--header", "x-empty:")
    with Server(folder, "run", *QUIET, *options).started() as server:
        for request in (
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            b"nonsense\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
                client.sendall(request)
                head = client.makefile("rb").read().partition(b"\r\n\r\n")[0] + b"\r\n"
            assert b"\r\nx-one: 1, 2\r\n" in head
            assert b"\r\nserver: mine\r\n" in head
            assert head.count(b"server:") == 1
            assert b"\r\nx-empty: \r\n" in head


@pytest.mark.parametrize("text", ["no colon", ": x", "a b: c", "Content-Length: 3", "a: b\x01"])
def test_fields_that_can_not_be(folder, text):
    assert fails(folder, *LOCAL, "--header", text).startswith("Error: --header: ")


# -- Where it listens


@pytest.mark.parametrize("mode", [[], ["--workers", "2"], ["--reload"]])
def test_several_addresses(folder, mode):
    path = folder / "socket"
    options = ("--bind", "127.0.0.1:0", "--bind", f"unix:{path}", "--bind", "127.0.0.1:0")
    with Server(folder, "run", *options, *mode).started() as server:
        ports = re.search(
            r"Listening on http://127.0.0.1:(\d+), unix:\S+, http://\S+:(\d+)", server.log
        )
        for port in ports.groups():
            server.port = int(port)
            assert server.get() == "one"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert client.makefile("rb").read().endswith(b"one")
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert not path.exists()


def test_several_addresses_stay_after_a_reload(folder):
    options = ("--bind", "127.0.0.1:0", "--bind", "127.0.0.1:0")
    with Server(folder, "run", *options, "--no-access-log").started() as server:
        ports = re.findall(r"http://127.0.0.1:(\d+)", server.log)[:2]
        first = server.get("/pid")
        for _ in range(2):
            server.send(signal.SIGHUP)
            until(lambda: gone(int(first)) or server.get("/pid") != first, "a successor")
            for port in ports:
                server.port = int(port)
                assert server.get() == "one"


def test_addresses_that_can_not_be(folder):
    for text in ("nonsense", "1.2.3.4", "1.2.3.4:70000", "unix:", "systemd:", "fd://x", "::1:80"):
        assert fails(folder, "--bind", text).startswith("Error: --bind: must be HOST:PORT")
    assert fails(folder, "--bind", ":1", "--port", "2").startswith("Error: --port: can't be used")
    assert fails(folder, "--bind", ":1", "--uds", "x").startswith("Error: --bind: can't be used")
    assert "passed no socket of the name 'web'; it passed: none" in fails(
        folder, "--bind", "systemd:web"
    )
    assert fails(folder, "--bind", "fd://77").startswith("Error: --bind: 77 is no open socket")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, words = run(folder, "run", "--bind", "127.0.0.1:0", "--bind", f"127.0.0.1:{port}")
        assert code == 1
        assert "--bind (TURBOAPI_BIND)" in words


SYSTEMD = """
import os, sys
for old, new in zip(map(int, sys.argv[1].split(",")), (3, 4)):
    os.dup2(old, new)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="web:admin")
os.execv(sys.executable, [sys.executable, "-m", "turboapi", *sys.argv[2:]])
"""


@pytest.mark.parametrize(
    ("options", "served"),
    [((), (True, True)), (("--bind", "systemd:admin"), (False, True))],
)
def test_sockets_of_systemd(folder, options, served):
    with (
        socket.create_server(("127.0.0.1", 0)) as web,
        socket.create_server(("127.0.0.1", 0)) as admin,
    ):
        ports = [each.getsockname()[1] for each in (web, admin)]
        # Moved out of the way of 3 and 4.
        high = [os.dup(each.fileno()) for each in (web, admin)]
        moved = [os.dup2(fd, 100 + number) for number, fd in enumerate(high)]
        for fd in moved:
            os.set_inheritable(fd, True)
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", SYSTEMD, ",".join(map(str, moved)), "run", *options],
                cwd=folder, stdout=log, stderr=log, pass_fds=moved,
            )  # fmt: skip
        for fd in (*high, *moved):
            os.close(fd)
        try:
            until(lambda: "Listening on" in (folder / "log.txt").read_text(), "it listens")
            for port, expected in zip(ports, served, strict=True):
                line = f"http://127.0.0.1:{port}"
                assert (line in (folder / "log.txt").read_text()) == expected
                if expected:
                    with ask(port, "/") as client:
                        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0


# -- The service manager


class Manager:
    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0"))
        self.socket.settimeout(PATIENCE)
        self.address = address

    def heard(self):
        return self.socket.recv(4096).decode().splitlines()


@pytest.mark.parametrize("abstract", [True, False])
@pytest.mark.parametrize("mode", [[], ["--workers", "2"]])
def test_the_service_manager_is_told(folder, abstract, mode):
    address = f"@turboapi-test-{os.getpid()}-{len(mode)}" if abstract else str(folder / "notify")
    manager = Manager(address)
    with manager.socket, Server(folder, "run", *QUIET, *mode, NOTIFY_SOCKET=address) as server:
        first = manager.heard()
        assert first[0] == "READY=1"
        assert first[1].startswith("STATUS=Listening on http://127.0.0.1:")
        server.started()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.send(signal.SIGHUP)
        word, when = manager.heard()
        assert word == "RELOADING=1"
        assert int(when.removeprefix("MONOTONIC_USEC=")) >= before
        assert manager.heard()[0] == "READY=1"
        server.send(signal.SIGTERM)
        assert manager.heard() == ["STOPPING=1"]
        assert server.ended() == 0


@pytest.mark.parametrize("mode", [[], ["--workers", "2"]])
def test_the_watchdog_of_the_service_manager(folder, mode):
    manager = Manager(str(folder / "notify"))
    with (
        manager.socket,
        Server(
            folder, "run", *QUIET, *mode, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="400000"
        ) as server,
    ):
        heard = [manager.heard() for _ in range(5)]
        assert heard.count(["WATCHDOG=1"]) >= 4
        (folder / "main.py").write_text("")
        server.send(signal.SIGTERM)
        assert server.ended() == 0


def test_a_service_manager_that_is_not_there(folder):
    with Server(folder, "run", *QUIET, NOTIFY_SOCKET=str(folder / "none")).started() as server:
        assert server.get() == "one"
