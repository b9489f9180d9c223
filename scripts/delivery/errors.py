"""Every error a user can meet: one line that says what is wrong, one hint, one exit code."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

INTERRUPTED = 130


@dataclass(frozen=True)
class Unknown:
    """A piece that could not be read, and why."""

    reason: str


class DeliveryError(Exception):
    """What is wrong, in one line, and what to do about it. Never raised itself, only its kinds."""

    exit_code = 4

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def or_unknown(read: Callable[[], T]) -> T | Unknown:
    """What is read, or Unknown with the reason why it cannot be."""
    try:
        return read()
    except DeliveryError as error:
        return Unknown(error.message)


class Refused(DeliveryError):
    """A gate said no, or the proof is MISMATCH. Nothing was written."""

    exit_code = 1


class BadInput(DeliveryError):
    """The request itself is wrong: an unknown name, a dirty tree, a malformed file. Nothing was written."""

    exit_code = 2


class NotReached(DeliveryError):
    """It is not known, or it did not come true within its limit."""

    exit_code = 3


class PlatformError(DeliveryError):
    """Docker, the cluster, the registry or the Git server is missing, broken or not ours."""

    exit_code = 4
