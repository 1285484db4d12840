"""Requests that the protocol refuses: in the access log, in the metrics, and with their ID."""

import json
import re
import socket
import uuid

import patience
import pytest
from cli_kit import Server
from h2_kit import Client, needs_h2
from test_metrics import ask, free_port, samples

APP = """
from turboapi import FastAPI, Request

app = FastAPI()

@app.post("/upload")
async def upload(request: Request):
    return len(await request.body())
"""
HEAD = "POST /upload?a=%22 HTTP/1.1\r\nHost: x\r\n"
LENGTH, CHUNKED = "Content-Length: 2000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"
# What is sent, at once or (after a "|") once it was routed, and the status it gets.
LOGGED = [
    pytest.param(HEAD + LENGTH, 413, id="declared"),
    pytest.param(HEAD + CHUNKED + "7d0\r\n" + "x" * 2000, 413, id="counted"),
    pytest.param(HEAD + CHUNKED + "|7d0\r\n" + "x" * 2000, 413, id="counted later"),
    pytest.param(HEAD + CHUNKED + "4\r\nxxxx\r\n|no size", 400, id="malformed body"),
    pytest.param(HEAD + "Content-Length: 8\r\n\r\nx|", 408, id="slow body"),
    pytest.param(HEAD + "Expect: more\r\n\r\n", 417, id="expectation"),
    pytest.param(HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, id="coding"),
    pytest.param(HEAD + "A: b\r\n" * 30 + "\r\n", 431, id="fields"),
    pytest.param(HEAD + "no colon\r\n\r\n", 400, id="malformed field"),
    pytest.param(HEAD + "A: b\r\n", 408, id="slow head"),
]
COUNTED = [
    pytest.param("GET /" + "a" * 2000 + " HTTP/1.1\r\nHost: x\r\n\r\n", 414, id="line"),
    pytest.param("GET nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="malformed line"),
    pytest.param("GET / HT", 408, id="slow line"),
]


@pytest.fixture(scope="module", params=["json", "uvicorn"])
def server(request, tmp_path_factory):
    folder, metrics = tmp_path_factory.mktemp("refused"), free_port()
    (folder / "main.py").write_text(APP)
    arguments = (
        "--limit-body-bytes 1000 --timeout-body 0.5 --timeout-header 0.5 --limit-header-count 20 "
        "--limit-request-line 1000 --request-id-response X-Request-ID "
        f"--access-log-format {request.param} --metrics 127.0.0.1:{metrics} --port 0 --http2"
    )
    with Server(folder, "run", "main:app", *arguments.split()) as server:
        server.started()
        server.metrics, server.form = metrics, request.param
        yield server


def requests(server):
    found = samples(ask(server.metrics, "/metrics")[1])
    assert found["requests_in_flight", ()] == 0
    return {labels: n for (name, labels), n in found.items() if name == "requests_total"}


def one_in_flight(server):
    def look():
        return samples(ask(server.metrics, "/metrics")[1])["requests_in_flight", ()] == 1

    patience.until(look, 10)


def address_of(sock):
    """The client's address as the access log writes it."""
    return "{}:{}".format(*sock.getsockname())


def send(server, text):
    """The answer: (status, fields, the client's address)."""
    with socket.create_connection(("127.0.0.1", server.port), patience.seconds(10)) as sock:
        client = address_of(sock)
        first, later, rest = text.partition("|")
        sock.sendall(first.encode())
        if later:
            one_in_flight(server)
            sock.sendall(rest.encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    head = answer.partition("\r\n\r\n")[0].split("\r\n")
    return int(head[0].split()[1]), dict(line.lower().split(": ", 1) for line in head[1:]), client


def one_more(server, before, labels):
    """Wait until one request was counted, with these labels, since."""
    expected = {**before, labels: before.get(labels, 0) + 1}
    patience.until(lambda: requests(server) == expected, 10)


def in_the_log(server, status, protocol, request_id, client):
    """Wait for the one line of the request."""
    if server.form == "json":
        patience.until(lambda: request_id in server.log, 10)
        (line,) = [line for line in server.log.splitlines() if request_id in line]
        found = json.loads(line)
        assert found["status"] == status and found["request_id"] == request_id
        assert (found["method"], found["target"]) == ("POST", "/upload?a=%22")
        assert found["protocol"] == protocol and found["client"].startswith("127.0.0.1:")
        assert found["bytes_out"] > 0 and found["duration"] >= 0
    else:
        line = re.escape(f'{client} - "POST /upload?a=%22 {protocol}" {status}')
        patience.until(lambda: re.search(line, server.log), 10)


@pytest.mark.parametrize(("text", "status"), LOGGED)
def test_what_has_a_request_line_is_logged_and_counted(server, text, status):
    before = requests(server)
    got, fields, client = send(server, text)
    assert got == status and fields["connection"] == "close"
    assert fields["content-type"] == "text/plain; charset=utf-8"
    assert uuid.UUID(fields["x-request-id"])
    one_more(server, before, ("/upload" if "|" in text else "", "POST", str(status)))
    in_the_log(server, status, "HTTP/1.1", fields["x-request-id"], client)


@pytest.mark.parametrize(("text", "status"), COUNTED)
def test_what_has_none_is_counted(server, text, status):
    before, size = requests(server), len(server.log)
    got, fields, client = send(server, text)
    assert got == status and "x-request-id" not in fields
    one_more(server, before, ("", "_OTHER", str(status)))
    # A line of the test before may be written only now: this client's are meant.
    new = [line for line in server.log[size:].splitlines() if client in line]
    assert len(new) == 1 and f"refused a request: {status} " in new[0]


@needs_h2
@pytest.mark.parametrize(
    ("fields", "body", "status", "route"),
    [
        pytest.param({"content-length": "2000"}, b"", 413, "", id="declared"),
        pytest.param({}, bytes(2000), 413, "/upload", id="counted"),
        pytest.param({"content-length": "8"}, b"x", 408, "/upload", id="slow body"),
        pytest.param({"expect": "more"}, b"", 417, "", id="expectation"),
        pytest.param({f"a{n}": "b" for n in range(30)}, b"", 431, "", id="fields"),
    ],
)
def test_over_http2(server, fields, body, status, route):
    before = requests(server)
    with Client(("127.0.0.1", server.port)) as client:
        address = address_of(client.sock)
        exchange = client.open("POST", "/upload?a=%22", fields, end=False)
        if body:
            one_in_flight(server)
            exchange.write(body)
        got, headers = exchange.head()[:2]
        exchange.read()
    headers = dict(headers)
    assert got == status and uuid.UUID(headers["x-request-id"])
    one_more(server, before, (route, "POST", str(status)))
    in_the_log(server, status, "HTTP/2", headers["x-request-id"], address)
