"""The strategy release-branch against the played cluster: `release`, signed tags, and nothing else that changes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from delivery.build import image
from delivery.desired import change, tags
from delivery.errors import BadInput, DeliveryError, Refused
from delivery.parts import openpgp
from delivery.parts.git import Repository
from delivery.pipeline import Developer
from delivery.proof.decide import Verdict
from delivery.signed import commits
from delivery.verbs import enter as entering
from delivery.verbs import promote as promoting
from delivery.verbs import report as reporting
from delivery.verbs import rollback as rolling
from scripts.tests.steps import by, deploy, newer, originate, prepared, proofs, refs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Shelf

    from delivery.verbs.carry import Promotion
    from scripts.tests.fake_cluster import FakeCluster
    from scripts.tests.world import World


@pytest.fixture
def cluster(cluster: FakeCluster) -> FakeCluster:
    """The cluster of a pipeline with this strategy."""
    return by(cluster, "release-branch")


def promote(cluster: FakeCluster, name: str, **options: str) -> Promotion:
    """Promote with all that the gate asks for."""
    prepared(cluster, name)
    context = cluster.world.context
    return promoting.promote(context, context.environment(name), **options)  # type: ignore[arg-type]


def enter(cluster: FakeCluster, name: str, version: str | None = None) -> Promotion:
    """`delivery enter`, whatever the gate will say."""
    context = cluster.world.context
    return entering.enter(context, context.environment(name), version)


def rollback(cluster: FakeCluster, name: str, digest: str | None = None) -> Promotion:
    context = cluster.world.context
    return rolling.rollback(context, context.environment(name), digest)


def at(world: World, name: str) -> str:
    """The commit that a name stands for on the server."""
    return world.git(world.server, "rev-parse", f"{name}^{{commit}}")


def refused(
    cluster: FakeCluster, kind: type[DeliveryError], says: str, ask: Callable[[], object]
) -> DeliveryError:
    """It is refused with that reason and a hint, and no branch, tag or Application is other than before."""
    told = {name: dict(one["spec"]["source"]) for name, one in cluster.applications.items()}
    before = refs(cluster.world)
    with pytest.raises(kind, match=says) as error:
        ask()
    assert error.value.hint
    assert refs(cluster.world) == before
    assert {name: one["spec"]["source"] for name, one in cluster.applications.items()} == told
    return error.value


def proven(cluster: FakeCluster) -> None:
    """Every environment is PROVEN."""
    for name, one in proofs(cluster).items():
        assert one.verdict is Verdict.PROVEN, (name, one.reasons)


def against(cluster: FakeCluster, name: str) -> str:
    """Why an environment is a MISMATCH."""
    found = proofs(cluster)[name]
    assert found.verdict is Verdict.MISMATCH, found.reasons
    return "; ".join(found.mismatches)


def everywhere(cluster: FakeCluster) -> tuple[Promotion, Promotion, Promotion]:
    """From build to prod."""
    return deploy(cluster), promote(cluster, "stage"), promote(cluster, "prod")


def uids(cluster: FakeCluster) -> list[str]:
    return [pod["metadata"]["uid"] for pods in cluster.pods.values() for pod in pods]


def test_moving_the_ref_moves_the_digest(cluster: FakeCluster, built: image.Built) -> None:
    """main to dev, `release` to stage, v1.0 to prod: one commit on main, whose tree each tag has; PROVEN."""
    world = cluster.world
    dev, stage, prod = everywhere(cluster)
    assert {one.digest for one in (dev, stage, prod)} == {built.digest}
    assert world.commits() == ["dev: manual-app 15", "the beginning"]
    assert (stage.tag, prod.tag) == ("stage-1", "v1.0")
    assert at(world, "release") == dev.commit
    for tag in ("stage-1", "v1.0"):
        assert at(world, f"{tag}^{{commit}}^") == dev.commit, (
            "its gate signed a commit on top, which changes nothing"
        )
        assert world.git(world.server, "rev-parse", f"{tag}^{{tree}}") == world.git(
            world.server, "rev-parse", f"{dev.commit}^{{tree}}"
        )
    told = {name: one["spec"]["source"].get("targetRevision") for name, one in cluster.applications.items()}
    assert told == {"manual-app-dev": "main", "manual-app-stage": "stage-1", "manual-app-prod": "v1.0"}
    proven(cluster)
    for name in ("dev", "stage", "prod"):
        assert built.digest in world.file(f"manual-app-helm/values-{name}.yaml")


def test_again_moves_nothing(cluster: FakeCluster, built: image.Built) -> None:
    """The same promotion again: no tag more, and a version that is there is the one that stands."""
    everywhere(cluster)
    before = refs(cluster.world)
    assert not promote(cluster, "stage").new
    again = promote(cluster, "prod")
    assert (again.new, again.tag) == (False, "v1.0")
    assert refs(cluster.world) == before
    proven(cluster)


def test_the_next_version_by_itself_or_named(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """The second release is v1.1; the third is what I call it, and the one after follows that."""
    everywhere(cluster)
    names = []
    for build, version in (("16", None), ("17", "v2.0"), ("18", None)):
        newer(cluster, shelf, build)
        deploy(cluster)
        promote(cluster, "stage")
        names.append(promote(cluster, "prod", **({"version": version} if version else {})).tag)
    assert names == ["v1.1", "v2.0", "v2.1"]
    proven(cluster)


def test_a_version_that_is_there_or_cannot_be(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """A tag is never moved, whoever made it; and what is no version, or not of the last environment, is bad input."""
    everywhere(cluster)
    newer(cluster, shelf)
    deploy(cluster)
    promote(cluster, "stage")
    prepared(cluster, "prod")
    cluster.world.git(cluster.world.server, "tag", "v8.0", "main")
    ask = cluster.world.context.environment
    for version in ("v1.0", "v8.0"):
        refused(
            *(cluster, Refused, f"tag {version} exists, and a tag is never moved"),
            lambda version=version: promoting.promote(cluster.world.context, ask("prod"), version=version),
        )
    for name, version in (("prod", "1.1"), ("prod", "v1"), ("prod", "v1.1.1"), ("stage", "v1.1")):
        refused(
            *(cluster, BadInput, "is not a version|has no versions"),
            lambda name=name, version=version: promoting.promote(
                cluster.world.context, ask(name), version=version
            ),
        )
    assert promote(cluster, "prod").tag == "v8.1"


def hotfix(world: World, path: str, text: str) -> tuple[Path, str]:
    """A clone that pushed one commit on `release` which main lacks, and that commit."""
    clone = world.clone("hotfix")
    world.git(clone, "checkout", "--quiet", "-b", "release", "origin/release")
    commit = world.commit(clone, path, text, "a hotfix")
    world.git(clone, "push", "--quiet", "origin", "release")
    return clone, commit


def test_no_fast_forward(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """`release` has a commit that main lacks: nothing is promoted over it, and status names it until it is merged."""
    world = cluster.world
    everywhere(cluster)
    clone, commit = hotfix(world, "README.md", "a hotfix\n")
    newer(cluster, shelf)
    deploy(cluster)
    prepared(cluster, "stage")
    stage = world.context.environment("stage")
    refused(
        *(cluster, Refused, f"release cannot go forward to .* it is at {commit[:12]}"),
        lambda: promoting.promote(world.context, stage),
    )
    assert [line.partition(" ")[2] for line in reporting.status(world.context).lacks] == ["a hotfix"]
    world.git(clone, "checkout", "--quiet", "main")
    world.git(clone, "pull", "--quiet", "origin", "main")
    world.git(clone, "merge", "--quiet", "--no-edit", "release")
    world.git(clone, "push", "--quiet", "origin", "main")
    assert reporting.status(world.context).lacks == ()
    deploy(cluster)
    assert promote(cluster, "stage").new
    assert at(world, "release") == at(world, "main")


def test_a_hotfix_goes_its_own_way(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """A commit on `release`, with a build and a test of its own, goes to stage and prod; main lacks it until merged."""
    world = cluster.world
    everywhere(cluster)
    clone, revision = hotfix(world, "manual-app/app.py", "fixed\n")
    digest = shelf.push("16", revision, revision, "16")
    cluster.revisions["16"] = revision
    originate(cluster, digest, revision)
    brought = deploy(cluster, digest)
    prepared(cluster, "stage")
    refused(cluster, Refused, "dev is at .*, not at", lambda: enter(cluster, "stage"))
    world.git(clone, "fetch", "--quiet", "origin")
    world.git(clone, "cherry-pick", brought.commit)
    world.git(clone, "push", "--quiet", "origin", "release")
    stage = enter(cluster, "stage")
    assert (stage.tag, stage.digest) == ("stage-2", digest)
    assert at(world, "stage-2^{commit}^") == at(world, "release")
    prod = promote(cluster, "prod")
    assert (prod.tag, prod.digest) == ("v1.1", digest)
    assert at(world, "v1.1^{commit}^") == at(world, "release")
    proven(cluster)
    assert "a hotfix" in " ".join(reporting.status(world.context).lacks)


def test_release_brings_nothing_without_evidence(
    cluster: FakeCluster, built: image.Built, shelf: Shelf
) -> None:
    """Somebody merges a digest, or a chart, that nobody tested into `release`: the gate refuses it."""
    world = cluster.world
    everywhere(cluster)
    clone = world.clone("merge")
    world.git(clone, "checkout", "--quiet", "-b", "release", "origin/release")
    world.commit(clone, "manual-app-helm/templates/more.yaml", "# nothing\n", "another chart")
    world.git(clone, "push", "--quiet", "origin", "release")
    prepared(cluster, "stage")
    refused(cluster, Refused, "the chart changed since dev was tested", lambda: enter(cluster, "stage"))
    other = newer(cluster, shelf)
    for name in ("dev", "stage", "prod"):
        path = f"manual-app-helm/values-{name}.yaml"
        named = {("image", "digest"): other.digest, ("image", "tag"): "16"}
        world.commit(clone, path, change.values.replace(world.file(path), named, path), "another digest")
    world.git(clone, "push", "--quiet", "origin", "release")
    refused(cluster, Refused, "dev is at .*, not at", lambda: enter(cluster, "stage"))


def test_a_commit_that_names_two_digests(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """A person who writes another digest into prod's values by hand brings nothing into prod by it."""
    world = cluster.world
    everywhere(cluster)
    other = newer(cluster, shelf)
    deploy(cluster)
    path = "manual-app-helm/values-prod.yaml"
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    world.commit(world.checkout, path, world.file(path).replace(other.digest, built.digest), "by hand")
    world.git(world.checkout, "push", "--quiet", "origin", "HEAD:main")
    cluster.deploy(world.context.environment("dev"), world.head())
    promote(cluster, "stage")
    prod = world.context.environment("prod")
    refused(*(cluster, Refused, "for stage and .* for prod"), lambda: promoting.promote(world.context, prod))


def test_a_tag_that_is_not_what_it_was(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """Whoever moves, deletes or makes again the tag of prod, with a key or without: verify says MISMATCH, and which."""
    world = cluster.world
    everywhere(cluster)
    newer(cluster, shelf)
    deploy(cluster)
    promote(cluster, "stage")
    promote(cluster, "prod")
    proven(cluster)
    server, commit, there = Repository(world.server), at(world, "v1.1"), refs(world)
    one = "refs/tags/v1.1"

    def put_in_its_place(id_: str) -> None:
        world.git(world.server, "update-ref", one, id_)

    def made(gate: str) -> str:
        said = tags.every(server, "v1.1")["v1.1"].content.decode().partition("\n\n")[2]
        sign = commits.signer(world.context, world.context.environment(gate))
        return server.tag("v1.1", commit, said, ("Mallory", "m@example.test"), sign, 2_000_000_000)

    def unsigned() -> None:
        world.git(world.server, "tag", "--force", "--annotate", "--message", "again", "v1.1", commit)

    kept = "tag v1.1, at which Argo CD keeps prod, "
    for happens, says in (
        (lambda: world.git(world.server, "tag", "--delete", "v1.1"), f"{kept}is not there"),
        (lambda: put_in_its_place(at(world, "v1.0")), f"{kept}is not an annotated tag of a commit"),
        (unsigned, f"{kept}is not signed"),
        (lambda: put_in_its_place(made("stage")), f"{kept}is not signed by gate-prod"),
        (lambda: put_in_its_place(there["refs/tags/v1.0"]), f"{kept}was made as v1.0"),
        (lambda: put_in_its_place(made("prod")), "no entry of .* into prod names"),
        (
            lambda: world.git(world.server, "tag", "--delete", "v1.0"),
            "what entered prod before tag v1.1 is gone, or was made again",
        ),
    ):
        happens()
        assert re.search(says, against(cluster, "prod"))
        for ref, id_ in there.items():
            world.git(world.server, "update-ref", ref, id_)
    proven(cluster)


def test_times_that_are_none(cluster: FakeCluster, built: image.Built) -> None:
    """Somebody pushes a commit and a tag that claim to be changes, made in the year 10000 or later: no verb breaks."""
    deploy(cluster)
    world = cluster.world
    head = world.git(world.server, "rev-parse", "main")
    tree = world.git(world.server, "rev-parse", "main^{tree}")
    claim = f"prod: app 15\n\nEnvironment: prod\nDigest-After: {built.digest}\n"
    for when in ("253402300800", "99999999999999"):
        who = f"mallory <mallory@example.org> {when} +0000"
        text = f"tree {tree}\nparent {head}\nauthor {who}\ncommitter {who}\n\n{claim}"
        head = stored(world, "commit", text)
        world.git(world.server, "update-ref", "refs/heads/main", head)
        tag = stored(world, "tag", f"object {head}\ntype commit\ntag v9.{when[:2]}\ntagger {who}\n\n{claim}")
        world.git(world.server, "update-ref", f"refs/tags/v9.{when[:2]}", tag)
    assert promote(cluster, "stage").new
    assert proofs(cluster)["stage"].verdict is Verdict.PROVEN


def stored(world: World, kind: str, text: str) -> str:
    """An object of the server's, whatever it says."""
    file = world.server / "written"
    file.write_text(text)
    return world.git(world.server, "hash-object", "-t", kind, "-w", "--literally", str(file))


def test_a_tag_on_a_commit_of_neither_branch(cluster: FakeCluster, built: image.Built) -> None:
    """`release` was forced back, and what stage stands on is nowhere any more: MISMATCH."""
    world = cluster.world
    deploy(cluster)
    promote(cluster, "stage")
    clone = world.clone("aside")
    world.git(clone, "checkout", "--quiet", "-b", "aside", "origin/release")
    aside = world.commit(clone, "README.md", "aside\n", "aside")
    world.git(clone, "push", "--quiet", "origin", "HEAD:refs/heads/release")
    enter(cluster, "stage")
    assert at(world, "stage-2^{commit}^") == aside
    world.git(world.server, "update-ref", "refs/heads/release", f"{aside}^")
    assert "tag stage-2 stands on a commit which neither the branch nor release has" in against(
        cluster, "stage"
    )


def test_rollback_is_one_more_tag(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """Back to what ran: a new tag at the old release, no branch moves, and what was rolled back is held."""
    world = cluster.world
    everywhere(cluster)
    newer(cluster, shelf)
    deploy(cluster)
    promote(cluster, "stage")
    promote(cluster, "prod")
    before = refs(world)
    back = rollback(cluster, "prod")
    assert (back.tag, back.digest) == ("v1.2", built.digest)
    assert at(world, "v1.2") == at(world, "v1.0")
    assert {ref: one for ref, one in refs(world).items() if ref != "refs/tags/v1.2"} == before
    proven(cluster)
    again = rollback(cluster, "prod", built.digest)
    assert (again.new, again.tag) == (False, "v1.2")
    refused(
        *(cluster, Refused, "it was rolled back out of prod"),
        lambda: promoting.promote(world.context, world.context.environment("prod")),
    )


def test_two_at_once_make_one_tag(
    cluster: FakeCluster, built: image.Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody promotes the same between my look and my push: mine is not taken, and finds that it stands."""
    deploy(cluster)
    prepared(cluster, "stage")
    context = cluster.world.context
    stage = context.environment("stage")
    push, first = Repository.push_all, [True]

    def overtaken(repository: Repository, wanted: dict[str, str]) -> None:
        if first and first.pop():
            assert promoting.promote(context, stage).new
        push(repository, wanted)

    monkeypatch.setattr(Repository, "push_all", overtaken)
    done = promoting.promote(context, stage)
    assert (done.new, done.tag) == (False, "stage-1")
    assert [ref for ref in refs(cluster.world) if "tags" in ref] == ["refs/tags/stage-1"]


def test_by_hand_with_git_alone(cluster: FakeCluster, built: image.Built) -> None:
    """A person pushes `release` and asks for v1.0 by a tag; `enter` gates both, and the gate's own tags answer."""
    world = cluster.world
    dev = deploy(cluster)
    refused(cluster, Refused, "has no branch release", lambda: enter(cluster, "stage"))
    world.git(world.server, "branch", "release", dev.commit)
    refused(cluster, Refused, "dev has no evidence", lambda: enter(cluster, "stage"))
    prepared(cluster, "stage")
    assert enter(cluster, "stage").tag == "stage-1"
    prepared(cluster, "prod")
    refused(cluster, Refused, "nobody asked for a version", lambda: enter(cluster, "prod"))
    world.git(world.server, "tag", "request/v1.0", "main~1")
    refused(
        *(cluster, Refused, f"request/v1.0 is at .*, and stage proved {dev.commit[:12]}"),
        lambda: enter(cluster, "prod"),
    )
    world.git(world.server, "tag", "request/v1.1", "release")
    done = enter(cluster, "prod", "v1.1")
    assert (done.tag, done.digest) == ("v1.1", built.digest)
    assert not enter(cluster, "prod", "v1.1").new
    proven(cluster)


def test_a_request_that_nobody_signed(cluster: FakeCluster, built: image.Built) -> None:
    """Where pipeline.yaml names developers, one of them signs what is asked for, or it is not even looked at."""
    world = cluster.world
    deploy(cluster)
    promote(cluster, "stage")
    secret, certificate = openpgp.generate("Ada <ada@example.test>")
    stranger, _ = openpgp.generate("Eve <eve@example.test>")
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    world.commit(world.checkout, "keys/ada.asc", certificate, "Ada's key")
    world.git(world.checkout, "push", "--quiet", "origin", "HEAD:main")
    ada = Developer(name="ada", identity="ada@example.test", key="keys/ada.asc")
    cluster.world = world.ruled(developers=(ada,))
    server, ref = Repository(world.server), "refs/tags/request/v1.0"
    commit = server.commit("main")

    def asked(key: str | None) -> str:
        sign = (lambda data: openpgp.sign(key, data)) if key else None
        return server.tag(
            "request/v1.0", commit, "please\n", ("Ada", "ada@example.test"), sign, 1_800_000_000
        )

    for id_, says in (
        (commit, "is no annotated tag of its own name, so nobody signed it"),
        (asked(None), "is not signed"),
        (asked(stranger), "is signed with a key that developers in pipeline.yaml do not have"),
        (asked(secret), f"request/v1.0 is at {commit[:12]}, and stage proved"),
    ):
        world.git(world.server, "update-ref", ref, id_)
        refused(cluster, Refused, says, lambda: enter(cluster, "prod"))


def test_an_edit_that_was_merged(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """In manual-promotion a person writes the digest into stage's values; `enter` signs that, and refuses another."""
    by(cluster, "manual-promotion")
    world = cluster.world
    deploy(cluster)
    prepared(cluster, "stage")
    refused(cluster, Refused, r"values-stage\.yaml names no digest", lambda: enter(cluster, "stage"))
    path = "manual-app-helm/values-stage.yaml"
    digest, where = built.digest, world.context.site.image.name
    wrong = f"sha256:{'0' * 64}"
    for named, says in ((wrong, "names sha256:0000"), (digest, "")):
        asks = {("image", "repository"): where, ("image", "tag"): "15", ("image", "digest"): named}
        merged = pushed(world, path, lambda text, asks=asks: change.values.replace(text, asks, path))
        if says:
            refused(cluster, Refused, says, lambda: enter(cluster, "stage"))
    done = enter(cluster, "stage")
    assert done.new
    assert world.git(world.server, "diff", merged, done.commit) == "", "the gate only signs"
    assert proofs(cluster)["stage"].verdict is Verdict.PROVEN


def test_changing_over_and_back(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """The strategy changes in a running cluster: nothing restarts, every pin stays, and what entered before counts."""
    by(cluster, "manual-promotion")
    everywhere(cluster)
    before, told = uids(cluster), pins(cluster)
    by(cluster, "release-branch")
    proven(cluster)
    assert (uids(cluster), pins(cluster)) == (before, told)
    deploy(cluster)  # one digest in all values: nothing that runs is another
    proven(cluster)
    assert uids(cluster) == before
    assert promote(cluster, "stage").tag == "stage-1"
    assert promote(cluster, "prod").tag == "v1.0"
    assert uids(cluster) == before, "the same digest, chart and values"
    newer(cluster, shelf)
    deploy(cluster)
    promote(cluster, "stage")
    back = rollback(cluster, "stage")
    assert back.digest == built.digest
    before, told = uids(cluster), pins(cluster)
    changed_back(cluster)
    proven(cluster)
    assert (uids(cluster), pins(cluster)) == (before, told)
    notes = proofs(cluster)["prod"].notes
    assert any("until something enters" in note for note in notes), "the branch asks something else again"
    third = newer(cluster, shelf, "17")
    deploy(cluster)
    assert promote(cluster, "stage").digest == third.digest
    assert promote(cluster, "prod").digest == third.digest
    proven(cluster)
    assert rollback(cluster, "prod").digest == built.digest, "to what entered by a tag"
    proven(cluster)


def test_an_edit_after_changing_back(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """What the values named when the strategy was changed back nobody asks for; what is merged since is asked for."""
    world = cluster.world
    everywhere(cluster)
    newer(cluster, shelf)
    deploy(cluster)  # into all values
    changed_back(cluster)
    proven(cluster)
    path, wrong = "manual-app-helm/values-stage.yaml", f"sha256:{'0' * 64}"
    pushed(world, path, lambda text: change.values.replace(text, {("image", "digest"): wrong}, path))
    assert "Git's values ask for sha256:000000000000, which never entered stage" in against(cluster, "stage")


def changed_back(cluster: FakeCluster) -> None:
    """The line in pipeline.yaml changes, and the cluster with it."""
    pushed(cluster.world, "pipeline.yaml", lambda text: text.replace("\nstrategy: ", "\nstrategy:  "))
    by(cluster, "manual-promotion")


def pushed(world: World, path: str, edit: Callable[[str], str]) -> str:
    """A change of one file that is merged into the server's main, by its newest commit."""
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    file = world.checkout / path
    merged = world.commit(world.checkout, path, edit(file.read_text()), f"{path}: by hand")
    world.git(world.checkout, "push", "--quiet", "origin", "HEAD:main")
    return merged


def pins(cluster: FakeCluster) -> dict[str, str | None]:
    return {name: one["spec"]["source"].get("targetRevision") for name, one in cluster.applications.items()}
