"""What has been imported is not looked at by the garbage collector while the server serves.

A full collection visits every container of the process, while nothing else runs. What is there when
the application has started stays until the end: with gc.freeze() it is left out.
"""

import gc
import threading

__all__ = ["Freezer"]


class Freezer:
    """Freezes what there is, once, and undoes it at the end.

    Args:
        enabled: without it nothing is done; nor is where the collector is off, or something is
            frozen already, since then the program takes care of it itself.
        more: what is frozen was by us, before this process was forked; the rest follows.
    """

    def __init__(self, enabled: bool, more: bool = False) -> None:
        self._enabled = enabled
        self._more = more
        self._lock = threading.Lock()
        self._frozen = False

    def freeze(self) -> None:
        """Collect what is garbage, and freeze the rest. From any of the threads that serve."""
        with self._lock:
            if self._frozen or not self._enabled or not gc.isenabled():
                return
            if gc.get_freeze_count() and not self._more:
                return
            gc.collect()
            gc.freeze()
            self._frozen = True

    def unfreeze(self) -> None:
        """Give all back to the collector: the program may go on without the server."""
        with self._lock:
            if self._frozen:
                gc.unfreeze()
            self._frozen = False
