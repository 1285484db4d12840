"""What applications do to uvicorn's loggers, and say through them."""

import io
import json
import logging
import logging.config
import threading

import pytest
from server_kit import handler, running, send_text

from turboapi._serving import access, log, twins
from turboapi.config import Config

OURS, THEIRS = "turboapi.access", "uvicorn.access"
NAMES = ("turboapi", OURS, "turboapi.error", "turboapi.server", "uvicorn", THEIRS, "uvicorn.error")


@pytest.fixture
def begin(monkeypatch):
    """Yield a function that sets up the logging of `turboapi run` and returns stdout and stderr.

    It is for the test itself to call: pytest hangs handlers of its own on loggers that do not
    propagate when a test begins.
    """
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [
        (each, each.level, each.propagate, each.disabled, list(each.handlers), list(each.filters))
        for each in loggers
    ]

    def begin(**settings):
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", err)
        log.configure(Config(**{"use_colors": False, **settings}))
        return out, err

    yield begin
    for each, level, propagate, disabled, handlers, filters in before:
        each.setLevel(level)
        each.propagate, each.disabled = propagate, disabled
        each.handlers[:], each.filters[:] = handlers, filters
    twins.forget()


class Note(logging.Handler):
    def __init__(self, level=logging.NOTSET):
        super().__init__(level)
        self.records = []

    def emit(self, record):
        self.records.append(record)

    @property
    def names(self):
        return [record.name for record in self.records]


def serve(action=lambda: None):
    """A server whose /act calls the function, in the request."""

    async def app(scope, receive, send):
        if scope["path"] == "/act":
            action()
        if scope["path"] == "/boom":
            raise ValueError("boom")
        await send_text(send, "x")

    return running(handler(app), access_log=True)


def lines(streams):
    """Paths of the access lines."""
    return [line.split('"')[1].split()[1] for line in streams[0].getvalue().splitlines()]


def mode():
    return access.AccessLog(Config()).writer().mode()


# What somebody does to a logger, and whether lines are shown then.
CHANGES = {
    "filter": (lambda of: of.addFilter(lambda record: "/no" not in record.getMessage()), "/yes"),
    "disabled": (lambda of: setattr(of, "disabled", True), None),
    "level": (lambda of: of.setLevel(logging.WARNING), None),
    "handlers": (lambda of: setattr(of, "handlers", []), None),
    "handler removed": (lambda of: of.removeHandler(of.handlers[0]), None),
    "another handler": (lambda of: setattr(of, "handlers", [Note()]), None),
    "one more handler": (lambda of: of.addHandler(Note()), "both"),
    "propagate": (lambda of: setattr(of, "propagate", True), "both"),
    "nothing": (lambda of: of.setLevel(logging.INFO), "both"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [OURS, THEIRS])
@pytest.mark.parametrize("when", ["before", "in a request"])
def test_changes_of_the_access_loggers(begin, change, name, when):
    streams = begin()
    function, shown = CHANGES[change]
    logger = logging.getLogger(name)
    if when == "before":
        function(logger)
    with serve(lambda: function(logger)) as server, server.client() as conn:
        for path in ["/first", "/act"] * (when != "before") + ["/no", "/yes"]:
            conn.request("GET", path)
            conn.getresponse().read()
    expected = {"/yes": ["/yes"], "both": ["/no", "/yes"], None: []}[shown]
    if when != "before":
        # What a handler changes holds for its own line.
        expected = ["/first", *["/act"] * bool(shown), *expected]
    assert lines(streams) == expected


def test_both_changed(begin):
    """All loggers are made to give their records to the root's handlers, a usual recipe."""
    streams = begin()
    for name in NAMES:
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    note = Note()
    logging.getLogger().addHandler(note)
    try:
        with serve() as server:
            server.get("/a")
            server.get("/boom")
    finally:
        logging.getLogger().removeHandler(note)
    assert (lines(streams), streams[1].getvalue()) == ([], "")
    assert [name for name in note.names if name in (OURS, THEIRS)] == [THEIRS, THEIRS]
    assert sum(record.exc_info is not None for record in note.records) == 1


def test_own_handlers_of_both(begin):
    streams = begin()
    mine, theirs, both = Note(), Note(), Note()
    logging.getLogger(OURS).addHandler(mine)
    logging.getLogger(OURS).addHandler(both)
    logging.getLogger(THEIRS).addHandler(theirs)
    logging.getLogger(THEIRS).addHandler(both)
    logging.getLogger(THEIRS).addFilter(lambda record: "/no" not in record.getMessage())
    with serve() as server:
        server.get("/no")
        server.get("/yes")
    assert lines(streams) == ["/yes"]
    assert mine.names == [OURS, OURS]
    assert theirs.names == [THEIRS]
    assert both.names == [OURS, THEIRS]


def test_the_record(begin):
    begin()
    note = Note()
    logging.getLogger(THEIRS).addHandler(note)
    with serve() as server, server.client() as conn:
        conn.request("GET", "/a%20b?q=1")
        client = "{}:{}".format(*conn.sock.getsockname())
        conn.getresponse().read()
    (record,) = note.records
    assert record.args == (client, "GET", "/a%20b?q=1", "1.1", 200)
    assert record.getMessage() == f'{client} - "GET /a%20b?q=1 HTTP/1.1" 200'


def test_the_way_that_lines_are_made(begin):
    def configured(function=lambda: None, **settings):
        begin(**settings)
        function()
        return mode()

    theirs = logging.getLogger(THEIRS)
    assert configured() == access.QUICK
    assert configured(access_log=False) == access.SILENT
    assert configured(log_level="warning") == access.SILENT
    assert configured(lambda: theirs.setLevel(logging.INFO)) == access.QUICK
    assert configured(lambda: theirs.setLevel(logging.ERROR)) == access.SILENT
    assert configured(lambda: theirs.addHandler(Note())) == access.GENERAL
    assert configured(lambda: theirs.addHandler(Note()), access_log=False) == access.GENERAL


def test_lines_are_quick_again_when_a_change_is_taken_back(begin):
    streams = begin()
    theirs = logging.getLogger(THEIRS)
    with serve() as server:
        theirs.disabled = True
        server.get("/a")
        theirs.disabled = False
        server.get("/b")
        assert mode() == access.QUICK
    assert lines(streams) == ["/b"]


def test_the_handler_itself_is_changed(begin):
    streams = begin()
    with serve() as server, server.client() as conn:

        def get(path):
            conn.request("GET", path)
            conn.getresponse().read()

        get("/a")
        logging.getLogger(THEIRS).handlers[0].setFormatter(logging.Formatter("mine %(message)s"))
        get("/b")  # made in C, as nothing told that another way is wanted
        get("/c")
    written = streams[0].getvalue().splitlines()
    assert written[0].startswith("INFO: ")
    assert written[-1].startswith("mine ")
    assert lines(streams) == ["/a", "/b", "/c"]


@pytest.mark.parametrize("named", [False, True])
def test_dict_config_of_an_application(begin, named):
    """With disable_existing_loggers, which is the default: as under uvicorn."""
    streams = begin()
    stream = io.StringIO()
    config = {
        "version": 1,
        "handlers": {"mine": {"class": "logging.StreamHandler", "stream": stream}},
        "loggers": {"uvicorn": {"handlers": ["mine"]}, THEIRS: {"handlers": ["mine"]}},
    }
    if not named:
        del config["loggers"]
    logging.config.dictConfig(config)
    try:
        with serve() as server:
            server.get("/a")
            server.get("/boom")
    finally:
        for each in (logging.getLogger(name) for name in list(logging.root.manager.loggerDict)):
            each.disabled = False
    assert lines(streams) == []
    shown = stream.getvalue()
    assert shown.count("GET /a HTTP/1.1") == named
    assert shown.count("Exception in ASGI application") == named


def test_errors(begin):
    streams = begin()
    note = Note(logging.ERROR)
    logging.getLogger("uvicorn.error").addHandler(note)
    with serve() as server:
        server.get("/boom")
    (record,) = note.records
    assert (record.name, record.getMessage()) == (
        "uvicorn.error",
        "Exception in ASGI application\n",
    )
    assert record.exc_info[0] is ValueError
    assert streams[1].getvalue().count("Exception in ASGI application") == 1


@pytest.mark.parametrize("name", ["uvicorn.error", "uvicorn"])
@pytest.mark.parametrize("how", ["level", "filter", "disabled"])
def test_errors_are_held_back(begin, name, how):
    streams = begin()
    logger = logging.getLogger(name)
    if how == "level":
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    elif how == "filter":
        # Filters of a logger are for its own records only.
        logging.getLogger("uvicorn.error").addFilter(lambda record: False)
    else:
        logger.disabled = True
    with serve() as server:
        server.get("/boom")
    held = how != "disabled" or name == "uvicorn.error"
    assert ("Exception in ASGI application" in streams[1].getvalue()) is not held


def test_what_is_said_through_them_is_shown_once(begin):
    streams = begin()
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logging.getLogger(name).info("through %s.", name)
    logging.getLogger(THEIRS).info('%s - "%s %s HTTP/%s" %d', "1:2", "GET", "/own", "1.1", 200)
    written = streams[1].getvalue().splitlines()
    assert written == [
        "INFO:     through uvicorn.",
        "INFO:     through uvicorn.error.",
        "INFO:     through uvicorn.asgi.",
    ]
    assert streams[0].getvalue() == 'INFO:     1:2 - "GET /own HTTP/1.1" 200 OK\n'


UVICORN_CONFIG = """{
    "version": 1, "disable_existing_loggers": false,
    "formatters": {
        "default": {"()": "uvicorn.logging.DefaultFormatter", "fmt": "%(levelprefix)s E %(message)s"},
        "access": {"()": "uvicorn.logging.AccessFormatter",
                   "fmt": "%(levelprefix)s A %(client_addr)s %(request_line)s %(status_code)s"}
    },
    "handlers": {
        "default": {"formatter": "default", "class": "logging.StreamHandler"},
        "access": {"formatter": "access", "class": "logging.StreamHandler",
                   "stream": "ext://sys.stdout"}
    },
    "loggers": {
        "uvicorn": {"handlers": ["default"], "level": "INFO", "propagate": false},
        "uvicorn.error": {"level": "INFO"},
        "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": false}
    }
}"""


def test_log_config_with_uvicorns_names(begin, tmp_path):
    for name in ("turboapi", OURS):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger(name).propagate = True
    path = tmp_path / "log.json"
    path.write_text(UVICORN_CONFIG)
    out, err = begin(log_config=str(path))
    with serve() as server:
        server.get("/a")
        server.get("/boom")
    first, second = out.getvalue().splitlines()
    assert first.startswith("INFO:     A 127.0.0.1:")
    assert first.endswith("GET /a HTTP/1.1 200 OK")
    assert second.endswith("GET /boom HTTP/1.1 500 Internal Server Error")
    assert err.getvalue().count("ERROR:    E Exception in ASGI application") == 1


@pytest.mark.parametrize(("named", "other"), [("uvicorn", "turboapi"), ("turboapi", "uvicorn")])
def test_log_config_that_names_only_one_of_the_twins(begin, tmp_path, named, other):
    """What the root logger has gets no record of the other, with no filter and in other words."""
    for name in NAMES:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.filters.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate, logger.disabled = True, False
    config = json.loads(
        UVICORN_CONFIG.replace('"uvicorn', f'"{named}').replace(
            f'"{named}.logging.', '"uvicorn.logging.'
        )
    )
    root = logging.getLogger()
    note, handlers, level = Note(), root.handlers[:], root.level
    path = tmp_path / "log.json"
    path.write_text(json.dumps(config))
    begin(log_config=str(path))
    root.addHandler(note)
    root.setLevel(logging.INFO)
    try:
        with serve() as server:
            server.get("/a")
            server.get("/boom")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert [name for name in note.names if name.startswith(other)] == []


def test_changes_from_other_threads(begin):
    """Lines are whole, and none is lost, whatever other threads do to the loggers meanwhile."""
    streams = begin()
    theirs = logging.getLogger(THEIRS)
    stop = threading.Event()

    def change():
        note = Note()
        while not stop.is_set():
            theirs.addHandler(note)
            theirs.removeHandler(note)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        with serve() as server, server.client() as conn:
            for number in range(300):
                conn.request("GET", f"/{number}")
                conn.getresponse().read()
    finally:
        stop.set()
        thread.join()
    assert lines(streams) == [f"/{number}" for number in range(300)]


# -- what clients send can't forge lines ----------------------------------------------------------


@pytest.mark.parametrize("way", ["quick", "general"])
def test_nothing_forges_a_line(begin, way):
    streams = begin()
    if way == "general":
        logging.getLogger(THEIRS).addFilter(lambda record: True)
    forged = b'1.1.1.1 - "GET /f HTTP/1.1" 200\xc2\x9b31m'
    with serve() as server:
        answer = server.exchange(
            b'GET /a"b\'%%22?q="%%0a HTTP/1.1\r\nHost: x\r\n'
            b"X-Forwarded-For: %s\r\nConnection: close\r\n\r\n" % forged
        )
        assert b" 200 OK\r\n" in answer
        # No byte that is not printable ASCII comes so far as to be logged.
        for byte in (b"\x1b", b"\x7f", b"\x9b", b"\xc3\xa9"):
            answer = server.exchange(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % byte)
            assert answer.startswith(b"HTTP/1.1 400 ")
    assert streams[0].getvalue() == (
        "INFO:     1.1.1.1%20-%20%22GET%20/f%20HTTP/1.1%22%20200%C3%82%C2%9B31m:0 - "
        '"GET /a%22b\'%22?q=%22%0a HTTP/1.1" 200 OK\n'
    )


def test_long_targets(begin):
    streams = begin()
    target = "/" + '"' * 4000
    with serve() as server:
        server.exchange(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert lines(streams) == ["/" + "%22" * 4000]
