"""The commit that asks an environment for a digest: two values, one message, never by force."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery.desired import change
from delivery.desired.change import Request
from delivery.desired.manifests import Desired
from delivery.errors import BadInput, NotReached, Refused
from delivery.parts import values
from delivery.parts.git import Repository
from delivery.pipeline import Environment

if TYPE_CHECKING:
    from scripts.tests.world import World

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
STAGE = "manual-app-helm/values-stage.yaml"


def rendered(tree: Path, environment: Environment, commit: str) -> Desired:
    """Instead of Helm, which has tests of its own."""
    assert (
        DIGEST in (tree / environment.values).read_text() or OTHER in (tree / environment.values).read_text()
    )
    return Desired(commit, "r/app", DIGEST, "15", 1, frozenset())


def request(world: World, digest: str = DIGEST, build: str = "15", environment: str = "stage") -> Request:
    return Request(world.context.environment(environment), digest, build, "c" * 40, "dev")


def ask(world: World, plan: Any = None) -> change.Change:
    plan = plan or (lambda repository, commit: request(world))
    return change.apply(world.context, plan, render=rendered)


def test_exactly_two_values_change(world: World) -> None:
    """One commit changes one file, and in it exactly tag and digest: comments, order and spacing survive."""
    ask(world)
    expected = world.values(name="stage", replicas=2)
    expected = expected.replace("tag: set-by-promotion", 'tag: "15"').replace(
        "digest: set-by-promotion", f"digest: {DIGEST}"
    )
    expected = expected.replace(
        "repository: set-by-promotion", f"repository: {world.context.site.image.name}"
    )
    assert world.file(STAGE) == expected
    assert world.git(world.server, "diff", "--name-only", "main~1", "main") == STAGE
    assert len(world.commits()) == 2


def test_the_commit_says_everything(world: World) -> None:
    """The commit names digest before and after, build, source, where it comes from and who asked."""
    world.git(world.checkout, "config", "user.name", "Grace")
    world.git(world.checkout, "config", "user.email", "grace@example.test")
    ask(world)
    ask(world, lambda r, c: request(world, OTHER, "16"))
    assert world.commits()[0] == "stage: manual-app 16"
    assert world.git(world.server, "log", "-1", "--format=%an <%ae>", "main") == "Grace <grace@example.test>"
    newest, first = change.history(Repository(world.server), "main")
    assert (newest.environment, newest.build, newest.before, newest.after) == ("stage", "16", DIGEST, OTHER)
    assert (newest.promoted_from, newest.revision) == ("dev", "c" * 40)
    assert newest.requested_by == "Grace <grace@example.test>"
    assert (first.before, first.after) == ("none", DIGEST)


def test_without_an_identity(world: World) -> None:
    """A machine without a Git identity commits all the same, as delivery."""
    ask(world)
    assert world.git(world.server, "log", "-1", "--format=%an", "main") == "delivery"


def test_asking_twice_changes_nothing(world: World) -> None:
    """Asked again for what Git already asks: no commit, and it says so."""

    def dev(repository: Repository, commit: str) -> Request:
        return request(world, environment="dev")

    first, again = ask(world, dev), ask(world, dev)
    assert (first.new, again.new) == (True, False)
    assert again.commit == first.commit == world.head()


def test_a_race_is_solved_on_top_of_the_other(world: World) -> None:
    """Somebody pushes between our read and our push: theirs stays, ours goes on top, history is linear."""
    other = world.clone("other")
    seen = []

    def plan(repository: Repository, commit: str) -> Request:
        seen.append(commit)
        if len(seen) == 1:
            world.commit(other, "README.md", "theirs\n", "theirs")
            world.git(other, "push", "--quiet", "origin", "main")
        return request(world)

    done = ask(world, plan)
    assert world.commits() == ["stage: manual-app 15", "theirs", "the beginning"]
    assert world.head() == done.commit
    assert seen == [
        world.git(world.server, "rev-parse", "main~2"),
        world.git(world.server, "rev-parse", "main~1"),
    ]


def test_a_race_on_the_same_file_keeps_both(world: World) -> None:
    """Somebody changes another value of the same file meanwhile: both changes are there afterwards."""
    other = world.clone("other")
    theirs = world.values(name="stage", replicas=5)
    raced = []

    def plan(repository: Repository, commit: str) -> Request:
        if not raced:
            raced.append(world.commit(other, STAGE, theirs, "five"))
            world.git(other, "push", "--quiet", "origin", "main")
        return request(world)

    ask(world, plan)
    assert "replicas: 5" in world.file(STAGE)
    assert DIGEST in world.file(STAGE)


def test_a_race_is_checked_again(world: World) -> None:
    """What a race brought below us can make the promotion wrong: it is refused, and nothing is written."""
    other = world.clone("other")

    def plan(repository: Repository, commit: str) -> Request:
        if repository.show(commit, "stop"):
            raise Refused("dev has moved on", "run it again")
        world.commit(other, "stop", "now\n", "stop")
        world.git(other, "push", "--quiet", "origin", "main")
        return request(world)

    with pytest.raises(Refused, match="moved on"):
        ask(world, plan)
    assert world.commits() == ["stop", "the beginning"]


def test_it_gives_up_within_bounds(world: World) -> None:
    """Somebody is faster every time: it gives up after a few attempts with nothing of ours on the server."""
    other = world.clone("other")
    tries = []

    def plan(repository: Repository, commit: str) -> Request:
        tries.append(world.commit(other, "n", f"{len(tries)}\n", f"theirs {len(tries)}"))
        world.git(other, "push", "--quiet", "origin", "main")
        return request(world)

    with pytest.raises(NotReached, match=f"moved {change.ATTEMPTS} times"):
        ask(world, plan)
    assert len(tries) == change.ATTEMPTS
    assert not any("stage:" in subject for subject in world.commits())


def test_never_by_force(world: World) -> None:
    """A server that would accept a forced push never gets one: what others pushed is always still there."""
    world.git(world.server, "config", "receive.denyNonFastForwards", "false")
    other = world.clone("other")
    theirs = world.commit(other, "README.md", "theirs\n", "theirs")
    behind = Repository(world.checkout, world.context.site.git)
    world.git(other, "push", "--quiet", "origin", "main")
    ours = world.commit(world.checkout, "README.md", "ours\n", "ours")
    with pytest.raises(Exception, match="moved while we pushed"):
        behind.push(ours, "main")
    assert world.head() == theirs


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image: [\n", "not YAML"),
        ("image:\n  tag: a\n  tag: b\n", "not YAML"),
        ("- a list\n", "must be a mapping"),
        ("replicas: 2\n", "image.tag is missing"),
        ("image:\n  tag: x\n", "image.digest is missing"),
        (f"image:\n  tag: 15\n  digest: {DIGEST}\n", "image.tag must be a string"),
        ('image:\n  tag: "15"\n  digest: sha256:short\n', "malformed"),
        ('image:\n  tag: "15"\n  digest: latest\n', "malformed"),
        (
            f'image: &i\n  repository: r\n  tag: "15"\n  digest: {DIGEST}\nother: *i\n',
            "cannot be changed alone",
        ),
        ("", "must be a mapping"),
    ],
)
def test_malformed_values(world: World, text: str, says: str) -> None:
    """A malformed values file is refused with its name, and nothing is written."""
    other = world.clone("other")
    world.commit(other, STAGE, text, "broken")
    world.git(other, "push", "--quiet", "origin", "main")
    head = world.head()
    with pytest.raises(BadInput, match=says) as refused:
        ask(world, lambda r, c: request(world, OTHER, "16"))
    assert STAGE in refused.value.message
    assert world.head() == head


def test_values_that_are_gone(world: World) -> None:
    """A values file that is not in Git is refused by name."""
    other = world.clone("other")
    world.git(other, "rm", "--quiet", STAGE)
    world.git(other, "commit", "--quiet", "--message", "gone")
    world.git(other, "push", "--quiet", "origin", "main")
    with pytest.raises(BadInput, match=r"values-stage\.yaml is not in Git"):
        ask(world)


def test_what_does_not_render_is_not_written(world: World) -> None:
    """Values that the chart refuses never reach the server."""

    def refuses(tree: Path, environment: Environment, commit: str) -> Desired:
        raise BadInput("helm template: no", "mend it")

    head = world.head()
    with pytest.raises(BadInput, match="helm template"):
        change.apply(world.context, lambda r, c: request(world), render=refuses)
    assert world.head() == head


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("image: {tag: '14', digest: old} # why\n", f"image: {{tag: '15', digest: {DIGEST}}} # why\n"),
        ('image:\n  digest: "old"\n  tag: "14"\n', f'image:\n  digest: "{DIGEST}"\n  tag: "15"\n'),
        (
            "# a\nimage:\n    tag: x\n\n    digest:   y   # z\n",
            f'# a\nimage:\n    tag: "15"\n\n    digest:   {DIGEST}   # z\n',
        ),
        (
            "a: 1\r\nimage:\r\n  tag: x\r\n  digest: y\r\n",
            f'a: 1\r\nimage:\r\n  tag: "15"\r\n  digest: {DIGEST}\r\n',
        ),
        ("image: {tag: x, digest: y}", f'image: {{tag: "15", digest: {DIGEST}}}'),
        ("ä: ü\nimage: {tag: x, digest: y}\n", f'ä: ü\nimage: {{tag: "15", digest: {DIGEST}}}\n'),
    ],
)
def test_quoting_and_layout_survive(before: str, after: str) -> None:
    """Whatever the file looks like, every byte but the two values stays as it was."""
    changes = {("image", "tag"): "15", ("image", "digest"): DIGEST}
    assert values.replace(before, changes, "v.yaml") == after
    assert values.replace(after, changes, "v.yaml") == after


def test_publish_moves_main_forward(world: World) -> None:
    """deploy first brings the checkout's commit to the server's main, and does nothing when it is there."""
    assert change.publish(world.context) is False
    ours = world.commit(world.checkout, "manual-app/app.py", "1\n", "app")
    assert change.publish(world.context) is True
    assert world.head() == ours
    ask(world)  # a promotion on top: HEAD is behind now, and still contained
    assert change.publish(world.context) is False


def test_publish_refuses_what_diverged(world: World) -> None:
    """Diverged from the server: bad input with the command that mends it, and nothing is pushed."""
    ask(world)
    world.commit(world.checkout, "manual-app/app.py", "1\n", "app")
    head = world.head()
    with pytest.raises(BadInput, match="diverged") as refused:
        change.publish(world.context)
    assert refused.value.hint == f"git pull --rebase {world.context.site.git.url} main"
    assert world.head() == head


def test_the_checkout_is_left_alone(world: World) -> None:
    """A promotion does not touch the user's checkout: no file, no branch, no remote changes."""
    (world.checkout / "draft.txt").write_text("mine")
    before = (world.git(world.checkout, "status", "--porcelain"), world.git(world.checkout, "show-ref"))
    ask(world)
    assert (
        world.git(world.checkout, "status", "--porcelain"),
        world.git(world.checkout, "show-ref"),
    ) == before
