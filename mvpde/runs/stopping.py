"""Stopping a run from outside: signals are remembered, and all ranks together notice them between steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mvpde.runtime import MPI

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = 1.0  # seconds: one Ctrl-C may arrive twice, from the terminal and from mpirun


class Stopped(Exception):
    """The run was stopped on request (exit code 5); a checkpoint is there."""


class StopRequest:
    """Whether somebody asked this run to stop. MPICH's mpirun passes SIGINT and SIGTERM on to every rank."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        """No request so far."""
        self.comm = comm
        self.received: int | None = None
        self.at = 0.0

    def remember(self, number: int, _: FrameType | None) -> None:
        """The signal handler. A second request ends the process at once, in case the first is never looked at."""
        now = time.monotonic()
        if self.received is not None and now - self.at > AGAIN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received, self.at = number, now

    def check(self) -> None:
        """Raise `Stopped` on all ranks if any of them has received a signal. Collective."""
        self._raise(self.comm.allreduce(self.received or 0, MPI.MAX))

    def here(self) -> None:
        """Raise `Stopped` if this rank has received a signal, inside what only one rank does (`on_first_rank`). Local."""
        self._raise(self.received or 0)

    def _raise(self, number: int) -> None:
        if number:
            raise Stopped(f"stopped by {signal.Signals(number).name}")


@contextmanager
def listening(comm: MPI.Intracomm) -> Iterator[StopRequest]:
    """A `StopRequest` that listens to SIGINT and SIGTERM until the end of the block; outside the main thread it hears nothing."""
    request = StopRequest(comm)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.remember) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
