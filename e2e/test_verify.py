"""The proof finds what changed behind Git's back, and says so when it cannot know."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from delivery import roles
from delivery.parts import docker
from delivery.wait import Pending, Reached, until
from e2e import emergencies
from e2e.conftest import Build
from e2e.delivery import Checkout
from local import kind

# A cluster administrator who goes round the locks does it as somebody whom they let in.
AS_ARGOCD = roles.acting(roles.account("argocd", "argocd-application-controller"))
SKIP = "argocd.argoproj.io/skip-reconcile"
Manifest = dict[str, Any]


@pytest.fixture
def proven_again(platform: Checkout, prod: Build) -> Iterator[None]:
    """Whatever the test did to prod, and took back, it is proven again afterwards."""
    yield
    proven(platform)


@pytest.mark.usefixtures("proven_again")
def test_a_helm_parameter_in_the_application_is_found(platform: Checkout) -> None:
    """Somebody patches other settings into prod's Application: MISMATCH that names them, whatever Argo CD says."""
    patch(platform, [{"name": "exchangeRates.timeoutSeconds", "value": "9", "forceString": True}])
    try:
        ran = platform.delivery("verify", "prod", expect=1)
        assert "MISMATCH" in ran.error
        assert "source.helm.parameters is set, and Git does not set it" in ran.out
        assert "does not run what Git asks for" in platform.delivery("test", "prod", expect=1).error
    finally:
        patch(platform, None)


def another_image(platform: Checkout) -> Manifest:
    """Of the platform's own, with the app's label: it is let in, and is no replica."""
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    image, nobody = platform.platform_image("python"), {"runAsNonRoot": True, "runAsUser": 65532}
    container = {"name": "stray", "image": image, "command": ["sleep", "600"], "securityContext": restricted}
    security = nobody | {"seccompProfile": {"type": "RuntimeDefault"}}
    metadata = {"labels": {"app.kubernetes.io/name": platform.app}}
    return {"metadata": metadata, "spec": {"securityContext": security, "containers": [container]}}


def another_command(platform: Checkout) -> Manifest:
    """A replica's digest, labels and evidence: all but what it does."""
    [pod, *_] = platform.pods("prod")
    [container] = pod["spec"]["containers"]
    container["command"] = ["python", "-c", "import time; time.sleep(600)"]
    for field in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
        container.pop(field, None)
    labels = {name: value for name, value in pod["metadata"]["labels"].items() if name != "pod-template-hash"}
    spec = {name: value for name, value in pod["spec"].items() if name != "nodeName"}
    return {"metadata": {"labels": labels}, "spec": spec}


@pytest.mark.parametrize("stranger", [another_image, another_command], ids=lambda one: one.__name__)
@pytest.mark.usefixtures("proven_again")
def test_a_bare_pod_is_found(platform: Checkout, stranger: Callable[[Checkout], Manifest]) -> None:
    """Somebody gets a pod of their own started in prod past all locks: MISMATCH, exit 1, and the pod is named."""
    pod = {"apiVersion": "v1", "kind": "Pod", **stranger(platform)}
    pod["metadata"] |= {"name": "stranger", "namespace": "prod"}
    pod["spec"]["terminationGracePeriodSeconds"] = 0
    platform.kubectl(*roles.AS_CONTROLLER, "create", "-f", "-", input=json.dumps(pod))
    try:
        platform.kubectl("-n", "prod", "wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s")
        ran = platform.delivery("verify", "prod", expect=1)
        assert "MISMATCH" in ran.error
        assert "pod stranger has no owner" in ran.out
    finally:
        platform.kubectl(*roles.AS_CONTROLLER, "-n", "prod", "delete", "pod", "stranger", "--wait", "--now")


@contextmanager
def unhealed(platform: Checkout) -> Iterator[None]:
    """Argo CD is kept from looking at prod meanwhile; the proof finds that, too."""
    annotate = ("annotate", "application", platform.pipeline.environment("prod").application)
    platform.kubectl("-n", "argocd", *AS_ARGOCD, *annotate, f"{SKIP}=true", "--overwrite")
    try:
        yield
    finally:
        platform.kubectl("-n", "argocd", *AS_ARGOCD, *annotate, f"{SKIP}-")
        platform.refresh("prod")  # else it looks again in its own time, minutes later


@pytest.mark.usefixtures("proven_again")
def test_a_variable_that_was_set_by_hand_is_found(platform: Checkout) -> None:
    """`kubectl set env` in prod while Argo CD is kept from looking: MISMATCH, from the objects and pods themselves."""
    variable = ("-n", "prod", *AS_ARGOCD, "set", "env", f"deployment/{platform.app}")
    with unhealed(platform):
        try:
            platform.kubectl(*variable, "LEAK=1")
            rollout = ("rollout", "status", f"deployment/{platform.app}", "--timeout=120s")
            platform.kubectl("-n", "prod", *rollout)
            ran = platform.delivery("verify", "prod", expect=1)
            assert "MISMATCH" in ran.error
            assert f"annotation {SKIP} is set" in ran.out
            assert f"Deployment {platform.app}: containers[{platform.app}].env[LEAK] is there" in ran.out
            assert all(
                f"pod {pod['metadata']['name']}: containers[{platform.app}].env[LEAK] is there" in ran.out
                for pod in platform.pods("prod")
            )
        finally:
            platform.kubectl(*variable, "LEAK-")


def leads_elsewhere(platform: Checkout) -> tuple[str, Manifest, str]:
    name, label = platform.app, "app.kubernetes.io/name"
    says = f"Service {name}: selector.{label} is another, Git asks for {name}"
    return f"service/{name}", {"spec": {"selector": {label: "another"}}}, says


def other_settings(platform: Checkout) -> tuple[str, Manifest, str]:
    ours = platform.get("configmap", "-n", "prod", f"--selector=app.kubernetes.io/instance={platform.app}")
    name, key = ours["items"][0]["metadata"]["name"], next(iter(ours["items"][0]["data"]))
    says = f"ConfigMap {name}: data.{key} is not what Git asks for"
    return f"configmap/{name}", {"data": {key: "changed by hand"}}, says


def open_network(platform: Checkout) -> tuple[str, Manifest, str]:
    says = "NetworkPolicy default-deny: policyTypes is ['Egress'], Git asks for ['Ingress', 'Egress']"
    return "networkpolicy/default-deny", {"spec": {"policyTypes": ["Egress"]}}, says


@pytest.mark.parametrize(
    "by_hand", [leads_elsewhere, other_settings, open_network], ids=lambda one: one.__name__
)
@pytest.mark.usefixtures("proven_again")
def test_an_object_that_was_changed_by_hand_is_found(
    platform: Checkout, by_hand: Callable[[Checkout], tuple[str, Manifest, str]]
) -> None:
    """A Service that leads elsewhere, other settings, an open network, Argo CD kept from looking: MISMATCH by name."""
    what, patch, says = by_hand(platform)
    with unhealed(platform):  # what it heals afterwards is all of it
        platform.kubectl("-n", "prod", *AS_ARGOCD, "patch", what, "--type=merge", "-p", json.dumps(patch))
        ran = platform.delivery("verify", "prod", expect=1)
        assert "MISMATCH" in ran.error
        assert says in ran.out


@pytest.mark.usefixtures("proven_again")
def test_an_object_that_nobody_asked_for_is_found(platform: Checkout) -> None:
    """A Service of somebody's own beside the app's, which Argo CD says nothing about: MISMATCH that names it."""
    own = ("-n", "prod", *AS_ARGOCD)
    platform.kubectl(*own, "create", "service", "clusterip", "backdoor", "--tcp=80:9090")
    try:
        ran = platform.delivery("verify", "prod", expect=1)
        assert "Service backdoor is there, and Git does not ask for it" in ran.out
    finally:
        platform.kubectl(*own, "delete", "service", "backdoor")


@pytest.mark.parametrize(
    ("key", "value"), [("no-match-policy", "warn"), ("fail-on-empty-authorities", "false")]
)
@pytest.mark.usefixtures("proven_again")
def test_a_setting_that_lets_images_pass_is_found(platform: Checkout, key: str, value: str) -> None:
    """policy-controller is told to ask less: MISMATCH in prod that says which setting."""
    settings = ("-n", "cosign-system", "patch", "configmap", "config-policy-controller", "--type=merge", "-p")
    before = platform.get("configmap", "config-policy-controller", "-n", "cosign-system")["data"].get(key)
    platform.kubectl(*roles.AS_PLATFORM, *settings, json.dumps({"data": {key: value}}))
    try:
        ran = platform.delivery("verify", "prod", expect=1)
        assert f"prod: a lock is off: ConfigMap config-policy-controller: {key} is {value}" in ran.out
    finally:
        platform.kubectl(*roles.AS_PLATFORM, *settings, json.dumps({"data": {key: before}}))


@pytest.mark.usefixtures("proven_again")
def test_argo_cd_that_verifies_nothing_is_found(platform: Checkout) -> None:
    """Its repo-server is told not to look at signatures: MISMATCH in each guarded environment, until it looks again."""
    own = (*roles.AS_PLATFORM, "-n", "argocd")
    for value in ("false", "true"):
        platform.kubectl(*own, "set", "env", "deployment/argocd-repo-server", f"ARGOCD_GPG_ENABLED={value}")
        platform.kubectl(*own, "rollout", "status", "deployment/argocd-repo-server", "--timeout=120s")
        if value == "false":
            ran = platform.delivery("verify", expect=1)
            for environment in ("stage", "prod"):
                assert f"{environment}: a lock is off: pod argocd-repo-server-" in ran.out
            assert "ARGOCD_GPG_ENABLED is false, so Argo CD takes commits that nobody signed" in ran.out


def test_a_lock_that_was_taken_away_is_found(platform: Checkout, prod: Build) -> None:
    """An administrator deletes the binding of the lock on writers: MISMATCH that names it, until it is back."""
    kind, name = "validatingadmissionpolicybinding", f"{platform.app}-writers"
    kept = platform.get(kind, name)
    kept["metadata"] = {"name": name}
    platform.kubectl("delete", kind, name)
    try:
        ran = platform.delivery("verify", expect=1)
        assert "MISMATCH" in ran.error
        for environment in ("stage", "prod"):
            said = f"{environment}: a lock is off: ValidatingAdmissionPolicyBinding {name} is not there"
            assert said in ran.out
    finally:
        apply = ("apply", "--server-side", "--field-manager=delivery", "--force-conflicts", "-f", "-")
        platform.kubectl(*roles.AS_PLATFORM, *apply, input=json.dumps(kept))
    proven(platform)


def test_a_key_that_argo_cd_takes_is_held_against_the_gates(platform: Checkout, prod: Build) -> None:
    """The platform lets prod's project take what another gate signed: MISMATCH that names the project."""
    project = ("-n", "argocd", "patch", "appproject", platform.pipeline.environment("prod").namespace)
    name = project[-1]
    policies = platform.get("appproject", name, "-n", "argocd")["spec"]["sourceIntegrity"]["git"]["policies"]
    for keys in ([*policies[0]["gpg"]["keys"], "0123456789ABCDEF"], policies[0]["gpg"]["keys"]):
        gpg = policies[0]["gpg"] | {"keys": keys}
        change = {"spec": {"sourceIntegrity": {"git": {"policies": [policies[0] | {"gpg": gpg}]}}}}
        platform.kubectl(*roles.AS_PLATFORM, *project, "--type=merge", "-p", json.dumps(change))
        if keys != policies[0]["gpg"]["keys"]:
            ran = platform.delivery("verify", "prod", expect=1)
            assert f"prod: a lock is off: AppProject {name}: sourceIntegrity" in ran.out
    proven(platform)


def test_after_an_emergency_something_must_enter(platform: Checkout, prod: Build) -> None:
    """While an emergency is on in stage, and after it, it is MISMATCH; what enters anew is proven, with a note."""
    entries = platform.history()["emergencies"]
    with emergencies.over_afterwards(platform, "stage", prod.digest):
        emergencies.begin(platform, "stage", "the database is full")
        ran = platform.delivery("verify", "stage", expect=1)
        assert "stage: an emergency is on in stage since" in ran.out
        assert "by eve@example.org: the database is full" in ran.out
        emergencies.end(platform, "stage")
        ran = platform.delivery("verify", "stage", expect=1)
        assert "and nothing entered since" in ran.out
        assert "an emergency ended in stage" in platform.delivery("promote", "prod", expect=1).error
    [one] = platform.delivery("verify", "stage", "--format", "json").json["environments"]
    assert one["verdict"] == "PROVEN"
    assert any("an emergency ended in stage" in note for note in one["notes"])
    [*others, told] = platform.history()["emergencies"]
    assert (others, told["person"], told["environment"]) == (entries, "eve@example.org", "stage")


def patch(platform: Checkout, parameters: list[dict[str, object]] | None) -> None:
    """Put Helm parameters into prod's Application; None takes them away."""
    name = platform.pipeline.environment("prod").application
    change = json.dumps({"spec": {"source": {"helm": {"parameters": parameters}}}})
    platform.kubectl(
        *roles.AS_PLATFORM, "-n", "argocd", "patch", "application", name, "--type=merge", "-p", change
    )


def proven(platform: Checkout) -> None:
    """Return when everything is proven."""

    def look() -> Reached[None] | Pending:
        ran = platform.delivery("verify", expect=None)
        return Pending(f"{ran.error} {ran.out}") if ran.code else Reached(None)

    until("PROVEN again", look, 180, "kubectl get pods -A")


@pytest.mark.usefixtures("prod")
def test_a_cluster_that_does_not_answer_is_unknown(platform: Checkout) -> None:
    """The cluster cannot be read: UNKNOWN and exit 3, never PROVEN; and PROVEN again once it can."""
    client = docker.client()
    node = client.containers.get(kind.node_name(platform.cluster))
    node.pause()
    try:
        ran = platform.delivery("verify", expect=3)
        assert "UNKNOWN" in ran.error
        assert "PROVEN" not in ran.out
    finally:
        node.unpause()
        client.close()

    # Controllers lost their leases and probes ran out meanwhile: the node says Ready long before its pods are.
    proven(platform)
