"""Whatever comes bit by bit from somebody who may fall silent: each bit within a limit."""

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Queue
from typing import TypeVar

T = TypeVar("T")


def heard(begin: Callable[[], Iterable[T]], seconds: float) -> Iterator[T]:
    """What `begin()` gives, as it comes; TimeoutError when nothing has come for that long."""
    queue: Queue[tuple[T] | BaseException | None] = Queue()

    def read() -> None:
        try:
            for one in begin():
                queue.put((one,))
            queue.put(None)
        except BaseException as error:
            queue.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            found = queue.get(timeout=seconds)
        except Empty:
            raise TimeoutError(f"nothing has come for {seconds:.0f} s") from None
        if found is None:
            return
        if isinstance(found, BaseException):
            raise found
        yield found[0]
