"""`serve()` in a process of its own: signals, and what is in flight when they come."""

import contextlib
import http.client
import signal
import socket
import subprocess
import sys
import threading
import time

import patience
import pytest

from turboapi._serving.signals import ONE_STOP

APP = """
import asyncio, logging, sys, time
from turboapi import FastAPI
from turboapi._serving.server import serve
from turboapi.config import Config

app = FastAPI()

@app.get("/")
def index():
    return "ok"

@app.get("/wait")
async def wait(seconds: float):
    await asyncio.sleep(seconds)
    return "waited"

@app.get("/block")
def block(seconds: float):
    time.sleep(seconds)
    return "blocked"

logging.basicConfig(level=logging.INFO)
settings = dict(arg.split("=", 1) for arg in sys.argv[1:])
sys.exit(serve(app, Config.load(settings)))
"""


class Process:
    def __init__(self, *arguments):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.popen = subprocess.Popen(
            [sys.executable, "-c", APP, f"port={self.port}", "access_log=false", *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + patience.seconds(20)
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                break
            assert self.popen.poll() is None, self.popen.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def client(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience.seconds(10))

    def get(self, path):
        client = self.client()
        try:
            client.request("GET", path)
            return client.getresponse().read()
        finally:
            client.close()

    def end(self):
        errors = self.popen.communicate(timeout=patience.seconds(10))[1]
        return self.popen.returncode, errors


@contextlib.contextmanager
def process(*arguments):
    made = Process(*arguments)
    try:
        yield made
    finally:
        if made.popen.poll() is None:
            made.popen.kill()
        made.popen.communicate()


loops = pytest.mark.parametrize("loop", ["turboapi", "asyncio", "uvloop"])


def needs(loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")


@loops
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it(loop, number):
    needs(loop)
    with process(f"loop={loop}") as server:
        assert server.get("/") == b'"ok"'
        server.popen.send_signal(number)
        code, log = server.end()
    assert code == 0
    assert "Application shutdown complete" in log
    assert "Traceback" not in log


@loops
@pytest.mark.parametrize("path", ["/wait", "/block"])
def test_requests_in_flight_are_finished(loop, path):
    needs(loop)
    with process(f"loop={loop}") as server:
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(server.get(f"{path}?seconds=2")))
        waiting.start()
        time.sleep(0.5)
        server.popen.send_signal(signal.SIGTERM)
        waiting.join(patience.seconds(10))
        code, log = server.end()
        assert answers in ([b'"waited"'], [b'"blocked"']), log
        assert code == 0


def test_second_signal_does_not_wait():
    with process() as server:
        client = server.client()
        client.request("GET", "/wait?seconds=60")
        time.sleep(0.2)
        server.popen.send_signal(signal.SIGINT)
        time.sleep(2 * ONE_STOP)
        assert server.popen.poll() is None
        server.popen.send_signal(signal.SIGINT)
        code, log = server.end()
        client.close()
    assert code == 1
    assert "Traceback" not in log


def test_a_blocked_thread_does_not_keep_the_process():
    with process("timeout_graceful_shutdown=0.2") as server:
        client = server.client()
        client.request("GET", "/block?seconds=600")
        time.sleep(0.2)
        server.popen.send_signal(signal.SIGTERM)
        server.end()
        client.close()


@loops
def test_no_request_is_lost_when_it_stops_under_load(loop):
    needs(loop)
    lost = []
    counts = []
    stopping = threading.Event()

    def work(server):
        count = 0
        client = server.client()
        try:
            while True:
                try:
                    client.request("GET", "/wait?seconds=0.001" if count % 2 else "/")
                except OSError:
                    # Refused, or the idle connection was closed: it never was a request.
                    assert stopping.is_set()
                    break
                try:
                    response = client.getresponse()
                except (http.client.RemoteDisconnected, ConnectionResetError):
                    # Closed while idle; our request crossed with that on the wire.
                    assert stopping.is_set()
                    break
                if response.status != 200 or not response.read():
                    lost.append(response.status)
                count += 1
                if response.getheader("connection") == "close":
                    break
        except BaseException as error:
            lost.append(error)
        finally:
            client.close()
            counts.append(count)

    with process(f"loop={loop}") as server:
        threads = [threading.Thread(target=work, args=(server,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        stopping.set()
        server.popen.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(10)
        code, log = server.end()
    assert lost == []
    assert code == 0
    assert sum(counts) > 50
    assert "Traceback" not in log
