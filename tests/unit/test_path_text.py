"""The text of a path is what os.fspath returns, however C gets it."""

import os
import pathlib
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turboapi import _core

SEGMENTS = ["", "/", "//", "///", ".", "..", "a", "b.txt", "a/b", "a/", "/a", "./a", "a/.", "a//b"]
SEGMENTS += ["~", "a\\b", "a b", ".a", "a.", "...", "-", "\u00e4", "\udcff", "x" * 600]


@given(st.lists(st.sampled_from(SEGMENTS), max_size=4))
def test_any_segments(segments):
    path = pathlib.Path(*segments)
    text = _core.path_text(path)
    assert text == os.fspath(path) == str(path)
    assert _core.path_text(path) == text  # pathlib knows it now


@given(st.lists(st.text("./ab\0", max_size=6), min_size=1, max_size=4))
def test_any_text(segments):
    path = pathlib.Path(segments[0])
    for segment in segments[1:]:
        path = path / segment
    assert _core.path_text(path) == os.fspath(path)


@pytest.mark.parametrize("length", [1020, 1021, 1022, 1023, 1024, 1025, 4096])
def test_length(length):
    path = pathlib.Path("/a") / ("b" * (length - 3))
    assert len(_core.path_text(path)) == length
    assert _core.path_text(path) == os.fspath(path)


def test_what_is_no_path_of_pathlib():
    class Own(pathlib.PosixPath):
        def __fspath__(self):
            return "own"

    class Other:
        def __fspath__(self):
            return b"bytes"

    assert _core.path_text("a//b") == "a//b"
    assert _core.path_text(b"a") == b"a"
    assert _core.path_text(pathlib.PurePosixPath("a//b")) == "a/b"
    assert _core.path_text(Own("a")) == "own"
    assert _core.path_text(Other()) == b"bytes"
    for wrong in (None, 1, ["a"], pathlib.Path):
        with pytest.raises(TypeError):
            _core.path_text(wrong)


@pytest.mark.parametrize("name", ["__fspath__", "__str__"])
def test_replaced_methods(name, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.PosixPath, name, lambda self: "replaced", raising=False)
        text = _core.path_text(pathlib.Path("a") / "b")
        expected = os.fspath(pathlib.Path("a") / "b")  # Python 3.15 does not call __str__
    assert text == expected
    assert text == "replaced" or name == "__str__"


def test_methods_that_were_replaced_before():
    script = """
import pathlib
pathlib.PurePath.{} = lambda self: "replaced"
from turboapi import _core
print(_core.path_text(pathlib.Path("a") / "b"), pathlib.Path("a").joinpath("b").__fspath__())
"""
    for name in ("__fspath__", "__str__"):
        done = subprocess.run(
            [sys.executable, "-c", script.format(name)], capture_output=True, text=True, check=True
        )
        text, expected = done.stdout.split()
        assert text == expected
        assert text == "replaced" or name == "__str__"


def test_parts_that_are_joined_meanwhile():
    """As pathlib does in its development version."""
    path = pathlib.Path("/srv", "directory", "name.txt")
    if not hasattr(path, "_raw_paths"):
        pytest.skip("this pathlib has no such parts")
    assert os.fspath(path) == "/srv/directory/name.txt"  # pathlib need not look at them again
    parts = path._raw_paths
    done = threading.Event()

    def join():
        while not done.is_set():
            parts.clear()
            parts.append("/srv/directory/name.txt")
            parts[:] = ["/srv", "directory", "name.txt"]

    thread = threading.Thread(target=join)
    thread.start()
    try:
        texts = {_core.path_text(path) for _ in range(20_000)}
    finally:
        done.set()
        thread.join()
    assert texts == {"/srv/directory/name.txt"}


def test_parts_that_are_odd():
    class Text(str):
        pass

    path = pathlib.Path(Text("a"), "b")
    assert _core.path_text(path) == os.fspath(path) == "a/b"
    path = pathlib.Path("a", "b")
    os.fspath(path)
    if hasattr(path, "_raw_paths"):
        path._raw_paths = None
        assert _core.path_text(path) == "a/b"
