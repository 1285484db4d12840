"""WSGI applications on the native server, over sockets."""

import itertools
import threading
import time

import patience
import pytest
from server_kit import read_all, read_until, running, wait_for

from turboapi._serving.wsgi import WSGIAdapter

GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE = patience.seconds(15)


def serving(app, *, threads=40, **settings):
    settings.setdefault("timeout_graceful_shutdown", 30)
    return running(WSGIAdapter(app, threads=threads), interface="wsgi", **settings)


class Endless:
    def __init__(self, closed):
        self.closed = closed

    def __iter__(self):
        return self

    def __next__(self):
        time.sleep(0.02)
        return b"data: x\n\n"

    def close(self):
        self.closed.append(self)


@pytest.mark.parametrize("how", ["yield", "write"])
def test_a_piece_arrives_before_the_next_is_made(how):
    go_on = threading.Semaphore(0)

    def app(environ, start_response):
        write = start_response("200 OK", [])
        if how == "yield":
            return pieces()
        for piece in pieces():
            write(piece)
        return []

    def pieces():
        for number in range(3):
            yield b"tick%d" % number
            assert go_on.acquire(timeout=PATIENCE)

    with serving(app) as server, server.raw(GET % b"/") as sock:
        sock.settimeout(PATIENCE)
        for number in range(3):
            # It is here, and the application waits for us before it makes the next one.
            assert b"tick%d" % number in read_until(sock, b"tick%d" % number)
            go_on.release()
        assert read_until(sock, b"0\r\n\r\n").endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_streams_of_clients_that_left_are_closed_and_give_their_threads_back(method):
    closed, begun = [], itertools.count()

    def app(environ, start_response):
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/":
            return [b"hello"]
        next(begun)
        return Endless(closed)

    # Of a POST's body something is left unread, so that receive() does not tell of the end.
    head = b"%s /endless HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    request = head % (method, 0 if method == b"GET" else 100_000)
    request += b"" if method == b"GET" else b"x" * 70_000
    with serving(app, threads=3) as server:
        clients = [server.connect() for _ in range(5)]
        for sock in clients:
            sock.sendall(request)
        for sock in clients:
            sock.close()
        wait_for(lambda: server.get("/")[2] == b"hello", PATIENCE)
        wait_for(lambda: len(closed) >= 3, PATIENCE)
    assert len(set(closed)) == len(closed)


def test_streams_end_when_the_server_shuts_down():
    closed = []

    def app(environ, start_response):
        start_response("200 OK", [])
        return Endless(closed)

    with serving(app, timeout_graceful_shutdown=0.5) as server, server.raw(GET % b"/") as sock:
        assert b"data: x" in read_until(sock, b"data: x")
        server.loop_thread.stop()
        wait_for(lambda: len(closed) == 1, PATIENCE)
        wait_for(lambda: not server.thread.is_alive(), PATIENCE)


def test_a_client_that_does_not_read_holds_the_application_up():
    made = []
    closed = threading.Event()

    class Pieces:
        def __iter__(self):
            return self

        def __next__(self):
            made.append(1)
            return b"x" * 100_000

        def close(self):
            closed.set()

    def app(environ, start_response):
        start_response("200 OK", [])
        return Pieces()

    with serving(app, limit_write_buffer=200_000) as server:
        with server.raw(GET % b"/"):
            last = -1
            while len(made) != last:  # until it waits
                last = len(made)
                time.sleep(0.3)
            assert len(made) < 200  # the buffers of the kernel, and ours
        assert closed.wait(PATIENCE)


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("pieces", [[b"x"], iter([b"x", b"y"])], ids=["whole", "stream"])
def test_reason_phrases(version, pieces):
    def app(environ, start_response):
        start_response(environ["QUERY_STRING"].replace("+", " "), [])
        return pieces

    with serving(app) as server:
        for status, line in [
            (b"299+Custom+Reason", b"299 Custom Reason"),
            (b"200+OK", b"200 OK"),
            (b"404+Nope", b"404 Nope"),
            (b"418", b"418 I'm a Teapot"),
            (b"299", b"299 "),
        ]:
            answer = server.exchange(
                b"GET /?%s HTTP/%s\r\nConnection: close\r\nHost: x\r\n\r\n" % (status, version)
            )
            assert answer.split(b"\r\n", 1)[0].lower() == b"http/1.1 " + line.lower()


@pytest.mark.parametrize("status", ["299 a\r\nx: y", "299 a\0b"])
def test_bad_reason_phrases(status):
    def app(environ, start_response):
        start_response(status, [])
        return [b"x"]

    with serving(app) as server:
        answer = server.exchange(GET % b"/")
        assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert b"x: y" not in answer


def test_head():
    closed = []

    def app(environ, start_response):
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/endless":
            return Endless(closed)
        return [b"hello"]

    with serving(app) as server:
        assert server.request("HEAD", "/")[1]["content-length"] == "5"
        status, headers, body = server.request("HEAD", "/endless")
        assert (status, body) == (200, b"")
        assert "content-length" not in headers
        wait_for(lambda: len(closed) == 1, PATIENCE)


def test_body_shorter_than_its_content_length_ends_the_connection():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "10")])
        return iter([b"abc", b"def"])

    with serving(app) as server:
        assert server.exchange(GET % b"/").endswith(b"abcdef")


def test_100_continue_comes_when_the_body_is_wanted():
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/read":
            environ["wsgi.input"].read()
        start_response("200 OK", [("Connection", "close")])
        return [b"done"]

    head = b"POST /%s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    with serving(app) as server:
        with server.raw(head % b"read") as sock:
            assert read_until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"abc")
            assert read_all(sock).endswith(b"done")
        with server.raw(head % b"dont") as sock:
            assert read_all(sock).startswith(b"HTTP/1.1 200 OK\r\n")


def test_body_over_the_limit():
    reads = []

    def app(environ, start_response):
        try:
            reads.append(environ["wsgi.input"].read())
        except OSError as error:
            reads.append(error)
            raise
        start_response("200 OK", [])
        return [b"done"]

    with serving(app, limit_body_bytes=100_000) as server:
        chunk = b"ffff\r\n" + b"x" * 65535 + b"\r\n"
        answer = server.exchange(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 2
        )
        assert answer.startswith(b"HTTP/1.1 413 ")
        wait_for(lambda: len(reads) == 1, PATIENCE)
        assert isinstance(reads[0], OSError)
