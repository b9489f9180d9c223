"""The outside world's edges: waits that end, Git's credentials and errors, what Argo CD and pods say."""

from __future__ import annotations

import socket
import subprocess
import tarfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery.desired.manifests import Desired
from delivery.errors import BadInput, NotReached
from delivery.parts import argocd, documents, git, tail
from delivery.proof import observe
from delivery.proof.decide import Pod
from delivery.site import GitServer
from delivery.verbs import rollout
from delivery.wait import Failed, Pending, Reached, until

if TYPE_CHECKING:
    from scripts.tests.world import World

DIGEST = f"sha256:{'a' * 64}"


def test_wait_reaches() -> None:
    """A wait ends as soon as it is true, with what it found."""
    looks = count()
    assert until("x", lambda: Reached(7) if next(looks) == 3 else Pending("no"), 5, "h", lambda s: None) == 7


def test_wait_fails_at_once() -> None:
    """What will not come by waiting ends the wait at once, with its reason."""
    with pytest.raises(NotReached, match="x: it broke"):
        until("x", lambda: Failed("it broke"), 60, "h")


def test_wait_ends() -> None:
    """A wait that does not come ends at its limit, and says what it last saw."""
    with pytest.raises(NotReached, match="x: not within 0 s; last seen: nothing yet") as ended:
        until("x", lambda: Pending("nothing yet"), 0.3, "look there")
    assert ended.value.hint == "look there"


def test_wait_says_what_it_sees() -> None:
    """What each look has seen is told while it is waited for, not only when it did not come."""
    looks, told = count(), list[str]()

    def look() -> Reached[int] | Pending:
        seen = next(looks)
        return Reached(seen) if seen == 2 else Pending(f"{seen} of 2 pods are Ready")

    until("x", look, 5, "h", lambda left: None, told.append)
    assert told == ["0 of 2 pods are Ready", "1 of 2 pods are Ready"]


def test_the_lines_of_a_log(tmp_path: Path) -> None:
    """What a program writes into its log is told while it runs: whole lines, and none of what was there before."""
    log, told = tmp_path / "log", list[str]()
    log.write_text("of an earlier run\n")
    with tail.lines(log, told.append), log.open("ab", buffering=0) as out:
        out.write(b" one\n\ntw")
        end = time.monotonic() + 10
        while not told:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert told == ["one"]
        out.write("o …\nhalf".encode())
    assert told == ["one", "two …"]


def test_git_server_down(world: World) -> None:
    """A Git server that is down is said in one line, without any password."""
    with pytest.raises(git.ServerUnreachable) as refused:
        git.server_ref(GitServer(url="http://127.0.0.1:1/manual-app.git"), "refs/heads/main")
    assert "\n" not in refused.value.message
    assert refused.value.exit_code == 4


def test_a_git_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing (paused, say) is given up once, and named."""
    monkeypatch.setattr(git, "SILENT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = GitServer(url=f"http://127.0.0.1:{silent.getsockname()[1]}/manual-app.git")
        with (
            pytest.raises(git.ServerSilent, match="said nothing for 1 s") as error,
            git.clone(server, "main"),
        ):
            pass
        assert error.value.hint
        silent.accept()[0].close()
        silent.settimeout(0)
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_a_clone_reads_what_the_checkout_has(world: World) -> None:
    """Only what my checkout lacks comes over the network; from one that is not whole nothing is taken."""
    with git.clone(world.context.site.git, "main", bare=True) as repository:
        assert repository.run("count-objects") == "0 objects, 0 kilobytes"
        assert repository.show("HEAD", "pipeline.yaml")
    (world.context.checkout / ".git" / "shallow").touch()
    with git.clone(world.context.site.git, "main", bare=True) as repository:
        assert not (repository.path / "objects" / "info" / "alternates").exists()
        assert repository.show("HEAD", "pipeline.yaml")


def test_a_clone_with_the_files_of_some_folders(world: World) -> None:
    """What is not asked for is not written to disk, and is in the next commit all the same."""
    with git.clone(world.context.site.git, "main", paths=["manual-app-helm/values-dev.yaml"]) as repository:
        there = {one.name for one in repository.path.iterdir()}
        assert {"manual-app-helm", "pipeline.yaml"} <= there
        assert "manual-app" not in there
        tree = repository.run("write-tree")
        assert tree == repository.run("rev-parse", "HEAD^{tree}")
        (repository.path / "manual-app-helm" / "values-dev.yaml").write_text("other: 1\n")
        repository.raw("add", "--", "manual-app-helm/values-dev.yaml")
        made = repository.commit_signed("other", ("Ada", "ada@example.org"))
        assert repository.run("diff", "--name-only", f"{made}^", made) == "manual-app-helm/values-dev.yaml"


def test_a_clone_that_was_broken_off_is_not_in_the_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an attempt left does not matter to the next one: the second attempt makes a clone like any other."""
    ask, broken = git._git, []

    def breaks_off_once(arguments: list[str], *rest: Any) -> bytes:
        if "fetch" in arguments and not broken:
            broken.append(Path(arguments[arguments.index("-C") + 1]))
            packs = broken[0] / ".git" / "objects" / "pack"
            packs.mkdir(parents=True, exist_ok=True)
            (packs / "tmp_pack_half").write_bytes(b"PACK")
            raise git.ServerUnreachable("the remote end hung up", "again")
        return ask(arguments, *rest)

    monkeypatch.setattr(git, "_git", breaks_off_once)
    with git.clone(world.context.site.git, "main") as repository:
        assert repository.commit("HEAD") == world.head()
    assert broken


def test_git_passwords_come_from_the_file(tmp_path: Path) -> None:
    """git reads the password from our file, asks nobody else, and a refused login does not erase it."""
    file = tmp_path / "it's here"
    file.write_text("http://delivery:s3cret@localhost:3000\n")
    options = git._login(GitServer(url="http://localhost:3000/x.git", credentials=file))
    assert "s3cret" not in " ".join(options)
    asked = "protocol=http\nhost=localhost:3000\n\n"
    command = ["git", *options, "credential"]
    said = subprocess.run([*command, "fill"], input=asked, capture_output=True, text=True, check=True).stdout
    assert "password=s3cret" in said
    subprocess.run([*command, "reject"], input=said, capture_output=True, text=True, check=True)
    assert "s3cret" in file.read_text()


def test_git_hooks_of_the_user_do_not_run(world: World) -> None:
    """The user's hooks and identity settings play no part in our commands."""
    hooks = world.checkout / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "pre-push").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "pre-push").chmod(0o755)
    ours = world.commit(world.checkout, "README.md", "x\n", "x")
    git.Repository(world.checkout, world.context.site.git).push(ours, "main")
    assert world.head() == ours


def test_git_in_a_hook(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run from somebody's Git hook, our commands still work on our own repository."""
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git.checkout(world.checkout).path == world.checkout.resolve()


def test_not_a_repository(tmp_path: Path) -> None:
    """Outside a repository the error says so."""
    with pytest.raises(BadInput, match="not a git repository"):
        git.checkout(tmp_path)


def test_a_commit_that_is_not_there(world: World) -> None:
    """An unknown commit is named; an option in disguise is not taken as one."""
    for name in ("nowhere", "--all", "HEAD:manual-app"):
        with pytest.raises(BadInput, match="there is no commit"):
            git.Repository(world.checkout).commit(name)


def test_a_tag_is_what_it_tags(world: World) -> None:
    """An annotated tag stands for its commit; one that is missing for nothing."""
    world.git(world.checkout, "tag", "--annotate", "--message", "one", "v1.0")
    world.git(world.checkout, "push", "--quiet", "origin", "v1.0")
    assert git.server_ref(world.context.site.git, "refs/tags/v1.0") == world.head()
    assert git.server_ref(world.context.site.git, "refs/tags/v2.0") is None


def test_an_application_that_says_little() -> None:
    """An Application that was just made has no status: nothing is known, nothing breaks."""
    found = argocd.parse({"metadata": {"name": "a"}})
    assert (found.revision, found.sync, found.health, found.told) == ("", "Unknown", "Unknown", "")
    assert not found.syncing
    assert not found.failed


def test_an_application_in_the_middle() -> None:
    """An operation that was asked for and has not begun is a sync that runs; its failure counts later."""
    status = {
        "operationState": {"phase": "Failed", "syncResult": {"revision": "c1"}, "message": "job\nfailed"}
    }
    old = {"metadata": {"name": "a"}, "status": status}
    assert argocd.failure(argocd.parse(old), lambda r: r == "c1") == Failed(
        "the sync of c1 ended as Failed: job failed"
    )
    assert argocd.failure(argocd.parse(old), lambda r: r == "c2") is None
    asked = argocd.parse(old | {"operation": {"sync": {"revision": "c1"}}})
    assert asked.syncing
    assert argocd.failure(asked, lambda r: True) is None


DENIED = (
    "one or more objects failed to apply, reason: pods \"a\" is forbidden: ValidatingAdmissionPolicy 'pinned-images' "
    "with binding 'pinned-images' denied request: image \"x:latest\" is refused in stage: only …"
)


def test_what_admission_refused_is_not_waited_for() -> None:
    """The cluster's refusal is one line and a hint at once, also while Argo CD tries again."""

    def said(phase: str, message: str, **more: object) -> Failed | None:
        state = {"phase": phase, "syncResult": {"revision": "c1"}, "message": message}
        found = argocd.parse({"metadata": {"name": "a"}, "status": {"operationState": state}} | more)
        return argocd.failure(found, lambda r: r == "c1")

    for phase in ("Running", "Failed"):
        found = said(phase, DENIED)
        assert found is not None
        assert 'image "x:latest" is refused in stage' in found.reason
        assert found.hint.endswith("delivery promote ENV")
    away = 'failed calling webhook "policy.sigstore.dev": connection refused'
    assert said("Running", away) is None, "it may come back"
    failed = said("Failed", away)
    assert failed is not None
    assert "policy-controller does not answer" in failed.reason
    assert said("Failed", DENIED, operation={"sync": {"revision": "c1"}}) is None, "asked again, not begun"


@pytest.mark.parametrize(
    ("revision", "seen"),
    [("c" * 40, "c" * 40), ("main", ""), ("", ""), (None, ""), ("c" * 12, ""), ("v1.0", "")],
)
def test_only_a_commit_is_a_revision(revision: str | None, seen: str) -> None:
    """While Argo CD cannot compare it names the branch; that is not a commit that it has seen."""
    found = argocd.parse({"metadata": {"name": "a"}, "status": {"sync": {"revision": revision}}})
    assert found.revision == seen


def waits(reason: str, message: str = "") -> dict[str, object]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        "metadata": {"name": "manual-app-migrate-x"},
        "status": {"containerStatuses": [{"name": "migrate", "state": state}]},
    }


@pytest.mark.parametrize(
    ("pod", "seen", "definite"),
    [
        (waits("ContainerCreating"), [], False),
        (waits("ImagePullBackOff", "connection refused"), ["ImagePullBackOff"], False),
        (waits("CrashLoopBackOff"), ["CrashLoopBackOff"], False),
        (waits("ErrImagePull", "failed to resolve: not found"), ["ErrImagePull"], True),
        (waits("InvalidImageName"), ["InvalidImageName"], True),
        (waits("InvalidImageName") | {"metadata": {"name": "p", "deletionTimestamp": "now"}}, [], False),
        ({"metadata": {"name": "p"}}, [], False),
    ],
)
def test_containers_that_do_not_start(pod: dict[str, object], seen: list[str], definite: bool) -> None:
    """The migration's pod, too, says why it waits; an image that is not there is not waited for."""
    found = rollout.waiting([pod])
    assert [one.reason for one in found] == seen
    failed = rollout.hopeless(found)
    assert (failed is not None) is definite
    assert failed is None or failed.reason.startswith("pod manual-app-migrate-x, container migrate: ")


def test_a_half_made_database_ends_the_wait() -> None:
    """A database pod that says itself what mends its volume is not waited for: its words are the error and the hint."""
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}
    said = "the database volume is half made: it has no database x\nhint: begin anew: kubectl delete pvc/y\n"
    status = {"name": "first-start", "state": state, "lastState": {"terminated": {"message": said}}}
    pod = {"metadata": {"name": "postgresql-0"}, "status": {"initContainerStatuses": [status]}}
    failed = rollout.hopeless(rollout.waiting([pod]))
    where = "pod postgresql-0, container first-start"
    half = "the database volume is half made: it has no database x"
    assert failed == Failed(f"{where}: {half}", "begin anew: kubectl delete pvc/y")


def test_errors_of_an_application() -> None:
    """What keeps Argo CD from comparing is kept, warnings are not."""
    conditions = [
        {"type": "ComparisonError", "message": "no\nchart"},
        {"type": "OrphanedResourceWarning", "message": "two"},
    ]
    found = argocd.parse({"metadata": {"name": "a"}, "status": {"conditions": conditions}})
    assert found.errors == ("ComparisonError: no chart",)


POD = {
    "metadata": {"name": "p", "labels": {"app.kubernetes.io/name": "manual-app"}},
    "spec": {
        "initContainers": [{"name": "i", "image": "r@i"}],
        "containers": [{"name": "c", "image": "r@c"}],
        "ephemeralContainers": [{"name": "e", "image": "busybox"}],
    },
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "initContainerStatuses": [
            {"name": "i", "imageID": "id-i", "state": {"terminated": {"reason": "Completed"}}}
        ],
        "containerStatuses": [{"name": "c", "imageID": "id-c", "state": {"running": {}}}],
    },
}


def test_every_container_is_seen() -> None:
    """Init, app and ephemeral containers are all seen, also one that says nothing yet."""
    pod = observe.parse(POD)
    assert [(c.name, c.kind, c.image_id, c.state) for c in pod.containers] == [
        ("i", "init", "id-i", "Completed"),
        ("c", "app", "id-c", "running"),
        ("e", "ephemeral", "", "not started"),
    ]
    assert pod.ready
    assert pod.serves


def test_a_bare_pod() -> None:
    """A pod that has only just been accepted is not Ready and says nothing."""
    pod = observe.parse({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
    assert (pod.ready, pod.phase, pod.app, pod.containers[0].image_id) == (False, "Unknown", "", "")


def test_rollout() -> None:
    """It is rolled out when all replicas of the new digest are Ready and no other one serves."""
    wanted = Desired("c", "r", DIGEST, "15", 1, frozenset())

    def pod(name: str, digest: str, **changes: object) -> Pod:
        status = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(changes.get("ready", True))}],
            "containerStatuses": [
                {"name": "c", "imageID": digest and f"r@{digest}", "state": {"running": {}}}
            ],
        }
        metadata: dict[str, object] = {"name": name, "labels": {"app.kubernetes.io/name": "manual-app"}}
        if changes.get("terminating"):
            metadata["deletionTimestamp"] = "now"
        return observe.parse(
            {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": status}
        )

    other = f"sha256:{'b' * 64}"

    def done(*pods: Pod) -> bool:
        return isinstance(rollout.rollout(pods, "manual-app", wanted), Reached)

    assert done(pod("a", DIGEST))
    assert done(pod("a", DIGEST), pod("old", other, terminating=True))
    assert not done()
    assert not done(pod("a", DIGEST, ready=False))
    assert not done(pod("a", ""))
    assert not done(pod("a", DIGEST), pod("old", other))
    assert not done(pod("a", DIGEST), pod("b", DIGEST, ready=False))
    assert not done(pod("a", DIGEST, terminating=True))


def test_manifests_are_read_as_they_are_meant() -> None:
    """Empty documents do not count, a plain equals sign is one, and nothing but data is made of a text."""
    assert documents.every("---\na: =\n---\n---\nb: 1\n") == [{"a": "="}, {"b": 1}]
    assert documents.one(b"a: [x]") == {"a": ["x"]}
    with pytest.raises(documents.Malformed):
        documents.one("a: !!python/object/apply:os.getcwd []")


@pytest.mark.parametrize("old", [False, True], ids=["this Python", "before 3.11.4"])
def test_a_link_that_leads_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    """A commit's files are read as they are, by every Python from 3.11 on; a link to a file of this machine is not."""
    if old:
        monkeypatch.delattr(tarfile, "data_filter")
    repository = git.Repository(tmp_path / "repository", GitServer(url="https://git.example/app.git"))
    repository.path.mkdir()
    repository.raw("init", "--quiet")
    chart = repository.path / "chart"
    chart.mkdir()
    (chart / "Chart.yaml").write_text("name: app\n")
    repository.raw("add", "--all")
    plain = repository.commit_on("", "a chart", ("me", "me@example.org"))
    assert (repository.export(plain, "chart", tmp_path / "plain") / "Chart.yaml").read_text() == "name: app\n"
    (chart / "secret").symlink_to("/etc/hostname")
    repository.raw("add", "--all")
    linked = repository.commit_on(plain, "a link", ("me", "me@example.org"))
    with pytest.raises(BadInput, match=r"chart of commit .* has a link that leads out of it"):
        repository.export(linked, "chart", tmp_path / "linked")
    assert not (tmp_path / "linked" / "chart" / "secret").exists()
