"""What the user sees of a long step: one line a phase, a tick when it is done; on a terminal what runs now below."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn

_SAY_EVERY = 30.0  # seconds, where nothing can be drawn
_console = Console(stderr=True, highlight=False, soft_wrap=True)
_lock = threading.Lock()
_drawing: Progress | None = None


class Phase:
    """One phase of a long step; `update` says how far it is."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.started = time.monotonic()
        self._said = self.started
        self._task = _begin(title)

    def update(self, detail: str) -> None:
        """Say how far the phase is, for example `1200 of 3500 packages`."""
        now = time.monotonic()
        if self._task is not None and _drawing is not None:
            _drawing.update(self._task, description=escape(f"{self.title}: {detail}"))
        elif now - self._said > _SAY_EVERY:
            self._said = now
            _say(f" · {self.title}: {detail} ({now - self.started:.0f} s)")

    def end(self, mark: str) -> None:
        """Leave the line that stays."""
        _end(self._task)
        _say(f" {mark} {self.title} ({time.monotonic() - self.started:.1f} s)")


@contextmanager
def phase(title: str) -> Iterator[Phase]:
    """Show one phase while the block runs; phases may overlap."""
    current = Phase(title)
    try:
        yield current
    except BaseException:
        current.end("✗")
        raise
    current.end("✓")


def note(line: str) -> None:
    """Say one line that the user should know, beside the phases."""
    _say(f" · {line}")


def _say(line: str) -> None:
    _console.print(line, markup=False)


def _begin(title: str) -> TaskID | None:
    global _drawing
    if not _console.is_terminal:
        return None
    with _lock:
        if _drawing is None:
            columns = (SpinnerColumn(), TextColumn("{task.description}"))
            _drawing = Progress(*columns, console=_console, transient=True)
            _drawing.start()
        return _drawing.add_task(escape(title), total=None)


def _end(task: TaskID | None) -> None:
    global _drawing
    with _lock:
        if task is None or _drawing is None:
            return
        _drawing.remove_task(task)
        if not _drawing.tasks:
            _drawing.stop()
            _drawing = None
