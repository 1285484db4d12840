"""A process of ours in its first and last moments: signals while it starts, and a quick end.

Only processes that `turboapi` (the command) or the supervisor started are treated so; a program
that imports the package, or calls `app.run()`, starts and ends as Python does.
"""

from __future__ import annotations

import _thread
import functools
import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from turboapi._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

    from turboapi.config import Config

# As a shell has it for a process that SIGINT ended.
EXIT_INTERRUPTED = 130
# A second signal ended what was in flight.
EXIT_FORCED = 1

_STOPPING = (signal.SIGTERM, signal.SIGINT)

# What handlers of atexit and threads that are no daemons may take, in seconds.
_LAST_GRACE = 5.0

# The first signal that came in the start-up.
_came: int | None = None

# What a signal raises may get lost, see `_insist`. After how many seconds it is raised again.
_AGAIN_AFTER = 0.5

# Whether `run_to_end` has heard of the end.
_ends = False

# Whether this program is the command or a worker, and nothing else.
_whole = False

# The command line that started the program, where it is another one's now; and what a service
# manager had passed to it.
_command: list[str] = []
_manager: dict[str, str] = {}

# Whether there is a terminal whose end SIGHUP may tell of; None: nobody has looked.
_terminal: bool | None = None


def is_running(pid: int) -> bool:
    """Return whether there is such a process and it has not ended; it need not be our child."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    # One that has ended stays until its parent has waited for it. Process 1 of a container may be
    # one that never waits for the children it is given.
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 (pathlib takes long)
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:  # it ended meanwhile, or the system has no such files
        return not os.path.exists("/proc/self/stat")  # noqa: PTH110 (the same)


def guard_start() -> None:
    """Let SIGTERM and SIGINT end the process quietly, until the server has handlers of its own.

    Called before the package is imported, which takes a while. No-op in other programs. The command
    that is only asked for its version ends here: that needs none of the package.
    """
    arguments = sys.orig_argv
    with suppress(ValueError):
        arguments = arguments[arguments.index("-m") :]
    is_worker = arguments[:2] == ["-m", "turboapi._serving.worker"]
    is_template = arguments[:2] == ["-m", "turboapi._serving.template"]
    if (
        is_worker
        or is_template
        or arguments[:2] == ["-m", "turboapi"]
        or os.path.basename(sys.argv[0]) == "turboapi"  # noqa: PTH119 (pathlib is not imported yet)
    ):
        if sys.argv[1:] in (["--version"], ["-V"]):
            print(f"turboapi {__version__}")
            raise SystemExit
        end_on_signals()
        look_for_terminal()
        signal.signal(signal.SIGHUP, on_hangup)
        if not is_worker and not is_template:
            signal.signal(signal.SIGUSR2, on_upgrade)
    if is_worker:
        # Blocked by the supervisor, so that none came too early.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def take_signals() -> None:
    """Do the same in a worker that was forked, from which SIGTERM and SIGINT were kept so far."""
    end_on_signals()
    signal.signal(signal.SIGHUP, on_hangup)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def end_on_signals() -> None:
    """Let SIGTERM and SIGINT end this process as `check_stopped` does."""
    with suppress(ValueError):  # not the main thread
        for number in _STOPPING:
            signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _came
    if _came is None:
        _came = number
        sys.unraisablehook = functools.partial(_report_unless_ours, sys.unraisablehook)
        # threading.Thread takes locks, which this thread may hold just now.
        _thread.start_new_thread(_insist, (number,))
    check_stopped()


class _Stopped(SystemExit):
    """A signal that came in the start-up."""


def _report_unless_ours(before: Callable[[Any], object], what: Any) -> None:
    """Report an exception that nobody can catch, unless it is the one of `check_stopped`."""
    if not isinstance(what.exc_value, _Stopped):
        before(what)


def _insist(number: int) -> None:
    """Send the signal again and again until the start-up has ended or the server handles it.

    The exception that its handler raises gets lost where it meets a callback of a weak reference
    (importlib has one for each module), a finalizer or C code that clears errors, and where an
    application catches it.
    """
    while True:
        time.sleep(_AGAIN_AFTER)
        if _ends or signal.getsignal(number) is not _on_signal:
            return
        os.kill(os.getpid(), number)


def on_hangup(number: int, frame: FrameType | None) -> None:
    """Handle SIGHUP until the server does: to start anew is what we are doing."""
    if terminal_is_gone():
        raise SystemExit(0)


def on_upgrade(number: int, frame: FrameType | None) -> None:
    """Handle SIGUSR2 until the server does, which has the same meaning."""


def command() -> list[str]:
    """Return the command line that a successor is to be started with."""
    return _command or sys.orig_argv


def remember_command(given: list[str]) -> None:
    """Take over the command line of the program that this process ran before."""
    _command[:] = given


def from_manager() -> dict[str, str]:
    """Return the variables about sockets that a service manager has passed."""
    return dict(_manager)


def remember_manager(given: dict[str, str]) -> None:
    """Keep them for a successor, as they are removed from the environment."""
    _manager.update(given)


def set_name(config: Config, role: str) -> None:
    """Give this process the name that `process_name` says, if it does; `role` tells it apart."""
    if config.process_name is None:
        return
    # Linux: what ps -o comm and top show, 15 bytes of it.
    with suppress(OSError), open("/proc/self/comm", "wb") as name:  # noqa: PTH123 (as above)
        name.write(os.fsencode(config.process_name)[:15])
    with suppress(ImportError):  # the whole command line, where the package is installed
        import setproctitle  # pyright: ignore[reportMissingImports]

        set_title: Callable[[str], None] = setproctitle.setproctitle  # pyright: ignore
        set_title(f"{config.process_name}: {role}")


def check_stopped() -> None:
    """End the process when it was told to stop while it started.

    Raises:
        SystemExit: 0 after SIGTERM, 130 after SIGINT.
    """
    if _came is not None:
        raise _Stopped(code_of_stop(_came))


def stopped_by() -> int | None:
    """Return the signal that told this process to stop while it started, if one did."""
    return _came


def code_of_stop(number: int) -> int:
    """Return the exit code of a process that a signal stopped before it served."""
    return EXIT_INTERRUPTED if number == signal.SIGINT else 0


def look_for_terminal() -> None:
    """Remembers whether there is a terminal now; to be called before SIGHUP is handled."""
    global _terminal
    if _terminal is None:
        # Ignored (nohup): its end is of no concern.
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        _terminal = not ignored and _opens_terminal()


def terminal_is_gone() -> bool:
    """Return whether the terminal that we were started from is no more, which SIGHUP tells, too."""
    return bool(_terminal) and not _opens_terminal()


def _opens_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def is_whole() -> bool:
    """Return whether the process is ours from beginning to end; see the module."""
    return _whole


def run_to_end(main: Callable[[], int | None], caller: FrameType) -> None:
    """Run what a process is there for, and end it; `caller` is the frame that wants it."""
    global _whole, _ends
    _whole = _is_all_of_it(caller)
    try:
        code: object = main()
    except SystemExit as exit_:
        code = exit_.code
    except Exception:
        # What the signal raised may have come out as another exception: __set_name__ does that.
        if _came is None:
            raise
        code = code_of_stop(_came)
    _ends = True
    code = 0 if code is None else code
    if isinstance(code, int) and _whole:
        finish(lambda: os._exit(code))
    raise SystemExit(code)


def _is_all_of_it(frame: FrameType | None) -> bool:
    """Return whether the code of `frame` is the whole program: not run by a debugger, coverage, a
    test.
    """
    if frame is None or frame.f_code.co_name != "<module>":
        return False
    if frame.f_globals.get("__name__") != "__main__":
        return False
    while (frame := frame.f_back) is not None:
        if frame.f_globals.get("__name__") != "runpy":  # python -m
            return False
    watched = sys.gettrace() is not None or sys.getprofile() is not None
    return not watched and not sys.flags.inspect and not sys.flags.interactive


def finish(end: Callable[[], NoReturn]) -> NoReturn:
    """Do what Python does at its end up to the handlers of atexit, and call `end`.

    Taking the interpreter apart is left out, which can take most of a second. Handlers of atexit,
    and threads that are no daemons, have five seconds; SIGTERM and SIGINT cut them short.
    """
    import atexit
    import threading

    with suppress(ValueError):
        for number in _STOPPING:
            signal.signal(number, lambda _number, _frame: end())
    threading.Thread(target=_end_later, args=(end,), name="turboapi-end", daemon=True).start()
    with suppress(Exception):
        # It also ends the threads of concurrent.futures.
        getattr(threading, "_shutdown", _join_threads)()
    with suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # None, a broken pipe, closed
            stream.flush()
    end()


def _join_threads() -> None:
    import threading

    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()


def _end_later(end: Callable[[], NoReturn]) -> None:
    import threading

    time.sleep(_LAST_GRACE)
    names = ", ".join(
        thread.name
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    )
    why = f"threads that did not end: {names}" if names else "a handler of atexit that did not end"
    with suppress(OSError):
        os.write(2, f"WARNING:  The process ends in spite of {why}\n".encode())
    end()
