"""The cases in Robyn."""

import asyncio
import json
import os

from bench_data import ROWS
from robyn import Request, Robyn

app = Robyn(__file__)


@app.get("/sync")
def sync_constant():
    return {"message": "Hello, World!"}


@app.get("/async")
async def async_constant():
    return {"message": "Hello, World!"}


@app.get("/users/:user_id")
async def path_and_query(request: Request):
    query = request.query_params
    return {
        "user_id": int(request.path_params["user_id"]),
        "q": query.get("q", None),
        "limit": int(query.get("limit", "10")),
    }


@app.post("/items")
async def post_item(request: Request):
    item = json.loads(request.body)
    return {"name": str(item["name"]), "price": float(item["price"]), "tags": list(item["tags"])}


@app.get("/rows")
async def rows():
    return ROWS


@app.get("/sleep")
async def sleep():
    await asyncio.sleep(0.001)
    return {"ok": True}


@app.get("/sleep100")
async def sleep_long():
    await asyncio.sleep(0.1)
    return {"ok": True}


@app.post("/upload")
async def upload(request: Request):
    return {"size": len(request.body)}


if __name__ == "__main__":
    app.start(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]))
