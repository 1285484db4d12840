"""`turboapi migrate PATH...`: rewrites imports of `fastapi`, and tells what differs.

Only import statements are changed, and in them only the names of modules; comments and formatting
stay. What it can't decide it reports: names that TurboAPI lacks, private parts, texts with module
names in them, libraries that import FastAPI themselves, and how the server is started. See
docs/migration.md.
"""

import ast
import difflib
import importlib
import importlib.metadata
import importlib.util
import io
import os
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from turboapi._migrate_servers import Note, has_commands, notes_of_calls, notes_of_commands

_OLD, _NEW = "fastapi", "turboapi"
_DISTRIBUTION = "turboapi-c"
_SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages", "build", "dist"})
_FROM = re.compile(r"from(?:\s|\\\r?\n)+fastapi\b")
_TEXT = re.compile(r"^fastapi(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?$")

# Exit codes.
DONE = 0
DIFFERS = 1  # --check: there is something to rewrite
FAILED = 2  # a file can't be read or is not Python


@dataclass
class Result:
    """One file, rewritten in memory."""

    path: Path
    old: str
    new: str
    encoding: str
    notes: list[Note] = field(default_factory=list[Note])


def rewrite(source: str) -> tuple[str, list[Note]]:
    """Return the source with `turboapi` for `fastapi` in its imports, and what is to be looked at.

    Raises:
        SyntaxError: it is not Python.
    """
    tree = ast.parse(source)
    places = _Places(source)
    edits: list[tuple[int, int, str]] = []
    notes: list[Note] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level == 0 and node.module is not None and _is_below(node.module):
                edits.append(_from_edit(node, source, places))
                notes += _from_notes(node)
        elif isinstance(node, ast.Import):
            for name in node.names:
                if _is_below(name.name):
                    edits.append((*places.span(name), _import_text(name)))
                    notes += _module_notes(name.name, node.lineno)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _TEXT.match(node.value):
                notes.append(Note(node.lineno, f"the text {node.value!r} was left as it is"))
        elif isinstance(node, ast.Attribute) and _dotted(node) == "fastapi.__version__":
            notes.append(Note(node.lineno, "fastapi.__version__ is the version of TurboAPI now"))
    notes += _library_notes(tree)
    notes += notes_of_calls(tree)
    for start, end, text in sorted(edits, reverse=True):
        source = source[:start] + text + source[end:]
    return source, sorted(notes, key=lambda note: note.line)


class _Places:
    """From the syntax tree's lines and columns, which count bytes, to indexes of the text."""

    def __init__(self, source: str) -> None:
        # As Python counts lines: a form feed ends none.
        self._lines = list(io.StringIO(source, newline=""))
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def index(self, line: int, column: int) -> int:
        before = self._lines[line - 1].encode()[:column]
        return self._starts[line - 1] + len(before.decode())

    def span(self, node: ast.stmt | ast.alias) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self.index(node.lineno, node.col_offset),
            self.index(node.end_lineno, node.end_col_offset),
        )


def _is_below(module: str) -> bool:
    return module == _OLD or module.startswith(_OLD + ".")


def _renamed(module: str) -> str:
    return _NEW + module.removeprefix(_OLD)


def _from_edit(node: ast.ImportFrom, source: str, places: _Places) -> tuple[int, int, str]:
    start, _ = places.span(node)
    found = _FROM.match(source, start)
    if found is None:
        why = "an import that can't be rewritten"
        raise SyntaxError(why, (None, node.lineno, None, None))
    return found.end() - len(_OLD), found.end(), _NEW


def _import_text(name: ast.alias) -> str:
    if name.asname is not None:
        return f"{_renamed(name.name)} as {name.asname}"
    if name.name == _OLD:
        return f"{_NEW} as {_OLD}"
    # `import fastapi.routing` binds `fastapi`.
    return f"{_renamed(name.name)}, {_NEW} as {_OLD}"


# -- what is to be looked at -----------------------------------------------------------------------


def _from_notes(node: ast.ImportFrom) -> Iterator[Note]:
    module = node.module
    assert module is not None
    notes = list(_module_notes(module, node.lineno))
    yield from notes
    if any("no module" in note.text for note in notes):
        return
    for name in node.names:
        if name.name.startswith("_") and not name.name.startswith("__"):
            yield Note(name.lineno, f"{module}.{name.name} is private: it may not be the same")
        if name.name != "*" and not _has(_renamed(module), name.name):
            yield Note(name.lineno, f"TurboAPI has no {module}.{name.name}")


def _module_notes(module: str, line: int) -> Iterator[Note]:
    if not _exists(_renamed(module)):
        yield Note(line, f"TurboAPI has no module {module}")
    elif any(part.startswith("_") for part in module.split(".")):
        yield Note(line, f"{module} is private: it may not be the same")


@cache
def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@cache
def _has(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name) or _exists(f"{module}.{name}")
    except ImportError:  # an optional dependency is missing: not to be decided here
        return True


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _library_notes(tree: ast.Module) -> Iterator[Note]:
    seen: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            if top not in seen and top != _OLD and _needs_fastapi(top):
                seen.add(top)
                yield Note(
                    node.lineno,
                    f"{top} imports FastAPI itself: call turboapi.as_fastapi() before it",
                )


@cache
def _distributions() -> dict[str, list[str]]:
    return {
        name: list(found) for name, found in importlib.metadata.packages_distributions().items()
    }


@cache
def _needs_fastapi(top: str) -> bool:
    for distribution in _distributions().get(top, ()):
        if distribution.lower().replace("_", "-") in (_OLD, _DISTRIBUTION):
            continue
        for requirement in importlib.metadata.requires(distribution) or ():
            needed, _, condition = requirement.partition(";")
            if re.match(r"fastapi(?![\w-])", needed.strip(), re.I) and "extra" not in condition:
                return True
    return False


# -- files -----------------------------------------------------------------------------------------


def find_files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that are named, and below the folders those in Python or with commands.

    Folders that start with a dot, virtual environments and the like are left out.

    Raises:
        FileNotFoundError: there is no such path.
    """
    for path in paths:
        if path.is_file():
            yield path
        elif path.is_dir():
            for folder, below, files in os.walk(path):
                below[:] = sorted(each for each in below if _is_source(Path(folder, each)))
                found = (Path(folder, name) for name in sorted(files))
                yield from (each for each in found if each.suffix == ".py" or has_commands(each))
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")


def _is_source(folder: Path) -> bool:
    name = folder.name
    is_environment = (folder / "pyvenv.cfg").exists()
    return not name.startswith(".") and name not in _SKIPPED_FOLDERS and not is_environment


def migrate_file(path: Path) -> Result:
    """Rewrite a file in memory.

    Raises:
        OSError, SyntaxError, UnicodeDecodeError: it can't be read, or is not Python.
    """
    raw = path.read_bytes()
    if path.suffix != ".py":
        text = raw.decode()
        return Result(path, text, text, "utf-8", list(notes_of_commands(text)))
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    old = raw.decode(encoding)
    new, notes = rewrite(old)
    return Result(path, old, new, encoding, notes)


def run(
    paths: Sequence[Path], *, write: bool = False, diff: bool = False, check: bool = False
) -> int:
    """Do what `turboapi migrate` does and return the exit code.

    Args:
        paths: files and folders.
        write: rewrite the files.
        diff: show the changes.
        check: the code is to tell whether there is something to rewrite.
    """
    changed = looked_at = 0
    failed = False
    notes: list[str] = []
    try:
        for path in find_files(paths):
            looked_at += 1
            try:
                result = migrate_file(path)
            except (OSError, SyntaxError, UnicodeDecodeError) as error:
                failed = True
                print(_failure(path, error), file=sys.stderr)
                continue
            notes += [f"{path}:{note.line}: {note.text}" for note in result.notes]
            if result.old == result.new:
                continue
            changed += 1
            if diff:
                _show(result)
            elif write:
                path.write_bytes(result.new.encode(result.encoding))
                print(f"{path}: rewritten")
            else:
                print(f"{path}: imports fastapi")
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return FAILED
    for note in notes:
        print(note)
    verb = "rewritten" if write else "to rewrite"
    hint = "; --write does it" if changed and not (write or check) else ""
    print(f"{changed} of {looked_at} files {verb}, {len(notes)} notes{hint}", file=sys.stderr)
    if failed:
        return FAILED
    return DIFFERS if check and changed else DONE


def _failure(path: Path, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        place = f"{path}:{error.lineno}" if error.lineno else path
        return f"{place}: this is not Python: {error.msg}"
    return f"{path}: {error.strerror if isinstance(error, OSError) else error}"


def _show(result: Result) -> None:
    name = str(result.path)
    lines = difflib.unified_diff(
        result.old.splitlines(keepends=True), result.new.splitlines(keepends=True), name, name
    )
    for line in lines:
        print(line, end="" if line.endswith("\n") else "\n\\ No newline at end of file\n")
