"""What clients accept, streams of `_core.Packer`, and the settings of compression."""

import gzip

import pytest

from turboapi import _core
from turboapi._compression import LEVELS, TYPES, read_codings, read_types
from turboapi.config import Config, ConfigError

ALL = ("zstd", "br", "gzip")


@pytest.mark.parametrize(
    ("values", "chosen", "plain"),
    [
        ([], "identity", True),
        ([b""], "identity", True),
        ([b"gzip"], "gzip", True),
        ([b"GZIP"], "gzip", True),
        ([b"x-gzip"], "gzip", True),
        ([b"gzip, br"], "br", True),
        ([b"gzip", b"br"], "br", True),
        ([b"gzip;q=0.5, br;q=0.4"], "gzip", True),
        ([b"gzip ; q=0.5 , br;Q=0.501"], "br", True),
        ([b"gzip;q=0"], "identity", True),
        ([b"gzip;q=0.000"], "identity", True),
        ([b"gzip;q=0.001"], "gzip", True),
        ([b"gzip;q=1.001"], "identity", True),  # malformed: left out
        ([b"gzip;q=0.0001"], "identity", True),
        ([b"gzip;level=9"], "identity", True),
        ([b"gzip;q="], "identity", True),
        ([b"gzip;q=.5"], "identity", True),
        ([b"*"], "zstd", True),
        ([b"*;q=0"], "identity", False),
        ([b"zstd;q=0, *"], "br", True),
        ([b"*;q=0, gzip"], "gzip", False),
        ([b"identity;q=0"], "identity", False),
        ([b"identity, gzip;q=0.9"], "identity", True),
        ([b"identity;q=0.5, gzip;q=0.5"], "gzip", True),
        ([b"identity;q=0, gzip;q=0.1"], "gzip", False),
        ([b"deflate, compress"], "identity", True),
        ([b",, gzip,,"], "gzip", True),
        ([b"gzip;q=0, gzip"], "identity", True),  # the first one counts
    ],
)
def test_what_clients_accept(values, chosen, plain):
    assert _core.choose_coding(values, ALL) == (chosen, plain)


def test_wrong_arguments():
    with pytest.raises(TypeError):
        _core.choose_coding(["gzip"], ALL)
    with pytest.raises(ValueError, match="no coding lzma"):
        _core.choose_coding([], ("lzma",))
    for wrong in (("lzma", 1), ("gzip", 10), ("identity", 0)):
        with pytest.raises(ValueError, match="no coding"):
            _core.Packer(*wrong)


def test_streams():
    packer = _core.Packer("gzip", 6)
    packed = packer.pack(b"a" * 5000) + packer.pack(b"") + packer.pack(b"b", True)
    assert gzip.decompress(packed) == b"a" * 5000 + b"b"
    with pytest.raises(ValueError, match="ended"):
        packer.pack(b"c")


def test_settings():
    assert Config().compression() is None
    assert Config(compress="all").compress == ("all",)
    assert read_codings(["all"]) == tuple((n, LEVELS[n]) for n in LEVELS if n in _core.CODINGS)
    assert read_codings(["gzip:0", " GZIP:9"]) == (("gzip", 9),)
    assert Config(compress=["gzip:1,gzip"]).compress == ("gzip:1", "gzip")
    for wrong in ("zip", "gzip:10", "gzip:-1", "gzip:", "gzip:¹"):
        with pytest.raises(ConfigError, match=r"^compress: "):
            Config(compress=wrong)
    assert read_types(TYPES)[0] == b"text/*"
    for wrong in ("text", "a/b/c", "+", "té/x"):
        with pytest.raises(ConfigError, match=r"^compress_type: "):
            Config(compress_type=wrong)
