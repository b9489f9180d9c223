"""What a program writes into its log, told while it runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOK_EVERY = 0.2  # seconds


@contextmanager
def lines(file: Path, said: Callable[[str], None]) -> Iterator[None]:
    """Tell each line that is added to a file while the block runs, soon after it is whole; empty ones are left out.

    The file has to be there. All that was written in the block is told when it ends.
    """
    ended = threading.Event()
    begin = file.stat().st_size

    def follow() -> None:
        with file.open("rb") as stream:
            stream.seek(begin)
            rest, last = b"", False
            while not last:
                last = ended.wait(_LOOK_EVERY)
                *whole, rest = (rest + stream.read()).split(b"\n")
                for line in whole:
                    if text := line.decode("utf-8", "replace").strip():
                        said(text)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()
