"""The security suite asks everything slow when it begins."""

from collections.abc import Iterator

import pytest

from e2e.suites.security.asked import Asked, Facts, asking
from e2e.suites.target import Target


@pytest.fixture(scope="session", autouse=True)
def asked(target: Target) -> Iterator[Asked]:
    """The answers to come."""
    with asking(target) as answers:
        yield answers


@pytest.fixture(scope="session")
def inside(asked: Asked) -> dict[str, Facts]:
    """What inside.py saw, for each pod of the app."""
    return asked.inside.result()


@pytest.fixture(scope="session")
def packages(inside: dict[str, Facts]) -> Facts:
    """The packages in the image; all replicas run the same one."""
    return next(iter(inside.values()))
