"""_core.SocketTransport against asyncio's own transport: the same calls give the same events."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import logging
import os
import re
import socket
import ssl
import struct
import sys
import tempfile
import threading
import warnings
import weakref
from asyncio import selector_events
from unittest import mock

import patience
import pytest
from certificates import Authority

from turboapi import _core
from turboapi.loop import EventLoop, new_event_loop

THEIRS = selector_events._SelectorSocketTransport
OURS = _core.SocketTransport


class Recorder(asyncio.Protocol):
    """Logs what it is told; `on` has functions by event that are called besides."""

    def __init__(self, log, **on):
        self.log = log
        self.on = on
        self.done = asyncio.get_running_loop().create_future()

    def tell(self, event, *args):
        self.log.append((event, *args))
        if event in self.on:
            return self.on[event](self, *args)
        return None

    def connection_made(self, transport):
        self.transport = transport
        self.tell("connection_made")

    def data_received(self, data):
        assert type(data) is bytes
        self.tell("data_received", data)

    def eof_received(self):
        return self.tell("eof_received")

    def connection_lost(self, exc):
        self.log.append(("connection_lost", type(exc)))
        if not self.done.done():
            self.done.set_result(None)
        if "connection_lost" in self.on:
            self.on["connection_lost"](self, exc)

    def pause_writing(self):
        self.tell("pause_writing")

    def resume_writing(self):
        self.tell("resume_writing")


class Buffered(Recorder, asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    size = 5

    def get_buffer(self, sizehint):
        answer = self.tell("get_buffer", sizehint)
        if answer is None:
            self.memory = answer = bytearray(self.size)
        return answer

    def buffer_updated(self, nbytes):
        self.tell("buffer_updated", bytes(self.memory[:nbytes]))


def names(error):
    """The text without what differs from run to run, and between the classes."""
    return re.sub(r"\(.*|<.*?>|_Selector(Socket)?(?=Transport)|Socket(?=Transport)", "", str(error))


async def connect(log, factory=Recorder, *, tcp=False, **on):
    """A transport with a Recorder, and the socket at its other end, which blocks."""
    loop = asyncio.get_running_loop()
    if tcp:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            peer = listener.accept()[0]
    else:
        ours, peer = socket.socketpair()
    ours.setblocking(False)
    transport, protocol = await loop.create_connection(lambda: factory(log, **on), sock=ours)
    return transport, protocol, peer


async def turns(count=4, log=None):
    for number in range(count):
        await asyncio.sleep(0)
        if log is not None:
            log.append(("turn", number))


def play(make_loop, scenario, kind):
    log = []
    loop = make_loop()

    def handler(_, context):
        log.append(
            (
                "handler",
                names(context["message"]),
                type(context.get("exception")),
                "transport" in context,
                "protocol" in context,
            )
        )

    loop.set_exception_handler(handler)

    async def main():
        transport = await scenario(loop, log)
        if transport is not None:
            assert type(transport) is kind
        await turns()

    with contextlib.closing(loop), warnings.catch_warnings():
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(asyncio.wait_for(main(), patience.seconds(10)))
        finally:
            asyncio.set_event_loop(None)
    return log


SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


def both(scenario):
    theirs = play(asyncio.SelectorEventLoop, scenario, THEIRS)
    ours = play(new_event_loop, scenario, OURS)
    assert ours == theirs
    assert theirs
    return theirs


# -- order ----------------------------------------------------------------------------------------


@scenario
async def data_comes_after_what_was_ready(loop, log):
    transport, _, peer = await connect(log)
    peer.send(b"one")
    loop.call_soon(log.append, "soon")
    loop.call_later(0, log.append, "later")
    await turns(4, log)
    peer.send(b"two")
    await turns(1, log)
    loop.call_soon(log.append, "soon again")
    await turns(4, log)
    transport.close()
    loop.call_soon(log.append, "after close")
    await turns(4, log)
    peer.close()
    return transport


@scenario
async def connection_made_comes_first(loop, log):
    def made(self):
        loop.call_soon(log.append, "from connection_made")
        self.transport.write(b"hello")

    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.send(b"early")
    peer.shutdown(socket.SHUT_WR)
    transport, _ = await loop.create_connection(
        lambda: Recorder(log, connection_made=made), sock=ours
    )
    log.append("connected")
    await turns(6, log)
    log.append(peer.recv(100))
    log.append(peer.recv(100))
    peer.close()
    return transport


@scenario
async def two_transports_in_one_select(loop, log):
    first, _, one = await connect(log)
    second, _, two = await connect(log)
    one.send(b"1")
    two.send(b"2")
    one.close()
    two.close()
    await turns(6, log)
    return first or second


# -- what callbacks do ----------------------------------------------------------------------------

ACTIONS = {
    "abort": lambda self, *_: self.transport.abort(),
    "close": lambda self, *_: self.transport.close(),
    "close twice": lambda self, *_: (self.transport.close(), self.transport.close()),
    "close and abort": lambda self, *_: (self.transport.close(), self.transport.abort()),
    "pause": lambda self, *_: self.transport.pause_reading(),
    "write": lambda self, *_: self.transport.write(b"answer"),
    "write_eof": lambda self, *_: self.transport.write_eof(),
    "raise": lambda self, *_: 1 / 0,
    "raise OSError": lambda self, *_: os.stat("/nowhere"),
    "cancel": lambda self, *_: (_ for _ in ()).throw(asyncio.CancelledError),
    "true": lambda self, *_: True,
    "replace": lambda self, *_: self.transport.set_protocol(Recorder(self.log)),
}


# Debian 12's own 3.11.2 does not.
PAUSES_AT_ONCE = "_add_reader" not in vars(THEIRS.__base__) or "is_reading" in inspect.getsource(
    vars(THEIRS.__base__)["_add_reader"]
)


@pytest.mark.parametrize("factory", [Recorder, Buffered])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "event",
    ["connection_made", "data_received", "buffer_updated", "eof_received", "connection_lost"],
)
def test_callbacks(event, action, factory):
    if (event, action) == ("connection_made", "pause") and not PAUSES_AT_ONCE:
        pytest.skip("this asyncio reads on after pause_reading() in connection_made()")

    async def scenario(loop, log):
        transport, protocol, peer = await connect(log, factory, **{event: ACTIONS[action]})
        with contextlib.suppress(ConnectionError):
            peer.send(b"0123456")
        await turns(6, log)
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_WR)
        await turns(6, log)
        log.append((transport.is_closing(), transport.is_reading()))
        transport.close()
        await turns(6, log)
        peer.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            log.append(peer.recv(100))
        peer.close()
        log.append(transport.get_protocol() is None)
        return transport

    both(scenario)


@pytest.mark.parametrize("answer", [b"", bytearray(), b"read-only", 17, memoryview(bytearray(3))])
def test_get_buffer_gives(answer):
    async def scenario(loop, log):
        transport, protocol, peer = await connect(log, Buffered, get_buffer=lambda *_: answer)
        protocol.memory = bytearray(10)
        peer.send(b"0123456")
        await turns(8, log)
        transport.close()
        await protocol.done
        peer.close()
        return transport

    both(scenario)


@scenario
async def get_buffer_raises(loop, log):
    transport, protocol, peer = await connect(log, Buffered, get_buffer=ACTIONS["raise"])
    peer.send(b"0123456")
    await protocol.done
    peer.close()
    return transport


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("event", ["data_received", "eof_received", "pause_writing"])
def test_errors_that_end_the_loop(event, error):
    def fail(*_):
        raise error

    logs = []
    for make in (asyncio.SelectorEventLoop, new_event_loop):
        log = []
        with contextlib.closing(make()) as loop:
            transport, protocol, peer = loop.run_until_complete(connect(log, **{event: fail}))
            peer.send(b"data")
            if event == "eof_received":
                peer.shutdown(socket.SHUT_WR)
            if event != "pause_writing":
                with pytest.raises(error):
                    loop.run_until_complete(protocol.done)
            else:
                transport.set_write_buffer_limits(0)
                with pytest.raises(error):
                    transport.write(bytes(10_000_000))
            log.append(transport.is_closing())
            transport.abort()
            loop.run_until_complete(protocol.done)
            peer.close()
        logs.append(log)
    assert logs[0] == logs[1]


@scenario
async def stopped_reading_in_the_same_turn(loop, log):
    first, protocol, one = await connect(log)
    one.send(b"never seen")
    # Runs in the iteration whose select() reports the data, before it is read.
    await turns(1)
    loop.call_soon(lambda: loop.call_soon(first.pause_reading))
    await turns(4, log)
    log.append(first.is_reading())
    first.resume_reading()
    first.resume_reading()
    await turns(3, log)
    first.pause_reading()
    first.pause_reading()
    one.send(b"later")
    await turns(3, log)
    first.close()
    first.resume_reading()
    await turns(3, log)
    one.close()
    return first


# -- writing --------------------------------------------------------------------------------------


def drain(peer, total):
    """Read so much from a thread."""
    got = bytearray()

    def read():
        while len(got) < total:
            data = peer.recv(1 << 16)
            if not data:
                break
            got.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    return thread, got


async def joined(thread):
    await asyncio.get_running_loop().run_in_executor(None, thread.join)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("tcp", [False, True])
def test_big_writes_to_a_slow_reader(kind, tcp):
    sent = [os.urandom(3_000_000), b"", os.urandom(17), os.urandom(900_000)]

    async def scenario(loop, log):
        transport, protocol, peer = await connect(log, tcp=tcp)
        for part in sent:
            transport.write(kind(part))
        log.append(transport.get_write_buffer_size() > 0)
        transport.writelines([kind(part) for part in sent])
        transport.close()
        log.append((transport.is_closing(), transport.get_write_buffer_size() > 0))
        expected = b"".join(sent) * 2
        thread, got = drain(peer, len(expected) + 1)
        await protocol.done
        await joined(thread)
        log.append(bytes(got) == expected)
        peer.close()
        return transport

    # Up to 3.13.0 asyncio's writelines() does not work once close() was called, nor pauses.
    if sys.version_info[:2] == (3, 12) or sys.version_info[:3] == (3, 13, 0):
        assert play(new_event_loop, scenario, OURS)[-1] is True
    else:
        assert both(scenario)[-1] is True


@pytest.mark.parametrize("limits", [{"high": 0}, {"high": 100_000}, {"low": 1000}, {}])
def test_flow_control(limits):
    async def scenario(loop, log):
        transport, protocol, peer = await connect(log)
        transport.set_write_buffer_limits(**limits)
        log.append(transport.get_write_buffer_limits())
        transport.write(bytes(2_000_000))
        log.append("written")
        transport.write(b"more")
        thread, got = drain(peer, 2_000_004)
        await joined(thread)
        async with asyncio.timeout(patience.seconds(10)):
            while transport.get_write_buffer_size() or ("resume_writing",) not in log:
                await asyncio.sleep(0.01)
        transport.write(b"again")
        transport.set_write_buffer_limits(high=10, low=1)
        transport.close()
        await protocol.done
        log.append(len(got))
        peer.close()
        return transport

    log = both(scenario)
    assert log.count(("pause_writing",)) == log.count(("resume_writing",)) == 1


@pytest.mark.parametrize("event", ["pause_writing", "resume_writing"])
@pytest.mark.parametrize("action", ["raise", "abort", "write", "raise OSError"])
def test_callbacks_of_flow_control(event, action):
    if (event, action) == ("resume_writing", "abort"):
        return  # see the next test

    async def scenario(loop, log):
        transport, protocol, peer = await connect(log, **{event: ACTIONS[action]})
        transport.write(bytes(2_000_000))
        thread, got = drain(peer, 2_000_000)
        await joined(thread)
        await turns(3)
        transport.close()
        await protocol.done
        peer.close()
        return transport

    both(scenario)


@pytest.mark.parametrize("action", ["close", "abort"])
def test_closed_as_the_last_bytes_leave(action):
    """asyncio calls connection_lost() twice, and fails in the second call; ours calls it once."""
    log = []

    async def scenario(loop, log):
        transport, protocol, peer = await connect(log, resume_writing=ACTIONS[action])
        transport.set_write_buffer_limits(high=0)
        transport.write(bytes(1_000_000))
        thread, _ = drain(peer, 1_000_000)
        await protocol.done
        await turns(4)
        await joined(thread)
        peer.close()
        return transport

    log = play(new_event_loop, scenario, OURS)
    assert log.count(("connection_lost", type(None))) == 1
    assert not [event for event in log if event[0] == "handler"]


@scenario
async def half_close(loop, log):
    transport, protocol, peer = await connect(log, eof_received=ACTIONS["true"])
    log.append(transport.can_write_eof())
    transport.write(b"before")
    transport.write_eof()
    transport.write_eof()
    for call in (transport.write, lambda data: transport.writelines([data])):
        with pytest.raises(RuntimeError) as raised:
            call(b"after")
        log.append(str(raised.value).replace("writelines", "write"))  # as up to 3.11
    log += [peer.recv(100), peer.recv(100)]
    peer.send(b"still open")
    await turns(3, log)
    peer.shutdown(socket.SHUT_WR)
    await turns(3, log)
    log.append((transport.is_closing(), transport.is_reading()))
    transport.close()
    transport.write_eof()
    await protocol.done
    peer.close()
    return transport


@scenario
async def half_close_behind_big_write(loop, log):
    transport, protocol, peer = await connect(log)
    transport.write(bytes(1_000_000))
    transport.write_eof()
    thread, got = drain(peer, 1 << 30)
    await joined(thread)
    log.append(len(got))
    peer.close()
    await protocol.done
    return transport


@scenario
async def write_after_the_peers_eof(loop, log):
    transport, protocol, peer = await connect(log, eof_received=ACTIONS["true"])
    peer.shutdown(socket.SHUT_WR)
    await turns(3, log)
    transport.write(b"an answer")
    log.append(peer.recv(100))
    transport.close()
    await protocol.done
    peer.close()
    return transport


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("factory", [Recorder, Buffered])
@pytest.mark.parametrize("pending", [False, True])
def test_peer_resets(pending, factory):
    async def scenario(loop, log):
        transport, protocol, peer = await connect(log, factory, tcp=True)
        if pending:
            transport.write(bytes(20_000_000))
        reset(peer)
        await protocol.done
        for _ in range(8):
            transport.write(b"lost")
        transport.writelines([])
        log.append((transport.is_closing(), transport._conn_lost > 5))
        return transport

    assert any(event[0] == "connection_lost" for event in both(scenario))


def test_write_to_a_lost_connection_is_logged_from_the_sixth_on(caplog):
    counts = []

    async def scenario(loop, log):
        transport, protocol, peer = await connect(log)
        peer.close()
        for _ in range(12):
            transport.write(b"lost")
            log.append(transport.is_closing())
        await protocol.done
        transport.write(b"lost")
        return transport

    for make, kind in ((asyncio.SelectorEventLoop, THEIRS), (new_event_loop, OURS)):
        with caplog.at_level(logging.WARNING, "asyncio"):
            play(make, scenario, kind)
        counts.append([record.getMessage() for record in caplog.records])
        caplog.clear()
    assert counts[0] == counts[1]
    assert set(counts[0]) == {"socket.send() raised exception."}


@scenario
async def bad_arguments(loop, log):
    transport, protocol, peer = await connect(log)
    for call in (
        lambda: transport.write("text"),
        lambda: transport.write(None),
        lambda: transport.write([b"list"]),
        lambda: transport.set_write_buffer_limits(high=1, low=2),
        lambda: transport.set_write_buffer_limits(low=-1),
        lambda: transport.set_write_buffer_limits(high=-1),
        lambda: transport.writelines([b"ok", "text"]),
        lambda: transport.writelines(17),
    ):
        with pytest.raises((TypeError, ValueError)) as raised:
            call()
        log.append(type(raised.value))
    with pytest.raises(TypeError) as raised:
        transport.write("text")
    log.append(str(raised.value))
    transport.abort()
    await protocol.done
    log.append(peer.recv(100))
    peer.close()
    return transport


@scenario
async def kinds_of_data(loop, log):
    transport, protocol, peer = await connect(log)

    class Bytes(bytes):
        pass

    for data in (Bytes(b"1"), bytearray(b"2"), memoryview(b"3"), b"", memoryview(b"")):
        transport.write(data)
    transport.writelines([Bytes(b"4"), bytearray(b"5"), memoryview(b"6")])
    transport.writelines([])
    transport.close()
    await protocol.done
    log.append(peer.recv(100))
    peer.close()
    return transport


def test_nothing_of_a_bad_list_is_written():
    async def scenario(loop, log):
        transport, protocol, peer = await connect(log)
        transport.write(bytes(1_000_000))
        size = transport.get_write_buffer_size()
        with pytest.raises(TypeError):
            transport.writelines([b"first", bytearray(b"second"), None])
        assert transport.get_write_buffer_size() == size
        transport.writelines(part for part in [b"from", b"a", b"generator"])
        assert transport.get_write_buffer_size() == size + 14
        transport.abort()
        await protocol.done
        peer.close()

    play(new_event_loop, scenario, OURS)


def test_memory_that_changes_is_copied():
    async def scenario(loop, log):
        transport, protocol, peer = await connect(log)
        data = bytearray(b"a" * 1_000_000)
        transport.write(data)
        transport.write(data)
        data[:] = b"b" * 10  # neither a BufferError nor other bytes
        thread, got = drain(peer, 2_000_000)
        await joined(thread)
        assert got == b"a" * 2_000_000
        transport.close()
        await protocol.done
        peer.close()
        return transport

    play(new_event_loop, scenario, OURS)


# -- attributes -----------------------------------------------------------------------------------


@scenario
async def extra_info(loop, log):
    transport, protocol, peer = await connect(log, tcp=True)
    sock = transport.get_extra_info("socket")
    log += [type(sock), sock.fileno() == transport._sock_fd]
    log.append(transport.get_extra_info("peername") == peer.getsockname())
    log.append(transport.get_extra_info("sockname") == peer.getpeername())
    log += [transport.get_extra_info("nothing"), transport.get_extra_info("nothing", default=3)]
    log.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
    log += [transport.get_protocol() is protocol, isinstance(transport, asyncio.Transport)]
    log += [transport.max_size, transport._start_tls_compatible, transport._sendfile_compatible]
    transport.anything = 1
    log.append((vars(transport)["anything"], weakref.ref(transport)() is transport))
    text = re.sub("fd=[0-9]+", "fd", repr(transport))
    log.append(text.replace(type(transport).__name__, "Transport"))
    with pytest.raises(RuntimeError) as raised:
        loop.add_reader(transport._sock_fd, print)
    log.append(re.sub("[0-9]+.*", "", str(raised.value)))
    transport.close()
    text = re.sub("fd=[0-9]+", "fd", repr(transport))
    log.append(text.replace(type(transport).__name__, "Transport"))
    await protocol.done
    await turns()
    text = re.sub("fd=[0-9]+", "fd", repr(transport))
    log.append(text.replace(type(transport).__name__, "Transport"))
    log.append(transport.get_extra_info("peername") == peer.getsockname())
    peer.close()
    return transport


variable = contextvars.ContextVar("variable", default="unset")


@scenario
async def context_variables(loop, log):
    def seen(self, *_):
        log.append(variable.get())
        variable.set(variable.get() + "+")

    variable.set("made")
    transport, protocol, peer = await connect(
        log, connection_made=seen, data_received=seen, connection_lost=seen, resume_writing=seen
    )
    variable.set("other")
    for _ in range(2):
        peer.send(b"data")
        await turns(3)
    transport.pause_reading()
    variable.set("resumed")
    transport.resume_reading()
    peer.send(b"data")
    await turns(3)
    variable.set("written")
    transport.write(bytes(1_000_000))
    variable.set("later")
    thread, _ = drain(peer, 1_000_000)
    await joined(thread)
    while ("resume_writing",) not in log:
        await asyncio.sleep(0.01)
    variable.set("closed")
    transport.close()
    await protocol.done
    log.append(variable.get())
    peer.close()
    return transport


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenarios(scenario):
    both(scenario)


# -- what else asyncio does with transports -------------------------------------------------------


@pytest.mark.parametrize("fallback", [False, True])
def test_sendfile(fallback):
    content = os.urandom(300_000)

    async def scenario(loop, log):
        transport, protocol, peer = await connect(log, tcp=True)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            transport.write(b"head")
            thread, got = drain(peer, len(content) + 8)
            patch = mock.patch.object(os, "sendfile", side_effect=OSError("no"))
            with patch if fallback else contextlib.nullcontext():
                task = asyncio.ensure_future(loop.sendfile(transport, file))
                await asyncio.sleep(0)
                if not fallback:
                    with pytest.raises(RuntimeError) as raised:
                        transport.write(b"x")
                    log.append(str(raised.value))
                log.append(await task)
        transport.write(b"tail")
        transport.close()
        await protocol.done
        await joined(thread)
        peer.close()
        log.append(bytes(got) == b"head" + content + b"tail")
        return transport

    both(scenario)


def make_certificate(folder):
    authority = Authority(folder)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.issue("localhost"))
    client = authority.context()
    return server, client


def test_start_tls(tmp_path):
    server_context, client_context = make_certificate(tmp_path)

    async def handle(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        await writer.start_tls(server_context)
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def scenario(loop, log):
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        transport = writer.transport
        writer.write(b"plain\n")
        log.append(await reader.readline())
        await writer.start_tls(client_context, server_hostname="localhost")
        writer.write(b"secret\n")
        log += [await reader.readline(), await reader.read()]
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return transport

    both(scenario)


def test_streams_echo_on_many_connections():
    async def handle(reader, writer):
        while line := await reader.readline():
            writer.writelines([line, b"-\n"])
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def client(address, number, log):
        reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
        for size in (1, 1000, 50_000):
            line = b"%d" % number * size + b"\n"
            writer.write(line)
            await writer.drain()
            assert await reader.readline() == line
            assert await reader.readexactly(2) == b"-\n"
        writer.write_eof()
        assert await reader.read() == b""
        log.append("done")
        writer.close()
        await writer.wait_closed()
        return writer.transport

    async def scenario(loop, log):
        server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 20)
        address = server.sockets[0].getsockname()
        transports = await asyncio.gather(*(client(address, i, log) for i in range(50)))
        server.close()
        await server.wait_closed()
        return transports[0]

    both(scenario)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients() is of 3.13")
def test_a_server_closes_its_clients():
    async def scenario(loop, log):
        async def handle(reader, writer):
            log.append(await reader.read())

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await turns(10)
        server.close_clients()
        log.append(await reader.read())
        writer.close()
        server.close()
        await server.wait_closed()
        return writer.transport

    both(scenario)


# -- StreamReaders, which C feeds -----------------------------------------------------------------


def test_stream_reader_pauses_the_transport():
    async def scenario(loop, log):
        listener = socket.create_server(("127.0.0.1", 0))
        reader, writer = await asyncio.open_connection(*listener.getsockname(), limit=1000)
        peer = listener.accept()[0]
        peer.sendall(bytes(1500))
        await turns(3)
        log.append((reader._paused, writer.transport.is_reading()))
        peer.sendall(bytes(1500))
        await turns(3)
        log.append((reader._paused, writer.transport.is_reading(), len(reader._buffer)))
        log.append(len(await reader.read(2500)))
        log.append((reader._paused, writer.transport.is_reading()))
        log.append(len(await reader.readexactly(500)))
        peer.close()
        log.append(await reader.read())
        writer.close()
        listener.close()
        return writer.transport

    both(scenario)


@pytest.mark.parametrize(
    "what", ["nothing", "feed_data", "data_received", "_wakeup_waiter", "_stream_reader"]
)
def test_replaced_functions_of_streams_are_called(what):
    holder = (
        asyncio.StreamReaderProtocol
        if what in ("data_received", "_stream_reader")
        else asyncio.StreamReader
    )
    calls = []

    async def scenario(loop, log):
        ours, peer = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        peer.send(b"first\n")
        log.append(await reader.readline())
        original = vars(holder).get(what)

        def replaced(self, *args):
            calls.append(args)
            return original(self, *args)

        patch = contextlib.nullcontext()
        if what == "_stream_reader":
            patch = mock.patch.object(
                holder, what, property(lambda self: calls.append(()) or original.fget(self))
            )
        elif original is not None:
            patch = mock.patch.object(holder, what, replaced)
        with patch:
            peer.send(b"second\n")
            log.append(await reader.readline())
        before = len(calls)
        peer.send(b"third\n")
        log.append(await reader.readline())
        log.append(before == len(calls))
        peer.close()
        writer.close()
        await writer.wait_closed()
        return writer.transport

    both(scenario)
    assert bool(calls) == (what != "nothing")


def test_stream_reader_that_is_not_asyncios():
    calls = []

    class Reader(asyncio.StreamReader):
        def feed_data(self, data):
            calls.append(data)
            super().feed_data(data)

    async def scenario(loop, log):
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        reader = Reader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        peer.send(b"data")
        log.append(await reader.readexactly(4))
        del reader
        gc.collect()
        peer.send(b"to nobody")
        await turns(4)
        log.append(transport.is_closing())
        peer.close()
        await turns(4)
        transport.close()
        return transport

    both(scenario)
    assert calls == [b"data", b"data"]


def test_feeding_a_reader_fails_as_in_python():
    async def scenario(loop, log):
        ours, peer = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        view = memoryview(reader._buffer)
        peer.send(b"data")
        await turns(4)  # BufferError, in feed_data()
        log.append(writer.transport.is_closing())
        view.release()
        await turns(4)
        log.append(type(reader.exception()))
        peer.close()
        return writer.transport

    assert both(scenario)[0][:3] == (
        "handler",
        "Fatal error: protocol.data_received",
        BufferError,
    )


@pytest.mark.parametrize("how", ["cancel", "no future"])
def test_waiters_of_a_reader(how):
    async def scenario(loop, log):
        ours, peer = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        task = asyncio.ensure_future(reader.readline())
        await turns(2)
        if how == "cancel":
            task.cancel()
        else:
            reader._waiter = mock.Mock(wraps=reader._waiter)
        peer.send(b"line\n")
        await asyncio.wait([task])
        await turns(3)
        log.append((task.cancelled(), bytes(reader._buffer), reader._waiter))
        peer.close()
        writer.close()
        return writer.transport

    both(scenario)


# -- when the transport is asyncio's --------------------------------------------------------------


class OwnReader(EventLoop):
    def _add_reader(self, fd, callback, *args):
        return super()._add_reader(fd, callback, *args)


class OwnTransport(EventLoop):
    def _make_socket_transport(self, *args, **kwargs):
        return super()._make_socket_transport(*args, **kwargs)


class Socket(socket.socket):
    pass


async def transport_of(sock=None):
    ours, peer = socket.socketpair()
    if sock is not None:
        fd = ours.detach()
        ours = sock(fileno=fd)
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    transport.abort()
    peer.close()
    await turns()
    return type(transport)


def run(loop, coroutine):
    with contextlib.closing(loop):
        return loop.run_until_complete(coroutine)


def test_ours_is_used():
    assert run(new_event_loop(), transport_of()) is OURS
    assert run(OwnTransport(), transport_of()) is OURS


def test_theirs_is_used():
    import selectors

    assert run(OwnReader(), transport_of()) is THEIRS
    assert run(new_event_loop(selectors.DefaultSelector()), transport_of()) is THEIRS
    assert run(new_event_loop(), transport_of(Socket)) is THEIRS
    debugged = new_event_loop()
    debugged.set_debug(True)
    assert run(debugged, transport_of()) is THEIRS
    with mock.patch.object(socket.socket, "send", lambda *args: 0, create=True):
        assert run(new_event_loop(), transport_of()) is THEIRS
    with mock.patch.object(THEIRS, "write"):
        assert run(new_event_loop(), transport_of()) is THEIRS
    with mock.patch.object(selector_events._SelectorTransport, "_fatal_error"):
        assert run(new_event_loop(), transport_of()) is THEIRS

    class Other(THEIRS):
        pass

    with mock.patch.object(selector_events, "_SelectorSocketTransport", Other):
        assert run(new_event_loop(), transport_of()) is Other
    patched = new_event_loop()
    patched._remove_reader = patched._remove_reader
    assert run(patched, transport_of()) is THEIRS
    assert run(new_event_loop(), transport_of()) is OURS


@pytest.mark.parametrize("how", ["debug", "plain"])
def test_a_loop_that_changes_under_a_transport(how):
    async def scenario(loop, log):
        transport, protocol, peer = await connect(log)
        if how == "debug":
            loop.set_debug(True)
        else:
            loop.time = loop.time
        peer.send(b"data")
        await turns(4, log)
        transport.write(bytes(1_000_000))
        thread, got = drain(peer, 1_000_000)
        await joined(thread)
        transport.close()
        await protocol.done
        loop.set_debug(False)
        log.append(len(got))
        peer.close()
        return transport

    both(scenario)


# -- memory ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("always::ResourceWarning")
def test_a_transport_that_nobody_closed():
    texts = []
    for make in (asyncio.SelectorEventLoop, new_event_loop):
        loop = make()
        transport, protocol, peer = loop.run_until_complete(connect([]))
        fd = transport._sock_fd
        loop.close()
        with pytest.warns(ResourceWarning) as caught:
            del transport, protocol
            gc.collect()
        texts.append(
            [
                re.sub("Transport( .*?)? fd=[0-9]+", "", str(warning.message))
                for warning in caught
                if "transport" in str(warning.message)
            ]
        )
        with pytest.raises(OSError):
            os.fstat(fd)
        peer.close()
    assert len(texts[0]) == len(texts[1]) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("close", [False, True])
def test_a_loop_and_its_transports_are_collected(close):
    loop = new_event_loop()
    transport, protocol, peer = loop.run_until_complete(connect([]))
    gone = [weakref.ref(transport), weakref.ref(protocol), weakref.ref(loop)]
    transport.itself = transport
    if close:
        loop.close()
    del loop, transport, protocol
    gc.collect()
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    peer.close()


def test_a_reading_transport_is_kept_by_its_loop():
    async def scenario(loop, log):
        transport, protocol, peer = await connect(log)
        gone = weakref.ref(protocol)
        del transport, protocol
        gc.collect()
        log.append(gone() is not None)
        peer.send(b"data")
        await turns(3)
        peer.close()
        await turns(5)
        gc.collect()
        log.append(gone() is None)

    both(scenario)


def test_closed_transports_leave_nothing():
    async def main():
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(200):
            transport, protocol, peer = await connect([])
            transport.write(b"x")
            peer.close()
            await protocol.done
            await turns(2)
        del transport, protocol, peer
        gc.collect()
        return len(gc.get_objects()) - before

    assert run(new_event_loop(), main()) < 100


def test_a_socket_that_somebody_else_closes():
    async def scenario(loop, log):
        transport, protocol, peer = await connect(log)
        sock = transport._sock
        fd = sock.fileno()
        sock.close()
        # The number is another socket's now: it can be watched, and is left alone.
        other, other_peer = socket.socketpair()
        if other.fileno() != fd:
            other, other_peer = other_peer, other
        assert other.fileno() == fd
        loop._selector.register(other, 1, (asyncio.Handle(log.append, ("read",), loop), None))
        other_peer.send(b"to nobody else")
        await turns(3)
        assert "read" in log
        transport.write(b"to nobody")
        await protocol.done
        await turns(2)
        loop._selector.unregister(other)
        other.setblocking(False)
        assert other.recv(100) == b"to nobody else"
        other_peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            other_peer.recv(100)
        for each in (peer, other, other_peer):
            each.close()

    log = play(new_event_loop, scenario, OURS)
    assert ("connection_lost", OSError) in log


def test_made_by_hand():
    loop = new_event_loop()
    ours, peer = socket.socketpair()
    make = functools.partial(OURS, loop, ours, asyncio.Protocol())
    with contextlib.closing(asyncio.SelectorEventLoop()) as other, pytest.raises(TypeError):
        OURS(other, ours, asyncio.Protocol(), {}, None)
    with pytest.raises(TypeError):
        make(None, None)
    transport = make({}, None)
    with pytest.raises(TypeError):
        type("Sub", (OURS,), {})
    with pytest.raises(TypeError):
        transport._fatal_error("no exception")
    transport.abort()
    loop.run_until_complete(turns())
    assert ours.fileno() == -1
    with pytest.raises(OSError):
        make({}, None)
    loop.close()
    peer.close()
