"""The proof finds what changed behind Git's back, and says so when it cannot know."""

import json
from collections.abc import Iterator

import pytest

from delivery import roles
from delivery.parts import docker
from delivery.wait import Pending, Reached, until
from e2e import emergencies
from e2e.conftest import Build
from e2e.delivery import Checkout
from local import kind

# A cluster administrator who goes round the locks does it as somebody whom they let in.
AS_ARGOCD = "--as=system:serviceaccount:argocd:argocd-application-controller"
AS_REPLICASETS = "--as=system:serviceaccount:kube-system:replicaset-controller"
SKIP = "argocd.argoproj.io/skip-reconcile"


@pytest.fixture
def restored(platform: Checkout, prod: Build) -> Iterator[None]:
    """Prod as Git asks for it, again after the test."""
    yield
    platform.delivery("promote", "prod")
    platform.delivery("verify", "prod")


@pytest.mark.usefixtures("restored")
def test_a_replica_more_than_git_asks_for_is_found(platform: Checkout, prod: Build) -> None:
    """Somebody gets another image started in prod past all locks: MISMATCH, exit 1, and the pod is named."""
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "stray",
        "image": platform.platform_image("python"),
        "command": ["sleep", "600"],
        "securityContext": restricted,
    }
    labels = {"app.kubernetes.io/name": "manual-app", "stray": "yes"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stray", "namespace": "prod", "labels": labels},
        "spec": {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }
    platform.apply(pod, *roles.AS_CONTROLLER)
    try:
        platform.kubectl("-n", "prod", "wait", "--for=condition=Ready", "pod/stray", "--timeout=60s")
        ran = platform.delivery("verify", "prod", expect=1)
        assert "MISMATCH" in ran.error
        assert "stray" in ran.out
    finally:
        platform.kubectl(*roles.AS_CONTROLLER, "-n", "prod", "delete", "pod", "stray", "--wait", "--now")


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


@pytest.mark.usefixtures("proven_again")
def test_a_bare_pod_with_the_tested_image_is_found(platform: Checkout) -> None:
    """A pod in prod with the digest, the labels and the evidence, and another command: MISMATCH."""
    [pod, *_] = platform.pods("prod")
    [container] = pod["spec"]["containers"]
    container["command"] = ["python", "-c", "import time; time.sleep(600)"]
    for field in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
        container.pop(field, None)
    labels = {name: value for name, value in pod["metadata"]["labels"].items() if name != "pod-template-hash"}
    spec = {name: value for name, value in pod["spec"].items() if name != "nodeName"}
    stranger = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "namespace": "prod", "labels": labels},
        "spec": spec | {"terminationGracePeriodSeconds": 0},
    }
    platform.kubectl(AS_REPLICASETS, "create", "-f", "-", input=json.dumps(stranger))
    try:
        platform.kubectl("-n", "prod", "wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s")
        ran = platform.delivery("verify", "prod", expect=1)
        assert "MISMATCH" in ran.error
        assert "pod stranger has no owner" in ran.out
    finally:
        platform.kubectl(*roles.AS_CONTROLLER, "-n", "prod", "delete", "pod", "stranger", "--wait", "--now")


@pytest.mark.usefixtures("proven_again")
def test_a_variable_that_was_set_by_hand_is_found(platform: Checkout) -> None:
    """`kubectl set env` in prod while Argo CD is kept from looking: MISMATCH, from the objects and pods themselves."""
    application = ("application", platform.pipeline.environment("prod").application)
    variable = ("-n", "prod", AS_ARGOCD, "set", "env", f"deployment/{platform.app}")
    platform.kubectl("-n", "argocd", AS_ARGOCD, "annotate", *application, f"{SKIP}=true", "--overwrite")
    try:
        platform.kubectl(*variable, "LEAK=1")
        platform.kubectl("-n", "prod", "rollout", "status", f"deployment/{platform.app}", "--timeout=120s")
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
        platform.kubectl("-n", "argocd", AS_ARGOCD, "annotate", *application, f"{SKIP}-")


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
    entries = platform.delivery("history", "--format", "json").json["emergencies"]
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
    [*others, told] = platform.delivery("history", "--format", "json").json["emergencies"]
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
