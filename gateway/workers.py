"""Several processes on one listening socket: starts them, replaces one that dies, passes signals on, waits for all.

The socket is made once and inherited, so that what waits to be accepted outlives a worker. Knows nothing of what a
worker does; readiness and draining are its own.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from gateway.parent import stop_with_parent
from gateway.telemetry.metrics import FOLDER

LOG = logging.getLogger("gateway.workers")
BACKLOG = 2048  # connections that wait to be accepted, as uvicorn has it
RESTART_INTERVAL_S = 1.0  # between two starts of one worker: one that cannot start must not take the machine
ENDED_WELL = (0, -signal.SIGTERM, -signal.SIGINT)
SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit threads' locks without the threads

Serve = Callable[[socket.socket, Callable[[], None]], None]


class Workers:
    """`number` processes, each of them `serve(listener, came_up)`, which calls `came_up` when it serves."""

    def __init__(self, number: int, serve: Serve) -> None:
        self._number = number
        self._serve = serve
        self._alive: dict[SpawnProcess, float] = {}  # and when each was started, time.monotonic
        self._came_up = SPAWN.RawValue(ctypes.c_bool, False)  # whether any ever did; no lock: who is killed holds none
        self._signals: list[int] = []

    def run(self, host: str, port: int) -> int:
        """Until a signal has ended all of them; 1 if one ended badly after that, or none ever came up, else 0.

        Raises:
            OSError: the address cannot be listened on.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        woken, waker = socket.socketpair()
        with (
            socket.create_server((host, port), family=family, backlog=BACKLOG) as listener,
            tempfile.TemporaryDirectory(prefix="pcbd-metrics-") as folder,
            woken,
            waker,
        ):
            os.environ[FOLDER] = folder
            waker.setblocking(False)
            signal.set_wakeup_fd(waker.fileno())
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, self._note)
            LOG.info("%d workers listen on %s:%d", self._number, *listener.getsockname()[:2])
            try:
                return self._supervise(listener, woken)
            finally:
                signal.set_wakeup_fd(-1)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)

    def _supervise(self, listener: socket.socket, woken: socket.socket) -> int:
        stopping, code, vain = False, 0, 0  # vain: workers that ended before any had come up
        due = [0.0] * self._number  # when a worker is to be started
        while self._alive or not stopping:
            now = time.monotonic()
            for _ in [when for when in due if when <= now and not stopping]:
                self._start(listener)
            due = [] if stopping else [when for when in due if when > now]
            patience_s = max(0.0, min(due) - time.monotonic()) if due else None
            ready = wait([woken, *(process.sentinel for process in self._alive)], patience_s)
            if woken in ready:
                woken.recv(4096)
            while self._signals:
                number = self._signals.pop(0)
                stopping = stopping or number != signal.SIGHUP
                self._pass_on(number)
            for process in [each for each in self._alive if each.sentinel in ready]:
                started = self._alive.pop(process)
                process.join()
                mark_process_dead(process.pid, os.environ[FOLDER])
                if stopping:
                    # One that was still starting had no handler for the signal yet, and nothing to finish.
                    code = code or (0 if process.exitcode in ENDED_WELL else 1)
                elif not self._came_up.value and (vain := vain + 1) >= self._number:
                    LOG.error("worker %d ended with code %s, and none has come up", process.pid, process.exitcode)
                    stopping, code = True, 1
                    self._pass_on(signal.SIGTERM)  # to those that were started again
                else:
                    LOG.error("worker %d ended with code %s; another takes its place", process.pid, process.exitcode)
                    due.append(started + RESTART_INTERVAL_S)
        return code

    def _start(self, listener: socket.socket) -> None:
        process = SPAWN.Process(target=_work, args=(self._serve, listener, self._came_up, os.getpid()), daemon=True)
        process.start()
        self._alive[process] = time.monotonic()

    def _pass_on(self, number: int) -> None:
        for process in self._alive:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)


def _work(serve: Serve, listener: socket.socket, came_up: ctypes.c_bool, supervisor: int) -> None:
    def note() -> None:
        came_up.value = True

    os.setsid()  # Ctrl-C at a terminal reaches the supervisor, which passes it on
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # unless a worker knows what to do with it
    stop_with_parent()
    if os.getppid() != supervisor:  # it was gone before the line above
        return
    try:
        serve(listener, note)
    except KeyboardInterrupt:  # Ctrl-C before the server has its own handler: there is nothing to finish
        pass
    except Exception:  # multiprocessing would print it, in many lines
        LOG.exception("the worker ends by an error that nothing handled")
        sys.exit(1)
