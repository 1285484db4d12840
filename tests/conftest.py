"""What holds for all tests under tests/."""

import gc
import os
import signal

import hypothesis  # noqa: F401 (it looks for referrers, which it would not find among the frozen)
import pytest

# Whether turboapi-c-docs is installed depends on what `make` was called for before.
os.environ["TURBOAPI_DOCS_ASSETS"] = "cdn"

# A shell starts its background jobs with SIGINT ignored, and children inherit that: tests that
# interrupt a server would wait until they time out.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _shared_objects_are_left_alone():
    """The interpreter has one object for each byte and for each character below 256.

    C code that writes into one changes it for everybody: the test that does so has to fail, not
    some later one.
    """
    yield
    assert [bytes([code])[0] for code in range(256)] == _CODES
    assert [ord(chr(code)) for code in range(256)] == _CODES


_CODES = list(range(256))


def pytest_collection_finish():
    """Spare each collection the thousands of tests: it took longer than what many of them test."""
    gc.collect()
    gc.freeze()
