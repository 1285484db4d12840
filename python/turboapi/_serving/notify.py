"""What a service manager is told: the protocol of sd_notify(3), over the socket it names.

Nothing is told when there is no `NOTIFY_SOCKET`; a manager that does not read is no reason to wait.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


def tell(*lines: str) -> bool:
    """Send a message of `NAME=value` lines; returns whether there was somebody to send it to."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):  # vsock: of virtual machines
        return False
    # An abstract one is written with "@" for its NUL.
    address = "\0" + name[1:] if name.startswith("@") else name
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
    ):
        manager.setblocking(False)
        manager.sendto("\n".join(lines).encode(), address)
        return True
    return False


def ready(status: str) -> None:
    """Tell that it serves: after the start, and after a reload."""
    tell("READY=1", f"STATUS={status}")


def reloading() -> None:
    """Tell that a reload begins; `ready` ends it."""
    # Type=notify-reload compares it with the time of its SIGHUP.
    tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> None:
    """Tell that it ends."""
    tell("STOPPING=1")


def alive() -> None:
    """Tell that it still works, as often as `interval` says."""
    tell("WATCHDOG=1")


def successor(pid: int) -> None:
    """Tell that another process takes over; it is told to do so by the one the manager knows."""
    tell(f"MAINPID={pid}", "READY=1")


def interval() -> float:
    """Return the pause between two calls of `alive`, in seconds; 0: nobody waits for them."""
    pid = os.environ.get("WATCHDOG_PID", "")
    text = os.environ.get("WATCHDOG_USEC", "")
    if not os.environ.get("NOTIFY_SOCKET") or not text.isdecimal():
        return 0.0
    if pid and pid != str(os.getpid()):
        return 0.0
    return int(text) / 2e6
