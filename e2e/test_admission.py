"""The lock on images: who goes around the gate and is let through by the lock on writers brings no other image."""

# Needs of conftest.py: `platform` (a Checkout with kubectl, get, pods, digests, url, git, edit, commit, pull,
# delivery) and `prod` (the Build that stage and prod run, with its evidence).

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from subprocess import CompletedProcess
from typing import Any

import pytest

from delivery import pipeline as pipelines
from delivery import roles
from delivery.build import provenance
from delivery.parts.admission import denial, refusal
from delivery.parts.registry import Manifest, connect
from delivery.pipeline import BUILD
from delivery.signed import statements
from delivery.wait import Pending, Reached, until
from e2e.conftest import ROOT, Build
from e2e.delivery import Checkout, consistently, probing

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
KINDS = {
    "Pod": "v1",
    "PodTemplate": "v1",
    "ReplicationController": "v1",
    "DaemonSet": "apps/v1",
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "CronJob": "batch/v1",
    "Job": "batch/v1",
}
GUARDED = {one.name: str(one.source) for one in pipelines.load(ROOT).environments if one.admits == "tested"}
NO_EVIDENCE = "there is no evidence about it"  # the source's own repository has none


def manifest(kind: str, image: str, good: str = "", field: str = "containers") -> dict[str, Any]:
    """An object of that kind whose pod has `image` in `field`, and else the image `good`."""
    container = {"name": "bypass", "image": image, "securityContext": RESTRICTED}
    pod: dict[str, Any] = {"automountServiceAccountToken": False, field: [container]}
    if field != "containers":
        pod["containers"] = [{**container, "name": "main", "image": good}]
    if kind in ("Job", "CronJob"):
        pod["restartPolicy"] = "Never"
    template = {"metadata": {"labels": {"bypass": "yes"}}, "spec": pod}
    body: dict[str, Any]
    match kind:
        case "Pod":
            body = {"spec": pod}
        case "PodTemplate":
            body = {"template": template}
        case "Job":
            body = {"spec": {"template": template}}
        case "CronJob":
            body = {"spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}}}
        case "ReplicationController":
            body = {"spec": {"replicas": 1, "selector": {"bypass": "yes"}, "template": template}}
        case _:
            body = {"spec": {"selector": {"matchLabels": {"bypass": "yes"}}, "template": template}}
            body["spec"] |= {"serviceName": "bypass"} if kind == "StatefulSet" else {}
    return {"apiVersion": KINDS[kind], "kind": kind, "metadata": {"name": "bypass"}, **body}


def refused(done: CompletedProcess[str]) -> str:
    """Why admission refused what kubectl asked; fails when something else, or nothing, stopped it."""
    assert done.returncode != 0, f"it was let in: {done.stdout}"
    found = refusal(done.stderr)
    assert found, f"not admission's refusal: {done.stderr}"
    return found[0]


def create(
    platform: Checkout, environment: str, wanted: dict[str, Any], *options: str
) -> CompletedProcess[str]:
    """kubectl create of a manifest, as it is, by somebody whom the lock on writers lets through."""
    file = platform.path.parent / "bypass.json"
    file.write_text(json.dumps(wanted), encoding="utf-8")
    own = (*roles.AS_CONTROLLER, "-n", namespace(platform, environment))
    return platform.kubectl(*own, "create", "-f", str(file), *options, check=False)


def namespace(platform: Checkout, environment: str) -> str:
    """The namespace of an environment."""
    return platform.pipeline.environment(environment).namespace


@pytest.fixture(scope="module")
def untested(platform: Checkout, prod: Build, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A digest that is in the registry, and that no environment ever tested; as pods would name it."""
    path = tmp_path_factory.mktemp("untested") / "repository"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", platform.path, path], check=True)
    own = Checkout(path, platform.site)
    (path / own.pipeline.image.context / "UNTESTED").write_text("nobody tested this\n", encoding="utf-8")
    own.commit(f"{own.app}: not tested")
    built = own.delivery("build", "--format", "json").json
    assert built["digest"] != prod.digest
    return f"{platform.context.site.image.name}@{built['digest']}"


def copied(platform: Checkout, prod: Build, tag: str) -> str:
    """A digest that `delivery build` did not make: the image of prod with one more annotation, pushed by hand."""
    site = platform.context.site
    with connect(site.logged_in(site.image, BUILD)) as registry:
        built = registry.manifest(prod.digest)
        assert built
        body = json.dumps(json.loads(built.body) | {"annotations": {"by-hand": tag}}).encode()
        registry.tag(Manifest("", built.media_type, body), tag)
        found = registry.digest(tag)
    assert found
    assert found != prod.digest
    return found


def vouch(platform: Checkout, digest: str, environment: str) -> None:
    """Sign all that an environment asks for about a digest, but for its provenance, as whoever has those keys could."""
    target = platform.pipeline.environment(environment)
    source, put = str(target.source), statements.put
    passed = {"result": "PASSED", "run": {"environment": source}}
    entered = {"verificationResult": "PASSED", "entry": {"environment": environment}}
    put(platform.context, digest, statements.TEST_RESULT, passed, source)
    put(platform.context, digest, statements.ENTRY, entered, target.gate)
    for by in platform.pipeline.approvers if target.approval else ():
        put(platform.context, digest, statements.APPROVAL, {"environment": environment}, by.name)


@pytest.fixture
def tested(platform: Checkout, prod: Build) -> str:
    """What prod runs, as pods name it."""
    return f"{platform.context.site.image.name}@{prod.digest}"


@pytest.fixture(autouse=True)
def all_is_as_it_was(platform: Checkout, prod: Build) -> Iterator[None]:
    """After every attempt the guarded environments run the proven digest in the same pods, and nothing beside them."""
    before = {one: {pod["metadata"]["uid"] for pod in platform.pods(one)} for one in GUARDED}
    yield
    for one, uids in before.items():
        assert {pod["metadata"]["uid"] for pod in platform.pods(one)} == uids
        assert platform.digests(one) == {prod.digest}


@pytest.mark.parametrize("environment", GUARDED)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_refused_by_tag(platform: Checkout, prod: Build, environment: str, kind: str) -> None:
    """I cannot bring an image by its tag, in whatever kind of object I wrap it."""
    tagged = f"{platform.context.site.image.name}:{prod.number}"
    why = refused(create(platform, environment, manifest(kind, tagged)))
    assert f'image "{tagged}" is refused in {namespace(platform, environment)}' in why


@pytest.mark.parametrize("environment", GUARDED)
def test_foreign_and_disguised_images_are_refused(
    platform: Checkout, prod: Build, tested: str, environment: str
) -> None:
    """Another repository, a look-alike, a tag before the digest, another digest of the platform: refused."""
    repository, digest = tested.split("@")
    platform_image = platform.platform_image("python")
    for bad in (
        "nginx",
        f"nginx@{digest}",
        f"{repository}-evil@{digest}",
        f"{repository}/evil@{digest}",
        f"{repository}:{prod.number}@{digest}",
        f"{platform_image.split('@')[0]}@{digest}",
    ):
        assert f'image "{bad}"' in refused(create(platform, environment, manifest("Pod", bad)))


@pytest.mark.parametrize("environment", GUARDED)
def test_other_containers_and_volumes_are_read_too(platform: Checkout, tested: str, environment: str) -> None:
    """Neither an init container nor a volume made of an image brings what was not tested."""
    wanted = manifest("Pod", "busybox", good=tested, field="initContainers")
    assert 'image "busybox"' in refused(create(platform, environment, wanted))
    wanted = manifest("Pod", tested)
    wanted["spec"]["volumes"] = [{"name": "tools", "image": {"reference": tested}}]
    assert "volume of type image" in refused(create(platform, environment, wanted))


@pytest.mark.parametrize("environment", GUARDED)
def test_kubectl_debug_run_and_set_image_are_refused(platform: Checkout, environment: str) -> None:
    """kubectl debug, run and set image do nothing with an image that is not pinned."""
    own = (*roles.AS_CONTROLLER, "-n", namespace(platform, environment))
    pod = platform.pods(environment)[0]["metadata"]["name"]
    overrides = json.dumps(manifest("Pod", "busybox"))
    for attempt in (
        ("debug", pod, "--image=busybox", "--profile=restricted", "--", "true"),
        ("debug", pod, "--image=busybox", "--profile=restricted", "--copy-to=bypass", "--", "true"),
        ("run", "bypass", "--image=busybox", f"--overrides={overrides}"),
        ("set", "image", "deployment/manual-app", "manual-app=busybox"),
        ("set", "image", f"pod/{pod}", "manual-app=busybox"),
    ):
        assert 'image "busybox" is refused' in refused(platform.kubectl(*own, *attempt, check=False))


@pytest.mark.parametrize("environment", GUARDED)
def test_a_digest_without_evidence_is_refused(platform: Checkout, untested: str, environment: str) -> None:
    """A pinned digest of our own build that the environment before never tested: refused by every way in."""
    own = (*roles.AS_CONTROLLER, "-n", namespace(platform, environment))
    pod = platform.pods(environment)[0]["metadata"]["name"]
    overrides = json.dumps(manifest("Pod", untested))
    digest = untested.split("@")[1]
    for attempt in (
        ("debug", pod, f"--image={untested}", "--profile=restricted", "--", "true"),
        ("run", "bypass", f"--image={untested}", f"--overrides={overrides}"),
        ("set", "image", "deployment/manual-app", f"manual-app={untested}"),
        ("set", "image", f"pod/{pod}", f"manual-app={untested}"),
    ):
        why = refused(platform.kubectl(*own, *attempt, check=False))
        assert why == f"the cluster refused {digest}: {NO_EVIDENCE}"
    for kind in ("CronJob", "DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "StatefulSet"):
        assert digest in refused(create(platform, environment, manifest(kind, untested)))


@pytest.mark.parametrize("environment", GUARDED)
def test_pods_of_other_kinds_are_asked_when_they_start(
    platform: Checkout, untested: str, environment: str
) -> None:
    """A kind that policy-controller does not know still gets no pod: the pods themselves are asked."""
    own = (*roles.AS_CONTROLLER, "-n", namespace(platform, environment))
    assert create(platform, environment, manifest("ReplicationController", untested)).returncode == 0
    try:
        consistently(lambda: _no_pods(platform, *own), seconds=3)
        status = platform.get("replicationcontroller", "bypass", *own)["status"]
        assert "there is no evidence" in (refusal(status["conditions"][0]["message"]) or ("",))[0]
    finally:
        platform.kubectl(*own, "delete", "replicationcontroller", "bypass")


def _no_pods(platform: Checkout, *own: str) -> None:
    assert not platform.get("pods", *own, "-l", "bypass=yes")["items"]


@pytest.mark.parametrize("environment", GUARDED)
def test_what_was_tested_is_let_in(platform: Checkout, tested: str, environment: str) -> None:
    """The lock is no wall: the digest that has its evidence would start again."""
    assert create(platform, environment, manifest("Pod", tested), "--dry-run=server").returncode == 0


def test_what_we_did_not_build_is_refused(platform: Checkout, prod: Build) -> None:
    """An image that everybody vouches for, and that nobody built with `delivery`: refused in stage and prod, also with
    a provenance that another key signed, or one of another repository. With that of our own build it is let in.
    """
    digest = copied(platform, prod, "not-built")
    image, context = f"{platform.context.site.image.name}@{digest}", platform.context
    ours = provenance.provenance(context, prod.revision, {}, {}, "", "")
    theirs = json.loads(json.dumps(ours).replace(context.site.git.for_argocd, "https://git.example/evil.git"))
    for environment in GUARDED:
        vouch(platform, digest, environment)

    def say(reason: str) -> None:
        for environment, source in GUARDED.items():
            why = refused(create(platform, environment, manifest("Pod", image)))
            assert why == f"the cluster refused {digest}: {reason.format(environment, source)}"

    say("in {} it has no provenance, only evidence of {}")
    statements.put(context, digest, statements.PROVENANCE, ours, "stage")
    say("in {} it has no provenance, only evidence of {}")
    statements.put(context, digest, statements.PROVENANCE, theirs, BUILD)
    source = theirs["buildDefinition"]["externalParameters"]["source"]
    say(
        f"its provenance says that {provenance.BUILDER} built {source}, "
        f"not that delivery built git+{context.site.git.for_argocd}"
    )
    statements.put(context, digest, statements.PROVENANCE, ours, BUILD)
    for environment in GUARDED:
        assert create(platform, environment, manifest("Pod", image), "--dry-run=server").returncode == 0


def test_what_one_environment_takes_the_next_does_not(platform: Checkout, prod: Build) -> None:
    """With dev's evidence and the entry into stage a digest runs in stage, and nowhere behind it."""
    digest = copied(platform, prod, "for-stage")
    image = f"{platform.context.site.image.name}@{digest}"
    ours = provenance.provenance(platform.context, prod.revision, {}, {}, "", "")
    statements.put(platform.context, digest, statements.PROVENANCE, ours, BUILD)
    vouch(platform, digest, "stage")
    assert create(platform, "stage", manifest("Pod", image), "--dry-run=server").returncode == 0
    why = refused(create(platform, "prod", manifest("Pod", image)))
    assert why == f"the cluster refused {digest}: {NO_EVIDENCE}"


@pytest.mark.parametrize(
    "change",
    [
        "policy.sigstore.dev/include=false",
        "policy.sigstore.dev/include-",
        "webhooks.knative.dev/exclude=yes",
        "pod-security.kubernetes.io/enforce=privileged",
    ],
)
@pytest.mark.parametrize("environment", GUARDED)
def test_the_lock_cannot_be_taken_off_by_a_label(platform: Checkout, environment: str, change: str) -> None:
    """A guarded environment keeps the labels that the policies go by, whoever may edit namespaces."""
    own = ("label", "namespace", namespace(platform, environment), change, "--overwrite")
    assert "must stay as it is" in refused(platform.kubectl(*own, check=False))


@contextmanager
def without_policy_controller(platform: Checkout) -> Iterator[None]:
    """policy-controller is gone while the block runs."""
    own = ("-n", "cosign-system")
    platform.kubectl(*own, "scale", "deployment/webhook", "--replicas=0")
    try:
        platform.kubectl(*own, "wait", "--for=delete", "pod", "-l", "role=webhook", "--timeout=60s")
        yield
    finally:
        platform.kubectl(*own, "scale", "deployment/webhook", "--replicas=1")
        platform.kubectl(*own, "rollout", "status", "deployment/webhook", "--timeout=90s")


def test_while_policy_controller_is_down_nothing_guarded_starts_and_all_serves_on(
    platform: Checkout, tested: str
) -> None:
    """Without the judge nothing new is let in, not even what was tested; what runs answers every request."""
    with ExitStack() as stack:
        probes = [stack.enter_context(probing(platform.url(environment))) for environment in GUARDED]
        stack.enter_context(without_policy_controller(platform))
        for environment in GUARDED:
            own = (*roles.AS_CONTROLLER, "-n", namespace(platform, environment))
            pod = platform.pods(environment)[0]["metadata"]["name"]
            assert "nothing new is let in" in refused(create(platform, environment, manifest("Pod", tested)))
            platform.kubectl(*own, "label", "pod", pod, "seen=yes")  # what runs may still be looked after
            platform.kubectl(*own, "label", "pod", pod, "seen-")
        assert create(platform, "dev", manifest("Pod", tested), "--dry-run=server").returncode == 0
    for probe in probes:
        assert probe.answered
        assert not probe.failed


@pytest.mark.parametrize("environment", GUARDED)
def test_a_commit_with_an_untested_digest_is_refused_where_argo_cd_shows_it(
    platform: Checkout, prod: Build, untested: str, environment: str
) -> None:
    """Whoever has the gate's key signs an untested digest into the values: Argo CD says who refused, and why."""
    file, source = platform.pipeline.environment(environment).values, GUARDED[environment]
    digest = untested.split("@")[1]
    platform.pull()
    platform.edit(file, prod.digest, digest)
    commit = platform.commit_as(environment, f"{environment}: by hand")
    platform.push("HEAD:main")
    try:
        platform.pin(environment, commit)
        assert refusal(_said(platform, environment, commit)) == (
            f"the cluster refused {digest}: {NO_EVIDENCE}",
            f"test it where it comes from, then promote it: delivery test {source}",
        )
        assert "MISMATCH" in platform.delivery("verify", environment, expect=1).error
    finally:
        platform.delivery("rollback", environment, "--digest", prod.digest)
    assert platform.delivery("verify", environment, "--format", "json").json["verdict"] == "PROVEN"


def _said(platform: Checkout, environment: str, commit: str) -> str:
    """What Argo CD says about an environment's sync to a commit, once it has given up or was refused."""
    name = platform.pipeline.environment(environment).application

    def look() -> Reached[str] | Pending:
        state = platform.get("application", name, "-n", "argocd")["status"].get("operationState", {})
        message = str(state.get("message", "nothing yet"))
        # Refused, it asks again in its own time; the answer will be the same.
        ended = state.get("phase") in ("Failed", "Error", "Succeeded") or denial(message)
        here = state.get("operation", {}).get("sync", {}).get("revision") == commit
        return Reached(message) if here and ended else Pending(message)

    return until(f"Argo CD gives up {commit[:12]}", look, 90, "kubectl -n argocd get application -o yaml")
