"""From build to prod against a stand-in of the cluster's API: real Git, registry, cosign and Helm, played pods.

The real cluster is met in e2e/.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from delivery.build import image, provenance
from delivery.errors import BadInput, NotReached, Refused
from delivery.parts import values
from delivery.proof.decide import Verdict
from delivery.show import page, report
from delivery.signed import statements
from delivery.verbs import report as reporting
from scripts.tests.fake_cluster import REPOSITORY, connect
from scripts.tests.steps import (
    bare_promote,
    deploy,
    originate,
    prepare,
    promote,
    proofs,
    put,
    refused,
)

if TYPE_CHECKING:
    from conftest import Shelf

    from scripts.tests.fake_cluster import FakeCluster


def test_the_whole_way(cluster: FakeCluster, built: image.Built) -> None:
    """One digest goes dev, stage, prod, each step one commit, and the end is PROVEN everywhere."""
    steps = [deploy(cluster), promote(cluster, "stage"), promote(cluster, "prod")]
    assert {step.digest for step in steps} == {built.digest}
    assert [step.environment for step in steps] == ["dev", "stage", "prod"]
    assert cluster.world.commits() == [
        *("prod: manual-app 15", "stage: manual-app 15", "dev: manual-app 15"),
        "the beginning",
    ]
    found = proofs(cluster)
    assert {name: one.verdict for name, one in found.items()} == dict.fromkeys(found, Verdict.PROVEN), found
    assert all(set(step.seconds) == {"seen", "ready", "settled"} for step in steps)
    document = report.proof_document(cluster.world.context.site, found.values())
    assert document["verdict"] == "PROVEN"
    assert json.loads(json.dumps(document))["environments"][0]["desired"]["digest"] == built.digest


def test_prod_is_told_the_exact_commit(cluster: FakeCluster, built: image.Built) -> None:
    """Argo CD keeps stage and prod at the very commit that entered; dev follows main."""
    deploy(cluster)
    stage, prod = promote(cluster, "stage"), promote(cluster, "prod")
    told = {name: one["spec"]["source"].get("targetRevision") for name, one in cluster.applications.items()}
    assert told == {
        "manual-app-dev": "main",
        "manual-app-stage": stage.commit,
        "manual-app-prod": prod.commit,
    }
    assert cluster.operations == [], "it syncs by itself"


def test_again_changes_nothing(cluster: FakeCluster, built: image.Built) -> None:
    """The same step again: no commit, and still proven."""
    first, again = deploy(cluster), deploy(cluster)
    assert (first.new, again.new) == (True, False)
    assert cluster.world.commits()[0] == "dev: manual-app 15"
    assert len(cluster.world.commits()) == 2


def test_a_lost_refresh_is_repeated(cluster: FakeCluster, built: image.Built) -> None:
    """A refresh that Argo CD loses during a reconcile is asked again."""
    cluster.lose_refreshes = 2
    assert deploy(cluster).new


def test_nothing_deployed_before(cluster: FakeCluster, built: image.Built) -> None:
    """Nothing is in stage yet: prod refuses and says what comes first."""
    error = refused(
        cluster, Refused, r"values-stage\.yaml names no digest yet", lambda: promote(cluster, "prod")
    )
    assert error.hint == "first: delivery promote stage"
    error = refused(
        cluster, Refused, r"values-dev\.yaml names no digest yet", lambda: promote(cluster, "stage")
    )
    assert error.hint == "first: delivery deploy"


def test_stage_cannot_be_skipped(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """A digest that is in dev and not in stage does not enter prod."""
    deploy(cluster)
    promote(cluster, "stage")
    cluster.world.commit(cluster.world.checkout, "README.md", "", "start")
    cluster.world.git(cluster.world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    cluster.world.commit(cluster.world.checkout, "manual-app/app.py", "2\n", "two")
    newer = put(cluster, shelf, "16")
    deploy(cluster)
    refused(
        cluster,
        Refused,
        "stage asks for .*prod takes only what stage runs",
        lambda: promote(cluster, "prod", digest=newer.digest),
    )
    assert promote(cluster, "prod").digest == built.digest


def test_first_environment_is_not_promoted_to(cluster: FakeCluster, built: image.Built) -> None:
    """dev gets its digests from the build, not from a promotion."""
    refused(cluster, BadInput, "from the build", lambda: promote(cluster, "dev"))


@pytest.mark.parametrize("digest", ["latest", "sha256:short", f"sha256:{'A' * 64}", f"{REPOSITORY}@x"])
def test_malformed_digest(cluster: FakeCluster, digest: str) -> None:
    """A malformed digest is bad input, for deploy and promote alike."""
    refused(cluster, BadInput, "is not a digest", lambda: deploy(cluster, digest))
    refused(cluster, BadInput, "is not a digest", lambda: promote(cluster, "stage", digest=digest))


def test_digest_that_is_not_in_the_registry(cluster: FakeCluster) -> None:
    """A digest that the registry does not have is not deployed."""
    refused(cluster, BadInput, "not in the registry", lambda: deploy(cluster, f"sha256:{'0' * 64}"))


def test_digest_that_left_the_registry(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """A digest that was deleted from the registry is not promoted."""
    deploy(cluster)
    shelf.ask("DELETE", f"manifests/{built.digest}")
    refused(cluster, BadInput, "not in the registry", lambda: bare_promote(cluster, "stage"))


def test_commit_that_is_not_built(cluster: FakeCluster) -> None:
    """deploy of a commit without an image says to build it."""
    error = refused(cluster, BadInput, "is not built yet", lambda: deploy(cluster))
    assert error.hint == "build it: delivery build"


def test_image_of_somebody_elses_commit(cluster: FakeCluster, shelf: Shelf) -> None:
    """An image whose commit is not on main is not deployed."""
    digest = shelf.push("15", "f" * 40, "15")
    refused(cluster, BadInput, "which is not in main", lambda: deploy(cluster, digest))


def test_an_image_for_another_platform(cluster: FakeCluster, shelf: Shelf) -> None:
    """An image that no node of the cluster can run is refused before Git is written; an index that has one is not."""
    cluster.architecture = "arm64"
    amd = put(cluster, shelf, "15")
    refused(
        cluster, image.WrongPlatform, "is for linux/amd64, .* nodes are linux/arm64", lambda: deploy(cluster)
    )
    arm = shelf.push("15", amd.revision, architecture="arm64")
    digest = shelf.index({amd.digest: "linux/amd64", arm: "linux/arm64"}, amd.revision, "15")
    assert deploy(cluster).digest == digest


@pytest.mark.parametrize("shown", ["index", "child"])
def test_an_index_goes_all_the_way(cluster: FakeCluster, shelf: Shelf, shown: str) -> None:
    """CI's image for two platforms: the index's digest is promoted, whichever of its digests the nodes show."""
    amd = put(cluster, shelf, "15")
    arm = shelf.push("15", amd.revision, architecture="arm64")
    digest = shelf.index({amd.digest: "linux/amd64", arm: "linux/arm64"}, amd.revision, "15")
    originate(cluster, digest, amd.revision)
    cluster.shows = amd.digest if shown == "child" else ""
    deploy(cluster)
    assert promote(cluster, "stage").digest == digest
    found = proofs(cluster)
    assert [found[name].verdict for name in ("dev", "stage")] == [Verdict.PROVEN] * 2
    cluster.pods["stage"][0]["status"]["containerStatuses"][0]["imageID"] = f"{REPOSITORY}@sha256:{'0' * 64}"
    assert proofs(cluster)["stage"].verdict is Verdict.MISMATCH


def test_an_index_that_lost_a_child(cluster: FakeCluster, shelf: Shelf) -> None:
    """The index is there and one of its images is not: what runs is not what was promoted, MISMATCH."""
    amd = put(cluster, shelf, "15")
    arm = shelf.push("15", amd.revision, architecture="arm64")
    shelf.index({amd.digest: "linux/amd64", arm: "linux/arm64"}, amd.revision, "15")
    deploy(cluster)
    shelf.ask("DELETE", f"manifests/{arm}")
    found = proofs(cluster)["dev"]
    assert found.verdict is Verdict.MISMATCH
    assert any("which is not there" in reason for reason in found.mismatches)


def test_a_moved_tag(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """The build's tag points to another digest now: promotion refuses, and verify says MISMATCH."""
    deploy(cluster)
    shelf.push("15", built.revision, "15", layer=b"rebuilt elsewhere")
    refused(cluster, Refused, "tag 15 points to", lambda: promote(cluster, "stage"))
    found = proofs(cluster)["dev"]
    assert found.verdict is Verdict.MISMATCH
    assert any("tag 15 points to" in reason for reason in found.mismatches)


def test_what_we_did_not_build_goes_nowhere(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """An image that was pushed by hand for our commit, and tested, goes no further: no provenance, or another's."""
    digest = shelf.push("16", built.revision, "16", layer=b"by hand")
    cluster.revisions["16"] = built.revision
    deploy(cluster, digest)
    context, no = cluster.world.context, f"{digest[:19]} has no provenance that build signed"
    refused(cluster, Refused, no, lambda: promote(cluster, "stage"))
    ours = provenance.provenance(context, built.revision, {}, {}, "", "")
    statements.put(context, digest, statements.PROVENANCE, ours, "dev")
    refused(cluster, Refused, no, lambda: bare_promote(cluster, "stage"))
    theirs = json.loads(json.dumps(ours).replace(context.site.git.for_argocd, "https://git.example/evil.git"))
    strange = ours | {"runDetails": {"builder": {"id": "somebody"}}}
    for one in (theirs, strange, {"runDetails": "none"}):
        statements.put(context, digest, statements.PROVENANCE, one, "build")
        why = f"the provenance of {digest[:19]} is not that of a build of git\\+"
        refused(cluster, Refused, why, lambda: bare_promote(cluster, "stage"))
    originate(cluster, digest, built.revision)
    assert bare_promote(cluster, "stage").digest == digest


def test_source_that_runs_something_else(cluster: FakeCluster, built: image.Built) -> None:
    """A pod in stage was changed behind Git's back: prod refuses with the pod's name."""
    deploy(cluster)
    promote(cluster, "stage")
    cluster.pods["stage"][0]["status"]["containerStatuses"][0]["imageID"] = f"{REPOSITORY}@sha256:{'0' * 64}"
    refused(cluster, Refused, "stage: pod manual-app-15-0", lambda: promote(cluster, "prod"))


def test_source_that_is_not_ready(cluster: FakeCluster, built: image.Built) -> None:
    """One pod in stage is not Ready: what it runs is not proven, and prod stays as it is."""
    deploy(cluster)
    promote(cluster, "stage")
    cluster.pods["stage"][0]["status"]["conditions"] = []
    error = refused(cluster, NotReached, "1 of 2 replicas are Ready", lambda: promote(cluster, "prod"))
    assert error.exit_code == 3


def test_rollout_that_does_not_come(cluster: FakeCluster, built: image.Built) -> None:
    """Pods that never get Ready: within its limit it says so, and what it last saw."""
    cluster.starts_ready = False
    with pytest.raises(NotReached, match="not within 1 s; last seen: 0 of 1 replicas"):
        deploy(cluster)


def test_an_image_that_is_not_there_is_not_waited_for(cluster: FakeCluster, built: image.Built) -> None:
    """The migration's image cannot be pulled: the wait ends at once, with the pod and what the node says."""
    message = f"failed to resolve {REPOSITORY}: not found"
    state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
    job = {
        "metadata": {"name": "manual-app-migrate", "ownerReferences": [{"kind": "Job"}]},
        "spec": {"containers": [{"name": "migrate", "image": REPOSITORY}]},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "migrate", "state": state}]},
    }
    cluster.beside.append(job)
    cluster.starts_ready = False
    with pytest.raises(
        NotReached, match=r"manual-app-migrate, container migrate: ImagePullBackOff: .*not found"
    ):
        deploy(cluster)


def test_a_wait_says_why(cluster: FakeCluster, built: image.Built) -> None:
    """A pod that crashes again and again is named when the time is over, not only counted."""
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    crashing = {
        "metadata": {"name": "manual-app-migrate", "ownerReferences": [{"kind": "Job"}]},
        "spec": {"containers": [{"name": "migrate", "image": REPOSITORY}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "migrate", "state": state}]},
    }
    cluster.beside.append(crashing)
    cluster.starts_ready = False
    with pytest.raises(NotReached, match=r"last seen: 0 of 1 .*container migrate: CrashLoopBackOff"):
        deploy(cluster)


def test_sync_that_fails(cluster: FakeCluster, built: image.Built) -> None:
    """A sync that fails ends the wait at once, with Argo CD's own reason."""
    cluster.sync_fails = "one or more synchronization tasks failed: job migrate failed"
    with pytest.raises(NotReached, match="job migrate failed"):
        deploy(cluster)


def test_release_tag(cluster: FakeCluster, built: image.Built) -> None:
    """A release tag that is missing or points elsewhere is refused; one of the built commit is taken."""
    world = cluster.world
    deploy(cluster)
    promote(cluster, "stage")
    refused(cluster, BadInput, "has no tag v1.0", lambda: promote(cluster, "prod", tag="v1.0"))
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    other = world.clone("other")
    world.commit(other, "manual-app/app.py", "2\n", "two")
    world.git(other, "tag", "--annotate", "--message", "one", "v1.0")
    world.git(other, "push", "--quiet", "origin", "v1.0")
    refused(cluster, BadInput, "tag v1.0 is source commit", lambda: promote(cluster, "prod", tag="v1.0"))
    world.git(world.checkout, "tag", "--annotate", "--message", "one", "v1.1")
    world.git(world.checkout, "push", "--quiet", "origin", "v1.1")
    assert promote(cluster, "prod", tag="v1.1").digest == built.digest


def test_values_malformed_in_git(cluster: FakeCluster, built: image.Built) -> None:
    """A values file that somebody broke stops the promotion before anything is written."""
    deploy(cluster)
    world = cluster.world
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    world.commit(world.checkout, "manual-app-helm/values-stage.yaml", "image: [\n", "oops")
    world.git(world.checkout, "push", "--quiet", "origin", "main")
    refused(cluster, BadInput, r"values-stage\.yaml:.*not YAML", lambda: promote(cluster, "stage"))


def test_chart_that_does_not_pin(cluster: FakeCluster, built: image.Built) -> None:
    """A chart that names the image by its tag is refused before anything is written."""
    world = cluster.world
    template = "manual-app-helm/templates/app.yaml"
    by_tag = world.file(template).replace("@{{ .Values.image.digest }}", ":{{ .Values.image.tag }}")
    world.commit(world.checkout, template, by_tag, "by tag")
    world.git(world.checkout, "push", "--quiet", "origin", "main")
    refused(cluster, BadInput, "the chart renders .*:15 for dev", lambda: deploy(cluster))


def test_main_moves_and_prod_does_not(cluster: FakeCluster, built: image.Built) -> None:
    """The chart changes on main after the release: stage and prod stay proven at what entered."""
    deploy(cluster)
    promote(cluster, "stage")
    promote(cluster, "prod")
    world = cluster.world
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    name = "manual-app-helm/values.yaml"
    world.commit(world.checkout, name, world.file(name) + "# more\n", "chart")
    world.git(world.checkout, "push", "--quiet", "origin", "main")
    found = proofs(cluster)
    for name in ("stage", "prod"):
        assert found[name].verdict is Verdict.PROVEN, found[name].reasons
        assert any("until something enters" in note for note in found[name].notes)
    assert found["dev"].verdict is Verdict.UNKNOWN
    assert "Git asks for something newer" in found["dev"].reasons[0]


def test_values_changed_by_hand(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """Another digest in values-prod.yaml that nobody synced: MISMATCH, for prod still runs the old one."""
    deploy(cluster)
    promote(cluster, "stage")
    promote(cluster, "prod")
    world = cluster.world
    other = shelf.push("16", built.revision, "16", layer=b"x")
    name = "manual-app-helm/values-prod.yaml"
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    changes = {("image", "tag"): "16", ("image", "digest"): other}
    world.commit(world.checkout, name, values.replace(world.file(name), changes, name), "by hand")
    world.git(world.checkout, "push", "--quiet", "origin", "main")
    assert proofs(cluster)["prod"].verdict is Verdict.MISMATCH


def test_a_cluster_that_cannot_be_read(cluster: FakeCluster, built: image.Built) -> None:
    """The API server does not answer, or Git, or the registry: UNKNOWN with the reason, never PROVEN."""
    deploy(cluster)
    world = cluster.world
    connect(world, "http://127.0.0.1:1")
    found = proofs(cluster)["dev"]
    assert found.verdict is Verdict.UNKNOWN
    assert any("does not answer" in reason for reason in found.unknowns)
    world.server.rename(world.server.with_name("gone"))
    assert proofs(cluster)["dev"].verdict is Verdict.UNKNOWN


def test_history_and_status(
    cluster: FakeCluster, built: image.Built, capsys: pytest.CaptureFixture[str]
) -> None:
    """status says what each environment could take next, and why not."""
    deploy(cluster)
    context = cluster.world.context
    report.print_status(reporting.status(context))
    printed = capsys.readouterr().out
    assert "stage cannot take build 15 yet:\n  dev has no evidence about sha256:" in printed
    assert "PROVEN" in printed
    prepare(cluster, "stage")
    status = reporting.status(context)
    [following] = report.status_document(context.site, status)["next"]
    assert (following["environment"], following["allowed"], following["new"]) == ("stage", True, True)
    report.print_status(status)
    assert "stage can take build 15: delivery promote stage" in capsys.readouterr().out
    document = report.report_document(context.site, reporting.report(context))
    assert [one["newest"] and one["newest"]["result"] for one in document["tests"]] == ["PASSED"]
    [lead] = document["lead_times"]
    assert (lead["build"], lead["environment"], lead["digest"]) == ("15", "dev", built.digest)
    assert lead["seconds"] > 0
    text = page.html(document)
    assert f"manual-app@{built.digest}" in text
    assert "delivery promote stage" in text
    subprocess.run(["git", "-C", str(cluster.world.server), "fsck"], check=True, capture_output=True)
