"""One at a time on this machine: a lock that the kernel gives back, however its owner ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from delivery.errors import NotReached


@contextmanager
def alone(file: Path, what: str, limit: float) -> Iterator[None]:
    """Hold the lock while the block runs; wait for it at most `limit` seconds, then NotReached.

    `what` names the other holder, such as `the other build on this machine`.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Not for this thread alone: a verb may let a thread of its own go on while it holds the lock.
    lock = FileLock(file, timeout=limit, thread_local=False)
    try:
        lock.acquire(poll_interval=0.2)
    except Timeout:
        raise NotReached(
            f"{what} finishes: not within {limit:.0f} s; last seen: it still runs", "stop it, or wait longer"
        ) from None
    try:
        yield
    finally:
        lock.release()
