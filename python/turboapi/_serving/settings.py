"""Settings as dataclass fields: each with its parser, its range and the words that explain it.

`config.py` declares the server's settings with `setting()`; the command line, the environment
variables and the checks are all derived from what is declared there, so that they agree.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

METADATA_KEY = "turboapi.setting"

_UNITS_OF_SIZE = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_UNITS_OF_TIME = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "h": 3600.0}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class ConfigError(ValueError):
    """A setting has a value that can't be used.

    Attributes:
        setting: the name of the setting as the user wrote it (`port`, `--port`, `TURBOAPI_PORT`).
        reason: what is wrong with it.
        others: names of further settings, for which the given reason has `{}`.
    """

    def __init__(self, setting: str, reason: str, *others: str) -> None:
        self.setting = setting
        self.others = others
        self.reason = reason.format(*others) if others else reason
        self._form = reason
        super().__init__(f"{setting}: {self.reason}")

    def named(self, name: Callable[[str], str]) -> ConfigError:
        """Return the same error with other names of the settings."""
        return ConfigError(name(self.setting), self._form, *map(name, self.others))


class Kind(Protocol):
    """How a value is read from text and checked."""

    @property
    def metavar(self) -> str:
        """What usage texts show for a value."""
        ...

    def parse(self, value: Any) -> Any:
        """Return the typed value of a text or a typed value; ValueError says what is wrong."""


@dataclasses.dataclass(frozen=True)
class Number:
    """A whole number, or any number, within bounds (both included)."""

    low: float = 0
    high: float = math.inf
    whole: bool = True
    metavar: str = "NUMBER"

    def parse(self, value: Any) -> int | float:
        """Take numbers and their decimal text."""
        return self._bounded(self._read(value))

    def _read(self, value: Any) -> int | float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(f"must be a number, got {value!r}")
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"must be a number, got {value!r}") from None
        if not self.whole:
            return number
        if not number.is_integer():
            raise ValueError(f"must be a whole number, got {value!r}")
        try:
            return int(value)  # exactly, also where a float is not exact
        except ValueError:
            return int(number)  # as text such as "1e3"

    def _bounded(self, number: float) -> int | float:
        if math.isnan(number):
            raise ValueError("must be a number, got nan")
        if not self.low <= number <= self.high:
            wanted = (
                f"at least {self.low:g}"
                if self.high == math.inf
                else f"between {self.low:g} and {self.high:.15g}"
            )
            raise ValueError(f"must be {wanted}, got {number:.15g}")
        return number


@dataclasses.dataclass(frozen=True)
class Size(Number):
    """A number of bytes: `65536`, `64K`, `64KB`, `64KiB`, `10M`, `1G` (powers of 1,024)."""

    metavar: str = "BYTES"

    def _read(self, value: Any) -> int | float:
        if not isinstance(value, str):
            return super()._read(value)
        match = re.fullmatch(r"\s*(\d+)\s*([kmg]?)(?:i?b)?\s*", value, re.IGNORECASE)
        if match is None:
            raise ValueError(f"must be a number of bytes such as 65536, 64K or 10M, got {value!r}")
        return int(match[1]) * _UNITS_OF_SIZE[match[2].lower()]


@dataclasses.dataclass(frozen=True)
class Duration(Number):
    """Seconds: `5`, `0.5`, or with a unit `500ms`, `5s`, `2m`, `1h`."""

    whole: bool = False
    metavar: str = "SECONDS"

    def _read(self, value: Any) -> int | float:
        if not isinstance(value, str):
            return super()._read(value)
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|)\s*", value, re.IGNORECASE)
        if match is None:
            raise ValueError(f"must be a time such as 5, 0.5, 500ms or 2m, got {value!r}")
        return float(match[1]) * _UNITS_OF_TIME[match[2].lower()]


@dataclasses.dataclass(frozen=True)
class Flag:
    """Yes or no."""

    metavar: str = ""

    def parse(self, value: Any) -> bool:
        """Take booleans and 1/0, true/false, yes/no, on/off."""
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise ValueError(f"must be true or false, got {value!r}")


@dataclasses.dataclass(frozen=True)
class Mode:
    """Permissions of a file: a number, or its octal text."""

    metavar: str = "OCTAL"

    def parse(self, value: Any) -> int:
        """Take `0o600` (a number), "600", "0600" and "0o600"."""
        if isinstance(value, str) and re.fullmatch(r"\s*(0o)?[0-7]{1,4}\s*", value):
            value = int(value, 8)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be an octal number such as 660, got {value!r}")
        if not 0 <= value <= 0o777:
            raise ValueError(f"must be between 0 and 777 (octal), got {value:o}")
        return value


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def metavar(self) -> str:
        """The words, as usage texts show them."""
        return "[" + "|".join(self.words) + "]"

    def parse(self, value: Any) -> str:
        """Take a word, in any case."""
        word = str(value).strip().lower()
        if word not in self.words:
            # Numbers are not misspelt.
            near = any(map(str.isalpha, word)) and difflib.get_close_matches(word, self.words, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise ValueError(f"must be one of {', '.join(self.words)}, got {value!r}{hint}")
        return word


@dataclasses.dataclass(frozen=True)
class NumberedChoice(Choice):
    """One of some words, or its number, counted from 0."""

    def parse(self, value: Any) -> str:
        """Take a word, in any case, or a number."""
        text = str(int(value)) if isinstance(value, int) else str(value).strip()
        if text.isdecimal() and int(text) < len(self.words):
            return self.words[int(text)]
        return super().parse(value)


@dataclasses.dataclass(frozen=True)
class Text:
    """A string."""

    metavar: str = "TEXT"
    check: Callable[[str], str] | None = None

    def parse(self, value: Any) -> str:
        """Take strings and paths."""
        text = str(value)
        return self.check(text) if self.check else text


@dataclasses.dataclass(frozen=True)
class LogConfig(Text):
    """A file of Python's logging configuration, or in programs the dictionary itself."""

    metavar: str = "FILE"

    def parse(self, value: Any) -> Any:
        """Take paths and dictionaries."""
        given: Any = value
        return given if isinstance(value, dict) else super().parse(given)


@dataclasses.dataclass(frozen=True)
class Words:
    """A list of strings: repeated on the command line, with commas between in the environment."""

    metavar: str = "TEXT"
    check: Callable[[str], object] | None = None

    def parse(self, value: Any) -> tuple[str, ...]:
        """Take sequences of strings and texts with commas."""
        parts = value.split(",") if isinstance(value, str) else value
        words = tuple(word for part in parts if (word := str(part).strip()))
        if self.check is not None:
            for word in words:
                self.check(word)
        return words


@dataclasses.dataclass(frozen=True)
class Lines(Words):
    """The same for strings that have commas: with line breaks between in the environment."""

    def parse(self, value: Any) -> tuple[str, ...]:
        """Take sequences of strings and texts of lines."""
        return super().parse(value.splitlines() if isinstance(value, str) else value)


@dataclasses.dataclass(frozen=True)
class Secret:
    """Random bytes, of a fixed number; as text in hexadecimal digits."""

    size: int
    metavar: str = "HEX"

    def parse(self, value: Any) -> bytes:
        """Take bytes and hexadecimal text."""
        try:
            taken = value if isinstance(value, bytes) else bytes.fromhex(value)
        except (TypeError, ValueError):
            taken = b""
        if len(taken) != self.size:
            raise ValueError(f"must be {self.size} bytes, as {2 * self.size} hexadecimal digits")
        return taken


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of a setting besides its name and default value.

    Attributes:
        kind: reads and checks values.
        help: one sentence for `--help`.
        panel: the heading it stands under there.
        optional: None is a value ("not set").
        command_line: offered as an option (the application's path is an argument, for one).
        aliases: further option names.
        c_field: the member of `ta_http_limits` (src/http/http.h) that it sets.
        also_env: environment variables that are read after the setting's own.
        secret: not to be shown, as in the repr of a Config.
    """

    kind: Kind
    help: str
    panel: str
    optional: bool = False
    command_line: bool = True
    aliases: tuple[str, ...] = ()
    c_field: str | None = None
    also_env: tuple[str, ...] = ()
    secret: bool = False

    def parse(self, name: str, value: Any) -> Any:
        """Return the typed value, or raise ConfigError in the name of `name`."""
        if value is None and self.optional:
            return None
        try:
            return self.kind.parse(value)
        except ValueError as error:
            raise ConfigError(name, str(error)) from None


def setting(default: Any, kind: Kind, help: str, panel: str, **more: Any) -> Any:
    """Declare a dataclass field that is a setting."""
    more.setdefault("optional", default is None)
    metadata = {METADATA_KEY: Setting(kind, help, panel, **more)}
    return dataclasses.field(default=default, metadata=metadata, repr=not more.get("secret", False))
