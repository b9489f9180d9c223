"""The lock on writers: who may do what with kubectl, and which lock stops everybody else."""

# Needs of conftest.py: `platform` (a Checkout with kubectl, get, pods) and `prod` (the Build that stage and prod run).

import json
import re
import time
from subprocess import CompletedProcess
from typing import Any

import pytest

from delivery import pipeline as pipelines
from delivery import roles
from delivery.desired import kinds
from delivery.wait import Pending, Reached, until
from e2e import emergencies
from e2e.conftest import ROOT, Build
from e2e.delivery import Checkout
from e2e.test_admission import manifest

PIPELINE = pipelines.load(ROOT)
APP = PIPELINE.chart.release
GUARDED = [one.name for one in PIPELINE.environments[1:]]
PROJECT = {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]}
COMMIT = "0123456789abcdef0123456789abcdef01234567"

ADMINISTRATOR: tuple[str, ...] = ()
DEVELOPER = roles.acting("dev@example.org", roles.DEVELOPERS)
DEPLOYER = roles.acting(roles.deployer(APP))
TESTER = roles.acting(roles.tester(APP))
CONTROLLER = roles.acting(roles.account("argocd", "argocd-application-controller"))
TRACKING = "argocd.argoproj.io/tracking-id"
PEOPLE = {"administrator": ADMINISTRATOR, "developer": DEVELOPER, "deployer": DEPLOYER, "tester": TESTER}


def merge(patch: dict[str, Any]) -> tuple[str, ...]:
    """kubectl patch's options for this patch."""
    return ("--type=merge", "-p", json.dumps(patch))


def helm(name: str, value: str) -> dict[str, Any]:
    """A Helm parameter, as an Application has it."""
    return {"helm": {"parameters": [{"name": name, "value": value}]}}


PATCHES: dict[str, dict[str, Any]] = {
    "helm": {"spec": {"source": helm("replicas", "7")}},
    "manifests": {"operation": {"sync": {"revision": COMMIT, "manifests": ["{}"]}}},
    "source": {"operation": {"sync": {"source": {"repoURL": "http://elsewhere/x.git"}}}},
    "health": {"status": {"health": {"status": "Degraded"}}},
    "loose": {"spec": PROJECT},
    "setting": {"data": {"cheat": "yes"}},
    "warn": {"spec": {"mode": "warn"}},
    "allow": {"data": {"no-match-policy": "allow"}},
}
# What is tried -> kubectl's arguments, and the lock that stops an administrator. A word in braces is one of `about`,
# or a patch.
INSIDE = {
    "a bare pod with the tested digest": ("create -f {file}", "writers"),
    "set env": ("set env deployment/{app} CHEAT=yes", "writers"),
    "scale": ("scale deployment/{app} --replicas=5", "writers"),
    "rollout restart": ("rollout restart deployment/{app}", "writers"),
    "delete a Deployment": ("delete deployment {app}", "writers"),
    "exec": ("exec {pod} -- true", "writers"),
    "debug": ("debug {pod} --image={image} --profile=restricted -- true", "writers"),
    "port-forward": ("port-forward {pod} :8080", "writers"),
    "attach": ("attach {pod}", "writers"),
    "delete a pod": ("delete pod {pod}", "writers"),
    "a pod's status": ("patch pod {pod} --subresource=status -p {status}", "writers"),
    "patch a ConfigMap": ("patch configmap kube-root-ca.crt -p {data}", "writers"),
    "delete a Service": ("delete service {app}", "writers"),
    "delete the NetworkPolicies": ("delete networkpolicy --all", "writers"),
    "a Secret": ("create secret generic cheat --from-literal=a=b", "writers"),
    "rights": ("create rolebinding cheat --clusterrole=admin --user=mallory", "writers"),
    "a token": ("create token default", "writers"),
    "a question through a Service": (
        "get --raw /api/v1/namespaces/{ns}/services/{app}:80/proxy/version",
        "writers",
    ),
    "delete the namespace": ("delete namespace {ns}", "namespaces"),
    "make the namespace anew": ("create namespace {ns}", "namespaces"),
    "loosen the namespace": (
        "label namespace {ns} pod-security.kubernetes.io/enforce=privileged --overwrite",
        "namespaces",
    ),
    "an emergency of one's own": ("annotate namespace {ns} {annotation}", "namespaces"),
}
ARGOCD = {
    "Helm parameters": ("patch application {application} {helm}", "applications"),
    "switch reconciling off": (
        "annotate application {application} argocd.argoproj.io/skip-reconcile=true",
        "applications",
    ),
    "a sync of other manifests": ("patch application {application} {manifests}", "applications"),
    "a sync of another source": ("patch application {application} {source}", "applications"),
    "an Application's health": ("patch application {application} {health}", "applications"),
    "delete an Application": ("delete application {application}", "applications"),
    "loosen the project": ("patch appproject {ns} {loose}", "applications"),
    "a project for everything": ("create -f {project}", "applications"),
    "a second Application": ("create -f {second}", "applications"),
    "Argo CD's keys": ("delete configmap argocd-gpg-keys-cm", "argocd"),
    "Argo CD's settings": ("patch configmap argocd-cm {setting}", "argocd"),
    "be Argo CD by exec": ("exec argocd-application-controller-0 -- true", "argocd"),
    "be Argo CD by a token": ("create token argocd-application-controller", "argocd"),
    "be the deployer": ("--namespace={home} create token deployer", "writers"),
    "loosen the image policies": ("patch clusterimagepolicy {app}-tested {warn}", "image-policies"),
    "loosen policy-controller": (
        "--namespace=cosign-system patch configmap config-policy-controller {allow}",
        "image-policies",
    ),
}
# Where somebody's rights reach as far as the lock: else RBAC has refused before.
FURTHER = {
    ("deployer", "Helm parameters"): "applications",
    ("deployer", "switch reconciling off"): "applications",
    ("deployer", "a sync of other manifests"): "applications",
    ("deployer", "a sync of another source"): "applications",
    ("deployer", "an Application's health"): "applications",
    ("deployer", "loosen the project"): "applications",
}
# What the suites need, where they run.
TESTERS = ("exec", "port-forward", "attach", "delete a pod")


@pytest.fixture
def words(platform: Checkout, prod: Build, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the attempts are made of; the environment's own are added by each."""
    folder = tmp_path_factory.mktemp("attempts")
    image = f"{platform.context.site.image.name}@{prod.digest}"
    pod = manifest("Pod", image)
    pod["metadata"]["labels"] = {"app.kubernetes.io/name": APP}
    argo = {"apiVersion": "argoproj.io/v1alpha1", "metadata": {"name": "cheat"}}
    to = {"server": "https://kubernetes.default.svc", "namespace": PIPELINE.environments[-1].namespace}
    source = {"repoURL": "http://elsewhere/cheat.git", "path": "."}
    second = {"project": "cheat", "source": source, "destination": to}
    for name, content in {
        "file": pod,
        "project": {**argo, "kind": "AppProject", "spec": PROJECT},
        "second": {**argo, "kind": "Application", "spec": second},
    }.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return {"app": APP, "home": roles.home(APP), "image": image} | {
        name: str(folder / name) for name in ("file", "project", "second")
    }


def attempt(command: str, words: dict[str, str]) -> tuple[str, ...]:
    """kubectl's arguments for an attempt, made of these words."""
    arguments: list[str] = []
    for word in command.split():
        patch = PATCHES.get(word.strip("{}"))
        arguments += merge(patch) if patch else [word.format(**words)]
    return tuple(arguments)


def about(platform: Checkout, words: dict[str, str], environment: str) -> dict[str, str]:
    """The words, with those of one environment."""
    one = platform.pipeline.environment(environment)
    return words | {
        "ns": one.namespace,
        "application": one.application,
        "pod": platform.pods(environment)[0]["metadata"]["name"],
        "status": json.dumps({"status": {"phase": "Failed"}}),
        "data": json.dumps({"data": {"cheat": "yes"}}),
        "annotation": f"{roles.IN_EMERGENCY}=kubernetes-admin {emergencies.now()} because",
    }


def lock(done: CompletedProcess[str]) -> str:
    """Which lock stopped it: RBAC, or one of our policies without the app's name."""
    assert done.returncode != 0, f"it was let through: {done.stdout}"
    if found := re.search(rf"ValidatingAdmissionPolicy '{APP}-([\w-]+)'", done.stderr):
        return found[1]
    assert re.search(r'User "[^"]+" cannot ', done.stderr), f"no lock stopped it: {done.stderr}"
    return "RBAC"


@pytest.mark.parametrize("environment", GUARDED)
@pytest.mark.parametrize("who", PEOPLE)
def test_nobody_writes_in_a_guarded_environment(
    platform: Checkout, words: dict[str, str], who: str, environment: str
) -> None:
    """As whoever I come, I change nothing in stage or prod with kubectl: RBAC stops me, or else the lock on writers."""
    last, words = environment == GUARDED[-1], about(platform, words, environment)
    own = ("-n", platform.pipeline.environment(environment).namespace)
    found, wanted = {}, {}
    for name, (command, stops) in INSIDE.items():
        if who == "tester" and not last and name in TESTERS:
            continue
        done = platform.kubectl(*PEOPLE[who], *own, *attempt(command, words), check=False)
        found[name] = lock(done)
        wanted[name] = stops if who == "administrator" else FURTHER.get((who, name), "RBAC")
    assert found == wanted


@pytest.mark.parametrize("who", PEOPLE)
def test_nobody_changes_what_argo_cd_and_the_policies_are_told(
    platform: Checkout, words: dict[str, str], who: str
) -> None:
    """As whoever I come, I do not make Argo CD or policy-controller do what Git does not say."""
    found, wanted, words = {}, {}, about(platform, words, GUARDED[-1])
    for name, (command, stops) in ARGOCD.items():
        done = platform.kubectl(*PEOPLE[who], "-n", "argocd", *attempt(command, words), check=False)
        found[name] = lock(done)
        wanted[name] = stops if who == "administrator" else FURTHER.get((who, name), "RBAC")
    assert found == wanted


def test_the_first_environment_is_the_developers(platform: Checkout, dev: Build) -> None:
    """In dev developers do as they like; what Argo CD makes of dev is Git's all the same."""
    own = (*DEVELOPER, "-n", PIPELINE.first.namespace)
    platform.kubectl(*own, "create", "configmap", "mine", "--dry-run=server")
    platform.kubectl(*own, "scale", f"deployment/{APP}", "--replicas=2", "--dry-run=server")
    patch = merge({"spec": {"source": helm("replicas", "7")}})
    done = platform.kubectl(
        "-n", "argocd", "patch", "application", PIPELINE.first.application, *patch, check=False
    )
    assert lock(done) == "applications"


def test_the_tester_enters_and_restarts_where_suites_run(platform: Checkout, prod: Build) -> None:
    """In stage the suites look into a container and delete a pod, which comes back; in prod they do neither."""
    for environment in GUARDED:
        own = (*TESTER, "-n", platform.pipeline.environment(environment).namespace)
        pod = platform.pods(environment)[0]["metadata"]["name"]
        entered = platform.kubectl(*own, "exec", pod, "--", "python3", "-c", "print('inside')", check=False)
        deleted = platform.kubectl(*own, "delete", "pod", pod, "--dry-run=server", check=False)
        if environment == GUARDED[-1]:
            assert {lock(entered), lock(deleted)} == {"RBAC"}
        else:
            assert entered.stdout == "inside\n"
            assert deleted.returncode == 0, deleted.stderr


def test_a_pod_that_dies_is_replaced(platform: Checkout, prod: Build) -> None:
    """The lock is no wall for the cluster itself: a pod of stage goes, and its ReplicaSet brings the same one back."""
    stage = GUARDED[0]
    own = ("-n", platform.pipeline.environment(stage).namespace)
    pod = platform.pods(stage)[0]["metadata"]["name"]
    platform.kubectl(*TESTER, *own, "delete", "pod", pod, "--grace-period=1")
    platform.kubectl(*own, "rollout", "status", f"deployment/{APP}", "--timeout=90s")
    assert platform.digests(stage) == {prod.digest}


def test_the_deployer_moves_an_application_and_nothing_else_of_it(platform: Checkout, prod: Build) -> None:
    """The verbs may tell Argo CD another commit, to look again and to sync."""
    own = (*DEPLOYER, "-n", "argocd", "patch", "application", platform.pipeline.environments[-1].application)
    plain = {"initiatedBy": {"username": "delivery"}, "sync": {"revision": COMMIT, "prune": True}}
    for patch in (
        {"spec": {"source": {"targetRevision": COMMIT}}},
        {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}},
        {"operation": plain},
    ):
        platform.kubectl(*own, *merge(patch), "--dry-run=server")


def test_a_namespace_made_anew_has_what_guards_it(platform: Checkout, prod: Build) -> None:
    """Not even the platform makes prod again without the labels that guard it."""
    done = platform.kubectl(
        *roles.AS_PLATFORM, "create", "namespace", "prod", "--dry-run=server", check=False
    )
    assert lock(done) == "namespaces"
    assert "policy.sigstore.dev/include" in done.stderr


ENVIRONMENTS = [one.namespace for one in PIPELINE.environments]
BROUGHT = [f"{name}.{group}" for group, names in kinds.resources(ROOT).items() for name in names]
RBAC, ADMISSION = "rbac.authorization.k8s.io", "admissionregistration.k8s.io"
# Passwords, containers, tokens, rights, and a kind that the chart may not bring.
NOT_ITS_OWN = [
    *("get secrets", "list secrets", "create secrets", "create pods", "create pods/exec", "get pods/proxy"),
    *("create serviceaccounts/token", "impersonate serviceaccounts", "create cronjobs.batch"),
    *(f"create roles.{RBAC}", f"create rolebindings.{RBAC}", f"escalate roles.{RBAC}"),
]
WHOLE = [
    *(f"{name}.{RBAC}" for name in ("clusterroles", "clusterrolebindings")),
    *(f"validating{name}.{ADMISSION}" for name in ("admissionpolicies", "admissionpolicybindings")),
    *(f"validatingwebhookconfigurations.{ADMISSION}", "customresourcedefinitions.apiextensions.k8s.io"),
    *("namespaces", "nodes", "nodes/proxy"),
]


def may(platform: Checkout, questions: list[str], namespace: str = "") -> list[str]:
    """Those of the questions (`VERB RESOURCE[/SUBRESOURCE][.GROUP]`) to which RBAC says yes to Argo CD's controller."""
    reviews = []
    for question in questions:
        verb, _, what = question.partition(" ")
        name, _, group = what.partition(".")
        resource, _, subresource = name.partition("/")
        asked = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        reviews.append(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": asked | {"namespace": namespace}},
            }
        )
    text = "---\n".join(json.dumps(one) + "\n" for one in reviews)
    command = ("create", "-f", "-", "-o", 'jsonpath={.status.allowed}{"\\n"}')
    answers = platform.kubectl(*CONTROLLER, *command, input=text).stdout.split()
    return [question for question, said in zip(questions, answers, strict=True) if said == "true"]


@pytest.mark.parametrize("namespace", [*ENVIRONMENTS, "argocd", "default", "kube-system", "cosign-system"])
def test_argo_cd_writes_in_the_environments_alone(platform: Checkout, namespace: str) -> None:
    """Whoever takes Argo CD's controller over writes what the chart may bring, there, and nowhere else."""
    writes = [f"{verb} {kind}" for verb in ("create", "update", "patch", "delete") for kind in BROUGHT]
    assert may(platform, writes, namespace) == (writes if namespace in ENVIRONMENTS else [])


@pytest.mark.parametrize("namespace", [*ENVIRONMENTS, "kube-system", roles.home(APP)])
def test_argo_cd_sees_no_secret_and_gives_no_right(platform: Checkout, namespace: str) -> None:
    """It reads no password, enters no container, gets no token and makes nobody mightier, itself neither."""
    assert may(platform, NOT_ITS_OWN, namespace) == []


def test_argo_cd_is_no_administrator(platform: Checkout) -> None:
    """It takes no lock away; it looks everywhere, and keeps Applications in its own namespace as before."""
    writes = [f"{verb} {one}" for verb in ("create", "patch", "delete") for one in WHOLE]
    assert may(platform, [*writes, "* *.*"]) == []
    looks = ["list deployments.apps", "watch pods"]
    assert may(platform, looks, "kube-system") == looks
    assert may(platform, ["patch applications.argoproj.io"], "argocd")


def test_a_kind_that_is_not_allowed_is_named(platform: Checkout) -> None:
    """Where a project is loosened, the API server refuses what kinds.yaml does not name, and says who and what."""
    command = (
        "create",
        "cronjob",
        "cheat",
        "--image=x",
        "--schedule=0 0 1 1 *",
        "-n",
        PIPELINE.first.namespace,
    )
    done = platform.kubectl(*CONTROLLER, *command, check=False)
    assert lock(done) == "RBAC"
    assert 'cannot create resource "cronjobs" in API group "batch"' in done.stderr


def test_argo_cd_heals_and_prunes(platform: Checkout, prod: Build) -> None:
    """With the rights that it has, what somebody took from prod comes back, and what Git does not have goes."""
    last = PIPELINE.environments[-1]
    own = ("-n", last.namespace)
    tracked = f"{last.application}:/ConfigMap:{last.namespace}/stray"
    metadata = {"name": "stray", "namespace": last.namespace, "annotations": {TRACKING: tracked}}
    platform.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}, *CONTROLLER)
    platform.kubectl(*CONTROLLER, *own, "delete", "poddisruptionbudget", APP)

    def as_git_has_it() -> Reached[None] | Pending:
        there = ("get", f"poddisruptionbudget/{APP}", "configmap/stray", "--ignore-not-found", "-o", "name")
        names = platform.kubectl(*own, *there).stdout.split()
        return Reached(None) if names == [f"poddisruptionbudget.policy/{APP}"] else Pending(" ".join(names))

    def proven() -> Reached[None] | Pending:
        ran = platform.delivery("verify", last.name, expect=None)
        return Pending(ran.error) if ran.code else Reached(None)

    remedy = "see what Argo CD says of its Application"
    until("prod is as Git has it", as_git_has_it, 120, remedy)
    until("prod is proven again", proven, 60, remedy)  # Argo CD says so a moment later


def test_an_emergency_is_told_for_ever(platform: Checkout, prod: Build) -> None:
    """Whoever is on call opens stage with a name, a time and a reason, enters, and cannot take the trace away."""
    stage = GUARDED[0]
    namespace = platform.pipeline.environment(stage).namespace
    pod = platform.pods(stage)[0]["metadata"]["name"]
    eve = emergencies.ON_CALL
    enter = (*eve, "-n", namespace, "exec", pod, "--", "true")
    note = emergencies.annotate(platform, stage)
    before = emergencies.told(platform, stage)
    with emergencies.over_afterwards(platform, stage, prod.digest):
        assert lock(platform.kubectl(*enter, check=False)) == "writers"
        good = f"{emergencies.PERSON} {emergencies.now()} the database is full"
        for bad in (good.replace("eve", "bob"), good.replace(" the database is full", "  "), "yes"):
            done = platform.kubectl(*eve, *note, f"{roles.IN_EMERGENCY}={bad}", check=False)
            assert lock(done) == "namespaces"
        began = emergencies.begin(platform, stage, "the database is full")
        entered(platform, enter)
        assert lock(platform.kubectl("-n", namespace, "exec", pod, "--", "true", check=False)) == "writers"
        for who in (eve, ADMINISTRATOR, roles.AS_PLATFORM):
            done = platform.kubectl(*who, *note, f"{roles.IN_EMERGENCY}-", check=False)
            assert lock(done) == "namespaces"
        emergencies.end(platform, stage)
        [*others, told] = emergencies.told(platform, stage)
        assert (tuple(others), told.reason) == (before, "the database is full")
        assert str(told).startswith(f"{began} until ")
        shut(platform, enter)
        done = platform.kubectl(*roles.AS_PLATFORM, *note, f"{roles.EMERGENCIES}-", check=False)
        assert lock(done) == "namespaces"


def entered(platform: Checkout, enter: tuple[str, ...]) -> None:
    """The command works, within the moments in which the API server learns of the namespace's annotation."""
    end = time.monotonic() + 10
    while (done := platform.kubectl(*enter, check=False)).returncode and time.monotonic() < end:
        time.sleep(0.2)
    assert done.returncode == 0, done.stderr


def shut(platform: Checkout, enter: tuple[str, ...]) -> None:
    """The command is refused again, within the same moments."""
    end = time.monotonic() + 10
    while not (done := platform.kubectl(*enter, check=False)).returncode and time.monotonic() < end:
        time.sleep(0.2)
    assert lock(done) == "writers"
