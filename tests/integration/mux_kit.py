"""A client of the test protocol (src/http/mux/mux.h): many requests at once over one connection."""

import socket
import struct

import patience

TIMEOUT = patience.seconds(10)
HEAD, DATA, RESET, WINDOW, GOAWAY = 1, 2, 3, 4, 5
END, INTERIM, UPGRADE = 1, 2, 4
START = 65536  # bytes that either side may send unasked
MOST = 16384  # of a DATA frame


class Reset(ConnectionError):
    """The server gave the request up."""


class Exchange:
    """One request, and what has come of its response."""

    def __init__(self, client, number):
        self.client = client
        self.id = number
        self.credit = START  # body bytes that the server takes
        self.window = START  # bytes of the response that the server may send
        self.interim = []
        self.status = None
        self.headers = []
        self.body = b""
        self.ended = self.was_reset = False

    # -- the request

    def write(self, data=b"", end=False):
        """Body bytes, as the server takes them."""
        data = memoryview(data)
        while data:
            self.client.until(lambda: self.credit > 0 or self.was_reset)
            if self.was_reset:
                raise Reset
            piece = data[: min(MOST, self.credit)]
            data = data[len(piece) :]
            self.credit -= len(piece)
            self.client.send(DATA, END if end and not data else 0, self.id, bytes(piece))
            end = end and bool(data)
        if end:
            self.client.send(DATA, END, self.id)

    def reset(self):
        self.client.send(RESET, 0, self.id)

    def grant(self, n):
        """The server may send n more bytes of the response."""
        self.window += n
        self.client.send(WINDOW, 0, self.id, struct.pack("!I", n))

    # -- the response

    def head(self):
        """(status, headers) as soon as they are there."""
        self.client.until(lambda: self.status is not None or self.was_reset)
        if self.status is None:
            raise Reset
        return self.status, self.headers

    def read(self, n=None):
        """At least n bytes of the body, or all of it; takes what comes."""
        while not self.ended and not self.was_reset and (n is None or len(self.body) < n):
            if self.window < START:
                self.grant(START - self.window)
            self.client.take()
        if self.was_reset and (n is None or len(self.body) < n):
            raise Reset
        data, self.body = self.body, b""
        return data

    def field(self, name):
        return next((v for k, v in self.headers if k == name), None)


class Client:
    """A connection."""

    def __init__(self, address):
        self.sock = socket.create_connection(address, timeout=TIMEOUT)
        self.exchanges = {}
        self.last = 0
        self.input = b""
        self.goaway = False

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def send(self, kind, flags, number, payload=b""):
        self.sock.sendall(struct.pack("!IBBI", len(payload), kind, flags, number) + payload)

    def open(self, method, path, headers=(), body=None, end=True, flags=0):
        """Begins a request: whole with `body`, else what `end` says."""
        self.last += 1
        exchange = self.exchanges[self.last] = Exchange(self, self.last)
        fields = headers.items() if isinstance(headers, dict) else headers
        lines = [f"{method} {path}", *(f"{name}:{value}" for name, value in fields)]
        if body is not None:
            lines.append(f"content-length:{len(body)}")
        if end and not body:
            flags |= END
        text = "".join(line + "\n" for line in lines)
        self.send(HEAD, flags, exchange.id, text.encode("latin-1"))
        if body:
            exchange.write(body, end)
        return exchange

    def until(self, condition):
        while not condition():
            self.take()

    def take(self):
        """Waits for a frame, and notes what it tells."""
        while len(self.input) < 10 or len(self.input) < 10 + int.from_bytes(self.input[:4]):
            chunk = self.sock.recv(65536)
            if not chunk:
                raise ConnectionError("closed by the server")
            self.input += chunk
        size, kind, flags, number = struct.unpack("!IBBI", self.input[:10])
        payload, self.input = self.input[10 : 10 + size], self.input[10 + size :]
        if kind == GOAWAY:
            self.goaway = True
            return
        exchange = self.exchanges.get(number)
        if exchange is not None:  # else it is over: the server did not know
            self._note(exchange, kind, flags, payload)

    def _note(self, exchange, kind, flags, payload):
        if kind == HEAD:
            status, _, lines = payload.decode("latin-1").partition("\n")
            pairs = [line.partition(":") for line in lines.split("\r\n") if line]
            headers = [(name.lower(), value.strip()) for name, _, value in pairs]
            if flags & INTERIM:
                exchange.interim.append((int(status), headers))
                return
            exchange.status, exchange.headers = int(status), headers
        elif kind == DATA:
            exchange.body += payload
            exchange.window -= len(payload)
            assert exchange.window >= 0, "more than was granted"
        elif kind == RESET:
            exchange.was_reset = True
        elif kind == WINDOW:
            exchange.credit += int.from_bytes(payload)
        if flags & END:
            exchange.ended = True
        if exchange.ended or exchange.was_reset:
            del self.exchanges[exchange.id]


class Connection:
    """As much of http.client.HTTPConnection as the tests use, over one Client."""

    def __init__(self, address, host):
        self.client, self.host = Client(address), host

    def request(self, method, path, body=None, headers=None):
        if isinstance(body, str):
            body = body.encode()
        fields = list((headers or {}).items())
        if "host" not in (name.lower() for name, _ in fields):
            fields.insert(0, ("host", self.host))
        self.exchange = self.client.open(method, path, fields, body)

    def putrequest(self, method, path, **_):
        self.begun = method, path, []

    def putheader(self, name, value):
        if name != "content-length":
            self.begun[2].append((name, value))

    def endheaders(self, body=None):
        method, path, headers = self.begun
        self.exchange = self.client.open(method, path, headers, body)

    def getresponse(self):
        return Response(self.exchange)

    def close(self):
        self.client.sock.close()


class Response:
    """As much of http.client.HTTPResponse as the tests use."""

    def __init__(self, exchange):
        self.exchange = exchange
        self.status, self.fields = exchange.head()

    def getheaders(self):
        return list(self.fields)

    def getheader(self, name, default=None):
        return next((v for k, v in self.fields if k == name.lower()), default)

    def read(self):
        return self.exchange.read()
