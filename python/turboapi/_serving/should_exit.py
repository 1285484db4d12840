"""How libraries that know uvicorn learn that the server ends.

They look at `should_exit` of the object whose method handles SIGTERM, or replace
`uvicorn.Server.handle_exit` to be called (sse-starlette does both). Both work here: signals are
handled by a method of a `ShouldExit`, which calls such a replacement.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

logger = logging.getLogger("turboapi.server")


class ShouldExit:
    """Stands for the `uvicorn.Server` that such libraries look for.

    Attributes:
        should_exit: a signal has come.
        force_exit: SIGINT has come again.
    """

    def __init__(self) -> None:
        self.should_exit = False
        self.force_exit = False
        self._captured_signals: list[int] = []  # uvicorn's own handle_exit appends to it

    def take(self, number: signal.Signals) -> None:
        """Becomes the handler of a signal for which the loop has one.

        The loop's is called all the same: it learns of signals by the wake-up descriptor.
        """
        signal.signal(number, self.handle_exit)
        signal.siginterrupt(number, False)

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        """Note the signal; what is done about it is the loop's."""
        replaced = _replaced_handle_exit()
        if replaced is not None:
            try:
                replaced(self, number, frame)
            except Exception:
                logger.exception("Exception in a replaced uvicorn.Server.handle_exit")
        elif self.should_exit and number == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def _replaced_handle_exit() -> Any:
    """`uvicorn.Server.handle_exit`, if somebody has put another one there."""
    server = getattr(sys.modules.get("uvicorn.server"), "Server", None)
    found = getattr(server, "handle_exit", None)
    return None if getattr(found, "__module__", None) == "uvicorn.server" else found
