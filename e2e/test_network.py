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

# Runs inside a container: how many questions of the cluster's names stay without an answer, until its input ends.
_LOST = """
import socket, struct, sys, threading

server = next(line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver "))
name = b"".join(bytes([len(part)]) + part for part in (b"kubernetes", b"default", b"svc", b"cluster", b"local"))
question = struct.pack(">HHHHHH", 15, 0x0100, 1, 0, 0, 0) + name + b"\\0" + struct.pack(">HH", 1, 1)
over, counts = threading.Event(), []

def ask():
    asked = lost = 0
    while not over.is_set():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(2)
            one.connect((server, 53))
            one.send(question)
            asked += 1
            try:
                one.recv(512)
            except TimeoutError:
                lost += 1
    counts.append((asked, lost))

threads = [threading.Thread(target=ask) for _ in range(4)]
for one in threads:
    one.start()
print("asking", flush=True)
sys.stdin.read()
over.set()
for one in threads:
    one.join()
print(*map(sum, zip(*counts)))
"""


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


def test_no_question_is_lost_while_policies_and_pods_change(platform: Checkout, stranger: str) -> None:
    """Whatever changes in the cluster, a pod's question of a name gets its answer: none waits 5 s to ask again."""
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "stranger", "namespace": "default"},
        "spec": {"podSelector": {"matchLabels": {"run": stranger}}, "policyTypes": ["Ingress"]},
    }
    command = [*platform.kubectl_command(), "exec", "-i", stranger, "--", "python3", "-u", "-c", _LOST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout
        assert asking.stdout.readline() == "asking\n"
        for _ in range(5):
            platform.apply(policy)
            platform.kubectl("delete", "networkpolicy", "stranger")
        said, _ = asking.communicate(timeout=60)
    asked, lost = map(int, said.split())
    assert asked > 1000
    assert not lost, f"{lost} of {asked} questions were not answered"


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
