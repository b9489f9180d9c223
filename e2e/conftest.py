"""The fixtures are the pipeline: platform -> image -> dev -> stage -> prod, each made by the verbs themselves."""

import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from delivery.desired.manifests import DIGEST
from delivery.parts import git, values
from e2e.delivery import Checkout

ROOT = Path(__file__).resolve().parent.parent
SITE = "e2e"


def pytest_addoption(parser: pytest.Parser) -> None:
    """--reuse, --shuffle and --races; --keep-cluster comes from pytest-kind."""
    parser.addoption("--reuse", metavar="SITE", help="use this running local site, and leave it running")
    parser.addoption(
        "--shuffle", type=int, metavar="SEED", help="another order of the journeys; 0: that of the files"
    )
    parser.addoption("--races", type=int, default=1, metavar="N", help="rounds of two people at once; one")


def pytest_report_header(config: pytest.Config) -> str:
    """The order, so that it can be had again."""
    return f"order of the journeys: --shuffle {_seed(config)}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Journeys leave the world as they found it, so any order will do: each commit has one of its own."""
    if _asks_suites(config) or not (seed := _seed(config)):
        return
    order = random.Random(seed)  # noqa: S311 - no secret
    place = {path: order.random() for path in sorted({item.path for item in items})}
    within = {item.nodeid: order.random() for item in items}
    items.sort(key=lambda item: (place[item.path], within[item.nodeid]))  # what a module shares is made once


def _seed(config: pytest.Config) -> int:
    told: int | None = config.getoption("shuffle")
    return told if told is not None else int(git.Repository(ROOT).run("rev-parse", "HEAD")[:7], 16)


def _asks_suites(config: pytest.Config) -> bool:
    return any("suites" in Path(one.partition("::")[0]).parts for one in config.args)


@dataclass(frozen=True)
class Build:
    """The image of the session, as `delivery build` reported it."""

    digest: str
    number: str
    revision: str


@pytest.fixture(scope="session")
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A user's clone of this repository and a cluster of its own, gone afterwards."""
    path = tmp_path_factory.mktemp("checkout") / "repository"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, path], check=True)
    state = Path(os.environ.get("DELIVERY_STATE") or ROOT / ".delivery")
    reused = request.config.getoption("reuse")
    checkout = Checkout(path, reused or SITE)
    os.environ |= {"DELIVERY_STATE": str(state), "DELIVERY_SITE": checkout.site}
    if not reused:
        checkout.delivery("down", "--force")
        checkout.delivery("up")
    checkout.pull()
    yield checkout
    if not (reused or request.config.getoption("keep_cluster") or request.session.testsfailed):
        checkout.delivery("down")


@pytest.fixture(scope="session")
def image(platform: Checkout) -> Build:
    """The image, built and pushed once for the whole session."""
    built = platform.delivery("build", "--format", "json").json
    return Build(built["digest"], built["build"], built["revision"])


@pytest.fixture(scope="session")
def dev(platform: Checkout, image: Build) -> Build:
    """Dev runs the image: what CI does after a push to main."""
    platform.delivery("deploy", "--digest", image.digest)
    return image


@pytest.fixture(scope="session")
def stage(platform: Checkout, dev: Build) -> Build:
    """Stage runs what was tested in dev."""
    platform.delivery("test", "dev")
    platform.delivery("promote", "stage")
    return dev


@pytest.fixture(scope="session")
def prod(platform: Checkout, stage: Build) -> Build:
    """Prod runs what was tested in stage and approved by somebody else."""
    platform.delivery("test", "stage")
    platform.delivery("approve", "prod")
    platform.delivery("promote", "prod")
    return stage


@pytest.fixture(autouse=True)
def as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every journey that began with the image in all environments ends with Git asking for just that."""
    yield
    names = request.fixturenames  # what a module has released, it takes back when all its journeys have ended
    if "prod" in names and "released" not in names and request.session.testsfailed == 0:
        platform, prod = request.getfixturevalue("platform"), request.getfixturevalue("prod")
        asks_for_the_image(platform, prod, request.node.name)


_AS_IT_WAS: set[str] = set()  # commits of main that were found so: most journeys leave it where it is


def asks_for_the_image(platform: Checkout, prod: Build, who: str) -> None:
    """Git asks for the session's image in every environment."""
    if platform.main() in _AS_IT_WAS:
        return
    with git.clone(platform.context.site.git, platform.branch, bare=True) as repository:
        head = repository.commit("HEAD")
        for environment in platform.environments():
            text = (repository.show(head, environment.values) or b"").decode()
            asked = values.get(text, DIGEST, environment.values)
            assert asked == prod.digest, f"{who} leaves another digest in {environment.name}"
    _AS_IT_WAS.add(head)


@pytest.fixture
def next_build(platform: Checkout, prod: Build) -> Iterator[Build]:
    """A newer commit of the app, built and running in dev; stage and prod are still at the one before.

    Afterwards every environment is at the one before again.
    """
    platform.pull()
    marker = platform.path / platform.pipeline.image.context / "CHANGES"
    marker.write_text(f"{marker.read_text() if marker.exists() else ''}one more change\n", encoding="utf-8")
    platform.commit(f"{platform.app}: one more change")
    built = platform.delivery("build", "--format", "json").json
    platform.delivery("deploy", "--digest", built["digest"])
    yield Build(built["digest"], built["build"], built["revision"])
    platform.back_to(prod.digest)
