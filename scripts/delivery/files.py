"""Files that are written whole or not at all, and where those are that can be made again."""

import os
import tempfile
from pathlib import Path


def write(file: Path, text: str, mode: int = 0o644) -> None:
    """Put a text into a file in one step; who reads it meanwhile sees the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(part, mode)
        os.replace(part, file)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def write_private(file: Path, text: str) -> None:
    """The same for a file that only its owner reads (0600, in a 0700 folder)."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.chmod(0o700)
    write(file, text, 0o600)


def cache(*parts: str) -> Path:
    """A path in the XDG cache folder; nothing there is needed to read what was already made."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "delivery", *parts)
