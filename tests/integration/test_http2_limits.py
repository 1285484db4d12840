"""HTTP/2: limits at their edges, floods, slow clients.  SECURITY.md names these tests."""

import asyncio
import contextlib
import struct
import time

import h2.errors
import pytest
from h2_kit import START, Closed, Exchange, Reset, needs_h2
from server_kit import forever, handler, read_body, running, send_text, wait_for

from turboapi import FastAPI

pytestmark = needs_h2

CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = (
    0, 1, 2, 3, 4, 6, 8, 9,
)  # fmt: skip
PRIORITY_UPDATE = 16


@handler
async def app(scope, receive, send):
    """/wait waits for the client to go, /read reads the body, the rest answers."""
    if scope["path"] == "/wait":
        while (await receive())["type"] != "http.disconnect":
            pass
    elif scope["path"] == "/read":
        await send_text(send, str(len(await read_body(receive))))
    else:
        await send_text(send, "hello")


def frame(kind, number=0, payload=b"", flags=0):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        "!I", number
    ) + payload  # fmt: skip


def end_of(client):
    """The error of the GOAWAY that ends the connection."""
    with contextlib.suppress(ConnectionError):
        while True:
            client.take()
    assert client.goaway is not None
    return client.goaway.error_code


def is_well(client):
    return client.open("GET", "/").read() == b"hello"


# -- floods: each up to its allowance, and one more ----------------------------------------------------

ALLOWED = 50


def bare_stream(client):
    """A stream that stays open, and is served."""
    return client.open("POST", "/wait", end=False).id


FLOODS = {
    "ping": lambda number: frame(PING, 0, bytes(8)),
    "ping answers": lambda number: frame(PING, 0, bytes(8), 1),
    "settings": lambda number: frame(SETTINGS),
    "priority": lambda number: frame(PRIORITY, number, struct.pack("!IB", 0, 9)),
    "priority update": lambda number: frame(PRIORITY_UPDATE, 0, struct.pack("!I", number) + b"u=1"),
    "window update": lambda number: frame(WINDOW_UPDATE, 0, struct.pack("!I", 1)),
    "window update of a stream": lambda number: frame(WINDOW_UPDATE, number, struct.pack("!I", 1)),
    "empty data": lambda number: frame(DATA, number),
    "unknown frames": lambda number: frame(0xBE, 0, b"x"),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_control_frames(kind, caplog):
    caplog.set_level("INFO", "turboapi.server")
    settings = {"limit_h2_control_frames": ALLOWED}
    with running(app, **settings) as server:
        for extra in (0, 2 * ALLOWED):
            with server.h2() as client:
                number = bare_stream(client)
                assert is_well(client)  # which gives back what the client's own settings took
                # What is left of the allowance when the client's first frames are counted.
                client.sock.sendall(FLOODS[kind](number) * (ALLOWED - 5 + extra))
                if extra:
                    assert end_of(client) == CALM
                else:
                    assert is_well(client)
        wait_for(lambda: server.server.connections == 0)
    assert caplog.text.count("limit_h2_control_frames") == 1


def test_control_frames_in_proportion_to_what_is_sent(caplog):
    """A client may answer each frame with some of its own."""
    with running(app, limit_h2_control_frames=ALLOWED) as server, server.h2() as client:
        for _ in range(3 * ALLOWED):
            client.sock.sendall(FLOODS["window update"](0) * 4)
            assert is_well(client)


def test_rapid_reset():
    with running(app, limit_h2_resets=ALLOWED) as server:
        with server.h2() as client:
            for _ in range(ALLOWED):
                client.open("GET", "/wait").reset()
            assert is_well(client)
        wait_for(lambda: server.server.active == 0)
        with server.h2() as client, contextlib.suppress(ConnectionError):
            for _ in range(10 * ALLOWED):
                client.open("GET", "/wait").reset()
            assert end_of(client) == CALM
            assert client.goaway.last_stream_id <= 4 * ALLOWED
        wait_for(lambda: server.server.active == 0)


# What nghttp2 takes for an error of the whole connection is over at once.
ENDS = (
    CALM,
    h2.errors.ErrorCodes.FRAME_SIZE_ERROR,
    h2.errors.ErrorCodes.PROTOCOL_ERROR,
    h2.errors.ErrorCodes.FLOW_CONTROL_ERROR,  # of newer releases of nghttp2, for the window
)
MADE = {  # errors of a stream, for which the server resets it
    "no window": lambda number: frame(WINDOW_UPDATE, number, bytes(4)),
    "too large a window": lambda number: frame(WINDOW_UPDATE, number, b"\x7f\xff\xff\xff"),
    "data beyond content-length": lambda number: frame(DATA, number, b"too much"),
    "priority of a wrong size": lambda number: frame(PRIORITY, number, bytes(4)),
}


@pytest.mark.parametrize("how", MADE)
def test_made_you_reset(how):
    with running(app, limit_h2_resets=ALLOWED) as server, server.h2() as client:
        with contextlib.suppress(ConnectionError):
            for _ in range(10 * ALLOWED):
                exchange = client.open("POST", "/wait", {"content-length": "1"}, end=False)
                client.sock.sendall(MADE[how](exchange.id))
            assert end_of(client) in ENDS
        wait_for(lambda: server.server.active == 0 and server.server.connections == 0)
        assert server.server.requests < 4 * ALLOWED


def test_requests_whose_streams_are_gone_count():
    """A handler that does not notice keeps its place."""
    working = []

    @handler
    async def stubborn(scope, receive, send):
        working.append(scope)
        await asyncio.sleep(60)

    settings = {"limit_h2_streams": 10, "timeout_graceful_shutdown": 0.2}
    with running(stubborn, **settings) as server, server.h2() as client:
        for n in range(20):
            one = client.open("GET", "/")
            wait_for(lambda n=n: len(working) == n + 1)
            one.reset()
        exchange = client.open("GET", "/")
        with pytest.raises(Reset):
            exchange.head()
        assert exchange.error == h2.errors.ErrorCodes.REFUSED_STREAM
        assert len(working) == server.server.active == 20  # twice as many as may be open


def test_streams():
    with running(app, limit_h2_streams=3) as server, server.h2() as client:
        client.until(lambda: client.settings)
        assert client.settings[3] == 3
        waiting = [client.open("GET", "/wait") for _ in range(3)]
        wait_for(lambda: server.server.active == 3)
        # hyper-h2 would not open another one
        client.state.remote_settings[3] = 100
        client.state.remote_settings.acknowledge()
        refused = client.open("GET", "/")
        with pytest.raises((Reset, Closed)):
            refused.head()
        if refused.error is not None:  # else the connection has ended
            assert refused.error == h2.errors.ErrorCodes.REFUSED_STREAM
            waiting[0].reset()
            assert is_well(client)


def open_block(client):
    """A HEADERS frame that lacks its end."""
    number = client.state.get_next_available_stream_id()
    block = client.state.encoder.encode(
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
    )
    client.sock.sendall(frame(HEADERS, number, block, 1))
    return number


def test_continuations():
    for count, ends in ((8, False), (9, True), (100, True)):
        with running(app) as server, server.h2() as client:
            assert is_well(client)
            number = open_block(client)
            parts = [frame(CONTINUATION, number) for _ in range(count - 1)]
            client.sock.sendall(b"".join(parts) + frame(CONTINUATION, number, b"", 4))
            if ends:
                assert end_of(client) == CALM
            else:
                wait_for(lambda: server.server.requests == 2)


def test_bytes_of_fields():
    with running(app, limit_header_bytes=2000) as server:
        for size, status in ((1800, 200), (2000, 431), (7800, 431)):
            with server.h2() as client:
                assert client.open("GET", "/", {"x": "v" * size}).head()[0] == status
                assert is_well(client)
        for fields in ({"x": "v" * 8000}, [(f"x{n}", "v" * 3000) for n in range(12)]):
            with server.h2() as client, contextlib.suppress(ConnectionError):
                client.open("GET", "/", fields)
                assert end_of(client) == CALM


def test_hpack_bomb():
    """A field of 4 KB in the table, and a byte for each time that it is meant."""
    with running(app) as server, server.h2() as client:
        assert is_well(client)
        number = open_block(client)
        value = b"\x7f" + bytes([0x81, 0x1E]) + b"v" * 4000  # a literal that is added to the table
        block = b"\x40\x01x" + value + b"\xbe" * 12_000
        with contextlib.suppress(ConnectionError):
            client.sock.sendall(frame(CONTINUATION, number, block, 4))
            assert end_of(client) == CALM
        assert server.server.requests == 1


@pytest.mark.parametrize("name", ["x", "cookie"])
def test_fields_of_one_byte(name):
    """The "HTTP/2 bomb": what a field takes beside its text adds up, and streams hold it."""
    with running(app) as server, server.h2() as client:
        assert is_well(client)
        refused = 0
        try:
            for _ in range(5):
                assert client.open("GET", "/", [(name, "v")] * 8000).head()[0] == 431
                refused += 1
        except ConnectionError:
            assert client.goaway is not None
            assert client.goaway.error_code == CALM
        # Refused requests are counted, one perhaps whose answer did not come.
        assert 0 <= server.server.requests - 1 - refused <= 1


@pytest.mark.parametrize(
    "end", [frame(WINDOW_UPDATE, 0, bytes(4)), frame(PING, 0, bytes(8)) * 2 * ALLOWED]
)
@pytest.mark.parametrize(
    "behind",
    [
        frame(PING, 0, bytes(7)),
        frame(SETTINGS, 0, bytes(5)),
        frame(WINDOW_UPDATE, 0, bytes(3)),
        frame(RST_STREAM, 1, bytes(3)),
        frame(PRIORITY, 1, bytes(3)),
        frame(PRIORITY_UPDATE, 0, bytes(3)),
        frame(CONTINUATION, 1, bytes(3)),
        frame(HEADERS, 1, b"", 0x20),
        frame(DATA, 1, b"\xff", 8),
        frame(DATA, 1, bytes(20_000)),
    ],
)
def test_frames_behind_the_end(end, behind):
    """nghttp2 went on reading behind a frame that ends the connection, to a failed assertion."""
    with running(app, limit_h2_control_frames=ALLOWED) as server:
        with server.h2() as client:
            assert is_well(client)
            client.sock.sendall(end + behind * 3)
            assert end_of(client)
        with server.h2() as client:
            assert is_well(client)


def test_number_of_fields():
    with running(app, limit_header_count=10) as server, server.h2() as client:
        assert client.open("GET", "/", [(f"x{n}", "v") for n in range(10)]).head()[0] == 200
        assert client.open("GET", "/", [(f"x{n}", "v") for n in range(11)]).head()[0] == 431
        assert is_well(client)


def test_long_targets():
    with running(app, limit_request_line=1000) as server, server.h2() as client:
        assert client.open("GET", "/" + "a" * 900).head()[0] == 200
        assert client.open("GET", "/" + "a" * 1000).head()[0] == 414


# -- windows -------------------------------------------------------------------------------------------


def test_bodies_that_nobody_reads_hold_no_more_than_the_windows():
    @handler
    async def deaf(scope, receive, send):
        if scope["path"] == "/":
            await send_text(send, "hello")
        else:
            await forever()

    windows = {"limit_h2_stream_window": 20_000, "limit_h2_conn_window": 50_000}
    settings = {**windows, "timeout_graceful_shutdown": 0.2}
    with running(deaf, **settings) as server, server.h2() as client:
        client.until(lambda: client.settings)
        assert client.settings[4] == 20_000
        sent = 0
        for _ in range(20):
            exchange = client.open("POST", "/deaf", end=False)
            client.until(lambda: client.settings)
            n = min(exchange.credit, 20_000)
            if not n:
                break
            exchange.write(bytes(n))
            sent += n
            assert is_well(client)
        # One window that they hold, and one that was open when it was full.
        assert 50_000 <= sent <= 2 * 65_535


def test_a_body_is_read_through_small_windows():
    windows = {"limit_h2_stream_window": 1000, "limit_h2_conn_window": 1000}
    with running(app, **windows) as server, server.h2() as client:
        one = client.open("POST", "/read", end=False)
        two = client.open("POST", "/read", end=False)
        for _ in range(10):
            one.write(bytes(10_000))
            two.write(bytes(10_000))
        one.write(end=True)
        two.write(end=True)
        assert one.read() == two.read() == b"100000"


# -- time ------------------------------------------------------------------------------------------------


def test_idle_connections_end_in_order():
    with running(app, timeout_idle=0.3) as server, server.h2() as client:
        assert is_well(client)
        begun = time.monotonic()
        assert end_of(client) == 0
        assert time.monotonic() - begun > 0.2


def test_pings_do_not_keep_a_connection():
    with running(app, timeout_idle=0.3) as server, server.h2() as client:
        assert is_well(client)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                client.state.ping(bytes(8))
                client.flush()
                client.take()
                time.sleep(0.05)
        assert client.goaway is not None


def test_a_header_block_must_come_in_time(caplog):
    caplog.set_level("INFO", "turboapi.server")
    with running(app, timeout_header=0.3, timeout_idle=30) as server, server.h2() as client:
        assert is_well(client)
        open_block(client)
        assert end_of(client) == CALM
    assert "a header block did not arrive in time" in caplog.text


def test_a_body_must_come_in_time():
    with running(app, timeout_body=0.3) as server, server.h2() as client:
        exchange = client.open("POST", "/read", end=False)
        exchange.write(b"some")
        assert exchange.head()[0] == 408
        assert is_well(client)


def test_a_response_must_be_read_in_time():
    app = FastAPI()

    @app.get("/")
    async def index():
        return "x" * 1_000_000

    @app.get("/short")
    async def short():
        return 1

    with running(app, interface="turboapi", timeout_write=0.3) as server, server.h2() as client:
        exchange = client.open("GET", "/")
        client.until(lambda: exchange.error is not None)
        assert exchange.error == h2.errors.ErrorCodes.CANCEL
        assert len(exchange.body) == START
        assert client.open("GET", "/short").read() == b"1"
        wait_for(lambda: server.server.active == 0)


def test_a_client_that_reads_slowly_is_served():
    app = FastAPI()

    @app.get("/")
    async def index():
        return "x" * 200_000

    with running(app, interface="turboapi", timeout_write=0.5) as server, server.h2() as client:
        exchange = client.open("GET", "/")
        for _ in range(8):
            client.until(lambda: exchange.window == 0 or exchange.over)
            time.sleep(0.2)
            exchange.grant(20_000)
        assert len(exchange.read()) == 200_002


# -- what is malformed -------------------------------------------------------------------------------------


HEAD = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]


def send_as_it_is(client, fields):
    number = client.state.get_next_available_stream_id()
    exchange = client.exchanges[number] = Exchange(client, number)
    client.state.send_headers(number, fields, end_stream=True)
    client.flush()
    return exchange


@pytest.mark.parametrize(
    "fields",
    [
        [("connection", "close")],
        [("transfer-encoding", "chunked")],
        [("upgrade", "h2c")],
        [("te", "gzip")],
        [("X-Upper", "v")],
        [("x", "a\r\nb: c")],
        [("x", "a\0")],
        [("content-length", "x")],
        [("content-length", "1"), ("content-length", "2")],
    ],
)
def test_malformed_requests_are_reset(fields):
    with running(app) as server, server.h2() as client:
        with pytest.raises((Reset, Closed)):
            send_as_it_is(client, [*HEAD, *fields]).head()
        assert server.server.requests == 0


@pytest.mark.parametrize(
    ("pseudo", "status"),
    [
        ({":path": "/a#b"}, 400),
        ({":path": "/\x7f"}, 400),
        ({":authority": "a b"}, 400),
        ({":authority": "user@a"}, 400),
    ],
)
def test_targets_that_are_refused(pseudo, status):
    with running(app) as server, server.h2() as client:
        exchange = client.open(
            "GET", pseudo.get(":path", "/"), {"host": pseudo.get(":authority", "a")}
        )
        with contextlib.suppress(Reset):  # nghttp2 has refused it before us
            assert exchange.head()[0] == status


def test_a_host_that_contradicts_the_authority():
    with running(app) as server, server.h2() as client:
        assert send_as_it_is(client, [*HEAD, ("host", "b")]).head()[0] == 400
        assert send_as_it_is(client, [*HEAD, ("host", "a")]).head()[0] == 200
