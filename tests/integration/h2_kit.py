"""An HTTP/2 client: many requests at once over one connection.  The protocol itself is hyper-h2's."""

import contextlib
import socket

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import patience
import pytest

from turboapi import _core

TIMEOUT = patience.seconds(10)
START = 65535  # bytes of a response that the server may send unasked
MOST = 16384  # of a DATA frame
BUILT = _core.LIBRARIES["nghttp2"] is not None
needs_h2 = pytest.mark.skipif(not BUILT, reason="HTTP/2 was not built in: no nghttp2")


class Reset(ConnectionError):
    """The server gave the request up."""


class Closed(ConnectionError):
    """The server ended the connection."""


class Exchange:
    """One request, and what has come of its response."""

    def __init__(self, client, number):
        self.client = client
        self.id = number
        self.window = START  # bytes of the response that the server may send
        self.interim = []
        self.status = None
        self.headers = []
        self.trailers = []
        self.body = b""
        self.ended = False
        self.error = None  # code of the RST_STREAM that came

    # -- the request

    @property
    def credit(self):
        """Body bytes that the server takes."""
        try:
            return self.client.state.local_flow_control_window(self.id)
        except h2.exceptions.StreamClosedError:
            return 0

    @property
    def was_reset(self):
        return self.error not in (None, h2.errors.ErrorCodes.NO_ERROR)

    @property
    def over(self):
        return self.ended or self.error is not None

    def write(self, data=b"", end=False):
        """Body bytes, as the server takes them."""
        data = memoryview(data)
        while data:
            self.client.until(lambda: self.credit > 0 or self.over)
            if self.over:
                if self.was_reset:
                    raise Reset
                return
            piece = data[: min(MOST, self.credit)]
            data = data[len(piece) :]
            self.client.state.send_data(self.id, bytes(piece), end and not data)
            end = end and bool(data)
            self.client.flush()
        if end:
            with contextlib.suppress(h2.exceptions.StreamClosedError):
                self.client.state.end_stream(self.id)
            self.client.flush()

    def reset(self, code=h2.errors.ErrorCodes.CANCEL):
        self.client.state.reset_stream(self.id, code)
        self.client.flush()

    def grant(self, n):
        """The server may send n more bytes of the response."""
        self.window += n
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            self.client.state.increment_flow_control_window(n, self.id)
        self.client.flush()

    # -- the response

    def head(self):
        """(status, headers) as soon as they are there."""
        self.client.until(lambda: self.status is not None or self.error is not None)
        if self.status is None:
            raise Reset
        return self.status, self.headers

    def read(self, n=None):
        """At least n bytes of the body, or all of it; takes what comes."""
        while not self.over and (n is None or len(self.body) < n):
            if self.window < START:
                self.grant(START - self.window)
            self.client.take()
        if self.was_reset and (n is None or len(self.body) < n):
            raise Reset(self.error)
        data, self.body = self.body, b""
        return data

    def field(self, name):
        return next((v for k, v in self.headers if k == name), None)


class Client:
    """A connection; `wrap` makes one of TLS of a socket."""

    def __init__(self, address, settings=None, wrap=None):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(address)
        if wrap is not None:
            self.sock = wrap(self.sock)
        self.scheme = "http" if wrap is None else "https"
        self.exchanges = {}
        self.goaway = None  # the event of the last one
        self.settings = {}  # of the server
        self.pings = 0  # answers to ours
        # What it sends may be wrong: the server is tested, not the client.
        self.state = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding="latin-1",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        # Its own opinion is that nothing may follow a GOAWAY; streams that are open end in order.
        machine, open_state = self.state.state_machine, h2.connection.ConnectionState.CLIENT_OPEN
        goaway = (open_state, h2.connection.ConnectionInputs.RECV_GOAWAY)
        machine._transitions = {**machine._transitions, goaway: (None, open_state)}
        if settings:
            self.state.local_settings.update(settings)
            self.state.local_settings.acknowledge()  # they are its first ones
        self.state.initiate_connection()
        # The windows of streams are what tests are about.
        self.state.increment_flow_control_window(2**30)
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def flush(self):
        self.sock.sendall(self.state.data_to_send())

    def open(self, method, path, headers=(), body=None, end=True, pseudo=()):
        """Begins a request: whole with `body`, else what `end` says."""
        number = self.state.get_next_available_stream_id()
        exchange = self.exchanges[number] = Exchange(self, number)
        fields = list(headers.items() if isinstance(headers, dict) else headers)
        fields = [(name.lower(), value) for name, value in fields]
        host = next((value for name, value in fields if name == "host"), "test")
        fields = [pair for pair in fields if pair[0] != "host"]
        if body is not None:
            fields.append(("content-length", str(len(body))))
        begin = [
            (":method", method), (":scheme", self.scheme), (":authority", host), (":path", path),
            *pseudo,
        ]  # fmt: skip
        self.state.send_headers(number, begin + fields, end_stream=end and not body)
        self.flush()
        if body:
            exchange.write(body, end)
        return exchange

    def until(self, condition):
        while not condition():
            self.take()

    def take(self):
        """Waits for bytes, and notes what they tell."""
        if self.goaway is not None and self.goaway.error_code:
            raise Closed(self.goaway.error_code)
        chunk = self.sock.recv(65536)
        if not chunk:
            raise Closed("closed by the server")
        for event in self.state.receive_data(chunk):
            self._note(event)
        self.flush_quietly()

    def flush_quietly(self):
        with contextlib.suppress(ConnectionError):
            self.flush()

    def _note(self, event):  # noqa: C901
        exchange = self.exchanges.get(getattr(event, "stream_id", None))
        if exchange is None and not isinstance(event, _OF_CONNECTION):
            return  # it is over
        match event:
            case h2.events.ConnectionTerminated():
                self.goaway = event
            case h2.events.RemoteSettingsChanged():
                self.settings.update(
                    {one.setting: one.new_value for one in event.changed_settings.values()}
                )
            case h2.events.PingAckReceived():
                self.pings += 1
            case h2.events.InformationalResponseReceived():
                exchange.interim.append(_response(event.headers))
            case h2.events.ResponseReceived():
                exchange.status, exchange.headers = _response(event.headers)
            case h2.events.DataReceived():
                exchange.body += event.data
                exchange.window -= event.flow_controlled_length
                assert exchange.window >= 0, "more than was granted"
            case h2.events.TrailersReceived():
                exchange.trailers = [tuple(pair) for pair in event.headers]
            case h2.events.StreamEnded():
                exchange.ended = True
            case h2.events.StreamReset():
                exchange.error = event.error_code
        if exchange is not None and exchange.over:
            del self.exchanges[exchange.id]


_OF_CONNECTION = (
    h2.events.ConnectionTerminated,
    h2.events.RemoteSettingsChanged,
    h2.events.PingAckReceived,
)


def _response(headers):
    pairs = [tuple(pair) for pair in headers]
    return int(pairs[0][1]), pairs[1:]


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
