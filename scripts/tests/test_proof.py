"""The proof: PROVEN only when every piece is there and all agree; each way to fall short has its reason."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from delivery import pipeline as pipelines
from delivery.desired.manifests import Desired
from delivery.errors import Unknown
from delivery.parts.argocd import Application
from delivery.proof.decide import Answer, Container, Entered, Facts, Image, Pod, Verdict, decide, identity
from delivery.proof.findings import Findings
from delivery.proof.locks import Locks
from delivery.signed import entry
from scripts.tests.world import ROOT

PIPELINE = pipelines.load(ROOT)
DIGEST, OTHER, BASE = (f"sha256:{letter * 64}" for letter in "abc")
REPOSITORY = "registry.local:5000/manual-app"
APP, DATABASE = f"{REPOSITORY}@{DIGEST}", f"registry.local:5000/platform/postgresql@{BASE}"
REVISION, COMMIT, MANIFESTS = "d" * 40, "e" * 40, "7" * 64


def container(image: str = APP, kind: str = "app", name: str = "manual-app") -> Container:
    return Container(name, kind, image, image)  # type: ignore[arg-type]


def pod(name: str, image: str = APP, app: str = "manual-app") -> Pod:
    return Pod(name, app, "Running", True, False, False, (container(image, name=app),))


MIGRATED = replace(
    pod("migrate-1", app="manual-app-migrate"),
    phase="Succeeded",
    ready=False,
    job=True,
    containers=(replace(container(name="migrate"), state="Completed"),),
)
ARGOCD = Application(
    name="manual-app-stage",
    target="main",
    revision=COMMIT,
    sync="Synced",
    health="Healthy",
    told=COMMIT,
    operation="Succeeded",
    operation_revision=COMMIT,
    automated=True,
    message="",
    errors=(),
    syncing=False,
    refreshing=False,
    reconciled="",
    version="1",
)
GOOD = Facts(
    environment="stage",
    release="manual-app",
    follows=True,
    desired=Desired(COMMIT, REPOSITORY, DIGEST, "15", 2, frozenset({APP, DATABASE}), MANIFESTS),
    entered=None,
    asked="",
    moved=False,
    argocd=ARGOCD,
    current=True,
    asleep=None,
    pods=(pod("a"), pod("b"), pod("db", DATABASE, "postgresql"), MIGRATED),
    answers={name: Answer("15", REVISION, "stage") for name in "ab"},
    image=Image(DIGEST, "15", REVISION),
    foreign=(),
    overrides=Findings(),
    strays=Findings(),
    objects=Findings(),
    locks=Locks(),
)


ENTRY = entry.release(PIPELINE.environment("stage"), COMMIT, COMMIT, MANIFESTS, "promotion")
ENTERED = Entered(COMMIT, COMMIT, DIGEST, ENTRY)
# The same where a gate signed what entered, and Argo CD is told to keep it.
LET_IN = replace(GOOD, follows=False, argocd=replace(ARGOCD, target=COMMIT), entered=ENTERED, asked=DIGEST)


def with_pod(changed: Pod, facts: Facts = GOOD) -> Facts:
    """The same facts with this pod instead of the one of its name, or besides."""
    assert isinstance(facts.pods, tuple)
    others = tuple(one for one in facts.pods if one.name != changed.name)
    return replace(facts, pods=(*others, changed))


def argocd(**changes: object) -> Facts:
    return replace(GOOD, argocd=replace(ARGOCD, **changes))  # type: ignore[arg-type]


def answers(**changes: str) -> Facts:
    return replace(
        GOOD, answers=dict(GOOD.answers) | {"a": replace(Answer("15", REVISION, "stage"), **changes)}
    )


def surplus(facts: Facts) -> Facts:
    """The same with a third replica, which is Ready and answers as it must."""
    return with_pod(pod("c"), replace(facts, answers=dict(facts.answers) | {"c": facts.answers["a"]}))


CHILD, STRANGER = (f"sha256:{letter * 64}" for letter in "12")
INDEX = replace(GOOD, image=Image(DIGEST, "15", REVISION, frozenset({CHILD})))


def shows(digest: str, facts: Facts = INDEX) -> Facts:
    """The same with a pod that was started as Git asks, and whose node shows this digest."""
    shown = replace(container(), image_id=f"{REPOSITORY}@{digest}")
    return with_pod(replace(pod("a"), containers=(shown,)), facts)


@pytest.mark.parametrize("digest", [DIGEST, CHILD])
def test_an_index_is_proven_by_its_digest_or_its_child(digest: str) -> None:
    """A node may show the index that Git asks for, or the image in it for its own platform: PROVEN."""
    assert decide(shows(digest)).reasons == ()


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (shows(STRANGER), "runs .*222222222222, Git asks for sha256:aaaaaaaaaaaa"),
        (shows(CHILD, GOOD), "runs .*111111111111"),
        (
            with_pod(replace(pod("a"), containers=(container(f"{REPOSITORY}@{CHILD}"),)), INDEX),
            "was started as .*111111111111, not as Git asks",
        ),
        (
            with_pod(replace(pod("db", f"{DATABASE[:-64]}{CHILD[7:]}", "postgresql")), INDEX),
            "container postgresql runs",
        ),
        (
            replace(
                INDEX, image=Image(DIGEST, "", "", contradictions=("the index lists what is not there",))
            ),
            "^the index lists what is not there$",
        ),
    ],
)
def test_a_digest_that_the_index_does_not_name_is_a_mismatch(facts: Facts, reason: str) -> None:
    """A node that shows another digest, or an index that is not what was pushed: MISMATCH, and nothing less."""
    proof = decide(facts)
    assert proof.verdict is Verdict.MISMATCH
    assert any(re.search(reason, one) for one in proof.mismatches), proof.mismatches


def test_a_child_is_unknown_while_the_registry_is_away() -> None:
    """While nobody can say what the index names, a node that shows another digest of ours is UNKNOWN."""
    facts = replace(INDEX, image=Unknown("registry localhost:5001 does not answer"))
    proof = decide(shows(CHILD, facts))
    assert (proof.verdict, proof.mismatches) == (Verdict.UNKNOWN, ())
    assert any("whether that is an image of the index" in one for one in proof.unknowns)
    assert decide(shows(DIGEST, facts)).unknowns == ("registry localhost:5001 does not answer",)
    assert decide(with_pod(pod("a", f"evil.example/manual-app@{CHILD}"), facts)).verdict is Verdict.MISMATCH


def test_proven() -> None:
    """All replicas run the digest, are Ready and say so, the rest is what the chart names: PROVEN."""
    proof = decide(GOOD)
    assert (proof.verdict, proof.reasons, proof.notes) == (Verdict.PROVEN, (), ())


MISMATCHES: dict[str, tuple[Facts, str]] = {
    "another digest": (
        with_pod(pod("a", f"{REPOSITORY}@{OTHER}")),
        r"pod a, container manual-app runs .*bbbbbbbbbbbb, Git asks for sha256:aaaaaaaaaaaa",
    ),
    "another repository": (with_pod(pod("a", f"evil.example/manual-app@{DIGEST}")), "evil.example"),
    "started by tag": (
        with_pod(replace(pod("a"), containers=(replace(container(), image=f"{REPOSITORY}:15"),))),
        "was started as .*:15, not as Git asks",
    ),
    "loaded by hand, without a repository": (
        with_pod(replace(pod("a"), containers=(replace(container(), image_id=DIGEST),))),
        "pod a, container manual-app runs sha256:aaaaaaaaaaaa",
    ),
    "asks for another digest, not started": (
        with_pod(
            replace(pod("a"), containers=(Container("manual-app", "app", f"{REPOSITORY}@{OTHER}", ""),))
        ),
        "was started as",
    ),
    "an init container": (
        with_pod(
            replace(pod("a"), containers=(container(), container(f"{REPOSITORY}@{OTHER}", "init", "i")))
        ),
        r"container i \(init\) runs",
    ),
    "an ephemeral container": (
        with_pod(replace(pod("a"), containers=(container(), container(DATABASE, "ephemeral", "debug")))),
        r"container debug \(ephemeral\) runs",
    ),
    "a sidecar": (
        with_pod(replace(pod("a"), containers=(container(), container(DATABASE, name="proxy")))),
        "container proxy runs",
    ),
    "a stranger in the namespace": (with_pod(pod("x", "docker.io/library/busybox@" + OTHER, "x")), "pod x"),
    "an older build without the label": (with_pod(pod("x", f"{REPOSITORY}@{OTHER}", "")), "pod x"),
    "the database is another image": (
        with_pod(pod("db", f"registry.local:5000/platform/postgresql@{OTHER}", "postgresql")),
        "pod db, container postgresql runs",
    ),
    "a finished migration of another digest": (
        with_pod(replace(MIGRATED, containers=(container(f"{REPOSITORY}@{OTHER}", name="migrate"),))),
        "pod migrate-1, container migrate runs",
    ),
    "a terminating stranger": (
        with_pod(replace(pod("x", f"evil.example/x@{OTHER}", ""), terminating=True)),
        "which Git never asked for",
    ),
    "one that failed, from elsewhere": (
        with_pod(replace(pod("x", f"evil.example/x@{OTHER}", ""), phase="Failed")),
        "which Git never asked for",
    ),
    "one replica of three is wrong": (with_pod(pod("c", f"{REPOSITORY}@{OTHER}")), "pod c"),
    "answers another build": (answers(build="14"), "pod a says it is build 14, Git asks for 15"),
    "answers another revision": (answers(revision="f" * 40), "pod a says it was built from ffffffffffff"),
    "answers another environment": (answers(environment="prod"), "pod a says it is in prod, not stage"),
    "the tag points elsewhere": (
        replace(GOOD, image=Image(OTHER, "15", REVISION)),
        "tag 15 points to sha256:bbbbbbbbbbbb in the registry, not to sha256:aaaaaaaaaaaa",
    ),
    "the tag is missing": (
        replace(GOOD, image=Image(None, "15", REVISION)),
        "tag 15 .* is not in the registry",
    ),
    "the image says another build": (replace(GOOD, image=Image(DIGEST, "16", REVISION)), "the image says 16"),
    "live objects differ": (argocd(sync="OutOfSync"), "live objects differ from Git"),
    "a replica more than asked for": (surplus(GOOD), "^3 replicas, Git asks for 2$"),
    "a replica more than an autoscaler may choose": (
        surplus(replace(GOOD, desired=replace(GOOD.desired, replicas=1, most=2))),  # type: ignore[type-var]
        "^3 replicas, Git asks for 2$",
    ),
    "a commit that the branch never had": (
        replace(GOOD, foreign=("f" * 40,)),
        "Argo CD is at ffffffffffff, which the branch in Git never had",
    ),
    "an Application with overrides": (replace(GOOD, overrides=Findings(("patched",))), "^patched$"),
    "a pod that is not as rendered": (replace(GOOD, strays=Findings(("stranger",))), "^stranger$"),
}

UNKNOWNS: dict[str, tuple[Facts, str]] = {
    "Git cannot be read": (replace(GOOD, desired=Unknown("no Git"), image=Unknown("no Git")), "no Git"),
    "nothing is asked for": (replace(GOOD, desired=Unknown("names no digest yet")), "no digest yet"),
    "Argo CD cannot be read": (replace(GOOD, argocd=Unknown("no Argo CD")), "no Argo CD"),
    "pods cannot be read": (replace(GOOD, pods=Unknown("no cluster"), answers={}), "no cluster"),
    "the registry cannot be read": (replace(GOOD, image=Unknown("no registry")), "no registry"),
    "no pods at all": (replace(GOOD, pods=(), answers={}), "0 of 2 replicas"),
    "no pods of the app": (
        replace(GOOD, pods=(pod("db", DATABASE, "postgresql"),), answers={}),
        "0 of 2 replicas",
    ),
    "no pods, and none asked for": (
        replace(GOOD, desired=replace(GOOD.desired, replicas=0), pods=(), answers={}),  # type: ignore[type-var]
        "0 of 1 replicas",
    ),
    "one replica is missing": (replace(GOOD, pods=(pod("a"),)), "1 of 2 replicas"),
    "one replica is not Ready": (with_pod(replace(pod("a"), ready=False)), "pod a is not Ready"),
    "one more is starting": (with_pod(replace(pod("c"), ready=False)), "pod c is not Ready"),
    "a pod does not say what it runs": (
        with_pod(
            replace(pod("a"), containers=(Container("manual-app", "app", APP, "", "ImagePullBackOff"),))
        ),
        r"does not say what it runs \(ImagePullBackOff\)",
    ),
    "another pod does not say what it runs": (
        with_pod(replace(pod("db"), app="postgresql", containers=(Container("db", "app", DATABASE, ""),))),
        "pod db, container db does not say",
    ),
    "a failed pod never said what it ran": (
        with_pod(replace(pod("x"), phase="Failed", containers=(Container("manual-app", "app", APP, ""),))),
        "pod x",
    ),
    "a pod shows no containers": (
        with_pod(replace(pod("x", app="x"), containers=())),
        "pod x shows no containers",
    ),
    "only terminating replicas": (
        replace(GOOD, pods=tuple(replace(pod(n), terminating=True) for n in "ab")),
        "0 of 2 replicas",
    ),
    "a replica was not asked": (
        replace(GOOD, answers={"a": GOOD.answers["a"]}),
        "pod b does not say what it is",
    ),
    "a replica did not answer": (
        replace(GOOD, answers=dict(GOOD.answers) | {"b": Unknown("timeout")}),
        "pod b does not say what it is: timeout",
    ),
    "Argo CD does not run": (
        replace(GOOD, asleep=Unknown("Argo CD's repo-server does not run")),
        "Argo CD's repo-server does not run",
    ),
    "Argo CD is behind": (replace(GOOD, current=False), "Git asks for something newer"),
    "Argo CD is syncing": (argocd(syncing=True), "still syncing"),
    "Argo CD cannot compare": (argocd(errors=("ComparisonError: no",)), "ComparisonError"),
    "Argo CD does not know": (argocd(sync="Unknown"), "does not know whether it is in sync"),
    "Argo CD sees it progressing": (argocd(health="Progressing"), "calls it Progressing"),
    "Argo CD sees it degraded": (argocd(health="Degraded"), "calls it Degraded"),
    "the image names no commit": (replace(GOOD, image=Image(DIGEST, "15", "")), "from which commit"),
    "a replica more while Argo CD sees it progressing": (
        surplus(argocd(health="Progressing")),
        "^3 replicas, Git asks for 2$",
    ),
    "a replica more while Argo CD syncs": (surplus(argocd(syncing=True)), "^3 replicas, Git asks for 2$"),
    "the branch cannot be read again": (replace(GOOD, foreign=Unknown("no Git")), "no Git"),
    "the Application cannot be compared": (replace(GOOD, overrides=Unknown("no rights")), "no rights"),
    "Argo CD compared with another spec": (
        replace(GOOD, overrides=Findings(unknowns=("not compared",))),
        "not compared",
    ),
    "the objects cannot be read": (replace(GOOD, strays=Unknown("403")), "403"),
    "an object is not there": (replace(GOOD, strays=Findings(unknowns=("not there",))), "not there"),
    "prod was never told anything": (
        replace(LET_IN, argocd=replace(ARGOCD, target=COMMIT, revision=""), current=False),
        "at no commit, eeeeeeeeeeee entered",
    ),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_mismatch(name: str) -> None:
    """Whatever contradicts what Git asks is MISMATCH, and the reason names it."""
    facts, reason = MISMATCHES[name]
    proof = decide(facts)
    assert proof.verdict is Verdict.MISMATCH
    assert any(re.search(reason, said) for said in proof.mismatches), proof.mismatches


@pytest.mark.parametrize("name", UNKNOWNS)
def test_unknown(name: str) -> None:
    """Whatever is missing is UNKNOWN, never PROVEN, and the reason names it."""
    facts, reason = UNKNOWNS[name]
    proof = decide(facts)
    assert proof.verdict is Verdict.UNKNOWN
    assert any(re.search(reason, said) for said in proof.unknowns), proof.unknowns


@pytest.mark.parametrize("missing", ["argocd", "answers"])
@pytest.mark.parametrize("wrong", [n for n in MISMATCHES if "answers" not in n and "live" not in n])
def test_what_is_missing_does_not_hide_what_is_wrong(wrong: str, missing: str) -> None:
    """MISMATCH outweighs UNKNOWN as long as what shows it can be read."""
    gone = Unknown("gone") if missing == "argocd" else {}
    assert decide(replace(MISMATCHES[wrong][0], **{missing: gone})).verdict is Verdict.MISMATCH  # type: ignore[arg-type]


WITHOUT: list[Callable[[Facts], Facts]] = [
    lambda f: replace(f, desired=Unknown("gone")),
    lambda f: replace(f, argocd=Unknown("gone")),
    lambda f: replace(f, pods=Unknown("gone")),
    lambda f: replace(f, pods=()),
    lambda f: replace(f, foreign=Unknown("gone")),
    lambda f: replace(f, overrides=Unknown("gone")),
    lambda f: replace(f, strays=Unknown("gone")),
    lambda f: replace(f, answers={}),
    lambda f: replace(f, image=Unknown("gone")),
    *(
        lambda f, left=left: replace(f, pods=tuple(p for p in f.pods if p.name != left))  # type: ignore[misc]
        for left in "ab"
    ),
    *(
        lambda f, kind=kind: replace(  # type: ignore[misc]
            f,
            pods=tuple(
                replace(p, containers=tuple(replace(c, image_id="") for c in p.containers))
                if p.app == kind
                else p
                for p in f.pods
            ),
        )
        for kind in ("manual-app", "postgresql", "manual-app-migrate")
    ),
    *(
        lambda f, field=field: replace(  # type: ignore[misc]
            f, answers={n: replace(a, **{field: ""}) for n, a in f.answers.items()}
        )
        for field in ("build", "revision", "environment")
    ),
]


@pytest.mark.parametrize("without", range(len(WITHOUT)))
@pytest.mark.parametrize("facts", [GOOD, LET_IN], ids=["followed", "let in"])
def test_nothing_missing_is_proven(without: int, facts: Facts) -> None:
    """Take any piece away from a proof: it is not PROVEN any more."""
    assert decide(facts).verdict is Verdict.PROVEN
    assert decide(WITHOUT[without](facts)).verdict is not Verdict.PROVEN


@pytest.mark.parametrize(
    "leaving",
    [
        replace(pod("old", f"{REPOSITORY}@{OTHER}"), terminating=True),
        replace(pod("old", f"{REPOSITORY}@{OTHER}"), terminating=True, ready=False, containers=()),
        replace(pod("old", f"{REPOSITORY}@{OTHER}", "manual-app-migrate"), phase="Failed", job=True),
    ],
)
def test_old_pods_on_their_way_out(leaving: Pod) -> None:
    """A pod of our older digest that terminates or failed for good is reported, and proves nothing."""
    if not leaving.containers:
        assert decide(with_pod(leaving)).verdict is Verdict.UNKNOWN
        return
    proof = decide(with_pod(leaving))
    assert proof.verdict is Verdict.PROVEN
    assert any("pod old" in note for note in proof.notes)


def test_prod_stays_while_main_moves() -> None:
    """main moved on and nothing entered: what entered is proven, and that is said."""
    proof = decide(replace(LET_IN, moved=True))
    assert proof.verdict is Verdict.PROVEN
    assert any("stays at eeeeeeeeeeee until something enters" in note for note in proof.notes)


OTHER_COMMIT = "f" * 40


@pytest.mark.parametrize(
    ("changes", "verdict", "says"),
    [
        ({"entered": None, "asked": ""}, "UNKNOWN", "nothing entered stage yet"),
        ({"entered": Unknown("the registry is away")}, "UNKNOWN", "the registry is away"),
        (
            {"entered": replace(ENTERED, entry=None)},
            "MISMATCH",
            "no entry of sha256:aaaaaaaaaaaa into stage names",
        ),
        (
            {"entered": replace(ENTERED, entry=None, rejected=("it was changed",))},
            "MISMATCH",
            "names eeeeeeeeeeee: it was changed",
        ),
        (
            {"entered": replace(ENTERED, entry=ENTRY.model_copy(update={"commit": OTHER_COMMIT}))},
            "MISMATCH",
            "the entry is about ffffffffffff, not eeeeeeeeeeee",
        ),
        (
            {"desired": replace(GOOD.desired, manifests="9" * 64)},
            "MISMATCH",
            "renders other manifests than those that entered",
        ),
        ({"asked": OTHER}, "MISMATCH", "Git's values ask for sha256:bbbbbbbbbbbb, which never entered stage"),
        ({"asked": Unknown("not YAML")}, "UNKNOWN", "not YAML"),
        (
            {"argocd": replace(ARGOCD, target=OTHER_COMMIT, revision=OTHER_COMMIT), "current": False},
            "MISMATCH",
            f"told to keep stage at {OTHER_COMMIT}, and eeeeeeeeeeee entered",
        ),
        (
            {"argocd": replace(ARGOCD, target="", revision=OTHER_COMMIT), "current": False},
            "MISMATCH",
            "told to keep stage at the repository's HEAD",
        ),
    ],
)
def test_only_what_entered_is_proven(changes: dict[str, Any], verdict: str, says: str) -> None:
    """A guarded environment is proven at the commit that its gate signed, with the entry that belongs to it, or not."""
    proof = decide(replace(LET_IN, **changes))
    assert proof.verdict == verdict
    assert any(says in reason for reason in proof.reasons), proof.reasons


def test_a_tag_that_is_where_it_should_be() -> None:
    """A strategy with tags: Argo CD follows v1.0, which is at the commit that entered: proven, and said."""
    proof = decide(replace(LET_IN, argocd=replace(ARGOCD, target="v1.0")))
    assert proof.verdict is Verdict.PROVEN
    assert "stage follows v1.0, which is at eeeeeeeeeeee now" in proof.notes


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (APP, (REPOSITORY, DIGEST)),
        (f"docker-pullable://{APP}", (REPOSITORY, DIGEST)),
        (f"{REPOSITORY}:15@{DIGEST}", (f"{REPOSITORY}:15", DIGEST)),
        (DIGEST, None),
        (f"{REPOSITORY}:15", None),
        (APP[:-1], None),
        ("", None),
    ],
)
def test_identity(text: str, found: tuple[str, str] | None) -> None:
    """An image is its repository and its whole digest, nothing less."""
    assert identity(text) == found
