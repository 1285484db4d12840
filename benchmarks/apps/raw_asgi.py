"""A bare ASGI callable: what the ASGI servers cost without a framework."""

import asyncio

from bench_data import CHUNK, CHUNKS, PIECE

BODY = b'{"message":"Hello, World!"}'


async def respond(send, body, content_type=b"application/json"):
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", content_type), (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def upload(receive, send):
    size = 0
    more = True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await respond(send, b'{"size":%d}' % size)


async def stream(send, piece, count):
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/octet-stream")],
        }
    )
    for _ in range(count):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await websocket(receive, send)
    elif scope["type"] == "http":
        path = scope["path"]
        if path == "/upload":
            await upload(receive, send)
        elif path == "/download":
            await stream(send, CHUNK, CHUNKS)
        elif path == "/stream":
            await stream(send, PIECE, 200)
        elif path.startswith("/sleep"):
            await asyncio.sleep(0.1 if path == "/sleep100" else 0.001)
            await respond(send, b'{"ok":true}')
        else:
            await respond(send, BODY)
