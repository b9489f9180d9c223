"""What keeps pods apart on a cluster of our own, as far as it can be known without one."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from delivery.errors import PlatformError
from local import network
from local.closed import golang
from local.closed.images import ENFORCER
from scripts.tests.world import ROOT

NODE = ROOT / "scripts" / "local" / "closed" / "dockerfiles" / "node"


class Kind:
    """A cluster that has these DaemonSets in kube-system, which get ready or do not."""

    name = "played"

    def __init__(self, *there: str, ready: bool = True, dns: bool = True) -> None:
        self.there, self.ready, self.dns = there, ready, dns

    def kubectl(self, *arguments: str, **_: Any) -> str:
        assert arguments[:4] == ("--context", "kind-played", "-n", "kube-system")
        if arguments[4] == "get":
            assert "--ignore-not-found" in arguments
            asked = [f"daemonset/{one}" for one in self.there if f"daemonset/{one}" in arguments]
            return "".join(f"daemonset.apps/{one.partition('/')[2]}\n" for one in asked)
        assert arguments[4:6] == ("rollout", "status")
        if not (self.dns if arguments[6] == "deployment/coredns" else self.ready):
            raise subprocess.CalledProcessError(1, "kubectl", stderr="error: timed out waiting")
        return "successfully rolled out"


@pytest.mark.parametrize("name", ["kindnet", "kube-network-policies"])
def test_the_doctor_says_what_enforces(name: str) -> None:
    """On public images it is kind's own, on a closed network the one that is built here."""
    network.wait(Kind("kube-proxy", name))
    assert network.seen(Kind("kube-proxy", name)) == f"{name} enforces NetworkPolicy"


@pytest.mark.parametrize("ask", [network.wait, network.seen])
def test_a_cluster_of_before_has_nothing_that_enforces(ask: Any) -> None:
    """`up` does not take a cluster where prod is open to every pod, and says how to get one where it is not."""
    with pytest.raises(PlatformError, match="nothing in the cluster enforces NetworkPolicy") as refused:
        ask(Kind("kube-proxy"))
    assert "delivery down" in refused.value.hint


@pytest.mark.parametrize("ask", [network.wait, network.seen])
def test_what_does_not_run_enforces_nothing(ask: Any) -> None:
    """It is there and not ready: said by name, with where to look."""
    with pytest.raises(PlatformError, match=r"kube-network-policies.*not ready.*timed out") as refused:
        ask(Kind("kube-network-policies", ready=False))
    assert refused.value.hint == "see why: kubectl -n kube-system logs daemonset/kube-network-policies"


def test_up_goes_on_once_names_are_answered_for() -> None:
    """Argo CD asks for names as soon as it has Applications: a question too early costs it 5 s."""
    with pytest.raises(PlatformError, match="timed out"):
        network.wait(Kind("kindnet", dns=False))


def test_the_built_node_hands_its_packets_to_what_runs_on_it() -> None:
    """Node, manifest and rules speak of one queue, one image and one unit; the program has one right over the node."""
    manifests = YAML(typ="safe").load_all((NODE / "kind/manifests/default-cni.yaml").read_text())
    (daemons,) = (one for one in manifests if one["kind"] == "DaemonSet")
    assert f"daemonset/{daemons['metadata']['name']}" in network.ENFORCERS
    (container,) = daemons["spec"]["template"]["spec"]["containers"]
    assert container["image"] == ENFORCER
    assert container["imagePullPolicy"] == "Never"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert daemons["metadata"]["name"] in golang.PACKAGES

    (queue,) = (one.partition("=")[2] for one in container["args"] if one.startswith("--nfqueue-id="))
    assert f"^ *{queue} " in container["startupProbe"]["exec"]["command"]
    rules = (NODE / "etc/network-policies/queue.iptables").read_text()
    assert re.findall(r"--queue-num (\d+)", rules) == [queue]
    assert "--queue-bypass" not in rules, "where nobody takes the packets, they do not pass"
    enabled = re.findall(r"systemctl enable ([^&]+)&&", (NODE.parent / "node.Dockerfile").read_text())
    units = sorted((NODE / "etc/systemd/system").glob("network-policies*.service"))
    assert [unit.stem for unit in units] == ["network-policies-table", "network-policies"]
    for unit in units:
        assert unit.stem in enabled[0].split()
        for file in re.findall(r"/etc/network-policies/\S+?(?=[;'\n])", unit.read_text()):
            assert (NODE / file[1:]).is_file()


@pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("iptables-restore") and shutil.which("unshare")),
    reason="a network of its own, and rules in it, need root and iptables",
)
def test_the_units_own_commands_load_the_rules_and_take_them_away() -> None:
    """A word in the wrong place loads nothing, without an error: then every pod would reach every other."""
    unit = (NODE / "etc/systemd/system/network-policies.service").read_text()
    start, stop = ("\n".join(re.findall(rf"^Exec{verb}=(.*)$", unit, re.M)) for verb in ("Start", "Stop"))
    script = f"set -e\n{start}\niptables-save -t mangle\necho then\n{stop}\niptables-save -t mangle\n"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script.replace(" /etc/", f" {NODE}/etc/")],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=True,
    )
    loaded, _, left = done.stdout.partition("then\n")
    assert "-A POSTROUTING -j NETWORK-POLICIES" in loaded
    assert "-A NETWORK-POLICIES -j NFQUEUE --queue-num 98" in loaded
    assert "NETWORK-POLICIES" not in left


@pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("nft") and shutil.which("unshare")),
    reason="a network of its own, and a table in it, need root and nftables",
)
def test_the_table_that_would_cost_packets_is_held_as_long_as_the_unit_runs(tmp_path: Path) -> None:
    """Nobody adds a chain to it or makes it anew: with one that goes, the kernel drops what waits for a verdict."""
    unit = (NODE / "etc/systemd/system/network-policies-table.service").read_text()
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.M)
    (table,) = re.findall(
        r"^add table inet (\S+)", (NODE / "etc/network-policies/held.nft").read_text(), re.M
    )
    assert table == "kube-network-policies"  # what the program calls its own
    held = start.replace(" /etc/", f" {NODE}/etc/")
    script = f"""
    export RUNTIME_DIRECTORY={tmp_path}
    {held} & until nft list table inet {table}; do kill -0 $! || exit; sleep 0.05; done
    nft add chain inet {table} postrouting && echo added
    nft 'delete table inet {table}; add table inet {table}' && echo made anew
    kill $!
    """
    done = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
    )
    assert f"table inet {table}" in done.stdout, done.stderr
    assert "Operation not permitted" in done.stderr
    assert "added" not in done.stdout
    assert "made anew" not in done.stdout
