"""How a project starts its server, and how it would start ours: what `turboapi migrate` notes.

Calls of uvicorn in Python files, command lines of uvicorn, Hypercorn, gunicorn and FastAPI's own
command in Dockerfiles, Procfiles, compose files, units, scripts and the like, and the packages in
requirements.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
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
# A word of a shell's command, with its quotes; a comment is none.
_WORD = re.compile(
    r"""\s*(?!\#)(?P<raw>(?:[^\s"'\\;|&<>`()$]|\\.|"(?:[^"\\]|\\.)*"|'[^']*'|\$\{[^}]*\}
    |\$\([^)]*\)|\$|\(\))+)""",
    re.VERBOSE,
)
_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'""")
_ITEM = re.compile(r"\s*-\s+(?P<quote>[\"']?)(?P<word>.+?)(?P=quote)\s*$")
_ITEM_OF_SERVER = re.compile(r"\s*-\s+[\"']?(uvicorn|hypercorn|gunicorn|fastapi)[\"']?\s*$")
_PACKAGE = re.compile(r"[\s\"']*uvicorn(?:\[[\w,-]*\])?\s*(?:[=<>~!;\"']|$)")
_FRAMEWORK = re.compile(
    r"""[\s"']*(?P<old>fastapi(?P<extras>\[[\w, -]*\])?(?:\s*(?:==|[<>~!])[^;"'#]*)?)"""
    r"""(?!["']\s*:)\s*(?:[;"'#=]|$)"""
)
_APP = re.compile(r"[\w./]+:[\w.()]+")
_SHORT_OF = {
    "gunicorn": {
        **{"-b": "--bind", "-c": "--config", "-g": "--group", "-k": "--worker-class"},
        **{"-m": "--umask", "-n": "--name", "-p": "--pid", "-t": "--timeout", "-u": "--user"},
        **{"-w": "--workers", "-e": "--env", "-D": "--daemon"},
    },
    "hypercorn": {
        **{"-b": "--bind", "-c": "--config", "-g": "--group", "-k": "--worker-class"},
        **{"-m": "--umask", "-p": "--pid", "-u": "--user", "-w": "--workers"},
    },
}
# gunicorn's name: ours.
_OF_GUNICORN = {
    "chdir": "app_dir",
    "limit_request_fields": "limit_header_count",
    "name": "process_name",
    "threads": "thread_pool",
    "timeout": "timeout_worker",
    "worker_connections": "limit_connections",
}


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
    """Yield what to say of the command lines and requirements in a text, with ours beside them."""
    for number, line in _joined(text):
        if _PACKAGE.match(line):
            yield Note(number, "uvicorn is not needed where TurboAPI serves")
        elif package := _FRAMEWORK.match(line):
            ours = f"turboapi-c{package['extras'] or ''}"
            old = package["old"].strip()
            yield Note(number, f"{old} -> {ours} (keep both if a library imports fastapi)")
        elif command := _command(line):
            words, remarks = translate(command.words)
            if words:
                yield Note(number, f"{command.old} -> {command.written(words)}")
                yield from (Note(number, remark) for remark in remarks)


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


@dataclass(frozen=True)
class Word:
    """A word of a command.

    Attributes:
        text: what the program gets.
        raw: the same as it is written, with its quotes: variables in it are not to be lost.
    """

    text: str
    raw: str

    def value(self) -> Word:
        """Return what stands behind the first `=`."""
        name, _, text = self.text.partition("=")
        if self.raw.startswith(name + "="):
            return Word(text, self.raw[len(name) + 1 :])
        quote = self.raw[:1]
        if quote in ("'", '"') and self.raw.startswith(f"{quote}{name}=") and self.raw[-1] == quote:
            return Word(text, quote + self.raw[len(name) + 2 :])
        return Word(text, shlex.quote(text))


@dataclass(frozen=True)
class _Command:
    """A command of a server.

    Attributes:
        old: as it is written.
        words: of it.
        in_list: they are a list of JSON or YAML.
        escaped: how often it stands in double quotes in which quotes have backslashes.
    """

    old: str
    words: list[Word]
    in_list: bool = False
    escaped: int = 0

    def written(self, words: list[str]) -> str:
        """Return another command, written in the same way."""
        if self.in_list:
            return json.dumps(words)
        return _escaped(" ".join(words), self.escaped)


def _command(line: str) -> _Command | None:
    """Return the first command of a server in a line."""
    for found in _LIST.finditer(line):
        texts = _strings(found[0])
        if texts and _COMMAND.match(" ".join(texts) + " "):
            return _Command(found[0], [Word(text, text) for text in texts], in_list=True)
        if texts[:2] in (["sh", "-c"], ["bash", "-c"], ["/bin/sh", "-c"]) and len(texts) > 2:
            line = texts[2]
            break
    return _shell_command(line)


def _strings(text: str) -> list[str]:
    """Return the strings of a list; none if it has anything else."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError):
            found = read(text)
            return found if all(isinstance(each, str) for each in found) else []
    return []


def _shell_command(line: str, escaped: int = 0) -> _Command | None:
    found = _COMMAND.search(line)
    if found is None:
        return None
    start = found.start()
    if (inner := _quoted_around(line, start)) is not None:
        plain = re.sub(r'\\(["\\])', r"\1", inner)
        return _shell_command(plain, escaped + (plain != inner))
    words: list[Word] = []
    end = start
    while word := _WORD.match(line, end):
        if word["raw"].isdecimal() and line[word.end() :][:1] in ("<", ">"):
            break  # `2>&1`
        try:
            parts = shlex.split(word["raw"])
        except ValueError:
            parts = []
        words.append(Word(parts[0] if len(parts) == 1 else word["raw"], word["raw"]))
        end = word.end()
    if len(words) > 1:
        return _Command(_escaped(line[start:end], escaped), words, escaped=escaped)
    return None


def _quoted_around(line: str, place: int) -> str | None:
    """Return the text in quotes that a place of the line is in."""
    for found in _QUOTED.finditer(line):
        if found.start() < place < found.end():
            return found[0][1:-1]
    return None


def _escaped(text: str, times: int) -> str:
    for _ in range(times):
        text = re.sub(r'(["\\])', r"\\\1", text)
    return text


# -- ours for theirs -------------------------------------------------------------------------------


def translate(words: Sequence[Word]) -> tuple[list[str], list[str]]:
    """Return a command of ours in the place of one, and what else there is to say.

    The command is empty where the words are none of a server's (`pip install uvicorn gunicorn`).
    """
    rest = list(words)
    if rest[1].text == "-m":
        rest = rest[2:]
    folder, slash, server = rest[0].text.rpartition("/")
    rest = rest[1:]
    command = "run"
    if server == "fastapi":
        if not rest or rest[0].text not in ("run", "dev"):
            return [], []
        command, rest = rest[0].text, rest[1:]
    elif not any(_APP.fullmatch(word.text) for word in rest):
        return [], []
    ours, remarks = _options(rest, server)
    given = {word.partition("=")[0] for word in ours}
    if server == "uvicorn" and not given & {"--host", "--uds", "--fd"}:
        ours += ["--host", "127.0.0.1"]  # `turboapi run` listens on all addresses
    if server == "gunicorn":
        remarks.append("or keep gunicorn: gunicorn -k turboapi.gunicorn.Worker ...")
    return [f"{folder}{slash}turboapi", command, *ours], remarks


def _options(words: list[Word], server: str) -> tuple[list[str], list[str]]:
    ours: list[str] = []
    remarks: list[str] = []
    rest = _with_long_options(words, server)
    while rest:
        word = rest.pop(0)
        option, equals, _ = word.text.partition("=")
        if not option.startswith("--"):
            ours.append(word.raw)
            continue
        name = option[2:].replace("-", "_")
        value: list[Word] = []
        if equals:
            value = [word.value()]
        elif _takes_value(name, server, rest):
            value = [rest.pop(0)]
        more, remark = _option(option, name, value, server)
        ours += more
        remarks += remark
    return ours, remarks


def _with_long_options(words: list[Word], server: str) -> list[Word]:
    """Return the words with long options for short ones: `--workers 4` of `-w 4` and `-w4`."""
    changed: list[Word] = []
    for word in words:
        long = _SHORT_OF.get(server, {}).get(word.text[:2])
        if long is None:
            changed.append(word)
            continue
        changed.append(Word(long, long))
        if word.raw[2:]:
            quoted = not word.raw.startswith(word.text[:2])
            changed.append(
                Word(word.text[2:], shlex.quote(word.text[2:]) if quoted else word.raw[2:])
            )
    return changed


def _option(option: str, name: str, value: list[Word], server: str) -> tuple[list[str], list[str]]:
    texts = [word.text for word in value]
    written = " ".join([option, *texts])
    if name == "worker_class" or name in other_names.NEEDLESS:
        return [], []  # the first: gunicorn's and Hypercorn's own way to say what we are
    if name == "config":
        return [], [f"{written}: the file is not read: give what it sets as options"]
    if name in other_names.REFUSED and texts == ["-"]:
        stream = "stdout" if name == "access_logfile" else "stderr"
        return [], [f"{written}: not needed, as that log goes to {stream}"]
    if name in other_names.REFUSED:
        return [], [f"{option}: {other_names.REFUSED[name]}"]
    if (name, *texts) in (("loop", "auto"), ("interface", "asgi3"), ("interface", "asgi2")):
        return [], []
    name = _renamed(name, server)
    if name.removeprefix("no_") not in settings() and option not in ("--app", "--entrypoint"):
        return [], [f"{option}: there is no such option here; see turboapi run --help"]
    return ["--" + name.replace("_", "-"), *(word.raw for word in value)], []


def _renamed(name: str, server: str) -> str:
    ours = _OF_GUNICORN.get(name) if server == "gunicorn" else None
    return ours or other_names.RENAMED.get(name, name)


def _takes_value(name: str, server: str, rest: list[Word]) -> bool:
    if not rest or name in other_names.FLAGS or name.startswith("no_"):
        return False
    one = settings().get(_renamed(name, server))
    if one is not None:
        return not isinstance(one.kind, Flag)
    # An option that nobody knows: most have a value.
    return not rest[0].text.startswith("--") and not _APP.fullmatch(rest[0].text)
