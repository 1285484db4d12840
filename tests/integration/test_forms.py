"""Forms that C parses, beside Starlette's parsers, and the same application at both doors."""

import asyncio
import random
from typing import Annotated, Any

import pytest
from doors_kit import both
from pydantic import BaseModel, Field
from server_kit import running
from starlette import formparsers
from starlette.datastructures import Headers
from starlette.datastructures import UploadFile as StarletteUploadFile

from turboapi import FastAPI, File, Form, Request, UploadFile, _core
from turboapi.dependencies._forms import parse_whole_form

B = "b0und"
MULTIPART = f"multipart/form-data; boundary={B}"
URLENCODED = "application/x-www-form-urlencoded"


def part(head, data=b""):
    return f"--{B}\r\n{head}\r\n\r\n".encode("latin-1") + data + b"\r\n"


def body_of(*parts, end=f"--{B}--\r\n"):
    return b"".join(parts) + end.encode()


def field(name, data=b"", more=""):
    return part(f'Content-Disposition: form-data; name="{name}"{more}', data)


FILE = part(
    'Content-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-Type: text/plain',
    b"hello\r\nworld",
)
BODIES = [
    body_of(),
    body_of(field("a", b"1")),
    body_of(field("a", b"1"), FILE, field("note", b"n" * 50)),
    body_of(field("a", b"\xff\xfe"), field("\xc3\xbc", b"\xc3\xbc"), field("\xff", b"x")),
    body_of(field("f", b"", '; filename=""'), field("f", b"x", '; filename="\xc3\xa4.txt"')),
    body_of(FILE, end=""),
    body_of(FILE, end=f"--{B}"),
    body_of(FILE, end=f"--{B}-- trailing\r\n--{B}\r\n"),
    body_of(field("a", f"--{B}".encode()), field("b", f"\r\n--{B}x\r\n".encode())),
    body_of(field("a", f"\r\n--{B} \r\n".encode())),
    body_of(field('a\\"b', b"1")),
    body_of(field("a", b"1", "; filename*=utf-8''x.txt")),
    body_of(field("a", b"1", '; filename="C:\\dir\\x.txt"')),
    body_of(field("a;b", b"1")),
    body_of(part("Content-Disposition: form-data; name=a", b"1")),
    body_of(part('Content-Disposition: form-data; filename="x"', b"1")),
    body_of(part('content-disposition:form-data; name="a"', b"1")),
    body_of(part('CONTENT-DISPOSITION:   form-data; name="a"\r\nX-Empty:\r\nX: \ty ', b"1")),
    body_of(part('Content-Disposition: attachment; name="a"', b"1")),
    body_of(part('Content-Disposition: form-data; NAME="a"', b"1")),
    body_of(part('Content-Disposition: form-data; name="a"; name="b"', b"1")),
    body_of(part('Content-Disposition: form-data;name="a" ; filename="b"', b"1")),
    body_of(part('Content-Disposition: form-data; name="a"\r\n' * 2 + "X: y", b"1")),
    body_of(part("X: y\r\n" * 8 + 'Content-Disposition: form-data; name="a"', b"1")),
    body_of(part("X-Long: " + "y" * 5000 + '\r\nContent-Disposition: form-data; name="a"', b"1")),
    body_of(part("X: y", b"1")),
    b"\r\n\r\n" + body_of(FILE),
    b"preamble\r\n" + body_of(FILE),
    body_of(field("a", b"1")).replace(b"\r\n", b"\n"),
    b"",
]


async def theirs(body, content_type, **limits):
    """The items that Starlette's parsers give, or the kind of their exception."""

    async def stream():
        yield body

    kind = (
        formparsers.MultiPartParser
        if "multipart" in content_type.lower()
        else formparsers.FormParser
    )
    if kind is formparsers.FormParser:
        limits.pop("max_files", None)
    try:
        form = await kind(Headers({"content-type": content_type}), stream(), **limits).parse()
    except Exception as error:
        return type(error).__name__
    return await described(form)


async def described(form):
    items: list[Any] = []
    for name, value in form.multi_items():
        if isinstance(value, StarletteUploadFile):
            assert value._in_memory
            data = await value.read()
            assert value.file.tell() == len(data)
            value = (value.filename, value.size, value.headers.raw, value.content_type, data)
        items.append((name, value))
    assert list(form.keys()) == list(dict(items))
    await form.close()
    return items


def compare(body, content_type, **limits):
    """Whether C parsed it; what it gives must be what Starlette gives."""
    form = parse_whole_form(body, content_type.encode("latin-1"), **limits)
    if form is None:
        return False

    async def both_ways():
        assert await described(form) == await theirs(body, content_type, **limits), body

    asyncio.run(both_ways())
    return True


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_bodies_are_parsed_as_by_starlette(body):
    compare(body, MULTIPART)


def test_usual_bodies_are_parsed_in_c():
    assert [compare(body, MULTIPART) for body in BODIES[1:5]] == [True] * 4


def test_names_of_one_letter_leave_the_interpreters_own_bytes_alone():
    """There is one object for each byte, and the names are made lower-case."""
    fields = "".join(f"{chr(code)}: y\r\n" for code in b"ABCXYZ")
    body = body_of(part(fields + 'Content-Disposition: form-data; name="a"; filename="f"', b"1"))
    assert compare(body, MULTIPART)
    assert [bytes([code])[0] for code in range(256)] == list(range(256))


def test_content_types():
    body = body_of(field("a", b"1"))
    for kind in (
        MULTIPART, f'multipart/form-data; boundary="{B}"', f"Multipart/Form-Data; BOUNDARY={B}",
        f"multipart/form-data; boundary={B}; charset=latin-1", "multipart/form-data; boundary=",
        f"multipart/form-data; charset=utf-16; boundary={B}", "multipart/form-data; boundary=a b",
        f"multipart/form-data;boundary={B}", f"multipart/form-data; boundary='{B}'",
        f'multipart/form-data; boundary="{B}', f"multipart/form-data; boundary*={B}",
    ):  # fmt: skip
        compare(body, kind)


@pytest.mark.parametrize("seed", range(8))
def test_mutated_bodies(seed):
    rng = random.Random(seed)
    pieces = [b"\r\n", b"\r", b"\n", b"--", B.encode(), b'"', b";", b"\\", b":", b" ", b"\t", b"="]
    pieces += [b"name=", b"filename=", b"*", b"\x00", b"\xff", b"", f"\r\n--{B}".encode(), FILE]
    parsed = 0
    for _ in range(400):
        body = rng.choice(BODIES)
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(body) + 1)
            body = body[:at] + rng.choice(pieces) + body[at + rng.choice([0, 0, 1, 2, 5]) :]
        parsed += compare(body, MULTIPART)
    assert parsed > 20


@pytest.mark.parametrize("seed", range(4))
def test_urlencoded_bodies(seed):
    rng = random.Random(seed)
    pieces = [
        b"a",
        b"b",
        b"=",
        b"=",
        b"&",
        b"&",
        b"+",
        b"%20",
        b"%C3%BC",
        b"%",
        b"%2",
        b"%zz",
        b";",
    ]
    pieces += [b"\xc3\xbc", b"\xff", b"%FF", b" ", b"\r\n", b"%00", b"%26", b"%3d", b"?", b"#"]
    for _ in range(500):
        body = b"".join(rng.choices(pieces, k=rng.randrange(12)))
        assert compare(body, URLENCODED)


def test_limits_are_starlettes():
    two = body_of(FILE, FILE, field("a", b"12345"), field("b", b"1"))
    for limits in (
        {"max_files": 1}, {"max_files": 2}, {"max_fields": 1}, {"max_fields": 2}, {"max_files": 0},
        {"max_part_size": 4}, {"max_part_size": 5}, {"max_part_size": 0}, {"max_fields": 0},
    ):  # fmt: skip
        within = not isinstance(asyncio.run(theirs(two, MULTIPART, **limits)), str)
        assert compare(two, MULTIPART, **limits) is within
        compare(b"a=1&b=2", URLENCODED, **limits)
        compare(b"a=12345", URLENCODED, **limits)


def test_files_that_belong_on_disk_are_left_to_starlette(monkeypatch):
    assert compare(body_of(FILE), MULTIPART)
    monkeypatch.setattr(formparsers.MultiPartParser, "spool_max_size", 10)
    assert parse_whole_form(body_of(FILE), MULTIPART.encode()) is None


def test_parsers_that_were_replaced_are_called(monkeypatch):
    assert compare(b"a=1", URLENCODED)
    monkeypatch.setattr(formparsers.FormParser, "on_field_end", lambda self: None)
    assert parse_whole_form(b"a=1", URLENCODED.encode()) is None
    monkeypatch.undo()
    assert compare(b"a=1", URLENCODED)
    monkeypatch.setattr(Request, "form", lambda self: None)
    assert parse_whole_form(b"a=1", URLENCODED.encode()) is None


def test_bad_arguments():
    with pytest.raises(TypeError):
        _core.parse_urlencoded("a=1")
    with pytest.raises(TypeError):
        _core.parse_multipart(b"", "x", 1, 1, 1, None)
    with pytest.raises(TypeError, match="guards"):
        _core.attributes_hold([1])
    with pytest.raises(ZeroDivisionError):
        _core.parse_multipart(body_of(FILE), MULTIPART.encode(), 9, 9, 9, lambda *a: 1 // 0)


# -- the same application at both doors ----------------------------------------------------------


class Model(BaseModel):
    name: str
    age: int = Field(3, ge=0)
    tags: list[str] = []


def make_app():
    app = FastAPI()

    @app.post("/form")
    async def form(
        a: Annotated[str, Form()],
        b: Annotated[int, Form(gt=0)] = 7,
        c: Annotated[list[int] | None, Form()] = None,
        d: Annotated[bool | None, Form(alias="D-d")] = None,
    ):
        return [a, b, c, d]

    @app.post("/sync")
    def sync(a: Annotated[str, Form()], f: UploadFile | None = None):
        return [a, f and [f.filename, f.size, f.file.read().decode()]]

    @app.post("/model")
    async def model(m: Annotated[Model, Form()]):
        return m

    @app.post("/optional")
    async def optional(m: Annotated[Model | None, Form()] = None):
        return m

    @app.post("/file")
    async def file(f: UploadFile, note: Annotated[str, Form()] = "-"):
        head = await f.read(3)
        await f.seek(1)
        rest = await f.read()
        await f.write(b"more")
        size = f.size
        await f.seek(0)
        whole = await f.read()
        await f.close()
        texts = [each.decode("latin-1") for each in (head, rest, whole)]
        return [f.filename, f.content_type, dict(f.headers), size, note, f.file.closed, texts]

    @app.post("/files")
    async def files(f: list[UploadFile], b: Annotated[bytes, File()] = b"-"):
        return [[(each.filename, each.size) for each in f], len(b)]

    @app.post("/bytes")
    async def as_bytes(f: Annotated[bytes, File()], again: Annotated[bytes, File(alias="f")]):
        return [len(f), len(again)]

    @app.post("/request")
    async def request(request: Request, a: Annotated[str, Form()]):
        form = await request.form()
        seen = [(k, v if isinstance(v, str) else v.filename) for k, v in form.multi_items()]
        try:
            body = (await request.body()).decode()
        except RuntimeError as error:
            body = str(error)
        return [a, seen, body]

    return app


def send_all(client_class, cases):
    answers = []
    with client_class(make_app()) as client:
        for path, body, kind in cases:
            headers = {"content-type": kind} if kind is not None else {}
            answer = client.post(path, content=body, headers=headers)
            answers.append((answer.status_code, answer.json()))
    return answers


PATHS = ["/form", "/sync", "/model", "/optional", "/file", "/files", "/bytes", "/request"]


def test_forms_at_both_doors():
    bodies = [
        (b"a=1&b=2", URLENCODED),
        (b"a=1&b=0&c=1&c=2&D-d=on", URLENCODED),
        (b"a=&b=&c=&D-d=", URLENCODED),
        (b"a=x&b=no&c=1&c=no", f"{URLENCODED}; charset=utf-8"),
        (b"name=n&age=5&tags=x&tags=y&extra=1", URLENCODED),
        (b"name=&age=-1", URLENCODED),
        (b"m=1", URLENCODED),
        (b"", URLENCODED),
        (b"a=" + b"x" * 5000, f"{URLENCODED}; charset=latin-1"),
        (b"a=1" + b"&a=1" * 1500, URLENCODED),
        (b"a=" + b"x" * 1_100_000, URLENCODED),
        (b'{"a": "1"}', "application/json"),
        (b"a=1", None),
        (b"a=1", "text/plain"),
        (body_of(FILE, field("a", b"1"), field("b", b"3"), field("note", b"n")), MULTIPART),
        (
            body_of(FILE, FILE, field("a", b"1"), field("name", b"n"), field("tags", b"t")),
            MULTIPART,
        ),
        (body_of(field("f", b"", '; filename=""'), field("a", b"1")), MULTIPART),
        (body_of(field("f", b"text"), field("a", b"1")), MULTIPART),
        (body_of(field("a", b"x" * 1_000_001)), MULTIPART),
        (body_of(field("f", b"x" * 1_200_000, '; filename="big"'), field("a", b"1")), MULTIPART),
        # Starlette does not close the file of a part that has no end.
        *((body, MULTIPART) for i, body in enumerate(BODIES) if i not in (5, 6)),
        (body_of(FILE), "multipart/form-data"),
        (body_of(FILE), f"{MULTIPART}; charset=latin-1"),
    ]
    cases = [
        (path, body, kind)
        for path in PATHS
        for body, kind in bodies
        if len(body) < 10_000 or path in ("/form", "/file")
    ]
    answers = both(lambda client_class: send_all(client_class, cases))
    assert {status for status, _ in answers} == {200, 400, 422}


def test_limits_of_apps_and_routers_at_both_doors():
    def scenario(client_class):
        app = FastAPI(form_limits={"max_fields": 2})

        @app.post("/app")
        async def of_app(a: Annotated[str, Form()]):
            return a

        @app.post("/route", form_limits={"max_part_size": 3, "max_fields": 3})
        async def of_route(a: Annotated[str, Form()]):
            return a

        answers = []
        with client_class(app) as client:
            for path in ("/app", "/route"):
                for body in (b"a=1&b=2", b"a=1&b=2&c=3", b"a=1&b=2&c=3&d=4", b"a=12345"):
                    headers = {"content-type": URLENCODED}
                    answer = client.post(path, content=body, headers=headers)
                    answers.append((answer.status_code, answer.json()))
                many = body_of(*[field("a", b"1") for _ in range(3)])
                answer = client.post(path, content=many, headers={"content-type": MULTIPART})
                answers.append((answer.status_code, answer.json()))
        return answers

    both(scenario)


def test_the_form_reaches_handlers_of_errors():
    def scenario(client_class):
        app = FastAPI()
        seen = []

        @app.exception_handler(422)
        async def unused(request, exc):
            raise exc

        @app.exception_handler(ValueError)
        async def failed(request, exc):
            form = await request.form()
            seen.append(list(form.multi_items()))
            from turboapi.responses import JSONResponse

            return JSONResponse({"form": dict(form)}, 418)

        @app.post("/")
        async def raises(a: Annotated[str, Form()]):
            raise ValueError(a)

        with client_class(app) as client:
            answer = client.post("/", data={"a": "1", "b": "2"})
            return answer.status_code, answer.json(), seen

    assert both(scenario)[0] == 418


def test_uploads_are_closed_after_the_response():
    kept = []
    app = FastAPI()

    @app.post("/")
    async def keep(f: UploadFile):
        kept.append(f)
        return f.size

    with running(app) as server:
        headers = {"content-type": MULTIPART}
        assert server.request("POST", "/", body_of(FILE), headers)[0] == 200
        assert server.request("POST", "/", body_of(FILE), headers)[2] == b"12"
    assert [each.file.closed for each in kept] == [True, True]


def test_a_form_in_chunks_is_read_by_starlette():
    with running(make_app()) as server:
        head = (
            b"POST /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
        )
        head += f"Content-Type: {MULTIPART}\r\n\r\n".encode()
        body = body_of(FILE)
        chunks = b"".join(b"%x\r\n%s\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
        assert b" 200 " in server.exchange(head + chunks + b"0\r\n\r\n").partition(b"\r\n")[0]
