"""How long each part takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Phases:
    """Seconds by what was done in them, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """The block is that phase."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + time.monotonic() - start

    def table(self) -> str:
        """For people."""
        rows = [f"{name:44} {seconds:6.1f} s" for name, seconds in self.seconds.items()]
        return "\n".join([*rows, f"{'all of the second site':44} {sum(self.seconds.values()):6.1f} s"])
