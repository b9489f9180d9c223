"""What the user sees of a long step: one line a phase, a tick when it is done, nothing scrolls by."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_running: list["Phase"] = []
_drawn = False


class Phase:
    """One phase of a long step; `update` says how far it is."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self.started = time.monotonic()
        self._said = self.started

    def update(self, detail: str) -> None:
        """Say how far the phase is, for example `1200 of 3500 packages`."""
        self.detail = detail
        now = time.monotonic()
        if not sys.stderr.isatty() and now - self._said > 30:
            self._said = now
            _print(f" · {self.title}: {detail} ({now - self.started:.0f} s)")
        _draw()


@contextmanager
def phase(title: str) -> Iterator[Phase]:
    """Show one phase while the block runs; phases may overlap."""
    current = Phase(title)
    with _lock:
        _running.append(current)
    _draw()
    try:
        yield current
    except BaseException:
        _end(current, " ✗")
        raise
    _end(current, " ✓")


def note(line: str) -> None:
    """Say one line that the user should know, beside the phases."""
    _print(f" · {line}")


def _end(done: Phase, mark: str) -> None:
    with _lock:
        _running.remove(done)
    seconds = time.monotonic() - done.started
    _print(f"{mark} {done.title} ({seconds:.1f} s)")
    _draw()


def _print(line: str) -> None:
    global _drawn
    with _lock:
        sys.stderr.write(("\r\x1b[K" if _drawn else "") + line + "\n")
        sys.stderr.flush()
        _drawn = False


def _draw() -> None:
    global _drawn
    if not sys.stderr.isatty():
        return
    with _lock:
        text = " · ".join(f"{p.title}{': ' + p.detail if p.detail else ''}" for p in _running)
        if text or _drawn:
            sys.stderr.write("\r\x1b[K" + (f" • {text}"[:110] if text else ""))
            sys.stderr.flush()
        _drawn = bool(text)
