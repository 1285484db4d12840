"""The supervisor's side of `--preload`."""

import socket
import threading

from turboapi._serving import templates
from turboapi.config import Config


class Child:
    """A template that says this as soon as it is asked for a worker."""

    pid = 1
    words = b"forked 7\nended 7 3\n"

    def __init__(self, arguments, *, pass_fds, process_group):
        self._link = socket.socket(fileno=socket.dup(pass_fds[0]))
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self):
        for _ in range(2):  # the settings, the request
            size = int.from_bytes(self._link.recv(4, socket.MSG_WAITALL), "big")
            self._link.recv(size, socket.MSG_WAITALL)
        self._link.sendall(self.words)
        self._link.close()

    def poll(self):
        return 0

    def wait(self, timeout=None):
        return 0


def test_a_worker_that_has_ended_before_its_start_was_read(monkeypatch):
    monkeypatch.setattr(templates.subprocess, "Popen", Child)
    template = templates.Template(Config())
    assert template.fork({}, []).poll() == 3
    assert not template.is_needed
    template.close()
