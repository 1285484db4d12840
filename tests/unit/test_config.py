"""Settings: reading, ranges, sources, and agreement with C."""

import dataclasses
import pickle

import pytest

from turboapi._core import HTTP_LIMITS
from turboapi.config import Config, ConfigError, described, settings


def test_every_c_limit_is_a_setting_with_the_same_default():
    assert Config().http_limits() == {
        name: default for name, (default, _highest) in HTTP_LIMITS.items()
    }


def test_defaults_of_limits_are_numbers_as_they_are_written():
    config = Config()
    assert (config.limit_request_line, config.limit_body_bytes) == (8190, 0)
    assert (config.timeout_header, config.ws_max_size) == (10.0, 16 * 1024 * 1024)
    for name, one in settings().items():
        if one.c_field is not None:
            kind = float if one.c_field.endswith("_ms") else int
            assert type(getattr(config, name)) is kind, name


def test_limits_have_their_names_as_options():
    for name, one in settings().items():
        if one.c_field is None:
            continue
        assert name in (f"limit_{one.c_field}", one.c_field.removesuffix("_ms"))


def test_defaults_are_valid_and_immutable():
    config = Config()
    assert (config.port, config.workers, config.threads) == (8000, 1, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.port = 1


def test_pickles():
    config = Config(port=9000, reload_dir=("a", "b"), timeout_idle="1s")
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("65536", 65536),
        ("64K", 65536),
        ("64kb", 65536),
        ("64KiB", 65536),
        ("2 M", 2 << 20),
        ("1G", 1 << 30),
        (17, 17),
    ],
)
def test_sizes(text, value):
    assert Config(limit_body_bytes=text).limit_body_bytes == value


@pytest.mark.parametrize("text", ["", "K", "1.5M", "-1", "1T", "12 34", None, True])
def test_bad_sizes(text):
    with pytest.raises(ConfigError, match=r"^limit_body_bytes: must be"):
        Config(limit_body_bytes=text)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("5", 5000),
        ("0.5", 500),
        (".5", 500),
        ("250ms", 250),
        ("2m", 120_000),
        ("1h", 3_600_000),
        (1.5, 1500),
        ("0.0001", 1),
        (0, 0),
    ],
)
def test_durations(text, milliseconds):
    assert Config(timeout_idle=text).http_limits()["timeout_idle_ms"] == milliseconds


@pytest.mark.parametrize("text", ["", "s", "5 days", "-1", "1e3", "nan", "inf", float("nan")])
def test_bad_durations(text):
    with pytest.raises(ConfigError, match=r"^timeout_idle: must be"):
        Config(timeout_idle=text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("700", 700), (" 700 ", 700), ("1e3", 1000), ("7.0", 7), (7.0, 7), ("2147483647", 2**31 - 1)],
)
def test_whole_numbers(text, value):
    found = Config(gc_threshold=text).gc_threshold
    assert found == value and type(found) is int


@pytest.mark.parametrize("text", ["7.5", "x", "1e", "-1", "1e20", "inf", "nan", True, None, 7.5])
def test_bad_whole_numbers(text):
    with pytest.raises(ConfigError, match="^gc_threshold: must be "):
        Config(gc_threshold=text)


def test_every_limit_and_timeout_at_its_edge():
    for name, one in settings().items():
        if one.c_field is None:
            continue
        highest = one.kind.high
        assert (
            Config(**{name: int(highest)}).http_limits()[one.c_field]
            <= (HTTP_LIMITS[one.c_field][1])
        )
        assert Config(**{name: 0}).http_limits()[one.c_field] == 0
        for wrong in (int(highest) + 1, -1):
            with pytest.raises(ConfigError) as caught:
                Config(**{name: wrong})
            assert caught.value.setting == name


@pytest.mark.parametrize("port", [0, 1, 65535, "8080"])
def test_ports(port):
    assert Config(port=port).port == int(port)


@pytest.mark.parametrize("port", [-1, 65536, "http", 1.5, "1.5", None, True])
def test_bad_ports(port):
    with pytest.raises(ConfigError, match=r"^port: must be"):
        Config(port=port)


def test_words_and_choices():
    config = Config(reload_dir="a, b,", log_level="DEBUG", forwarded_allow_ips=["10.0.0.0/8"])
    assert config.reload_dir == ("a", "b")
    assert config.log_level == "debug"
    assert config.forwarded_allow_ips == ("10.0.0.0/8",)
    with pytest.raises(ConfigError, match="must be one of turboapi, asyncio, uvloop, got 'trio'"):
        Config(loop="trio")


@pytest.mark.parametrize(("text", "value"), [("1", True), ("Yes", True), ("off", False)])
def test_flags(text, value):
    assert Config(reload=text).reload is value
    with pytest.raises(ConfigError, match="must be true or false"):
        Config(reload="perhaps")


def test_root_path():
    assert Config(root_path="/api/").root_path == "/api"
    with pytest.raises(ConfigError, match="must start with '/'"):
        Config(root_path="api")


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"uds": "/tmp/s", "fd": 3}, "uds"),
        ({"reload": True, "workers": 2}, "reload"),
        ({"limit_request_line": 15}, "limit_request_line"),
        ({"limit_header_bytes": 15}, "limit_header_bytes"),
        ({"limit_body_buffer": 1023}, "limit_body_buffer"),
        ({"limit_write_buffer": 1023}, "limit_write_buffer"),
        ({"uds_permissions": "660"}, "uds_permissions"),
        ({"uds": "s", "uds_permissions": "668"}, "uds_permissions"),
        ({"uds": "s", "uds_permissions": "1777"}, "uds_permissions"),
        ({"uds": "s", "uds_permissions": 600}, "uds_permissions"),
        ({"uds": "s", "uds_permissions": -1}, "uds_permissions"),
        ({"uds": "s", "uds_permissions": True}, "uds_permissions"),
        ({"forwarded_allow_ips": "foo"}, "forwarded_allow_ips"),
        ({"forwarded_allow_ips": ["10.0.0.0/8", "127.0.0.1,10.0.0.1/8"]}, "forwarded_allow_ips"),
        ({"port": 0, "workers": 2, "reload": True}, "reload"),
    ],
)
def test_values_and_combinations_that_are_refused(values, setting):
    with pytest.raises(ConfigError) as caught:
        Config(**values)
    assert caught.value.setting == setting


def test_least_useful_values():
    assert Config(limit_request_line=16, limit_header_bytes=16).limit_header_bytes == 16
    assert Config(limit_body_buffer=1024, limit_write_buffer=1024).limit_body_buffer == 1024
    for text in ("660", "0660", "0o660", 0o660):
        assert Config(uds="s", uds_permissions=text).uds_permissions == 0o660
    for text in ("*", "10.0.0.0/8, ::1", "unix,10.0.0.0/8", "/run/proxy.sock", ""):
        Config(forwarded_allow_ips=text)


@pytest.mark.parametrize("setting", ["host", "port"])
@pytest.mark.parametrize("other", ["uds", "fd"])
def test_an_address_is_not_given_twice(setting, other):
    with pytest.raises(ConfigError, match=f"^{setting}: can't be used together with {other}"):
        Config.load({other: "3", setting: "1"}, {})
    # What the environment has for all services is not meant.
    Config.load({other: "3"}, {"PORT": "80", "TURBOAPI_HOST": "localhost"})


# -- Sources


def test_given_values_come_before_the_environment_and_defaults():
    environ = {"TURBOAPI_PORT": "1", "TURBOAPI_HOST": "h", "TURBOAPI_LIMIT_BODY_BYTES": "1K"}
    config = Config.load({"port": "2"}, environ, defaults={"host": "d", "uds": "u"})
    assert (config.port, config.host, config.uds, config.limit_body_bytes) == (2, "h", "u", 1024)


def test_every_setting_has_an_environment_variable():
    for field in dataclasses.fields(Config):
        # Our own name comes before others'.
        others = dict.fromkeys(described(field).also_env, "not to be read")
        value = {"app": "m:a", "ready_fd": "5", "fd": "4", "uds": "p"}.get(field.name)
        if value is None:
            continue
        config = Config.load({}, {**others, f"TURBOAPI_{field.name.upper()}": value})
        assert str(getattr(config, field.name)) == value


def test_common_variables_are_read_too():
    environ = {"PORT": "81", "WEB_CONCURRENCY": "3", "FORWARDED_ALLOW_IPS": "*"}
    config = Config.load({}, environ)
    assert (config.port, config.workers, config.forwarded_allow_ips) == (81, 3, ("*",))
    assert Config.load({}, {"PORT": "81", "TURBOAPI_PORT": "82"}).port == 82
    assert Config.load({}, {"PORT": ""}).port == 8000


def test_errors_name_the_source():
    with pytest.raises(ConfigError) as caught:
        Config.load({}, {"WEB_CONCURRENCY": "many"})
    assert caught.value.setting == "WEB_CONCURRENCY"
    with pytest.raises(ConfigError, match="prot: there is no such setting"):
        Config.load({"prot": 1}, {})


def test_replace_checks_again():
    config = Config(uds="/tmp/s")
    with pytest.raises(ConfigError):
        config.replace(fd=1)
    assert config.replace(uds=None, fd=1).fd == 1


def test_addresses():
    assert Config().address() == "http://127.0.0.1:8000"
    assert Config(host="::1", port=1).address() == "http://[::1]:1"
    assert Config(uds="/a").address() == "unix:/a"
    assert Config(fd=3).address() == "descriptor 3"


def test_the_shortest_stall_of_the_loop():
    assert Config().timeout_loop_stall == 1.0
    assert Config(timeout_loop_stall="0").timeout_loop_stall == 0
    assert Config(timeout_loop_stall="10ms").timeout_loop_stall == 0.01
    with pytest.raises(ConfigError, match="^timeout_loop_stall: below 10 ms"):
        Config(timeout_loop_stall="9ms")
