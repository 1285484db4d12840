"""The heartbeat of workers."""

import os

import pytest

from turboapi._serving.heartbeat import BEAT, READY, RETIRES, Heartbeat, interval_of
from turboapi.config import Config, ConfigError


class Loop:
    """Time that the test moves."""

    def __init__(self):
        self.later = []

    def call_later(self, delay, function, *arguments):
        self.later.append((delay, function, arguments))

    def turn(self):
        due, self.later = self.later, []
        for _, function, arguments in due:
            function(*arguments)


@pytest.fixture
def pipe():
    read, write = os.pipe()
    os.set_blocking(read, False)

    def news():
        try:
            return os.read(read, 100)
        except BlockingIOError:
            return None

    yield write, news
    os.close(read)


def test_beats_while_the_loop_turns(pipe):
    write, news = pipe
    heartbeat, loop = Heartbeat(write, 30), Loop()
    heartbeat.start(loop)
    assert news() == READY + BEAT
    assert [delay for delay, *_ in loop.later] == [1.0]
    assert news() is None
    loop.turn()
    assert news() == BEAT
    heartbeat.stop()
    assert news() == b""
    loop.turn()
    heartbeat.stop()


def test_all_loops_must_turn(pipe):
    write, news = pipe
    heartbeat, main, other = Heartbeat(write, 5), Loop(), Loop()
    heartbeat.join(other)
    heartbeat.start(main)
    assert news() == READY + BEAT
    main.turn()
    assert news() is None  # the other one made no step since
    other.turn()
    main.turn()
    assert news() == BEAT
    for _ in range(3):
        main.turn()
    assert news() is None
    heartbeat.stop()


def test_without_a_limit_it_is_only_ready(pipe):
    write, news = pipe
    heartbeat, loop = Heartbeat(write, 0), Loop()
    heartbeat.join(loop)
    heartbeat.start(loop)
    assert (news(), news(), loop.later) == (READY, None, [])
    heartbeat.retire()
    assert news() == RETIRES
    heartbeat.stop()
    assert news() == b""


def test_without_a_supervisor():
    heartbeat, loop = Heartbeat(None, 30), Loop()
    heartbeat.join(loop)
    heartbeat.start(loop)
    heartbeat.stop()
    assert loop.later == []


def test_a_full_or_broken_pipe_is_nothing():
    read, write = os.pipe()
    heartbeat, loop = Heartbeat(write, 30), Loop()
    heartbeat.start(loop)
    while True:
        try:
            os.write(write, b"." * 4096)
        except BlockingIOError:
            break
    loop.turn()
    os.close(read)
    loop.turn()
    heartbeat.stop()


def test_the_setting():
    assert interval_of(30) == 1.0
    assert interval_of(2) == 0.2
    assert Config(timeout_worker="0").timeout_worker == 0
    assert Config(timeout_worker="1").timeout_worker == 1
    with pytest.raises(ConfigError, match=r"timeout_worker: below 1 second"):
        Config(timeout_worker="999ms")
