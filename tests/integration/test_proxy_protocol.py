"""The PROXY protocol: who the client is, what follows the header, and who is not let in."""

import contextlib
import socket
import struct
import time

import pytest
from certificates import Authority
from server_kit import TIMEOUT, read_all, running, wait_for

V2 = b"\r\n\r\n\0\r\nQUIT\n"
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = "{}:{} {}".format(*scope["client"], scope["scheme"]).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def v2(family, addresses, command=0x21):
    return V2 + struct.pack("!BBH", command, family, len(addresses)) + addresses


TCP4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 4711, 80)
TCP6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "::1")
    + struct.pack("!HH", 4712, 80)
)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n", b"192.0.2.7:4711"),
        (b"PROXY TCP6 2001:db8::7 ::1 4712 80\r\n", b"2001:db8::7:4712"),
        (b"PROXY UNKNOWN\r\n", b"127.0.0.1:"),
        (v2(0x11, TCP4), b"192.0.2.7:4711"),
        (v2(0x11, TCP4 + b"\x04\0\x04more"), b"192.0.2.7:4711"),
        (v2(0x21, TCP6), b"2001:db8::7:4712"),
        (v2(0x00, b"", command=0x20), b"127.0.0.1:"),
    ],
)
def test_who_the_client_is(header, client):
    with running(app, proxy_protocol=True) as server:
        answer = server.exchange(header + REQUEST)
        assert answer.partition(b"\r\n\r\n")[2].startswith(client)
        with server.raw() as connection:  # byte for byte
            for byte in header + REQUEST:
                connection.sendall(bytes([byte]))
            assert read_all(connection).partition(b"\r\n\r\n")[2].startswith(client)


def test_a_client_is_not_trusted_as_its_proxy_is():
    request = REQUEST.replace(b"host: x", b"host: x\r\nx-forwarded-for: 1.1.1.1")
    with running(app, proxy_protocol=True) as server:
        header = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"
        assert b"192.0.2.7:4711" in server.exchange(header + request)
        header = b"PROXY TCP4 127.0.0.1 10.0.0.1 4711 80\r\n"  # itself a proxy
        assert b"1.1.1.1:0" in server.exchange(header + request)


def test_who_is_not_let_in(caplog):
    with running(app, proxy_protocol=True, log_level="info") as server:
        for begin in (REQUEST, b"PROXY TCP4 x\r\n", v2(0x12, TCP4), b"\x16\x03\x01" + b"x" * 50):
            assert server.exchange(begin) == b""
        server.exchange(b"")  # only looks
        said = [each for each in caplog.messages if "proxy_protocol" in each]
        assert said == [
            "A connection of 127.0.0.1 was closed: it does not begin with a header of the PROXY "
            "protocol (proxy_protocol)"
        ]
        assert b"200 OK" in server.exchange(b"PROXY UNKNOWN\r\n" + REQUEST)


def answer_of(server, data):
    """What is answered; b"" where the connection is closed, be it before all is sent."""
    try:
        return server.exchange(data)
    except (BrokenPipeError, ConnectionResetError):
        return b""


def test_untrusted_peers(caplog):
    with running(app, proxy_protocol=True, forwarded_allow_ips="10.0.0.0/8") as server:
        for _ in range(2):
            assert answer_of(server, b"PROXY UNKNOWN\r\n" + REQUEST) == b""
        said = [each for each in caplog.messages if "forwarded_allow_ips" in each]
        assert len(said) == 1
        assert said[0].startswith("A connection of 127.0.0.1 was closed: it is no trusted proxy")


def test_peers_of_a_unix_socket(tmp_path):
    header = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"
    for trusted, answered in (("unix", True), ("127.0.0.1", False)):
        settings = {"uds": str(tmp_path / trusted), "forwarded_allow_ips": trusted}
        with running(app, proxy_protocol=True, **settings) as server:
            answer = answer_of(server, header + REQUEST)
            assert answer.endswith(b"192.0.2.7:4711 http") is answered


def test_limits_count_those_that_wait():
    with running(app, proxy_protocol=True, timeout_header=0.3, limit_connections=2) as server:
        with server.raw(b"PROXY "), server.raw(b"PROXY "):
            time.sleep(0.1)
            began = time.monotonic()
            assert b"200 OK" in server.exchange(b"PROXY UNKNOWN\r\n" + REQUEST)
            assert time.monotonic() - began > 0.1  # once those had used up their time
        wait_for(lambda: server.server.connections == 0)


def test_the_end_with_some_that_wait():
    with running(app, proxy_protocol=True) as server:
        waiting = server.raw(b"PROXY TCP4 ")
        connection = waiting.__enter__()
        wait_for(lambda: server.server is not None)
    assert read_all(connection) == b""
    with contextlib.suppress(OSError):
        waiting.__exit__(None, None, None)


def test_below_tls(tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    context = authority.context()
    with running(app, proxy_protocol=True, ssl_certfile=certificate, ssl_keyfile=key) as server:
        with socket.create_connection(server.address, TIMEOUT) as plain:
            plain.sendall(v2(0x11, TCP4))
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(REQUEST)
                assert read_all(connection).endswith(b"192.0.2.7:4711 https")
