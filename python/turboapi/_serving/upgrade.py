"""SIGUSR2: the program is started anew beside this one and takes its place, as nginx has it.

The new one is what the command line says now: another release, or another virtual environment at
the same path. It gets the listening sockets, so that nobody is refused, and tells through a pipe
when it serves; then the old one finishes what it has and ends. If the new one does not come so far,
the old one goes on. The address of the metrics is the old one's until then, and the new one's from
then on.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from turboapi._serving import process

if TYPE_CHECKING:
    from collections.abc import Callable

    from turboapi.config import Config

# What the old program passes on: {"ready": pipe, "sockets": descriptors, "metrics": descriptor or
# None, "systemd": variables}.
_VARIABLE = "TURBOAPI_UPGRADE"

State = Literal["starts", "ready", "failed"]


# -- The old program


class NewProgram:
    """The program that is to take over.

    Attributes:
        pid: its process id.
        started: when, on the monotonic clock.
    """

    def __init__(self, config: Config, bound: list[socket.socket], now: float) -> None:
        """Start it; `bound` is borrowed.

        Raises:
            OSError: it can't be started.
        """
        self.started = now
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        fds = [each.fileno() for each in bound]
        given = process.from_manager()
        shown = config.metrics_listen_fd
        message = {"ready": theirs, "sockets": fds, "metrics": shown, "systemd": given}
        passed = [*range(3, 3 + int(given.get("LISTEN_FDS", "0")))]
        passed += [each.fd for each in config.addresses() if each.fd is not None]
        passed += [shown] if shown is not None else []
        try:
            self._child = subprocess.Popen(  # noqa: S603
                [sys.executable, *process.command()[1:]],
                pass_fds={theirs, *fds, *filter(_is_open, passed)},
                env={**os.environ, _VARIABLE: json.dumps(message)},
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)
        self.pid = self._child.pid

    def fileno(self) -> int:
        """Return the pipe, which is readable when `state` changes."""
        return self._pipe

    def state(self) -> State:
        """Return what it has said."""
        try:
            said = os.read(self._pipe, 1)
        except BlockingIOError:
            return "starts"
        return "ready" if said else "failed"

    @property
    def exit_code(self) -> int | None:
        return self._child.poll()

    def send(self, number: int) -> None:
        """Send it a signal."""
        with suppress(OSError):
            self._child.send_signal(number)

    def kill(self) -> None:
        """End it: it takes too long."""
        self.send(signal.SIGKILL)

    def close(self) -> None:
        """Free the pipe."""
        os.close(self._pipe)
        self._child.poll()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# -- The new program


class _Inherited:
    """What the old program has passed on, as far as it was not taken yet."""

    def __init__(self) -> None:
        text = os.environ.pop(_VARIABLE, None)
        message: dict[str, Any] = json.loads(text) if text else {}
        self.ready: int | None = message.get("ready")
        self.sockets = [socket.socket(fileno=fd) for fd in message.get("sockets", ())]
        for each in self.sockets:
            each.set_inheritable(False)
        shown = message.get("metrics")
        self.metrics = None if shown is None else socket.socket(fileno=shown)
        if self.metrics is not None:
            self.metrics.set_inheritable(False)
        if self.ready is not None:
            os.set_inheritable(self.ready, False)
            os.environ.update(message["systemd"])
            if message["systemd"]:
                os.environ["LISTEN_PID"] = str(os.getpid())
            # The service manager waits for the old program's signs of life until it hears of us.
            if os.environ.get("WATCHDOG_PID") == str(os.getppid()):
                os.environ["WATCHDOG_PID"] = str(os.getpid())


_inherited: _Inherited | None = None

# What is called when this program is about to take over, and when another one has.
_when_ready: list[Callable[[], object]] = []
_when_replaced: list[Callable[[], object]] = []


def when_ready(call: Callable[[], object]) -> None:
    """Have `call()` called before the old program hears that we serve."""
    _when_ready.append(call)


def when_replaced(call: Callable[[], object]) -> None:
    """Have `call()` called when a new program serves in the place of this one."""
    _when_replaced.append(call)


def tell_replaced() -> None:
    """Call what waits for that."""
    for call in _when_replaced:
        call()


def _what_there_is() -> _Inherited:
    global _inherited
    if _inherited is None:
        _inherited = _Inherited()
    return _inherited


def begin() -> None:
    """Look what there is; before anything is bound."""
    _what_there_is()


def is_pending() -> bool:
    """Return whether an old program waits for us to serve."""
    return _what_there_is().ready is not None


def tell_ready() -> None:
    """Tell the old program that we serve; the sockets that we did not want are closed."""
    found = _what_there_is()
    for each in found.sockets:
        each.close()
    found.sockets.clear()
    if found.metrics is not None:
        found.metrics.close()
        found.metrics = None
    if found.ready is not None:
        for call in _when_ready:
            call()
        with suppress(OSError):  # it was killed meanwhile
            os.write(found.ready, b"1")
        os.close(found.ready)
        found.ready = None


def metrics_socket(family: int, name: Any) -> socket.socket | None:
    """Return the same for the metrics."""
    found = _what_there_is()
    each = found.metrics
    if each is None or each.family != family:
        return None
    own = each.getsockname()
    if own != name and (
        family == socket.AF_UNIX or own[0] != name[0] or name[1] not in (0, own[1])
    ):
        return None
    found.metrics = None
    return each


def socket_for(family: int, name: Any) -> socket.socket | None:
    """Return the old program's socket of that family and name, which is the caller's; or None."""
    for each in _what_there_is().sockets:
        own = each.getsockname()
        same = own == name or (
            family != socket.AF_UNIX and own[0] == name[0] and (name[1] == 0 or own[1] == name[1])
        )
        if each.family == family and same:
            _what_there_is().sockets.remove(each)
            return each
    return None
