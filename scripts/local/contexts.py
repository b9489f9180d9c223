"""The kubeconfig of a local site has a context for each role, beside the administrator's that kind put there."""

from io import StringIO
from typing import Any

from pytest_kind import KindCluster
from ruamel.yaml import YAML

from delivery import roles
from delivery.files import write_private
from local import install
from local.cluster import Cluster

_VALID = "8760h"  # a year; each `up` makes new ones


def write(kind: KindCluster, cluster: Cluster) -> None:
    """Give the deployer and the tester a token each, and the kubeconfig a context of that name."""
    home = roles.home(cluster.pipeline.chart.release)
    tokens = {
        name: install.kubectl(
            kind, *roles.AS_PLATFORM, "-n", home, "create", "token", name, f"--duration={_VALID}"
        ).strip()
        for name in (roles.DEPLOYER, roles.TESTER)
    }
    yaml, out = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style = False
    yaml.dump(
        with_contexts(yaml.load(cluster.kubeconfig.read_text(encoding="utf-8")), cluster.context, tokens), out
    )
    write_private(cluster.kubeconfig, out.getvalue())


def with_contexts(config: dict[str, Any], administrator: str, tokens: dict[str, str]) -> dict[str, Any]:
    """A kubeconfig with a context and a user for each token, in the cluster of the administrator's context."""
    [leads] = [one["context"]["cluster"] for one in config["contexts"] if one["name"] == administrator]
    users = [{"name": name, "user": {"token": token}} for name, token in tokens.items()]
    found = [{"name": name, "context": {"cluster": leads, "user": name}} for name in tokens]
    return config | {
        "users": [*(one for one in config["users"] if one["name"] not in tokens), *users],
        "contexts": [*(one for one in config["contexts"] if one["name"] not in tokens), *found],
    }
