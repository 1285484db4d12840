"""How a project starts its server, and how it would start ours: what `turboapi migrate` notes.

Calls of uvicorn in Python files, and command lines of uvicorn, Hypercorn, gunicorn and FastAPI's
own command in Dockerfiles, Procfiles, compose files, units, scripts and the like.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from turboapi._serving import other_names
from turboapi._serving.settings import Flag
from turboapi.config import settings

# Names of files that have command lines.
COMMAND_FILES = (
    *("*Dockerfile*", "*.dockerfile", "Containerfile*", "Procfile*", "*.yml", "*.yaml", "*.sh"),
    *("Makefile", "*.mk", "justfile", "*.service", "*.toml", "*.conf", "*.ini", "Pipfile"),
    *("package.json", "requirements*.txt", "requirements*.in"),
)

_SAME = {"run": "turboapi.run", "Config": "turboapi.Config", "Server": "turboapi.Server"}
_WORKERS = re.compile(r"(uvicorn\.workers|uvicorn_worker)\.Uvicorn\w*Worker")
_COMMAND = re.compile(
    r"(?<![\w./-])(?:(?:[\w./-]*/)?python[\d.]*\s+-m\s+|[\w./-]*/)?"
    r"(?:uvicorn|hypercorn|gunicorn|fastapi)(?=\s)"
)
_LIST = re.compile(r"\[[^\[\]]*\]")
# Where a command of a shell ends.
_END = re.compile(r"&&|\|\||[|;>#`]")
_ITEM = re.compile(r"\s*-\s+(?P<quote>[\"']?)(?P<word>.+?)(?P=quote)\s*$")
_ITEM_OF_SERVER = re.compile(r"\s*-\s+[\"']?(uvicorn|hypercorn|gunicorn|fastapi)[\"']?\s*$")
_PACKAGE = re.compile(r"[\s\"']*uvicorn(?:\[[\w,-]*\])?\s*(?:[=<>~!;\"']|$)")
_SHORT = {"-w": "--workers", "-b": "--bind", "-p": "--pid-file"}


@dataclass
class Note:
    """Something that a person should look at."""

    line: int
    text: str


def has_commands(path: Path) -> bool:
    """Return whether a file, by its name, is one in which servers are started."""
    return any(fnmatchcase(path.name, pattern) for pattern in COMMAND_FILES)


# -- calls -----------------------------------------------------------------------------------------


def notes_of_calls(tree: ast.Module) -> Iterator[Note]:
    """Yield what to say of uvicorn in a Python file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "uvicorn" and node.attr in _SAME:
                yield Note(node.lineno, _same(node.attr))
        elif isinstance(node, ast.ImportFrom) and node.module == "uvicorn" and not node.level:
            yield from (Note(node.lineno, _same(n.name)) for n in node.names if n.name in _SAME)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _WORKERS.fullmatch(node.value):
                yield Note(node.lineno, f"{node.value!r}: here it is 'turboapi.gunicorn.Worker'")
        elif isinstance(node, ast.Call) and _calls_uvicorn(node):
            for each in node.keywords:
                if each.arg in other_names.REFUSED:
                    yield Note(each.lineno, f"{each.arg}: {other_names.REFUSED[each.arg]}")


def _same(name: str) -> str:
    return f"uvicorn.{name}: {_SAME[name]} takes the same arguments"


def _calls_uvicorn(node: ast.Call) -> bool:
    function = node.func
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "uvicorn"
    )


# -- command lines ---------------------------------------------------------------------------------


def notes_of_commands(text: str) -> Iterator[Note]:
    """Yield what to say of the command lines in a text, each with ours beside it."""
    for number, line in _joined(text):
        if _PACKAGE.match(line):
            yield Note(number, "uvicorn is not needed where TurboAPI serves")
            continue
        for old, words, in_list in _commands(line):
            ours, remarks = translate(words)
            if not ours:
                continue
            new = json.dumps(ours) if in_list else " ".join(map(_quoted, ours))
            yield Note(number, f"{old} -> {new}")
            yield from (Note(number, remark) for remark in remarks)


def _quoted(word: str) -> str:
    # Variables are to be replaced, as in the line that we have read.
    return shlex.quote(word) if re.search(r"[\s\"'&|;<>()]", word) else word


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers, those that a backslash continues as one, without comments.

    So it does with a command that is a list of YAML, an item a line.
    """
    begun, parts = 0, list[str]()
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#"):
            continue
        if _ITEM_OF_SERVER.match(line):
            items = itertools.takewhile(bool, (_ITEM.match(each) for each in lines[number - 1 :]))
            yield number, json.dumps([each["word"] for each in items if each])
            continue
        begun = begun or number
        continued = line.rstrip().endswith("\\")
        parts.append(line.rstrip()[:-1].rstrip() if continued else line)
        if not continued:
            yield begun, " ".join([parts[0], *(part.strip() for part in parts[1:])])
            begun, parts = 0, []
    if parts:
        yield begun, " ".join(parts)


def _commands(line: str) -> Iterator[tuple[str, list[str], bool]]:
    """Yield each command of a server: as it is written, its words, and whether they are a list."""
    for found in _LIST.finditer(line):
        try:
            words = json.loads(found[0].replace("'", '"'))
        except ValueError:
            continue
        if words and all(isinstance(word, str) for word in words):
            if _COMMAND.match(" ".join(words) + " "):
                yield found[0], words, True
                return
            if words[:2] in (["sh", "-c"], ["bash", "-c"], ["/bin/sh", "-c"]) and len(words) > 2:
                line = words[2]
    if command := _COMMAND.search(line):
        old = _END.split(line[command.start() :], maxsplit=1)[0].rstrip(" \"',")
        try:
            yield old, shlex.split(old), False
        except ValueError:
            yield old, old.split(), False


def translate(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a command of ours in the place of one, and what else there is to say.

    The command is empty where the words are none of a server's (`pip install uvicorn gunicorn`).
    """
    rest = list(words)
    if rest[1:2] == ["-m"]:
        rest = rest[2:]
    folder, slash, server = rest[0].rpartition("/")
    rest = rest[1:]
    command = "run"
    if server == "fastapi":
        if not rest or rest[0] not in ("run", "dev"):
            return [], []
        command, rest = rest[0], rest[1:]
    elif not any(re.fullmatch(r"[\w./]+:[\w.()]+", word) for word in rest):
        return [], []
    ours, remarks = _options(rest)
    given = {word.partition("=")[0] for word in ours}
    if server == "uvicorn" and not given & {"--host", "--uds", "--fd"}:
        ours += ["--host", "127.0.0.1"]  # `turboapi run` listens on all addresses
    if server == "gunicorn":
        remarks.append("or keep gunicorn: gunicorn -k turboapi.gunicorn.Worker ...")
    return [f"{folder}{slash}turboapi", command, *ours], remarks


def _options(words: list[str]) -> tuple[list[str], list[str]]:
    ours: list[str] = []
    remarks: list[str] = []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        option = _SHORT.get(option, option)
        if option in ("-k", "--worker-class", "-c"):
            next(rest, None)  # gunicorn's and Hypercorn's own way to say what we are
        elif not option.startswith("--"):
            ours.append(word)
        else:
            name = option[2:].replace("-", "_")
            takes = _takes_value(name)
            if takes and not equals:
                value = next(rest, "")
            more, remark = _option(option, name, [value] if takes else [])
            ours += more
            remarks += remark
    return ours, remarks


def _option(option: str, name: str, value: list[str]) -> tuple[list[str], list[str]]:
    if name in other_names.NEEDLESS:
        return [], []
    if name in other_names.REFUSED:
        return [], [] if value == ["-"] else [f"{option}: {other_names.REFUSED[name]}"]
    if (name, *value) in (("loop", "auto"), ("interface", "asgi3"), ("interface", "asgi2")):
        return [], []
    name = other_names.RENAMED.get(name, name)
    if name.removeprefix("no_") not in settings() and option not in ("--app", "--entrypoint"):
        return [], [f"{option}: there is no such option here; see turboapi run --help"]
    return ["--" + name.replace("_", "-"), *value], []


def _takes_value(name: str) -> bool:
    if name in other_names.FLAGS or name.startswith("no_"):
        return False
    one = settings().get(other_names.RENAMED.get(name, name))
    return one is None or not isinstance(one.kind, Flag)
