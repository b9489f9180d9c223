"""The one way to wait: with a limit, for a named thing, and with what was last seen when it did not come."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from delivery.errors import NotReached

T = TypeVar("T")


@dataclass(frozen=True)
class Reached(Generic[T]):
    """It is true now."""

    value: T


@dataclass(frozen=True)
class Failed:
    """It will not come true by waiting; `hint` where there is a better one than the waiter's."""

    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Pending:
    """Not yet; `seen` says what there is instead."""

    seen: str


def pause(seconds: float) -> None:
    """The change to wait for where nothing can be watched: a fifth of a second."""
    time.sleep(min(seconds, 0.2))


def until(
    what: str,
    look: Callable[[], Reached[T] | Failed | Pending],
    limit: float,
    hint: str,
    change: Callable[[float], None] = pause,
    said: Callable[[str], None] = lambda seen: None,
) -> T:
    """Look again after each change until it is reached; NotReached when it failed or took too long.

    `change(seconds)` returns when something may have changed, at the latest after that many seconds. `said` is told
    what each look has seen that was not enough.
    """
    end = time.monotonic() + limit
    while True:
        outcome = look()
        if isinstance(outcome, Reached):
            return outcome.value
        if isinstance(outcome, Failed):
            raise NotReached(f"{what}: {outcome.reason}", outcome.hint or hint)
        said(outcome.seen)
        left = end - time.monotonic()
        if left <= 0:
            raise NotReached(f"{what}: not within {limit:.0f} s; last seen: {outcome.seen}", hint)
        change(left)
