"""What the tests of WebSockets share: an echo application, a good client and one that can break rules."""

import base64
import os
import struct

from server_kit import TIMEOUT, read_all, read_until
from websockets.sync.client import connect

KEY = base64.b64encode(bytes(16)).decode()


def websocket_app(function):
    """An ASGI application of an `async def (scope, receive, send)` for WebSockets only."""

    async def app(scope, receive, send):
        assert scope["type"] == "websocket", "no lifespan"
        await function(scope, receive, send)

    return app


@websocket_app
async def echo(scope, receive, send):
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def client(server, path="/", **options):
    host, port = server.address
    options.setdefault("open_timeout", TIMEOUT)
    options.setdefault("close_timeout", TIMEOUT)
    options.setdefault("max_size", None)
    return connect(f"ws://{host}:{port}{path}", **options)


def upgrade(*fields, key=KEY, version="13", method="GET", http="1.1"):
    """The bytes of a request that opens a WebSocket."""
    lines = [
        f"{method} / HTTP/{http}",
        "host: x",
        "connection: Upgrade",
        "upgrade: websocket",
        *([f"sec-websocket-key: {key}"] if key is not None else []),
        *([f"sec-websocket-version: {version}"] if version is not None else []),
        *fields,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True):
    """A client's frame."""
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    mark = 0x80 if masked else 0
    if size < 126:
        head += bytes([mark | size])
    elif size < 65536:
        head += bytes([mark | 126]) + struct.pack("!H", size)
    else:
        head += bytes([mark | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(payload))


class RawClient:
    """A client that can break the rules."""

    def __init__(self, server, *fields):
        self.sock = server.connect()
        self.sock.sendall(upgrade(*fields))
        head = read_until(self.sock, b"\r\n\r\n")
        self.head, self.data = head.split(b"\r\n\r\n", 1)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def send(self, *frames):
        self.sock.sendall(b"".join(frames))

    def _read(self, size):
        while len(self.data) < size:
            chunk = self.sock.recv(65536)
            if not chunk:
                raise EOFError
            self.data += chunk
        data, self.data = self.data[:size], self.data[size:]
        return data

    def frame(self):
        """The next frame of the server: (opcode with FIN and RSV bits, payload)."""
        first, size = self._read(2)
        assert size < 128, "masked"
        if size == 126:
            (size,) = struct.unpack("!H", self._read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._read(8))
        return first, self._read(size)

    def closed_with(self):
        """The close code that comes next, and then the end of the connection."""
        first, payload = self.frame()
        assert first == 0x88
        assert read_all(self.sock) == b""
        return struct.unpack("!H", payload[:2])[0] if payload else None
