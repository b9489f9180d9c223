"""How long phases took: what a terminal shows as the time left comes from an earlier run.

Nothing rests on it. Where the file is missing, damaged or cannot be written, no time is known, and nobody is told.
"""

import json
import re
import threading
from contextlib import suppress
from pathlib import Path

from delivery import files

LEAST = 3.0  # seconds: nobody waits for what is shorter
_LONGEST = 86400.0
_KEPT = 200  # titles: those that ended last
_FAILURES = (OSError, ValueError, RuntimeError)  # the last: a user without a home
# What differs from run to run: words in brackets, digests and commit ids, numbers and versions.
_CHANGES = re.compile(r"\(.*\)|\b(sha256:)?[0-9a-f]{12,64}\b|(?<![\w-])v?\d[\w.+-]*")
_lock = threading.Lock()


def alike(title: str) -> str:
    """What the titles of phases that do the same have in common: `Build of commit` for build 15 of some commit."""
    return " ".join(_CHANGES.sub(" ", title).split())


def earlier(title: str) -> float | None:
    """Seconds that a phase like it took in an earlier run; None where that is not known."""
    return _known().get(alike(title))


def remember(title: str, seconds: float) -> None:
    """Keep how long a phase took, for the next run; nothing where it was short."""
    if seconds < LEAST:
        return
    # Another process may write at the same moment: the file is that of one of them, and whole.
    with _lock, suppress(*_FAILURES):
        known = _known()
        known.pop(alike(title), None)
        known[alike(title)] = round(seconds, 1)
        files.write(_file(), json.dumps(dict(list(known.items())[-_KEPT:]), indent=1))


def _file() -> Path:
    return files.cache("durations.json")


def _known() -> dict[str, float]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except _FAILURES:
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        name: float(seconds)
        for name, seconds in found.items()
        if isinstance(seconds, (int, float)) and LEAST <= seconds <= _LONGEST
    }
