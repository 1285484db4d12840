"""The cases as a bare ASGI callable: what a server costs without a framework.

Nothing is validated and nothing but the path is looked at, so it does less than the others do.
"""

import asyncio

import work


async def respond(send, body, content_type=b"application/json", status=200):
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", content_type), (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def row(scope):
    return await work.row(int(scope["path"].rpartition("/")[2]))


async def queries(scope):
    return await work.queries(int(scope["query_string"].partition(b"=")[2]))


async def items(scope):
    async with work.clients.sessions() as session:
        return [work.as_dict(each) for each in await work.twenty(session)]


def load_items():
    with work.sync_sessions() as session:
        return [work.as_dict(each) for each in work.twenty_sync(session)]


async def items_sync(scope):
    return await asyncio.to_thread(load_items)


async def redis(scope):
    return await (work.redis_get() if scope["method"] == "GET" else work.redis_set())


async def proxy(scope):
    return await work.upstream()


ROUTES = {
    "row": row,
    "queries": queries,
    "items": items,
    "items-sync": items_sync,
    "redis": redis,
    "proxy": proxy,
}


async def say(send, text):
    await send({"type": "websocket.send", "text": text})


room = work.Room(say)


async def chat(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await room.join(send)
    try:
        while (message := await receive())["type"] == "websocket.receive":
            await room.say(message["text"])
    finally:
        await room.leave(send)


async def lifespan(receive, send):
    await receive()
    async with work.opened():
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await chat(receive, send)
    elif scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"] == "/fortunes":
        await respond(send, (await work.fortunes()).encode(), b"text/html; charset=utf-8")
    else:
        route = ROUTES.get(scope["path"].split("/")[1])
        if route is None:
            await respond(send, b'{"detail":"Not Found"}', status=404)
        else:
            await respond(send, work.encode(await route(scope)))
