"""What the played cluster of the fast tests answers is still what a real one answers."""

from e2e.conftest import Build
from e2e.delivery import Checkout
from scripts.tests import recordings


def test_the_recordings_still_hold(platform: Checkout, prod: Build) -> None:
    """Every field that `delivery` reads, or that FakeCluster fills in, is there with the type that was recorded."""
    now = recordings.ask(lambda path: platform.kubectl("get", "--raw", path).stdout)
    assert recordings.differences(now) == []
