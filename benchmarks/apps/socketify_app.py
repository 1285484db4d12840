"""The cases in socketify."""

import asyncio
import os

from socketify import App, OpCode

app = App()


async def async_constant(res, req):
    res.end({"message": "Hello, World!"})


def sync_constant(res, req):
    res.end({"message": "Hello, World!"})


def path_and_query(res, req):
    res.end(
        {
            "user_id": int(req.get_parameter(0)),
            "q": req.get_query("q"),
            "limit": int(req.get_query("limit") or 10),
        }
    )


async def post_item(res, req):
    item = await res.get_json()
    res.end({"name": str(item["name"]), "price": float(item["price"]), "tags": list(item["tags"])})


async def sleep(res, req):
    await asyncio.sleep(0.001)
    res.end({"ok": True})


async def sleep_long(res, req):
    await asyncio.sleep(0.1)
    res.end({"ok": True})


app.get("/async", async_constant)
app.get("/sync", sync_constant)
app.get("/users/:user_id", path_and_query)
app.post("/items", post_item)
app.get("/sleep", sleep)
app.get("/sleep100", sleep_long)
app.ws("/ws", {"message": lambda ws, message, opcode: ws.send(message, OpCode.TEXT)})
app.listen(int(os.environ["BENCH_PORT"]))
app.run()
