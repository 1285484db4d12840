"""An application with an instrumentation, whose reports go to a file.

`INSTRUMENTED_WITH` names it: "sentry", "sentry-streaming", "logfire", "datadog" or "opentelemetry".
`/reports` writes all that was reported so far as JSON lines to the file `INSTRUMENTED_REPORTS`.
"""

# ruff: noqa: E402 (instrumentation comes first)
import asyncio
import json
import logging
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

WITH = os.environ["INSTRUMENTED_WITH"]
REPORTS = Path(os.environ["INSTRUMENTED_REPORTS"])
reported: list[dict] = []

if WITH.startswith("sentry"):
    import sentry_sdk
    from sentry_sdk.integrations.fastapi import FastApiIntegration
    from sentry_sdk.integrations.starlette import StarletteIntegration
    from sentry_sdk.transport import Transport

    class Keep(Transport):
        def capture_envelope(self, envelope):
            for item in envelope.items:
                if item.type in ("event", "transaction"):
                    reported.append(item.payload.json)
                elif item.type == "span":
                    reported.extend(item.payload.json["items"])

    style = os.environ.get("INSTRUMENTED_STYLE", "url")
    given = {"transaction_style": style, "middleware_spans": style == "endpoint"}
    sentry_sdk.init(
        dsn="https://key@localhost/1",
        traces_sample_rate=1.0,
        send_default_pii=True,
        transport=Keep,
        integrations=[StarletteIntegration(**given), FastApiIntegration(**given)],
        trace_lifecycle="stream" if WITH == "sentry-streaming" else "static",
    )
elif WITH == "datadog":
    import ddtrace
    from ddtrace.trace import TraceFilter, tracer

    class Keep(TraceFilter):
        def process_trace(self, trace):
            names = {span.span_id: span.name for span in trace}
            for span in trace:
                reported.append(
                    {
                        "name": span.name,
                        "resource": span.resource,
                        "parent": names.get(span.parent_id),
                        "error": span.error,
                        "meta": {
                            key: value
                            for key, value in span.get_tags().items()
                            if key.startswith(("http.", "component", "span.kind", "error.type"))
                            and key not in ("http.url", "http.useragent", "http.client_ip")
                        },
                    }
                )
            return

    tracer.configure(trace_processors=[Keep()])
    ddtrace.patch(fastapi=True, starlette=True)

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel


class Item(BaseModel):
    name: str
    price: float = 1.0


class OwnError(Exception):
    pass


@asynccontextmanager
async def lifespan(app):
    yield {"here": "yes"}


app = FastAPI(lifespan=lifespan)
log = logging.getLogger("instrumented")


@app.exception_handler(OwnError)
async def on_own(request: Request, exc: OwnError):
    return JSONResponse({"own": str(exc)}, 418)


def token(q: Annotated[str | None, Query(max_length=5)] = None):
    return q


async def session():
    yield "session"


@app.get("/x/{i}")
async def x(i: int, q: Annotated[str | None, Depends(token)]):
    return {"i": i, "q": q}


@app.get("/sync/{i}")
def sync(i: int, s: Annotated[str, Depends(session)]):
    return {"i": i, "s": s}


@app.post("/items")
async def items(item: Item) -> Item:
    return item


@app.post("/raw")
async def raw(request: Request):
    return {"length": len(await request.body()), "here": request.state.here}


@app.post("/form")
async def form(request: Request):
    async with request.form() as found:
        return {name: str(value) for name, value in found.items()}


@app.get("/fails")
async def fails():
    raise ValueError("of the endpoint")


@app.get("/fails-sync")
def fails_sync():
    raise ValueError("of the endpoint in a thread")


@app.get("/missing")
async def missing():
    raise HTTPException(404, "nothing here")


@app.get("/broken")
async def broken():
    raise HTTPException(503, "not now")


@app.get("/own")
async def own():
    raise OwnError("mine")


@app.get("/text", response_class=PlainTextResponse)
async def text():
    return "text"


@app.get("/logs")
async def logs():
    log.error("an error was logged")
    return 1


@app.post("/later")
async def later(tasks: BackgroundTasks):
    tasks.add_task(log.info, "later")
    return 1


router = APIRouter(prefix="/users")


@router.get("/{name}")
async def user(name: str):
    return name


app.include_router(router, prefix="/v1")
below = FastAPI()


@below.get("/inner/{i}")
async def inner(i: int):
    return i


app.mount("/below", below)

if WITH in ("logfire", "opentelemetry"):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class Keep(SpanExporter):
        def export(self, spans):
            for span in spans:
                reported.append(
                    {
                        "name": span.name,
                        "parent": span.parent is not None,
                        "status": span.status.status_code.name,
                        "events": [
                            [event.name, event.attributes.get("exception.type")]
                            for event in span.events
                        ],
                        "attributes": dict(span.attributes or {}),
                    }
                )
            return SpanExportResult.SUCCESS

    if WITH == "logfire":
        import logfire

        logfire.configure(
            send_to_logfire=False,
            console=False,
            additional_span_processors=[SimpleSpanProcessor(Keep())],
            inspect_arguments=False,
        )
        logfire.instrument_fastapi(app, extra_spans=True)
    else:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(Keep()))
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)


async def background_task_reported():
    """Wait for the one that `later` has begun: it may still be under way."""
    for _ in range(1000):
        if any(each.get("name", "").startswith("BackgroundTask") for each in reported):
            return
        await asyncio.sleep(0.01)


@app.get("/reports")
async def reports():
    if WITH in ("logfire", "opentelemetry"):
        await background_task_reported()
    if WITH.startswith("sentry"):
        sentry_sdk.flush()
    elif WITH == "datadog":
        tracer.flush()
    REPORTS.write_text("".join(json.dumps(each, default=str) + "\n" for each in reported))
    return len(reported)
