"""Clients of TLS: of Python's own ssl module."""

import contextlib
import socket

from server_kit import TIMEOUT, read_until


@contextlib.contextmanager
def connected(server, context, host="localhost", **options):
    """A connection on which the handshake is done."""
    with (
        socket.create_connection(server.address, timeout=TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=host, **options) as sock,
    ):
        yield sock


def get(server, context, path="/", host="localhost"):
    """The body of a response, which must be whole."""
    with connected(server, context, host) as sock:
        return ask(sock, path)


def ask(sock, path="/", *fields, method="GET", body=b""):
    """Send a request on a connection and return the body of the response."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", *fields]
    if body:
        lines.append(f"content-length: {len(body)}")
    sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return answer(sock)


def answer(sock):
    data = read_until(sock, b"\r\n\r\n")
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(rest) < size:
        chunk = sock.recv(65536)
        assert chunk, f"{size - len(rest)} bytes are missing"
        rest += chunk
    return rest
