"""What the user sees of a long step: one line a phase, a tick when it is done.

On a terminal what runs now stands below, with how far it is and the time left; in a log it says so every 30 seconds.
"""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TimeElapsedColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from delivery import durations

_SAY_EVERY = 30.0  # seconds, where nothing can be drawn
_SPEAKER = "phases"  # the name of the one thread that says so
_LONGEST = 120  # characters of a detail
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_console = Console(stderr=True, highlight=False, soft_wrap=True)


class Phase:
    """One phase of a long step; `update` says how far it is."""

    def __init__(self, title: str, like: str) -> None:
        self.title = title
        self.detail = ""
        self.started = time.monotonic()
        self._like = like
        self._shown: _Screen | _Log = _screen if _console.is_interactive else _log
        self.expected = durations.earlier(like) if self._shown is _screen else None
        self._shown.begin(self)

    def __str__(self) -> str:
        return f"{self.title}: {self.detail}" if self.detail else self.title

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.started

    @property
    def share(self) -> float | None:
        """How much is done, from 0 to 1: by its own count, else by the time of an earlier run; None if unknown."""
        # `2 of 5 layers` are done; `2 of 5: python` is what it is at.
        if (counted := re.match(r"(\d+) of (\d+)(:?)", self.detail)) and int(counted[2]):
            return min((int(counted[1]) - bool(counted[3])) / int(counted[2]), 1.0)
        return self.seconds / self.expected if self.expected and self.left else None

    @property
    def left(self) -> float | None:
        """Seconds that it still takes if it takes as long as in an earlier run; None if unknown, or already longer."""
        left = self.expected - self.seconds if self.expected else 0.0
        return left if left > 0 else None

    def update(self, detail: str) -> None:
        """Say how far the phase is, for example `1200 of 3500 packages`, or `2 of 5: python`."""
        # What other programs say is coloured, and may be a whole script.
        plain = " ".join(_COLOURS.sub("", detail).split())
        self.detail = plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}…"

    def end(self, mark: str) -> None:
        """Leave the line that stays."""
        self._shown.end(self)
        took = self.seconds
        _say(f" {mark} {self.title} ({took:.1f} s)")
        if mark == "✓":
            durations.remember(self._like, took)


@contextmanager
def phase(title: str, like: str = "") -> Iterator[Phase]:
    """Show one phase while the block runs; phases may overlap.

    `like` is the title that an earlier run is found by, where this one has words that are of this run alone. Digests,
    numbers and what stands in brackets do not count anyway.
    """
    current = Phase(title, like or title)
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


class _What(ProgressColumn):
    """What is done, and below it where it is at: side by side, 80 columns have no room for both."""

    def __init__(self) -> None:
        super().__init__(Column(ratio=1))

    def render(self, task: Task) -> Text:
        phase = task.fields["phase"]
        lines = f"{phase.title}\n  {phase.detail}" if phase.detail else phase.title
        return Text(lines, no_wrap=True, overflow="ellipsis")


class _Bar(ProgressColumn):
    """How much is done, where that is known."""

    def render(self, task: Task) -> ProgressBar | Text:
        share = task.fields["phase"].share
        return Text() if share is None else ProgressBar(total=1.0, completed=share, width=12)


class _Left(ProgressColumn):
    """The time left, where an earlier run tells."""

    def render(self, task: Task) -> Text:
        left = task.fields["phase"].left
        if left is None:
            return Text()
        return Text(f"about {left:.0f} s left" if left < 99.5 else f"about {left / 60:.0f} min left")


class _Screen:
    """A terminal: the phases that run are drawn below the lines that stay, as they are at each moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawing: Progress | None = None
        self._tasks: dict[Phase, TaskID] = {}

    def begin(self, phase: Phase) -> None:
        with self._lock:
            if self._drawing is None:
                self._drawing = Progress(
                    SpinnerColumn(),
                    _What(),
                    _Bar(),
                    TimeElapsedColumn(),
                    _Left(Column(min_width=1)),  # rich miscounts a table's width by columns that have none
                    console=_console,
                    transient=True,
                    expand=True,
                )
                self._drawing.start()
            self._tasks[phase] = self._drawing.add_task("", total=None, phase=phase)

    def end(self, phase: Phase) -> None:
        with self._lock:
            if self._drawing is None:
                return
            self._drawing.remove_task(self._tasks.pop(phase))
            if not self._tasks:
                self._drawing.stop()
                self._drawing = None


class _Log:
    """No terminal: a phase that runs on and on says so, whether or not it has anything new to tell."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Phase, float] = {}  # when each phase that runs speaks next
        self._speaks = False

    def begin(self, phase: Phase) -> None:
        with self._changed:
            self._due[phase] = phase.started + _SAY_EVERY
            if not self._speaks:
                self._speaks = True
                threading.Thread(target=self._speak, name=_SPEAKER, daemon=True).start()

    def end(self, phase: Phase) -> None:
        with self._changed:
            del self._due[phase]
            self._changed.notify()

    def _speak(self) -> None:
        """Speak for all phases that run, and end with the last of them."""
        with self._changed:
            while self._due:
                now = time.monotonic()
                for phase in [one for one, due in self._due.items() if due <= now]:
                    self._due[phase] = now + _SAY_EVERY
                    _say(f" · {phase} ({phase.seconds:.0f} s)")
                self._changed.wait(min(self._due.values()) - now)
            self._speaks = False


_screen, _log = _Screen(), _Log()
