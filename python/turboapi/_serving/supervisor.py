"""Several processes that serve one address.

All workers accept from one socket, which is the supervisor's. The first that is ready lets it
listen; from then on it stays open while workers come and go, so that connections which wait to be
accepted are taken by whoever is there. Only when no worker is left and successors die as well it
refuses clients, until one is ready again.

SIGTERM, SIGINT  finish what is in flight, then stop; the second one stops at once
SIGHUP           replace the workers one by one, each when its successor is ready
SIGTTIN, SIGTTOU one worker more, one less
SIGUSR2          start the program anew, and stop when the new one serves (`upgrade`)

With `--preload` workers are forked from a process that has imported the application (`template`).
SIGHUP starts another one of these first.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from turboapi._serving import metrics, notify, pid_file, process, sockets, upgrade
from turboapi._serving.log import configure as configure_log
from turboapi._serving.log import supervisor_logger as log
from turboapi._serving.process import EXIT_FORCED
from turboapi._serving.signals import ONE_STOP, Signals
from turboapi._serving.templates import Template, TemplateError
from turboapi._serving.worker_process import EXIT_NO_APP, Process, how_it_ended
from turboapi.config import ConfigError

if TYPE_CHECKING:
    from turboapi.config import Config

SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR2,
    signal.SIGCHLD,
)

# Pauses before a worker that keeps dying is started again, in seconds.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
# One that served as long as this had no trouble starting: pauses begin anew.
_STEADY_AFTER = 10.0
# How long a stop waits for workers that are still starting, before those that serve are told.
_START_GRACE = 2.0
# What a worker may take longer than the server's own grace period, to clean up.
_EXTRA_GRACE = 5.0
# For a worker that misses its beats, to write the stacks of its threads.
_STACKS_GRACE = 1.0
# Seconds after which it was not the workers that were late, but we.
_OVERSLEPT = 1.0
# How long it may take after being told to stop at once.
_LAST_GRACE = 2.0


class _Place:
    """A worker's place: who serves in it, and who is to take over."""

    def __init__(self, number: int) -> None:
        self.number = number
        # The round (see Supervisor) in which the last process here was started.
        self.round = 0
        self.worker: Process | None = None
        self.successor: Process | None = None
        self.pause = 0.0
        self.start_at = 0.0
        self.replace_at = 0.0  # not before, when the worker wants it

    def longer_pause(self) -> float:
        """Return `pause` and make it longer."""
        self.pause = _longer(self.pause)
        return self.pause

    def is_tired(self) -> bool:
        """Return whether the worker wants to be replaced, and nobody does it."""
        return self.worker is not None and self.worker.retires and self.successor is None


class Supervisor:
    """Starts, watches, replaces and stops workers; `run()` returns when all have ended."""

    def __init__(
        self,
        config: Config,
        bound: list[socket.socket] | None = None,
        first: Process | None = None,
        replace: bool = False,
    ) -> None:
        """Bind the addresses, or take over sockets and the first worker, which serves already.

        Args:
            config: the settings.
            bound: the listening sockets, or None; owned from now on.
            first: a worker that serves, or None; owned from now on.
            replace: whether `first` is to be replaced at once, as by SIGHUP.

        Raises:
            BindError: can't listen there.
        """
        process.look_for_terminal()
        self._config = config
        self._sockets = bound or _bind(config)  # owned
        # Those that were inherited are others' as well.
        given = [each.fd is not None for each in config.addresses()]
        self._refusing = [
            one for one, is_given in zip(self._sockets, given, strict=True) if not is_given
        ]
        self._first = first
        self.address = sockets.describe_all(self._sockets, config.scheme())
        self._notify_every = notify.interval()
        self._notify_at = 0.0
        self._template: Template | None = None  # of the workers to come
        self._next_template: Template | None = None  # in the making
        self._old_templates: list[Template] = []  # whose workers are leaving
        self._template_at = math.inf  # when another one is to be started
        self._template_pause = 0.0
        self._program: upgrade.NewProgram | None = None
        self._program_until = math.inf  # once it was told to end
        self._replaced = False  # by that
        self._notified = False  # whether it was told that we are ready
        self._places: list[_Place] = []
        self._leaving: dict[Process, float] = {}
        self._last: list[Process] = []  # they serve, and are to be stopped at `_last_at`, or before
        self._last_at = 0.0
        # Each SIGHUP begins a round. Places of the longest past round come first, so that all are
        # replaced even if another SIGHUP comes whenever a successor is ready.
        self._round = 0
        self._replace_first = replace
        self._served = False
        self._stopping = False
        self._stopped_at = 0.0
        self._at_once = False
        self._force_at = math.inf  # when the workers are to be told a second time
        self._exit_code = 0

    def run(self) -> int:
        """Serve until told to stop and return the exit code of the whole."""
        process.set_name(self._config, "supervisor")
        if not upgrade.is_pending():
            pid_file.write(self._config)
        with Signals(SIGNALS) as signals:
            if self._first is None:
                log.info("Listening on %s with %d workers", self.address, self._config.workers)
                log.info("Supervisor is process %d", os.getpid())
            else:
                log.info("Process %d is the supervisor of %d", os.getpid(), self._first.pid)
            if self._config.preload:
                self._begin_template()
            for _ in range(self._config.workers):
                self._add_place()
            if self._replace_first:
                self._on_signal(signal.SIGHUP)
            while self._places or self._leaving or self._last or self._program is not None:
                patience = self._patience()
                wanted_at = time.monotonic() + (patience or 0.0)
                sources = [each for worker in self._everyone() for each in worker.sources()]
                if self._program is not None and not self._stopping:
                    sources.append(self._program.fileno())
                sources += [each.fileno() for each in self._templates() if each.fileno() >= 0]
                for number in signals.wait(patience, sources):
                    self._on_signal(number)
                if patience is not None and time.monotonic() > wanted_at + _OVERSLEPT:
                    self._excuse_silence()
                self._check()
        self._close()
        log.info("All workers have ended")
        return self._exit_code

    # -- Signals

    def _on_signal(self, number: signal.Signals) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            if self._stopping and time.monotonic() < self._stopped_at + 2 * ONE_STOP:
                return
            if not self._served and not self._stopping:
                self._exit_code = process.code_of_stop(number)
            self._stop(number.name)
        elif self._stopping:
            return
        elif number is signal.SIGHUP and process.terminal_is_gone():
            self._stop("The terminal is gone")
        elif number is signal.SIGHUP:
            self._notified = False
            notify.reloading()
            if self._config.preload:
                log.info("SIGHUP: importing the application anew")
                self._begin_template()
                return
            log.info("SIGHUP: replacing the workers one by one")
            self._round += 1
        elif number is signal.SIGUSR2:
            self._upgrade()
        elif number is signal.SIGTTIN:
            log.info("SIGTTIN: %d workers from now on", len(self._places) + 1)
            self._add_place()
        elif number is signal.SIGTTOU:
            if len(self._places) == 1:
                log.warning("SIGTTOU: the last worker stays")
                return
            log.info("SIGTTOU: %d workers from now on", len(self._places) - 1)
            self._remove_place(self._places[-1])

    def _stop(self, why: str) -> None:
        """Once: what is in flight may end.  Twice: at once."""
        if self._at_once:
            return
        if self._stopping:
            log.warning("%s again: stopping at once", why)
            self._at_once = True
            # Two signals in a row would be one for a worker that hears of its end only now.
            self._force_at = time.monotonic() + (2 * ONE_STOP if self._last else 0.0)
            self._stop_serving()
            self._stop_program(_LAST_GRACE)
            return
        log.info("%s: stopping the workers", why)
        if not self._replaced:
            notify.stopping()
        self._stopping = True
        self._stopped_at = time.monotonic()
        # A worker that is still starting has the socket, but takes nobody from it: clients would
        # wait there, and be reset when it ends. So it goes before those that serve.
        everyone = [worker for worker in self._everyone() if worker not in self._leaving]
        self._places.clear()
        for worker in everyone:
            if worker.ready:
                self._last.append(worker)
            else:
                self._dismiss(worker)
        self._last_at = time.monotonic() + _START_GRACE
        self._go_on_stopping()
        grace = self._config.timeout_graceful_shutdown
        self._stop_program(grace + _EXTRA_GRACE if grace else math.inf)

    def _go_on_stopping(self) -> None:
        starting = any(not worker.ready for worker in self._leaving)
        if self._last and (not starting or time.monotonic() >= self._last_at):
            self._stop_serving()

    def _stop_serving(self) -> None:
        # Ours first: a worker that stops takes what waits, and the last one closes the last.
        sockets.close(self._sockets)
        for worker in self._last:
            self._dismiss(worker)
        self._last.clear()

    # -- Places

    def _add_place(self) -> None:
        place = _Place(len(self._places) + 1)
        self._places.append(place)
        self._start(place)

    def _remove_place(self, place: _Place) -> None:
        self._places.remove(place)
        for worker in (place.successor, place.worker):
            if worker is not None:
                self._dismiss(worker)

    def _start(self, place: _Place) -> None:
        if self._first is not None:
            place.worker, self._first = self._first, None
            self._served = True
            return
        place.round = self._round
        place.worker = self._new_process()
        if place.worker is None:
            if self._config.preload and self._template is None:
                place.start_at = math.inf  # until there is one
            else:
                place.start_at = time.monotonic() + place.longer_pause()
            return
        self._config = self._config.replace(announce=False)  # one of them tells
        log.info("Worker %d is process %d", place.number, place.worker.pid)

    def _new_process(self) -> Process | None:
        """Start a process that serves; None: it can't be, or there is no template yet."""
        try:
            if not self._config.preload:
                return Process.start(self._config, self._sockets, own_group=True)
            if self._template is None:
                return None
            return Process.fork(self._config, self._sockets, self._template)
        except OSError as error:
            log.error("No worker can be started: %s", error)
            if isinstance(error, TemplateError):
                self._check_templates(time.monotonic())
            return None

    def _dismiss(self, worker: Process) -> None:
        worker.send(signal.SIGTERM)
        grace = self._config.timeout_graceful_shutdown
        self._leaving[worker] = time.monotonic() + grace + _EXTRA_GRACE if grace else float("inf")

    # -- What happened meanwhile

    def _everyone(self) -> list[Process]:
        found = [*self._leaving, *self._last]
        for place in self._places:
            found += [worker for worker in (place.worker, place.successor) if worker is not None]
        return found

    def _patience(self) -> float | None:
        """Seconds until something is due without a signal or a word of a worker."""
        due = [
            place.start_at
            for place in self._places
            if place.worker is None and place.start_at != math.inf
        ]
        if self._next_template is not None and self._served and self._config.timeout_worker_start:
            due.append(self._next_template.started + self._config.timeout_worker_start)
        due += [limit for limit in self._leaving.values() if limit != float("inf")]
        due += [self._last_at] if self._last else []
        due += [each for each in (self._force_at, self._template_at) if each != math.inf]
        if self._program is not None and self._stopping:
            due += [self._program_until] if self._program_until != math.inf else []
        elif self._program is not None and self._config.timeout_worker_start:
            due.append(self._program.started + self._config.timeout_worker_start)
        due += [self._notify_at] if self._notify_every else []
        due += [place.replace_at for place in self._places if place.is_tired()]
        if self._config.timeout_worker_start:
            due += [
                place.successor.started + self._config.timeout_worker_start
                for place in self._places
                if place.successor is not None
            ]
        if self._config.timeout_worker:
            for worker in self._serving():
                if worker.asked_at is not None:
                    due.append(worker.asked_at + _STACKS_GRACE)
                elif worker.beats:
                    due.append(worker.heard_at + self._config.timeout_worker)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _check(self) -> None:
        for worker in self._everyone():
            if worker.read_news():
                self._served = True
        now = time.monotonic()
        self._check_templates(now)
        if self._program is not None:
            self._check_program(self._program, now)
        for worker in self._serving():
            self._check_beat(worker, now)
        for place in list(self._places):
            if self._stopping:  # since one of them has failed: the others' workers are leaving
                break
            self._check_place(place, now)
        if now >= self._force_at:
            self._force_at = math.inf
            for worker in self._leaving:
                worker.send(signal.SIGTERM)
                self._leaving[worker] = now + _LAST_GRACE
        for worker, limit in list(self._leaving.items()):
            if worker.exit_code is not None:
                if self._stopping and worker.ready:
                    killed = self._at_once and worker.exit_code < 0
                    self._exit_code = EXIT_FORCED if killed else max(worker.exit_code, 0)
                del self._leaving[worker]
                worker.close()
            elif now >= limit:
                log.warning("Process %d does not end: killing it", worker.pid)
                worker.send(signal.SIGKILL)
                self._leaving[worker] = float("inf")
        self._go_on_stopping()
        self._roll_on(now)
        self._tell_manager(now)
        if process.is_whole():
            _reap_others(self._everyone(), self._templates())

    # -- Workers that do not answer

    def _serving(self) -> list[Process]:
        return [place.worker for place in self._places if place.worker is not None]

    def _excuse_silence(self) -> None:
        """Excuse the workers after everything was suspended, when nobody could write a beat."""
        now = time.monotonic()
        for worker in self._serving():
            worker.heard_at = now

    def _check_beat(self, worker: Process, now: float) -> None:
        """First it is asked for its stacks; if it is silent then, too, it is ended."""
        longest = self._config.timeout_worker
        if not longest:
            return
        silent = worker.misses_beats(longest, now)
        if worker.asked_at is None:
            if silent and worker.exit_code is None:
                self._ask(worker, now)
            return
        if silent and now < worker.asked_at + _STACKS_GRACE:
            return
        worker.asked_at = None
        stacks = worker.stacks() or "(it does not even write its stacks)"
        if not silent:
            log.warning("Process %d answers again; it was at\n%s", worker.pid, stacks)
        elif worker.exit_code is None:
            log.error(
                "Process %d has not answered for %.3g s (timeout_worker): killing it. It is at\n%s",
                worker.pid,
                now - worker.heard_at,
                stacks,
            )
            worker.send(signal.SIGKILL)
            worker.wait(_LAST_GRACE)

    def _ask(self, worker: Process, now: float) -> None:
        if worker.is_held():
            log.warning(
                "Process %d does not answer, but is stopped or has a debugger: it stays", worker.pid
            )
            worker.heard_at = now
            return
        worker.ask_for_stacks(now)

    # -- Places

    def _check_place(self, place: _Place, now: float) -> None:
        if place.successor is not None:
            self._check_successor(place, place.successor, now)
        worker = place.worker
        if worker is None:
            if now >= place.start_at:
                self._start(place)
        elif worker.exit_code is not None:
            self._on_death(place, worker, now)

    def _on_death(self, place: _Place, worker: Process, now: float) -> None:
        worker.close()
        place.worker = None
        if worker.exit_code == EXIT_NO_APP and not self._served:
            # It never worked: to keep trying would hide the message of why.
            log.error("Worker %d could not start the application", place.number)
            self._exit_code = EXIT_NO_APP
            self._stop("No application")
            return
        metrics.count_restart(self._config)
        if now - worker.started >= _STEADY_AFTER:
            place.pause = 0.0
        place.start_at = now + place.pause
        if place.pause and not any(p.worker for p in self._places):
            # For a while there is nobody to accept: clients are better off elsewhere.
            for each in self._refusing:
                sockets.refuse(each)
        log.error(
            "Worker %d (process %d) %s; starting another%s",
            place.number,
            worker.pid,
            worker.how_it_ended(),
            f" in {place.pause:g} s" if place.pause else "",
        )
        place.longer_pause()

    # -- Replacing one by one

    def _roll_on(self, now: float) -> None:
        if any(place.successor for place in self._places):
            return
        old = [each for each in self._places if each.worker and each.round < self._round]
        if not old:
            old = [each for each in self._places if each.is_tired() and now >= each.replace_at]
        if not old:
            return
        place = min(old, key=lambda each: each.round)
        place.round = self._round
        place.successor = self._new_process()
        if place.successor is None:
            self._end_round(place, now)
            return
        assert place.worker is not None
        log.info(
            "Worker %d: process %d is to replace %d",
            place.number,
            place.successor.pid,
            place.worker.pid,
        )

    def _check_successor(self, place: _Place, successor: Process, now: float) -> None:
        if successor.ready:
            if place.worker is not None:
                self._dismiss(place.worker)
            place.worker, place.successor = successor, None
            place.pause = place.replace_at = 0.0
            return
        longest = self._config.timeout_worker_start
        late = longest and now >= successor.started + longest
        if successor.exit_code is None and not late:
            return
        reason = "is not ready in time" if successor.exit_code is None else successor.how_it_ended()
        log.error(
            "Worker %d: process %d %s; the old workers go on", place.number, successor.pid, reason
        )
        place.successor = None
        self._end_round(place, now)
        successor.send(signal.SIGKILL)
        self._leaving[successor] = float("inf")

    def _end_round(self, place: _Place, now: float) -> None:
        """End the one that `place` is in; one that was asked for since goes on."""
        place.replace_at = now + _LONGEST_PAUSE  # where it was the worker that wanted it
        for each in self._places:
            each.round = max(each.round, place.round)

    # -- Templates

    def _templates(self) -> list[Template]:
        kept = [each for each in (self._template, self._next_template) if each is not None]
        return [*kept, *self._old_templates]

    def _begin_template(self) -> None:
        if self._next_template is not None:  # what it reads may have changed since
            self._next_template.close()
            self._next_template = None
        self._template_at = math.inf
        try:
            self._next_template = Template(self._config)
        except OSError as error:
            log.error("The application can't be imported: no process can be started: %s", error)
            if self._template is None:
                self._template_at = time.monotonic() + self._template_pause
                self._template_pause = _longer(self._template_pause)
            return
        log.info("Process %d imports the application", self._next_template.pid)

    def _check_templates(self, now: float) -> None:
        for each in self._templates():
            each.read_news()
        if self._next_template is not None:
            self._check_next_template(self._next_template, now)
        if self._template is not None and self._template.fileno() < 0:
            log.error("Process %d, which forks the workers, has ended", self._template.pid)
            self._template.close()
            self._template = None
            if self._next_template is None and not self._stopping:
                self._begin_template()
        if now >= self._template_at and not self._stopping:
            self._begin_template()
        for each in list(self._old_templates):
            if not each.is_needed:
                each.close()
                self._old_templates.remove(each)

    def _check_next_template(self, template: Template, now: float) -> None:
        if template.ready and not self._stopping:
            self._next_template = None
            self._template_pause = 0.0
            if self._template is not None:
                self._old_templates.append(self._template)
            self._template = template
            for place in self._places:
                if place.start_at == math.inf:
                    place.start_at = now
            if self._served:
                log.info("The application is imported: replacing the workers one by one")
                self._round += 1
            return
        longest = self._config.timeout_worker_start if self._served else 0
        late = bool(longest) and now >= template.started + longest
        if template.exit_code is None and not late:
            return
        self._next_template = None
        template.close()
        if self._stopping:
            return
        if self._template is None and not late and (template.exit_code or 0) < 0:
            pause = self._template_pause
            log.error(
                "Process %d, which imports the application, %s; starting another%s",
                template.pid,
                how_it_ended(template.exit_code),
                f" in {pause:g} s" if pause else "",
            )
            self._template_at = now + pause
            self._template_pause = _longer(pause)
            return
        if not self._served:
            log.error("The application could not be imported")
            self._exit_code = EXIT_NO_APP
            self._stop("No application")
            return
        log.error("The application could not be imported anew; the old workers go on")
        if self._template is None:
            log.error("No further worker can be started before the next SIGHUP")

    # -- The program anew

    def _upgrade(self) -> None:
        if self._program is not None:
            log.warning("SIGUSR2: process %d is starting already", self._program.pid)
            return
        try:
            self._program = upgrade.NewProgram(self._config, self._sockets, time.monotonic())
        except OSError as error:
            log.error("SIGUSR2: the program can't be started anew: %s", error)
            return
        log.info("SIGUSR2: process %d is to take over", self._program.pid)

    def _stop_program(self, grace: float) -> None:
        """Tell one that is to take over to end, as we were told (maybe again)."""
        if self._program is not None:
            self._program.send(signal.SIGTERM)
            self._program_until = time.monotonic() + grace

    def _check_program(self, program: upgrade.NewProgram, now: float) -> None:
        if self._stopping:
            if program.exit_code is not None:
                program.close()
                self._program = None
            elif now >= self._program_until:
                self._program_until = math.inf
                log.warning("Process %d does not end: killing it", program.pid)
                program.kill()
            return
        state = program.state()
        longest = self._config.timeout_worker_start
        if state == "starts":
            if longest and now >= program.started + longest:
                program.kill()
            return
        self._program = None
        program.close()
        if state == "failed":
            log.error("Process %d did not come to serve; this one goes on", program.pid)
            return
        self._replaced = True
        notify.successor(program.pid)
        sockets.leave_files()
        upgrade.tell_replaced()
        self._stop(f"Process {program.pid} has taken over")

    # -- The service manager

    def _tell_manager(self, now: float) -> None:
        if self._notify_every and now >= self._notify_at:
            self._notify_at = now + self._notify_every
            notify.alive()
        if self._notified or not self._served or self._stopping:
            return
        if not any(each.round < self._round or each.successor for each in self._places):
            self._notified = True
            if upgrade.is_pending():
                pid_file.write(self._config)
                upgrade.tell_ready()
            notify.ready(f"Listening on {self.address}")

    def _close(self) -> None:
        for each in self._templates():
            each.close()
        sockets.close(self._sockets)
        sockets.remove_files(self._config)


def _longer(pause: float) -> float:
    return min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)


def _bind(config: Config) -> list[socket.socket]:
    """Return sockets whose ports are given by number, as one is lost when a socket stops to listen
    else.
    """
    bound: list[socket.socket] = []
    for each in config.addresses():
        if each.fd is None and each.uds is None and each.port == 0:
            free = sockets.bind(each)
            if sockets.listens(free):  # of the program before this one
                bound.append(free)
                continue
            each = dataclasses.replace(each, bind=(), port=free.getsockname()[1])
            free.close()
        try:
            bound.append(sockets.bind(each))
        except BaseException:
            sockets.close(bound)
            sockets.remove_files(config)
            raise
    return bound


def _reap_others(ours: list[Process], templates: list[Template]) -> None:
    """Take the exit codes of children that are not ours: in a container we may be process 1."""
    known = {worker.pid for worker in ours if worker.exit_code is None}
    known |= {each.pid for each in templates if each.exit_code is None}
    with suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid in known:
                return  # since we asked it; we shall be told
            os.waitpid(found.si_pid, 0)


def main(arguments: list[str]) -> int:
    """Goes on for a process that served alone (`handover`): reads what there is."""
    with open(int(arguments[1]), "rb") as pipe:  # noqa: PTH123
        state = pickle.load(pipe)  # noqa: S301 (from our own process)
    sys.path[:] = state["path"]
    config: Config = state["config"]
    try:
        configure_log(config)
    except ConfigError as error:  # it was right before
        configure_log(config.replace(log_config=None))
        log.error("%s", error)
    process.remember_command(state["command"])
    process.remember_manager(state["manager"])
    bound = [socket.socket(fileno=fd) for fd in state["fds"]]
    for each in bound:
        each.set_inheritable(False)
    sockets.take_files(state["files"])
    first = Process.adopt(state["first"])
    with metrics.serving(config) as config:
        return Supervisor(config, bound=bound, first=first, replace=state["replace"]).run()


if __name__ == "__main__":
    process.run_to_end(lambda: main(sys.argv), sys._getframe())
