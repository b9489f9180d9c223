"""The network keeps environments apart; and where it does not, the suite that looks says so."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from delivery.parts import docker
from e2e.conftest import Build
from e2e.delivery import Checkout, unheld_pod
from e2e.suites.security.network import PROBE, WEB, listening
from e2e.suites.target import ready

_UNIT = "network-policies"  # of the built node: it hands new connections to what enforces


@pytest.fixture
def stranger(platform: Checkout) -> Iterator[str]:
    """A pod with Python in a namespace that has no policy at all."""
    with unheld_pod(platform, "stranger") as name:
        yield name


def test_a_pod_that_nothing_holds_back_is_let_in_by_the_front_door_alone(
    platform: Checkout, prod: Build, stranger: str
) -> None:
    """From anywhere in the cluster prod's app answers; its metrics and all that stands beside it are shut."""
    ports = listening(platform.app)
    addresses = {
        (app, port): (pod["status"]["podIP"], port)
        for pod in platform.get("pods", "-n", "prod")["items"]
        if ready(pod)
        for app in [pod["metadata"]["labels"]["app.kubernetes.io/name"]]
        for port in ports[app]
    }
    assert {app for app, _ in addresses} == set(ports)
    command = ("exec", "-i", stranger, "--", "python3", "-", json.dumps(list(addresses.values())))
    answers = json.loads(platform.kubectl(*command, input=PROBE).stdout)
    assert [key for key, reached in zip(addresses, answers, strict=True) if reached] == [(platform.app, WEB)]


@pytest.fixture
def unenforced(platform: Checkout) -> Iterator[None]:
    """The node's network lets everything pass."""
    client = docker.client()
    try:
        node = client.containers.get(f"{platform.cluster.name}-control-plane")
        if node.exec_run(["systemctl", "is-active", _UNIT]).exit_code:
            pytest.skip(
                "this node's kernel hands connections over by nftables, which is not ours to switch off"
            )
        node.exec_run(["systemctl", "stop", _UNIT])
        yield
        assert node.exec_run(["systemctl", "start", _UNIT]).exit_code == 0
    finally:
        client.close()


def _network_checks(platform: Checkout, folder: Path) -> dict[str, tuple[str, str]]:
    """How the security suite's checks of stage's network end: name -> (outcome, reason)."""
    file = folder / "results.json"
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "e2e/suites/security/test_network.py"]
    subprocess.run(
        [*command, "-p", "no:cacheprovider", "--environment=stage", f"--results={file}"],
        cwd=platform.path,
        env=mine | {"PYTHONPATH": str(platform.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
    )
    tests: list[dict[str, Any]] = json.loads(file.read_text())["tests"]
    return {one["check"]: (one["outcome"], one["reason"]) for one in tests}


def test_where_nothing_is_enforced_the_suite_fails(
    platform: Checkout, prod: Build, unenforced: None, tmp_path: Path
) -> None:
    """Whoever switches it off in the cluster gets a FAILED that names what is open, and no UNKNOWN."""
    found = _network_checks(platform, tmp_path)
    outcome, reason = found["network-policy"]
    assert (outcome, reason[:13]) == ("failed", "reached: dev/")
    assert found["network-policy-here"][0] == "failed"
    assert found["network-policy-exists"][0] == "passed"


def test_where_it_is_enforced_the_suite_passes(platform: Checkout, prod: Build, tmp_path: Path) -> None:
    """The same questions of the same environment: stage reaches what it needs, and nothing of dev and prod."""
    assert {outcome for outcome, _ in _network_checks(platform, tmp_path).values()} == {"passed"}
