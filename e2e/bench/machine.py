"""The machine that the bench ran on, and when: numbers say nothing without it."""

import os
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from delivery.parts import git


@dataclass(frozen=True)
class Machine:
    """What the numbers depend on: processor, cores, memory in GiB, kernel, what else it did; the date and the commit.

    `load` is the load average of the last 15 minutes at the end. The bench alone makes about one of it.
    """

    cpu: str
    cores: int
    memory: float
    kernel: str
    load: float
    date: str
    commit: str

    def __str__(self) -> str:
        return (
            f"{self.cores} cores of {self.cpu}, {self.memory:.0f} GiB, {self.kernel}, "
            f"load {self.load:.1f}; {self.date[:10]}, commit {self.commit[:12]}"
        )


def here(checkout: Path) -> Machine:
    """This machine, now, with the commit of the checkout; `+` where something in it is not committed."""
    repository = git.Repository(checkout)
    changed = "+" if repository.run("status", "--porcelain") else ""
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        load=round(os.getloadavg()[2], 1),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=repository.commit("HEAD") + changed,
    )


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
