"""What is said where files of PyPI's `turboapi`, another project, lie among ours.

Both are imported as `turboapi` and install into the same folder: the one that was installed last
has overwritten the other's modules of equal names, and removing one takes away what both have.
"""

import os
import sys
from typing import NoReturn


def refuse(folder: str) -> NoReturn:
    """End the import of the package in `folder`.

    Raises:
        ImportError: what is wrong, and what to do.
    """
    raise ImportError(_said(folder))


def check_command(folder: str, found: str | None) -> None:
    """End the command if the package in `folder` is not ours: its version is `found`.

    Called where our command has imported `turboapi`, and got what another project, or its removal,
    has left of it.
    """
    from ._version import __version__  # lazy: as little as possible may be needed here

    if found != __version__:
        sys.exit(f"Error: {_said(folder)}")


def _said(folder: str) -> str:
    # To name what pip is to be asked, with the interpreter whose packages these are.
    pip = f"{os.path.basename(sys.executable or 'python')} -m pip"  # noqa: PTH119 (as __init__)
    return (
        f"the package turboapi in {folder} is not, or not only, that of TurboAPI, which is "
        "installed by the name turboapi-c. PyPI's turboapi is another project with the same import "
        f"name, and the two overwrite each other's files. Remove both and install ours again: "
        f"{pip} uninstall -y turboapi turboapi-c && {pip} install turboapi-c"
    )
