"""How the garbage collector works while the server serves.

A full collection visits every container of the process, while nothing else runs. What is there when
the application has started stays until the end: with gc.freeze() it is left out. Small collections
visit what is new, and so the requests that wait; how often they come is a setting.
"""

import gc
import threading

__all__ = ["Freezer"]


class Freezer:
    """Freezes what there is and sets the threshold, once, and undoes both at the end.

    Args:
        enabled: without it nothing is done; nor is where the collector is off, or something is
            frozen already, since then the program takes care of it itself.
        threshold: new objects after which there is a collection; 0 leaves the program's. That of a
            program that has turned the collector off is left, too.
        more: what is frozen was by us, before this process was forked; the rest follows.
    """

    def __init__(self, enabled: bool, threshold: int = 0, more: bool = False) -> None:
        self._enabled = enabled
        self._threshold = threshold
        self._before = 0  # the program's threshold, where it was another
        self._more = more
        self._lock = threading.Lock()
        self._frozen = False

    def freeze(self) -> None:
        """Collect what is garbage, and freeze the rest. From any of the threads that serve."""
        with self._lock:
            first, *others = gc.get_threshold()
            if not first or not gc.isenabled():
                return
            if self._threshold and first != self._threshold:
                # Another thread's start may have set it: the first is what the program began with.
                self._before = self._before or first
                gc.set_threshold(self._threshold, *others)
            if self._frozen or not self._enabled:
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
            first, *others = gc.get_threshold()
            if self._before and first == self._threshold:
                gc.set_threshold(self._before, *others)
            self._before = 0
