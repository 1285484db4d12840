"""Where a test's server can listen."""

import contextlib
import random
import socket


def free_port() -> int:
    """Return a port below those that the kernel hands out.

    Who connects to one of the kernel's in a loop, before anybody listens, may meet itself there.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
