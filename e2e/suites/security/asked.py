"""The slow questions of this suite, all asked at once; each test waits for its own answer only."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.suites.security import debian, logs, network, sbom
from e2e.suites.target import Target, name

Facts = dict[str, Any]
SCRIPT = Path(__file__).with_name("inside.py")


@dataclass(frozen=True)
class Asked:
    """Answers to come. Waiting for one that was not to be had raises why, or that it is unknown."""

    inside: Future[dict[str, Facts]]
    leaking: Future[list[str]]
    reach: Future[network.Reach]
    updates: Future[list[str]]
    bill: Future[Facts]


@contextmanager
def asking(target: Target) -> Iterator[Asked]:
    """Ask all of them; the block gets the answers."""
    with ThreadPoolExecutor(5) as pool:
        inside = pool.submit(_inside, target)
        yield Asked(
            inside=inside,
            leaking=pool.submit(logs.leaking, target),
            reach=pool.submit(network.look, target),
            updates=pool.submit(lambda: debian.pending(target, *_debian(inside.result()))),
            bill=pool.submit(sbom.fetch, target),
        )


def _inside(target: Target) -> dict[str, Facts]:
    code = SCRIPT.read_text(encoding="utf-8")
    container = target.pipeline.chart.release
    pods = [name(pod) for pod in target.app_pods()]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(pods, pool.map(lambda pod: target.python(pod, container, code), pods), strict=True))


def _debian(inside: dict[str, Facts]) -> tuple[str, dict[str, str]]:
    facts = next(iter(inside.values()))  # all replicas run the same image
    return facts["codename"], facts["debian"]
