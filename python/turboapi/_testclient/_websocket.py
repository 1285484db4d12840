"""WebSocket sessions of the native test client; the only module that needs `websockets`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.abc
import anyio.from_thread
from starlette import testclient
from starlette.testclient import httpx  # type: ignore[attr-defined]
from starlette.types import Message, Scope
from starlette.websockets import WebSocketDisconnect
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from turboapi._testclient._server import GRACE, Server, Watch

if TYPE_CHECKING:
    from turboapi._testclient import NativeTestClient

# Close codes that no frame can carry (RFC 6455, 7.4.1).
_NO_CODE, _LOST = 1005, 1006
_CRASHED = 1011
# How often the loop turns between the end of a session and the application's being cancelled.
_TURNS = 20
# Fields of the server's answer that open the WebSocket; the others are the application's.
_OPENING = {"connection", "sec-websocket-accept", "sec-websocket-protocol", "upgrade"}


class _Protocol(ClientProtocol):
    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        """Take whatever the application has said, as Starlette's client does."""
        said = headers.get_all("Sec-WebSocket-Protocol")
        return Subprotocol(said[0]) if said else None


class _Link(asyncio.Protocol):
    """The client's end of a connection: bytes on one side, ASGI messages on the other.

    All of it runs in the loop. As in Starlette's client nothing ever waits for room: what was sent
    or received and not yet taken is kept, whatever its size.
    """

    def __init__(self, request: httpx.Request, watch: Watch) -> None:
        self.lost = anyio.Event()
        self._watch = watch
        self._protocol = _Protocol(parse_uri("ws://127.0.0.1/"), max_size=None)
        self._request = self._handshake(request)
        self._transport: asyncio.Transport
        self._pieces: list[bytes] = []
        self._text = False
        # What the application has sent.
        self._messages, self.inbox = anyio.create_memory_object_stream[Message](math.inf)

    def _handshake(self, request: httpx.Request) -> Request:
        made = self._protocol.connect()
        fields = [(k.decode("ascii"), v.strip(b" \t").decode("latin-1"))
                  for k, v in request.headers.raw]  # fmt: skip
        needed = {k: v for k, v in made.headers.raw_items() if k != "Host"}
        replaced = {name.lower() for name in needed}
        headers = [field for field in fields if field[0].lower() not in replaced]
        return dataclasses.replace(
            made,
            path=request.url.raw_path.decode("ascii"),
            headers=Headers([*headers, *needed.items()]),
        )

    # -- of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not derived from it

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._flush()
        self._take_events()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()
        self._take_events()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        self._messages.close()
        self.lost.set()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.write_eof()

    # -- from the server

    def _take_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._opened(event)
            elif isinstance(event, Frame):
                self._take_frame(event)

    def _opened(self, response: Response) -> None:
        headers = [(k.encode("latin-1"), v.encode("latin-1"))
                   for k, v in response.headers.raw_items()]  # fmt: skip
        if response.status_code == 101:
            self._deliver(
                "websocket.accept",
                subprotocol=self._protocol.subprotocol,
                headers=[field for field in headers if field[0].decode() not in _OPENING],
            )
        elif self._watch.unanswered and self._watch.error is not None:
            pass  # which is raised
        elif "websocket.close" in self._watch.asides:
            self._messages.send_nowait(self._watch.asides["websocket.close"])
        else:
            self._deliver(
                "websocket.http.response.start", status=response.status_code, headers=headers
            )
            self._deliver("websocket.http.response.body", body=bytes(response.body))

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            closed = self._protocol.close_rcvd
            assert closed is not None
            crashed = closed.code == _CRASHED and self._watch.error is not None
            if self._protocol.close_rcvd_then_sent and not crashed:
                self._deliver("websocket.close", code=closed.code, reason=closed.reason)
            self._messages.close()
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                self._text = frame.opcode is Opcode.TEXT
            self._pieces.append(bytes(frame.data))
            if frame.fin:
                whole = b"".join(self._pieces)
                self._pieces.clear()
                if self._text:
                    self._deliver("websocket.send", text=whole.decode())
                else:
                    self._deliver("websocket.send", bytes=whole)

    def _deliver(self, kind: str, **fields: Any) -> None:
        self._messages.send_nowait({"type": kind, **fields})

    # -- to the server

    def open(self) -> None:
        """Send the request."""
        self._protocol.send_request(self._request)
        self._flush()

    async def send(self, message: Message) -> None:
        """Send what `WebSocketTestSession.send` is given."""
        if self._protocol.state is not State.OPEN:
            if self._watch.error is not None:
                raise anyio.ClosedResourceError
            return
        if message["type"] == "websocket.disconnect":
            self._close(message.get("code", 1000), message.get("reason") or "")
        elif message.get("text") is not None:
            self._protocol.send_text(message["text"].encode())
        else:
            self._protocol.send_binary(message["bytes"])
        self._flush()

    def _close(self, code: int, reason: str) -> None:
        if code == _LOST:
            self._transport.abort()
        elif code == _NO_CODE:
            self._protocol.send_close()
        else:
            self._protocol.send_close(code, reason)

    async def leave(self) -> None:
        """Let the closing handshake end, if there is one, and drop the connection."""
        if self._protocol.state is State.CLOSING:
            with anyio.move_on_after(GRACE):
                await self.lost.wait()
        self._transport.abort()
        await self.lost.wait()


class WebSocketSession(testclient.WebSocketTestSession):
    """Starlette's session, with a connection to the native server in its middle."""

    def __init__(
        self,
        client: NativeTestClient,
        request: httpx.Request,
        scope: Scope,
        edit: Callable[[Scope], None],
    ) -> None:
        super().__init__(client.app, scope, self._portal)
        self._client = client
        self._request = request
        self._edit = edit
        self._watch = Watch(self._take_scope)
        self._server: Server
        self._link: _Link

    def _take_scope(self, scope: Scope) -> None:
        self._edit(scope)
        self.scope = scope

    @contextlib.contextmanager
    def _portal(self) -> Generator[anyio.from_thread.BlockingPortal]:
        with self._client.serving() as self._server:
            yield self._server.portal

    async def _run(self, *, task_status: anyio.abc.TaskStatus[anyio.CancelScope]) -> None:
        """Run the client's side until the session is left (cancelled); then raise as it does."""
        ended = anyio.Event()
        self._watch.on_ended = ended.set
        self._link = link = _Link(self._request, self._watch)
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: link, *self._server.address
        )
        port = transport.get_extra_info("sockname")[1]
        with link.inbox, self._server.expecting(port, self._watch):
            link.open()
            with anyio.CancelScope() as left:
                task_status.started(left)
                await anyio.sleep_forever()
            await link.leave()
            await self._end(ended)

    async def _end(self, ended: anyio.Event) -> None:
        watch = self._watch
        if not watch.begun:
            return
        # The application has been told; it goes on till it has to wait, then it is cancelled.
        for _ in range(_TURNS):
            await anyio.sleep(0)
        watch.cancel()
        await ended.wait()
        error = watch.error
        if isinstance(error, WebSocketDisconnect) and isinstance(error.__context__, OSError):
            return  # it was sending when we left, which Starlette's client lets it do
        if error is not None:
            raise error

    def send(self, message: Message) -> None:
        """Send a message to the application, as its `receive` would give it."""
        if message["type"] != "websocket.connect":
            self.portal.call(self._link.send, message)

    def receive(self) -> Message:
        """Give the next message that the application has sent."""
        return self.portal.call(self._link.inbox.receive)
