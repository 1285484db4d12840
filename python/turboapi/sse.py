"""Server-Sent Events: the response class, the event model and the wire format.

See https://html.spec.whatwg.org/multipage/server-sent-events.html and
https://fastapi.tiangolo.com/tutorial/server-sent-events/.
"""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from starlette.responses import StreamingResponse

# The item schema that OpenAPI 3.2 (section 4.14.4) gives for an event.
_SSE_EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "data": {"type": "string"},
        "event": {"type": "string"},
        "id": {"type": "string"},
        "retry": {"type": "integer", "minimum": 0},
    },
}

# A comment: browsers drop it, proxies see traffic.
KEEPALIVE_COMMENT: Final = b": ping\n\n"

# Seconds without an event after which a comment is sent.
_PING_INTERVAL: float = 15.0


class EventSourceResponse(StreamingResponse):
    """The `response_class` of an endpoint that yields Server-Sent Events.

    Each item that the endpoint yields, a `ServerSentEvent` or anything that can be encoded as
    JSON, becomes one event. Works with every HTTP method.
    """

    media_type = "text/event-stream"


def _one_line(field: str) -> AfterValidator:
    def check(value: str | None) -> str | None:
        if value is not None:
            if field == "id" and "\0" in value:
                raise ValueError("SSE 'id' must not contain null characters")
            if "\r" in value or "\n" in value:
                raise ValueError(f"SSE '{field}' must be a single line")
        return value

    return AfterValidator(check)


class ServerSentEvent(BaseModel):
    """One event, for endpoints with `response_class=EventSourceResponse`.

    Attributes:
        data: the payload, always sent as JSON (`data="hi"` is sent with its quotes).
        raw_data: the payload as it is; not together with `data`.
        event: name of the event; a single line.
        id: what the browser sends back as `Last-Event-ID`; a single line without NUL.
        retry: milliseconds that the browser waits before it connects again.
        comment: lines that clients ignore.

    Raises:
        pydantic.ValidationError: for fields that the wire format can't carry.
    """

    # The validator is built with the first event: most applications send none.
    model_config = ConfigDict(defer_build=True)

    data: Any = None
    raw_data: str | None = None
    event: Annotated[str | None, _one_line("event")] = None
    id: Annotated[str | None, _one_line("id")] = None
    retry: Annotated[int | None, Field(ge=0)] = None
    comment: str | None = None

    @model_validator(mode="after")
    def _check_data_exclusive(self) -> "ServerSentEvent":
        if self.data is None or self.raw_data is None:
            return self
        raise ValueError(
            "Cannot set both 'data' and 'raw_data' on the same "
            "ServerSentEvent. Use 'data' for JSON-serialized payloads "
            "or 'raw_data' for pre-formatted strings."
        )


def format_sse_event(
    *,
    data_str: str | None = None,
    event: str | None = None,
    id: str | None = None,
    retry: int | None = None,
    comment: str | None = None,
) -> bytes:
    """Encode one event; `data_str` is the payload as text.

    Returns the UTF-8 bytes of the event with the empty line that ends it. Payload and comment may
    have several lines: each gets a field of its own (CRLF, CR and LF all end a line).
    """
    fields: list[tuple[str, str]] = []
    if comment is not None:
        fields += (("", line) for line in _lines(comment))
    if event is not None:
        fields.append(("event", event))
    if data_str is not None:
        fields += (("data", line) for line in _lines(data_str))
    if id is not None:
        fields.append(("id", id))
    if retry is not None:
        fields.append(("retry", str(retry)))
    text = "".join(f"{name}: {value}\n" for name, value in fields)
    # An event without any field is still ended by its empty line.
    return (text + "\n" if fields else "\n").encode()


def _lines(text: str) -> list[str]:
    # str.splitlines() would also split at characters that the protocol does not know.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
