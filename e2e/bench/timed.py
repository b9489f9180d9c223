"""A verb of `delivery` as a user runs it, with the moment at which it said each of its lines."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from delivery.errors import NotReached
from e2e.delivery import Checkout

_LIMIT = 900.0  # seconds, for one verb
_PHASE = re.compile(r"^ [✓✗] (?P<title>.*) \((?P<seconds>[0-9.]+) s\)$")


@dataclass(frozen=True)
class Phase:
    """One phase that a verb told of: when it ended, in seconds of time.monotonic(), and how long it took."""

    title: str
    at: float
    seconds: float


@dataclass(frozen=True)
class Timed:
    """A verb that worked: when it began, how many seconds it took, what it printed, its phases in order."""

    began: float
    seconds: float
    out: str
    phases: tuple[Phase, ...]

    def phase(self, begins: str) -> Phase:
        """The phase whose title begins so; NotReached when the verb told of none."""
        for one in self.phases:
            if one.title.startswith(begins):
                return one
        told = ", ".join(one.title for one in self.phases) or "nothing"
        raise NotReached(
            f"no phase begins with {begins!r}, only: {told}", "the verbs say it in other words now"
        )

    def ready(self) -> float:
        """Seconds from the commit on the server to all pods Ready: what a deployment and a promotion share."""
        return self.phase("All replicas in").at - self.phase("Commit ").at


def run(checkout: Checkout, *arguments: str) -> Timed:
    """Run a verb to its end; NotReached with its own error when it does not exit with 0, or takes too long."""
    began = time.monotonic()
    phases = []
    with subprocess.Popen(
        [Path(sys.executable).with_name("delivery"), *arguments],
        cwd=checkout.path,
        env={**os.environ, "DELIVERY_SITE": checkout.site},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as verb:
        assert verb.stdout
        assert verb.stderr
        said = ""
        for (
            line
        ) in verb.stderr:  # a verb's own waits have limits; what it prints is little, and waits in the pipe
            said = line if line.startswith("error: ") else said
            if found := _PHASE.match(line.rstrip("\n")):
                phases.append(Phase(found["title"], time.monotonic(), float(found["seconds"])))
        out, _ = verb.communicate(timeout=_LIMIT)
    if verb.returncode:
        raise NotReached(
            f"delivery {' '.join(arguments)} exits with {verb.returncode}: {said.strip() or 'it says no more'}",
            "the bench needs a platform that works: delivery verify, delivery doctor",
        )
    return Timed(began, time.monotonic() - began, out, tuple(phases))


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start
