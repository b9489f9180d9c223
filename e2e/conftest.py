"""The fixtures are the pipeline: platform -> image -> dev -> stage -> prod, each made by the verbs themselves."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.delivery import Checkout

ROOT = Path(__file__).resolve().parent.parent
SITE = "e2e"


def pytest_addoption(parser: pytest.Parser) -> None:
    """--reuse; --keep-cluster comes from pytest-kind."""
    parser.addoption("--reuse", metavar="SITE", help="use this running local site, and leave it running")


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


@pytest.fixture
def next_build(platform: Checkout, prod: Build) -> Build:
    """A newer commit of the app, built and running in dev; stage and prod are still at the one before."""
    platform.pull()
    marker = platform.path / platform.pipeline.image.context / "CHANGES"
    marker.write_text(f"{marker.read_text() if marker.exists() else ''}one more change\n", encoding="utf-8")
    platform.commit(f"{platform.app}: one more change")
    built = platform.delivery("build", "--format", "json").json
    platform.delivery("deploy", "--digest", built["digest"])
    return Build(built["digest"], built["build"], built["revision"])
