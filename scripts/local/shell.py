"""Programs that are run for the platform: one way to call them, and one way to say that they failed."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from delivery.errors import PlatformError
from delivery.parts import tail


def run(
    command: Sequence[str | Path],
    *,
    hint: str,
    limit: float = 600,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    input: str | None = None,
    said: Callable[[str], None] | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    `limit` is in seconds; `env` is added to the environment. `said` is told each line while the program runs; its
    standard error is then part of what is returned. Raises PlatformError with the last line that the program said.
    """
    name = Path(command[0]).name
    options: dict[str, Any] = {
        "cwd": cwd,
        "env": {**os.environ, **(env or {})},
        "input": input,
        "stdin": None if input is not None else subprocess.DEVNULL,
        "text": True,
        "timeout": limit,
    }
    words = [str(part) for part in command]
    try:
        done = _heard(words, said, options) if said else subprocess.run(words, capture_output=True, **options)
    except FileNotFoundError:
        raise PlatformError(f"{name} is not installed", hint) from None
    except subprocess.TimeoutExpired:
        raise PlatformError(f"{name} did not end within {limit:.0f} s", hint) from None
    if done.returncode:
        raise PlatformError(f"{name} failed: {last_line(done.stderr or done.stdout)}", hint)
    return done.stdout


def _heard(
    command: Sequence[str], said: Callable[[str], None], options: dict[str, Any]
) -> "subprocess.CompletedProcess[str]":
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8", errors="replace") as both:
        with tail.lines(Path(both.name), said):
            done = subprocess.run(command, stdout=both, stderr=subprocess.STDOUT, **options)
        both.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, both.read(), "")


def last_line(text: str) -> str:
    """The last line that says something: programs put the reason there."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
