"""Pages of the site that are not in docs/: a hook of mkdocs.

The documents of the repository's root and of its folders become pages under their own paths, so
that links between all documents hold in the repository and on the site. The reference of the
settings is made from their declarations.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

from turboapi.config import Config, settings

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "examples/store/README.md",
)
SETTINGS = "settings.md"
# Variables that are no options: fields of Config, and those that no server reads.
VARIABLES = {
    "TURBOAPI_APP": "the application, where the command line names none",
    "TURBOAPI_ANNOUNCE": "1: say at the start what is served and where, as on a terminal",
    "TURBOAPI_SSL_TICKET_SECRET": "the secret that machines [share for sessions](tls.md#sessions)",
    "TURBOAPI_DOCS_ASSETS": "`cdn` or `local`: [where `/docs` loads its scripts from](offline.md)",
    "TURBOAPI_DOCS_ASSETS_DIR": "the folder that has these scripts",
    "TURBOAPI_TESTCLIENT": (
        "`native` or `h2`: [`TestClient` goes through a socket](testing.md#through-a-real-socket)"
    ),
}
OPTIONS = "options.md"

_SHIM = "https://unpkg.com/iframe-worker/shim"

# In a page: the text of a file, which readers of the repository find by a link.
_SHOW = re.compile(r"^<!-- show (\S+) -->$", re.MULTILINE)
_LANGUAGES = {".conf": "nginx", ".service": "ini", ".yaml": "yaml", "Dockerfile": "dockerfile"}

_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")
# A page that is only named, as in the changelog.
_NAMED = re.compile(r"(?<![\w/`\[])(?<!\]\()docs/[a-z-]+\.md(?![\w`\]#])")
_CODE = re.compile(r"^ *```(?:.|\n)*?^ *```|^(?:    .*\n)+", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents from outside of docs/, and the settings."""
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, SETTINGS, content=settings_page()))
    files.append(File.generated(config, OPTIONS, content=options_page()))
    return files


def on_page_markdown(markdown: str, page: object, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages of the site, and leave the text of those to other files."""
    here = page.file.src_uri  # type: ignore[attr-defined]
    where = here if here in DOCUMENTS else f"docs/{here}"
    known = _tracked_files()

    def replace(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(where), target))
        source = path.removeprefix("docs/")
        if path == "README.md":
            source = "index.md"
        if files.get_file_from_path(source) is not None:
            to = posixpath.relpath(source, posixpath.dirname(here) or ".")
            return f"{label}({to}{anchor})"
        if path in known or any(name.startswith(f"{path}/") for name in known):
            return f"`{path}`" if label[1:-1] in (path, target) else f"{label[1:-1]} (`{path}`)"
        return match[0]  # mkdocs will warn of it

    def link(match: re.Match[str]) -> str:
        title = (ROOT / match[0]).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        return f"[{title}]({posixpath.relpath(match[0], posixpath.dirname(where) or '.')})"

    def linked(text: str) -> str:
        return _LINK.sub(replace, _NAMED.sub(link, text))

    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts += [linked(markdown[end : code.start()]), code[0]]
        end = code.end()
    page_text = "".join([*parts, linked(markdown[end:])])
    return _SHOW.sub(lambda match: _shown(match[1]), page_text)


def _shown(name: str) -> str:
    """Return a file of the repository as a block of code."""
    path = ROOT / name
    language = _LANGUAGES.get(path.suffix or path.name, "text")
    return f'```{language} title="{name}"\n{path.read_text(encoding="utf-8")}```'


def on_post_page(output: str, page: object, config: MkDocsConfig) -> str:
    """Take what makes the search work on files from the site itself, not from a CDN."""
    root = posixpath.relpath(".", posixpath.dirname(page.file.dest_uri) or ".")  # type: ignore[attr-defined]
    return output.replace(_SHIM, f"{root}/assets/iframe-worker.js")


def _tracked_files() -> set[str]:
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(listing.stdout.splitlines())


def settings_page() -> str:
    """Return the reference of the settings, a table for each heading of `--help`."""
    default = Config()
    lines = [
        "# Settings",
        "",
        "Each setting has three names: the option `--limit-body-bytes` of `turboapi run` and",
        "`turboapi dev`, the environment variable `TURBOAPI_LIMIT_BODY_BYTES`, and the field",
        "`limit_body_bytes` of [`turboapi.config.Config`](reference/server.md), which `app.run()`",
        "takes, too; a few variables [have no option](#only-in-the-environment). Options override",
        "the environment, and that overrides `--env-file`. The command line's own defaults are",
        "`--host 0.0.0.0` for `run`, and `--reload` for `dev`. Sizes take the suffixes `K`, `M`,",
        "and `G`; times are in seconds, or take `ms`, `s`, `m` or `h`. [The command line](cli.md)",
        "explains what takes more than a sentence.",
    ]
    panel = ""
    for name, one in settings().items():
        if not one.command_line:
            continue
        if one.panel != panel:
            panel = one.panel
            lines += ["", f"## {panel}", "", "| option | meaning | default |", "|-|-|-|"]
        option = "--" + name.replace("_", "-")
        also = [*one.aliases, f"--no-{name.replace('_', '-')}"] if _is_flag(one) else one.aliases
        options = "<br>".join(f"`{text}`" for text in (option, *also))
        meaning = one.help.replace("|", "\\|").replace("<", "&lt;")
        if one.also_env:
            meaning += f" The variable `{'`, `'.join(one.also_env)}` is read, too."
        lines.append(f"| {options} | {meaning} | {_default(name, getattr(default, name))} |")
    lines += ["", "## Only in the environment", "", "| variable | meaning |", "|-|-|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in VARIABLES.items()]
    return "\n".join(lines) + "\n"


def options_page() -> str:
    """Return the table of what the options of other servers are called here."""
    lines = ["# Options of other servers", "", "What each of their options is called here."]
    servers = tomllib.loads((ROOT / "docs/options.toml").read_text(encoding="utf-8"))
    for server in servers.values():
        title = f"## {server['title']} {server['version']}"
        lines += ["", title, "", f"| {server['title']} | here |", "|-|-|"]
        for option, ours in server["options"].items():
            match ours:
                case {"instead": text}:
                    answer = f"instead: {text}"
                case {"no": reason}:
                    answer = f"no: {reason}"
                case _:
                    answer = f"yes: `{ours}`"
            lines.append(f"| `--{option}` | {answer} |")
    return "\n".join(lines) + "\n"


def _is_flag(one: object) -> bool:
    return type(one.kind).__name__ == "Flag"  # type: ignore[attr-defined]


def _default(name: str, value: object) -> str:
    """Return the default of a setting; and that of the command line, if it has one."""
    if name == "host":
        return f"`turboapi run`: `0.0.0.0`; otherwise {_text(value)}"
    if name == "reload":
        return f"`turboapi dev`: yes; otherwise {_text(value)}"
    return _text(value)


def _text(value: object) -> str:
    if value is None or value == () or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(f"`{part}`" for part in value)
    if isinstance(value, float):
        return f"{value:g}"
    return f"`{value}`"
