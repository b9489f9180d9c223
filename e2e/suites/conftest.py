"""Options, the results file, and the environment that the suites are run against.

    python -m pytest e2e/suites[/SUITE] --environment ENV --results FILE

`delivery test ENV` calls it and signs what comes out. The journeys (`pytest e2e`) leave this folder alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _pytest.runner
import httpx
import pytest

from delivery import context as contexts
from delivery.errors import DeliveryError
from e2e.suites import customer
from e2e.suites.customer import Token
from e2e.suites.results import SUITES, Results, suite_of
from e2e.suites.standin import StandIn
from e2e.suites.target import Target

TARGET = pytest.StashKey[Target]()
# The cheap answers first; the load last, when nothing else measures.
_ORDER = ("smoke", "security", "integration", "performance")


def pytest_addoption(parser: pytest.Parser) -> None:
    """--environment and --results."""
    group = parser.getgroup("suites")
    group.addoption("--environment", metavar="ENV", help="the environment of pipeline.yaml to ask")
    group.addoption("--results", metavar="FILE", type=Path, help="where the results are written as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Say no at once to a run that nobody could read afterwards."""
    config.addinivalue_line("markers", "check(name): the name of the check, where it is not the function's")
    if not _asked(config):
        return
    leave_the_environment_alone()
    if not all(map(_is_ours, config.args)):
        raise pytest.UsageError("the suites are run alone: name no other folder beside them")
    for option in ("environment", "results"):
        if not config.getoption(option):
            raise pytest.UsageError(f"--{option} is missing; `delivery test ENV` gives all that is needed")
    try:
        config.stash[TARGET] = _target(config.getoption("environment"))
    except DeliveryError as error:
        raise pytest.UsageError(f"{error.message}; hint: {error.hint}") from None
    file = config.getoption("results").absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    config.pluginmanager.register(Results(file), "suites-results")


def leave_the_environment_alone() -> None:
    """Keep pytest from taking PYTEST_CURRENT_TEST out of the process's environment at the end of each test.

    Threads of the security suite walk through the environment meanwhile, inside requests: a name that goes while they
    do is a KeyError there, and an answer that nobody gets.
    """
    _pytest.runner._update_current_test_var = lambda item, when: None  # there is no option for it


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only a run that names this folder knows the environment; others pass it by."""
    return None if _asked(config) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order by suite."""
    if _asked(config):
        items.sort(
            key=lambda item: _ORDER.index(suite) if (suite := suite_of(item)) in _ORDER else len(_ORDER)
        )


def _asked(config: pytest.Config) -> bool:
    """Whether this run is about the suites."""
    return any(map(_is_ours, config.args))


def _is_ours(argument: str) -> bool:
    path = Path(argument.partition("::")[0]).resolve()
    return SUITES in (path, *path.parents)


def _target(name: str) -> Target:
    """The environment that was asked for, on the site of DELIVERY_SITE."""
    context = contexts.load()
    return Target(context, context.environment(name))


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> Results:
    """What is written at the end, for tests that leave an artifact or restart something."""
    plugin: Any = pytestconfig.pluginmanager.get_plugin("suites-results")
    assert isinstance(plugin, Results)
    return plugin


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> Target:
    """The environment that was asked for."""
    return pytestconfig.stash[TARGET]


@pytest.fixture(scope="session")
def http(target: Target) -> Iterator[httpx.Client]:
    """A user of the service."""
    # A new connection for each request: every replica is met, and none is remembered after it is gone.
    fresh = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=target.url, timeout=10, limits=fresh, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def token(target: Target) -> Token:
    """What opens the orders. Only suites that may look into a container ask for it, so none of prod's."""
    return customer.token(target)


@pytest.fixture(scope="session")
def reader(target: Target, token: Token) -> Iterator[httpx.Client]:
    """Somebody who may read orders."""
    fresh = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(
        base_url=target.url, headers=token.header, timeout=10, limits=fresh, trust_env=False
    ) as client:
        yield client


@pytest.fixture(scope="session")
def stand_in(target: Target) -> StandIn:
    """The stand-in for the rates API; an earlier run that was killed may have left a fault on."""
    found = StandIn(target)
    found.mend()
    return found


@pytest.fixture
def rates(stand_in: StandIn) -> Iterator[StandIn]:
    """The stand-in, well behaved again after the test, however that ends."""
    yield stand_in
    if stand_in.mode != "ok":
        stand_in.mend()
