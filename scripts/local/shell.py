"""Programs that are run for the platform: one way to call them, and one way to say that they failed."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from delivery.errors import PlatformError


def run(
    command: Sequence[str | Path],
    *,
    hint: str,
    limit: float = 600,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    input: str | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    `limit` is in seconds; `env` is added to the environment. Raises PlatformError with the last line
    that the program said.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
        )
    except FileNotFoundError:
        raise PlatformError(f"{name} is not installed", hint) from None
    except subprocess.TimeoutExpired:
        raise PlatformError(f"{name} did not end within {limit:.0f} s", hint) from None
    if done.returncode:
        raise PlatformError(f"{name} failed: {last_line(done.stderr or done.stdout)}", hint)
    return done.stdout


def last_line(text: str) -> str:
    """The last line that says something: programs put the reason there."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
