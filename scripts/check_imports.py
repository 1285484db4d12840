#!/usr/bin/env python3
"""Checks how the modules of the Python package import each other.

- No circle of imports is longer than two modules. An import inside a function counts: it only hides
  a circle.
- Such an import of one of our own modules has a comment `# lazy: why` on its line or above it, and
  the reason is what the import costs, not a circle.
- Imports for type checkers (`if TYPE_CHECKING:`) may go round; they run nowhere.

usage: check_imports.py [folder of the package]   (default: python/turboapi)
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

LONGEST_CIRCLE = 2
LAZY = re.compile(r"# lazy: \S")

# Module -> modules that it imports when it runs.
Graph = dict[str, set[str]]


class Package:
    """The modules of a package, and what they import."""

    def __init__(self, root: Path) -> None:
        self.files = {
            self._name(root, path): path
            for path in sorted([*root.rglob("*.py"), *root.rglob("*.pyi")])
        }
        self.graph: Graph = {}
        self.unexplained: list[str] = []
        for module, path in self.files.items():
            self.graph[module] = set(self._imports(module, path))

    @staticmethod
    def _name(root: Path, path: Path) -> str:
        parts = path.relative_to(root.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _imports(self, module: str, path: Path) -> Iterator[str]:
        source = path.read_text()
        lines = source.splitlines()
        for node, deferred in _statements(ast.parse(source), deferred=False):
            targets = set(self._targets(node, module, path)) - {module}
            yield from targets
            if targets and deferred:
                where = "\n".join(lines[max(node.lineno - 2, 0) : node.end_lineno])
                if not LAZY.search(where):
                    self.unexplained.append(f"{path}:{node.lineno}: imports {', '.join(targets)}")

    def _targets(self, node: ast.Import | ast.ImportFrom, module: str, path: Path) -> Iterator[str]:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = _base(node, module, is_package=path.name == "__init__.py")
            # `from package import module` is an import of the module.
            names = [
                name if (name := f"{base}.{alias.name}") in self.files else base
                for alias in node.names
            ]
        yield from (name for name in names if name in self.files)


def _statements(
    node: ast.AST, *, deferred: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, deferred
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _statements(ast.Module([other], []), deferred=deferred)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from _statements(child, deferred=deferred or inside)


def _base(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = len(parts) - node.level + is_package
    return ".".join([*parts[:kept], *([node.module] if node.module else [])])


def circles(graph: Graph) -> list[list[str]]:
    """The sets of modules that reach each other (Tarjan's components with more than one)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in sorted(graph.get(module, ())):
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            start = stack.index(module)
            component = stack[start:]
            del stack[start:]
            if len(component) > 1:
                found.append(sorted(component))

    for module in graph:
        if module not in order:
            visit(module)
    return found


def problems(root: Path) -> list[str]:
    """What is wrong in the package whose folder is `root`, a line for each."""
    package = Package(root)
    return [
        *(f"circle of {len(c)} modules: {', '.join(c)}" for c in circles(package.graph)
          if len(c) > LONGEST_CIRCLE),
        *(f"{each} inside a function, without `# lazy: why`" for each in package.unexplained),
    ]  # fmt: skip


def main(arguments: list[str]) -> int:
    default = Path(__file__).resolve().parents[1] / "python" / "turboapi"
    found = problems(Path(arguments[0]) if arguments else default)
    for each in found:
        print(each)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
