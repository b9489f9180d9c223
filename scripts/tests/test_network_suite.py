"""The security suite's questions about the network, asked of a played one: what they say where it keeps nobody out."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from e2e.suites.outcome import Unknown
from e2e.suites.security import network
from e2e.suites.target import Object, Target

# Namespace -> app -> the address of its one pod.
PODS = {
    "dev": {"manual-app": "10.0.1.1", "postgresql": "10.0.1.2", "rates": "10.0.1.3"},
    "stage": {"manual-app": "10.0.2.1", "postgresql": "10.0.2.2", "rates": "10.0.2.3"},
    "prod": {"manual-app": "10.0.3.1", "postgresql": "10.0.3.2", "rates": "10.0.3.3"},
}
SERVICES = {"dev": ("10.9.1.1", 30081), "prod": ("10.9.3.1", 30083)}
NODE = "172.18.0.2"
PEER = "10.0.2.9"  # another replica of the app in stage
Rule = Callable[[str, str, int], bool]


def enforced(pod: str, host: str, port: int) -> bool:
    """A network that does what the chart's policies say."""
    if host == "127.0.0.1":
        return True
    return pod.startswith("manual-app") and (host, port) in {
        ("", network.DNS),
        ("10.0.2.2", network.DATABASE),
        ("10.0.2.3", network.WEB),
    }


def nothing(pod: str, host: str, port: int) -> bool:
    """A network that enforces nothing."""
    return True


class Played(Target):
    """Stage, with dev and prod beside it, on a network that follows this rule."""

    def __init__(self, rule: Rule, alone: bool = False) -> None:
        self.rule, self.alone = rule, alone
        environments = tuple(
            SimpleNamespace(name=one, namespace=one) for one in PODS if not alone or one == "stage"
        )
        self.pipeline = SimpleNamespace(  # type: ignore[assignment]
            chart=SimpleNamespace(release="manual-app"), environments=environments
        )
        self.environment = SimpleNamespace(name="stage", namespace="stage")  # type: ignore[assignment]
        place = SimpleNamespace(context="here")
        self.context = SimpleNamespace(site=SimpleNamespace(place=lambda _: place))  # type: ignore[assignment]

    def pods(self, app: str = "", namespace: str = "") -> list[Object]:
        where = namespace or "stage"
        there = [(name, ip) for name, ip in PODS[where].items() if app in ("", name)]
        if where == "stage" and app in ("", "manual-app"):
            there.append(("manual-app", PEER))
        return [
            {
                "metadata": {"name": f"{name}-{ip}"},
                "status": {
                    "podIP": ip,
                    "hostIP": NODE,
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
            for name, ip in there
        ]

    def get(self, *arguments: str) -> list[Object]:
        assert arguments[0] == "services"
        ip, port = SERVICES[arguments[1].removeprefix("--namespace=")]
        ports = [{"port": 80, "nodePort": port}]
        return [
            {"metadata": {"name": "manual-app"}, "spec": {"clusterIP": ip, "ports": ports}},
            {"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 5432}]}},
        ]

    def python(self, pod: str, container: str, code: str, *arguments: str, seconds: float = 20) -> Any:
        assert pod.startswith(container)
        return [self.rule(pod, *address) for address in json.loads(arguments[0])]


def test_a_network_that_follows_the_policies_passes() -> None:
    """The app gets what it needs, and nobody gets more."""
    reach = network.look(Played(enforced))
    assert (reach.here, reach.others()) == ([], [])


def test_a_network_that_enforces_nothing_is_told() -> None:
    """It is no UNKNOWN that pipeline.yaml could excuse: each way into prod is named, and each within stage."""
    reach = network.look(Played(nothing))
    elsewhere, here = " ".join(reach.others()), " ".join(reach.here)
    for way in ("10.0.3.1:8080", "10.0.3.1:9090", "10.0.3.2:5432", "10.9.3.1:80", f"{NODE}:30083", "dev/"):
        assert way in elsewhere
    for way in (f"{PEER}:8080", "DNS's metrics", "10.0.2.2:5432 from rates", "DNS from rates"):
        assert way in here


@pytest.mark.parametrize(
    "hole",
    [
        ("manual-app", "10.0.3.2", network.DATABASE),
        ("manual-app", NODE, 30083),
        ("rates", "10.0.3.1", network.WEB),
    ],
)
def test_one_hole_into_prod_is_told(hole: tuple[str, str, int]) -> None:
    """One address is enough, from the app or from a pod beside it."""

    def rule(pod: str, host: str, port: int) -> bool:
        return (pod.partition("-10")[0], host, port) == hole or enforced(pod, host, port)

    (told,) = network.look(Played(rule)).others()
    assert told.endswith(f":{hole[2]}")


@pytest.mark.parametrize("host", ["10.0.2.2", "10.0.2.3", ""])
def test_a_network_that_is_closed_to_the_app_fails(host: str) -> None:
    """That nothing is reached shows nothing where the app does not even reach its database, its rates or DNS."""

    def rule(pod: str, to: str, port: int) -> bool:
        return to != host and enforced(pod, to, port)

    with pytest.raises(AssertionError, match="does not reach what it needs"):
        network.look(Played(rule))


def test_alone_in_the_cluster_nobody_knows() -> None:
    """Where no other environment runs, whether one is reached is UNKNOWN, and what is here is asked all the same."""
    reach = network.look(Played(enforced, alone=True))
    assert reach.here == []
    with pytest.raises(Unknown, match="no other environment runs"):
        reach.others()


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of this machine that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_probe_tells_open_from_closed(listening: int) -> None:
    """What runs inside the container answers in order, one address after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    addresses = [["127.0.0.1", listening], ["127.0.0.1", closed], ["127.0.0.1", listening]]
    done = subprocess.run(
        [sys.executable, "-I", "-", json.dumps(addresses)],
        input=network.PROBE,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert json.loads(done.stdout) == [True, False, True]
