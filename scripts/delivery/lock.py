"""One at a time on this machine: a lock that the kernel gives back, however its owner ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delivery.wait import Pending, Reached, until


@contextmanager
def alone(file: Path, what: str, limit: float) -> Iterator[None]:
    """Hold the lock while the block runs; wait for it at most `limit` seconds, then NotReached.

    `what` names the other holder, such as `the other build on this machine`.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open("w") as lock:

        def take() -> Reached[None] | Pending:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Pending("it still runs")
            return Reached(None)

        until(f"{what} finishes", take, limit, "stop it, or wait longer")
        yield
