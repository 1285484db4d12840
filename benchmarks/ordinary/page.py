"""A Jinja2 page of 20 rows from a `def`, with a session."""

from pathlib import Path

import chosen  # first: it decides what `fastapi` is

# isort: split
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.templating import Jinja2Templates

templates = Jinja2Templates(Path(__file__).parent / "templates")
ITEMS = [{"name": f"n{i}", "price": i} for i in range(20)]


def page(request: Request, i: int):
    return templates.TemplateResponse(request, "page.html", {"title": i, "items": ITEMS})


if chosen.ALONE:

    async def answer(scope, receive, send):
        if scope["type"] == "http":
            await page(Request(scope), 3)(scope, receive, send)

    app = SessionMiddleware(answer, secret_key="x")
else:
    from fastapi import FastAPI

    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret_key="x")
    app.get("/x/{i}")(page)
