"""The second site's clusters: the one of the e2e, which is shared, and `shop-prod`, a kind cluster for prod alone.

Both are reached as a team reaches its clusters: by an ordinary kubeconfig with a context for each, whose servers have
names that are no loopback's. Argo CD is in the first and deploys into both.
"""

import json
import subprocess
import tempfile
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from delivery import roles
from delivery.parts import docker, openpgp, tar
from delivery.wait import Pending, Reached, until
from e2e import delivery
from e2e.second import names
from local import admission, contexts, images, preload, tools
from local.catalog import Catalog
from local.shell import run

PROD = "shop-prod"  # kind's name, the context, and Argo CD's name of it
TEST = "shop-test"  # the context of the e2e's cluster
_HINT = "see what kind says"
_CERTS = "/etc/containerd/certs.d"
_ARGOCD = "argocd"
_LABEL = "delivery.second-site"
_CA = "registry-ca"  # the ConfigMap, the volume and its folder
_LOCKS = ("pinned-images", "writers", "namespaces", "applications", "argocd", "image-policies")


def role(context: str, name: str) -> str:
    """The context that leads to the cluster of another one, as one of the roles."""
    return f"{context}-{name}"


def create_prod(network: str, root: Path, folder: Path) -> None:
    """Make the second cluster, on the Docker network that the site's servers are on."""
    yaml = YAML(typ="safe", pure=True)
    config = yaml.load((root / "scripts" / "local" / "kind.yaml").read_text(encoding="utf-8"))
    config["name"] = PROD
    file = folder / "kind.yaml"
    with file.open("w", encoding="utf-8") as out:
        yaml.dump(config, out)
    image, own = f"--image={images.source().node.name}", f"--kubeconfig={folder / 'kind-kubeconfig'}"
    command = (tools.path("kind"), "create", "cluster", f"--name={PROD}", f"--config={file}", image, own)
    settings = {"KIND_EXPERIMENTAL_PROVIDER": "docker", "KIND_EXPERIMENTAL_DOCKER_NETWORK": network}
    run(command, hint=_HINT, env=settings)
    preload.unpack(node(PROD), ("platform/policy-controller",))


def remove_prod() -> None:
    """Remove the second cluster, if it is there."""
    with tempfile.TemporaryDirectory() as folder:
        own = f"--kubeconfig={folder}/none"
        command = (tools.path("kind"), "delete", "cluster", f"--name={PROD}", own)
        run(command, hint=_HINT, env={"KIND_EXPERIMENTAL_PROVIDER": "docker"})


def node(kind_name: str) -> str:
    """The container, and the host name, of a kind cluster's node."""
    return f"{kind_name}-control-plane"


def address(kind_name: str, network: str) -> str:
    """A node's address, as this host reaches it."""
    client = docker.client()
    try:
        joined = client.containers.get(node(kind_name)).attrs["NetworkSettings"]["Networks"]
        return str(joined[network]["IPAddress"])
    finally:
        client.close()


def kubeconfig(file: Path, contexts: Iterable[tuple[str, str]]) -> Path:
    """One ordinary kubeconfig: each context with the kind cluster that it leads to."""
    merged: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": TEST,
    }
    merged |= {"clusters": [], "users": [], "contexts": []}
    for context, kind_name in contexts:
        told = run([tools.path("kind"), "get", "kubeconfig", f"--name={kind_name}", "--internal"], hint=_HINT)
        own = YAML(typ="safe", pure=True).load(told)
        merged["clusters"].append({"name": context, "cluster": own["clusters"][0]["cluster"]})
        merged["users"].append({"name": context, "user": own["users"][0]["user"]})
        merged["contexts"].append({"name": context, "context": {"cluster": context, "user": context}})
    file.touch(mode=0o600)
    file.write_text(json.dumps(merged, indent=2), encoding="utf-8")  # which is YAML too
    return file


def trust(kind_name: str, authority: Path) -> None:
    """Have a node's containerd trust the registry's authority, as whoever runs the nodes does."""
    hosts = f'[host."https://{names.REGISTRY}"]\n  ca = "{_CERTS}/{names.REGISTRY}/ca.crt"\n'
    files = {"hosts.toml": hosts.encode(), "ca.crt": authority.read_bytes()}
    client = docker.client()
    try:
        container = client.containers.get(node(kind_name))
        container.exec_run(["mkdir", "-p", _CERTS])
        container.put_archive(
            _CERTS, tar.pack({f"{names.REGISTRY}/{name}": text for name, text in files.items()})
        )
    finally:
        client.close()


def distrust(kind_name: str) -> None:
    """Take that away from a node, if it is there."""
    client = docker.client()
    try:
        for container in client.containers.list(filters={"name": f"^/{node(kind_name)}$"}):
            container.exec_run(["rm", "-rf", f"{_CERTS}/{names.REGISTRY}"])
    finally:
        client.close()


@dataclass(frozen=True)
class Clusters:
    """Both clusters, by the ordinary kubeconfig."""

    kubeconfig: Path

    def kubectl(
        self,
        context: str,
        *arguments: str,
        who: tuple[str, ...] = roles.AS_PLATFORM,
        check: bool = True,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """kubectl against one of them and no other, as whoever keeps the platform."""
        here = (tools.path("kubectl"), f"--kubeconfig={self.kubeconfig}", f"--context={context}")
        return delivery.kubectl(*here, *who, *arguments, check=check, input=input, seconds=180)

    def apply(self, context: str, *manifests: dict[str, Any]) -> None:
        """kubectl apply of these objects."""
        text = "---\n".join(json.dumps(one) + "\n" for one in manifests)
        self.kubectl(context, "apply", "--server-side", "--force-conflicts", "-f", "-", input=text)

    def join_argocd(self) -> None:
        """Have Argo CD deploy into the second cluster, as `argocd cluster add` does it, with README's rights."""
        account = {"name": "argocd-manager", "namespace": "kube-system"}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
        self.apply(
            PROD,
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "argocd-manager"},
                "roleRef": role,
                "subjects": [{"kind": "ServiceAccount", **account}],
            },
        )
        token = self.kubectl(
            PROD, "-n", "kube-system", "create", "token", "argocd-manager", "--duration=4h"
        ).stdout
        data = json.loads(self.kubeconfig.read_text(encoding="utf-8"))
        [cluster] = [one["cluster"] for one in data["clusters"] if one["name"] == PROD]
        tls = {"insecure": False, "caData": cluster["certificate-authority-data"]}
        config = json.dumps({"bearerToken": token.strip(), "tlsClientConfig": tls})
        told = {"name": PROD, "server": cluster["server"], "config": config}
        self.apply(TEST, _argocd_secret("second-site-prod", "cluster", told))

    def argocd_reads(self, url: str, user: str, token: str, authority: Path) -> None:
        """Have Argo CD read a private repository over TLS that only this authority vouches for."""
        told = {"url": url, "username": user, "password": token, "type": "git"}
        self.apply(TEST, _argocd_secret("second-site-git", "repository", told))
        certificate = authority.read_text(encoding="utf-8")
        self._patch_certificates(TEST, {"data": {names.GIT: certificate}})
        self._mounted(f"/app/config/tls/{names.GIT}", certificate)

    def argocd_verifies(self, certificates: Iterable[str]) -> None:
        """Return when Argo CD has the certificates of these gates, which `delivery policy` brought."""
        for certificate in certificates:
            self._mounted(f"/app/config/gpg/source/{openpgp.key_id(certificate)}", certificate)

    def _mounted(self, path: str, wanted: str) -> None:
        # A mounted ConfigMap follows within a minute or so; at once, when the pod itself changes.
        own = ("-n", _ARGOCD)
        pods = ("pod", "-l", "app.kubernetes.io/name=argocd-repo-server")
        self.kubectl(TEST, *own, "annotate", *pods, "--overwrite", f"{_LABEL}={uuid.uuid4().hex[:8]}")
        read = ("exec", "deployment/argocd-repo-server", "--", "cat", path)

        def look() -> Reached[None] | Pending:
            done = self.kubectl(TEST, *own, *read, check=False)
            return Reached(None) if done.stdout.strip() == wanted.strip() else Pending("not yet")

        until(f"Argo CD has {path}", look, 120, "look into its ConfigMaps")

    def install_policy_controller(self, catalog: Catalog, root: Path) -> None:
        """sigstore's policy-controller in the second cluster; the shared one has it."""
        digests = preload.digests(images.source().node.name)
        with admission.controller_folder(catalog, root, digests) as folder:
            self.kubectl(PROD, "apply", "--server-side", "--force-conflicts", "-k", folder)

    def policy_controller_trusts(self, context: str, authority: Path) -> None:
        """Have policy-controller trust the registry's authority, as policy/README.md says."""
        own = ("-n", admission.NAMESPACE)
        self.kubectl(context, *own, "create", "configmap", _CA, f"--from-file=ca.pem={authority}")
        self._patch_policy_controller(
            context,
            {"name": _CA, "configMap": {"name": _CA}},
            {"name": "SSL_CERT_FILE", "value": f"/{_CA}/ca.pem"},
            {"name": _CA, "mountPath": f"/{_CA}", "readOnly": True},
        )

    def _patch_policy_controller(
        self, context: str, volume: dict[str, Any], variable: dict[str, Any], mount: dict[str, Any]
    ) -> None:
        container = {"name": "webhook", "env": [variable], "volumeMounts": [mount]}
        pod = {"volumes": [volume], "containers": [container]}
        patch = json.dumps({"spec": {"template": {"spec": pod}}})
        self.kubectl(context, "-n", admission.NAMESPACE, "patch", "deployment", "webhook", "--patch", patch)

    def wait_for_policy_controller(self, context: str) -> None:
        """Return when it decides."""
        own = ("-n", admission.NAMESPACE)
        self.kubectl(context, *own, "rollout", "status", "deployment/webhook", "--timeout=120s")

    def take_policies(self, context: str, policies: str) -> None:
        """Apply what `delivery policy` printed. policy-controller judges them, moments after it is Ready."""

        def taken() -> Reached[None] | Pending:
            command = ("apply", "--server-side", "--force-conflicts", "-f", "-")
            done = self.kubectl(context, *command, input=policies, check=False)
            return Pending(done.stderr.strip()[-300:]) if done.returncode else Reached(None)

        until(f"{context} takes the policies", taken, 60, "see what kubectl says")

    def let_in(self, context: str, app: str) -> None:
        """Give the team's kubeconfig a context for each role, as whoever keeps the platform hands out tokens."""
        own = ("-n", roles.home(app), "create", "token", "--duration=4h")
        tokens = {
            role(context, name): self.kubectl(context, *own, name).stdout.strip()
            for name in (roles.DEPLOYER, roles.TESTER)
        }
        data = json.loads(self.kubeconfig.read_text(encoding="utf-8"))
        told = contexts.with_contexts(data, context, tokens)
        self.kubeconfig.write_text(json.dumps(told, indent=2), encoding="utf-8")

    def _patch_certificates(self, context: str, patch: dict[str, Any]) -> None:
        own = ("-n", _ARGOCD, "patch", "configmap", "argocd-tls-certs-cm", "--type=merge")
        self.kubectl(context, *own, "--patch", json.dumps(patch))

    def leave(self, context: str, app: str, environments: Collection[str], home: str = "") -> None:
        """Take everything of the site away from the shared cluster; it may not be there.

        `home` is the namespace of its roles, where no other site has the same.
        """
        own, gone = [names.of(one) for one in environments], ("delete", "--ignore-not-found", "--wait=false")
        # Namespace, Application and project are called alike.
        self.kubectl(context, "-n", _ARGOCD, *gone, *(f"application/{one}" for one in own))
        self.kubectl(context, "-n", _ARGOCD, *gone, *(f"appproject/{one}" for one in own))
        self.kubectl(context, "-n", _ARGOCD, *gone, "secret", "-l", f"{_LABEL}=yes")
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            self.kubectl(context, *gone, *(f"{kind}/{app}-{one}" for one in _LOCKS))
        for kind in ("clusterrolebinding", "clusterrole"):
            self.kubectl(
                context, *gone, *(f"{kind}/{app}-{one}" for one in ("deployer", "emergency", "argocd"))
            )
        for namespace, given in ((_ARGOCD, ("deployer", "developer")), ("kube-system", ("tester",))):
            for kind in ("rolebinding", "role"):
                self.kubectl(context, "-n", namespace, *gone, *(f"{kind}/{app}-{one}" for one in given))
        self.kubectl(context, *gone, *(f"clusterimagepolicy/{app}-{one}" for one in ("tested", "platform")))
        self.kubectl(context, *gone, *(f"namespace/{one}" for one in [*own, *filter(None, [home])]))
        self._patch_certificates(context, {"data": {names.GIT: None}})
        gone_too = {"$patch": "delete"}
        self._patch_policy_controller(
            context,
            {"name": _CA, **gone_too},
            {"name": "SSL_CERT_FILE", **gone_too},
            {"mountPath": f"/{_CA}", **gone_too},
        )
        self.wait_for_policy_controller(context)
        self.kubectl(context, "-n", admission.NAMESPACE, *gone, f"configmap/{_CA}")


def _argocd_secret(name: str, kind: str, told: dict[str, str]) -> dict[str, Any]:
    labels = {"argocd.argoproj.io/secret-type": kind, _LABEL: "yes"}
    metadata = {"name": name, "namespace": _ARGOCD, "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": told}
