"""Messages of responses and their fields, in every form in which an application may send them."""

import collections
import itertools
import types

import pytest
from server_kit import handler, running

REFUSED_IN_NAMES = {*range(0x20), 0x7F, *b'()<>@,;:\\[]={}" '}
REFUSED_IN_VALUES = {*range(0x20), 0x7F} - {ord("\t")}
LENGTHS = (1, 2, 7, 8, 9, 12, 15, 16, 17, 25)


def asked(application, path="/"):
    """What a client gets of an application that has one request."""
    with running(handler(application)) as server:
        return server.exchange(
            b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % path.encode()
        )


def is_taken(kind):
    """Try texts with each byte at each place; a field that is taken is followed by a wrong one."""
    found = {}

    async def app(scope, receive, send):
        for length in LENGTHS:
            for place, byte in itertools.product(range(length), range(256)):
                text = b"x" * place + bytes([byte]) + b"x" * (length - place - 1)
                field = (text, b"v") if kind == "name" else (b"n", text)
                start = {"type": "http.response.start", "status": 200}
                try:
                    await send({**start, "headers": [field, ("not", "bytes")]})
                except TypeError:
                    found[text] = True
                except RuntimeError as error:
                    assert str(error) == f"Invalid HTTP header {kind}."  # noqa: PT017
                    found[text] = False
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    assert asked(app).startswith(b"HTTP/1.1 204 ")
    return found


@pytest.mark.parametrize(
    ("kind", "refused"), [("name", REFUSED_IN_NAMES), ("value", REFUSED_IN_VALUES)]
)
def test_each_byte_at_each_place(kind, refused):
    found = is_taken(kind)
    assert len(found) > 20_000
    wrong = [text for text, taken in found.items() if taken == bool(set(text) & refused)]
    assert wrong == []


def test_names_are_sent_in_lower_case():
    letters = bytes(each for each in range(0x21, 0x100) if each not in REFUSED_IN_NAMES)
    names = [letters[at : at + size] for size in LENGTHS for at in range(0, len(letters) - size, 3)]

    async def app(scope, receive, send):
        fields = [(name, b"%d" % i) for i, name in enumerate(names)]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"x"})

    lines = asked(app).split(b"\r\n")
    for i, name in enumerate(names):  # bytes.lower() leaves what is not ASCII alone
        assert b"%b: %d" % (name.lower(), i) in lines


class Name(str):
    """A key that is equal to a str, and another kind of object."""

    __slots__ = ()


class Message(dict):
    pass


class Asked(dict):
    """One that computes what it has."""

    def __missing__(self, key):
        raise KeyError(key)


def renamed(make):
    return lambda message: {make(key): value for key, value in message.items()}


FORMS = {
    "dict": dict,
    "another order": lambda message: dict(reversed(message.items())),
    "other texts": renamed(lambda key: "".join([key[:1], key[1:]])),
    "subclass of str": renamed(Name),
    "subclass": Message,
    "OrderedDict": collections.OrderedDict,
    "mapping": types.MappingProxyType,
    "missing": Asked,
    "more members": lambda message: {**message, "x-more": 1, "x-even-more": None},
    "other keys": lambda message: {**message, 1: 2, None: 3},
}
RESPONSES = [
    [{"status": 200, "headers": [(b"X-A", b"1")]}, {"body": b"abc"}],
    [{"status": 201}, {"body": b"ab", "more_body": True}, {"body": memoryview(b"c")}],
    [{"status": 200, "headers": ((b"x-a", b"1"),)}, {"body": b"a", "more_body": 1}, {}],
    [{"status": True + 201, "headers": iter([[b"x-a", b"1"]])}, {"body": bytearray(b"abc")}],
    [{"status": 299, "headers": []}, {"more_body": False, "body": b""}],
]


def sent_in(form, response):
    async def app(scope, receive, send):
        for i, members in enumerate(response):
            kind = "http.response.body" if i else "http.response.start"
            await send(form({"type": kind, **members}))

    lines = asked(app).split(b"\r\n")
    return [line for line in lines if not line.startswith((b"date:", b"server:"))]


@pytest.mark.parametrize("which", range(len(RESPONSES)))
def test_forms_of_messages(which):
    def again():
        return [
            {k: iter([[b"x-a", b"1"]]) if hasattr(v, "__next__") else v for k, v in each.items()}
            for each in RESPONSES[which]
        ]

    expected = sent_in(dict, again())
    assert expected[0].startswith(b"HTTP/1.1 2")
    for name, form in FORMS.items():
        assert sent_in(form, again()) == expected, name


def test_a_message_may_change_while_its_fields_are_read():
    seen = []

    async def app(scope, receive, send):
        def fields():
            message.clear()
            seen.append(len(message))
            yield b"x-a", b"1"

        message = {"type": "http.response.start", "status": 200}
        message["headers"] = fields()
        await send(message)
        await send({"type": "http.response.body", "body": b"x"})

    assert b"\r\nx-a: 1\r\n" in asked(app)
    assert seen == [0]


def test_heads_of_other_sizes_follow_each_other():
    """The memory of a head is that of an earlier one, unless that was unusually large."""

    async def app(scope, receive, send):
        count, size = map(int, scope["path"][1:].split("/"))
        fields = [(b"x-%d" % i, b"v" * size) for i in range(count)]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"x"})

    with running(handler(app)) as server:
        for count, size in [(3, 5), (90, 40), (0, 0), (1, 5000), (2, 1), (64, 1), (0, 0)] * 3:
            _, headers, body = server.get(f"/{count}/{size}")
            mine = {name: value for name, value in headers.items() if name.startswith("x-")}
            assert mine == {f"x-{i}": "v" * size for i in range(count)}
            assert body == b"x"
