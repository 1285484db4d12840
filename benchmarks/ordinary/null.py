"""An application that does nothing but answer: what is inside of the libraries alone."""

from starlette.requests import Request

BODY = b'{"i":3}'
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"7")],
}


def endpoint():
    pass


class Route:
    path = "/x/{i}"


async def handler(request):
    pass


class Application:
    """`wrap`: what a library puts round the handlers of requests."""

    def __init__(self, router=None, wrap=None):
        self.items = {"endpoint": endpoint, "router": router, "route": Route}
        self.wrap = wrap

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        scope.update(self.items)
        if self.wrap is not None:
            await self.wrap(handler, Request(scope, receive, send))
        await send({**START, "headers": list(START["headers"])})
        await send({"type": "http.response.body", "body": BODY})
