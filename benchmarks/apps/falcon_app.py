"""The cases in Falcon (WSGI) on FastPySGI."""

import os

import falcon
import fastpysgi
from bench_data import ROWS


class Constant:
    def on_get(self, req, resp):
        resp.media = {"message": "Hello, World!"}


class User:
    def on_get(self, req, resp, user_id):
        query = req.params
        resp.media = {
            "user_id": user_id,
            "q": query.get("q"),
            "limit": req.get_param_as_int("limit", default=10),
        }


class Items:
    def on_post(self, req, resp):
        item = req.media
        resp.media = {
            "name": str(item["name"]),
            "price": float(item["price"]),
            "tags": list(item["tags"]),
        }


class Rows:
    def on_get(self, req, resp):
        resp.media = ROWS


class Upload:
    def on_post(self, req, resp):
        resp.media = {"size": len(req.bounded_stream.read())}


app = falcon.App()
app.add_route("/sync", Constant())
app.add_route("/users/{user_id:int}", User())
app.add_route("/items", Items())
app.add_route("/rows", Rows())
app.add_route("/upload", Upload())

if __name__ == "__main__":
    fastpysgi.run(app, host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), workers=1)
