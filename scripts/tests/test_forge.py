"""Pull requests on each forge, played: opened once, brought up to date, and every way in which a forge says no.

The stand-in answers as GitHub, GitLab and Gitea document their API; none of the three was ever asked itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from delivery import cli
from delivery import context as contexts
from delivery.build import image
from delivery.desired import change
from delivery.errors import BadInput, DeliveryError, NotReached, PlatformError, Refused
from delivery.parts import forge, git
from delivery.site import Forge
from delivery.verbs import propose as proposing
from delivery.verbs.propose import Proposal
from scripts.tests import played_forge
from scripts.tests.played_forge import PlayedForge
from scripts.tests.steps import deploy, promote
from scripts.tests.world import World

if TYPE_CHECKING:
    from scripts.tests.fake_cluster import FakeCluster

KINDS = ("github", "gitlab", "gitea")


@pytest.fixture(params=KINDS)
def played(
    request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PlayedForge]:
    """Each forge in turn, and its token at hand."""
    monkeypatch.setenv(forge.TOKEN, played_forge.TOKEN)
    with played_forge.serving(request.param, world) as made:
        yield made


@pytest.fixture
def github(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedForge]:
    """One forge, where it does not matter which."""
    monkeypatch.setenv(forge.TOKEN, played_forge.TOKEN)
    with played_forge.serving("github", world) as made:
        yield made


def in_dev(cluster: FakeCluster, digest: str) -> None:
    """The digest is in dev, and its tests there passed: stage may have it, and asks for no approval."""
    deploy(cluster)
    cluster.world.prove(cluster.world.context.environment("dev"), digest)


def propose(cluster: FakeCluster, played: PlayedForge, name: str = "stage") -> Proposal:
    context = cluster.world.on(forge=played.where).context
    return proposing.propose(
        context, context.environment(name), lambda found: f"checked {found.commit}: {found.decision.allowed}"
    )


def on_server(cluster: FakeCluster, branch: str) -> str:
    return cluster.world.git(cluster.world.server, "rev-parse", "--verify", f"refs/heads/{branch}")


def test_it_is_opened_once(cluster: FakeCluster, built: image.Built, played: PlayedForge) -> None:
    """I ask for stage: one branch, one pull request with the check and labels. main and stage stay as they are."""
    in_dev(cluster, built.digest)
    before = cluster.world.head()
    done = propose(cluster, played)
    [pull] = played.pulls
    assert (done.branch, done.new, done.number) == ("promote/stage-15", True, 1)
    assert (pull.branch, pull.base, pull.title) == ("promote/stage-15", "main", "stage: manual-app 15")
    assert pull.body == f"checked {done.commit}: True"
    assert pull.labels == ["promotion", "stage"]
    assert on_server(cluster, done.branch) == done.commit
    assert built.digest in cluster.world.file("manual-app-helm/values-stage.yaml", done.commit)
    assert cluster.world.head() == before
    assert done.page.startswith(played.url)

    again = propose(cluster, played)
    assert (again.new, again.number, again.commit) == (False, 1, done.commit)
    assert len(played.pulls) == 1
    assert pull.labels == ["promotion", "stage"]


def said(arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command, as a user types it."""
    monkeypatch.setattr(sys, "argv", ["delivery", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_as_it_is_typed(
    cluster: FakeCluster,
    built: image.Built,
    github: PlayedForge,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command opens it with the check's Markdown as its text, and says where it is; as JSON, too."""
    in_dev(cluster, built.digest)
    monkeypatch.setattr(contexts, "of", lambda *_: cluster.world.on(forge=github.where).context)
    assert said("promote stage --pull-request", monkeypatch) == 0
    [pull] = github.pulls
    assert pull.body.startswith("### ALLOWED: ")
    assert f"image: registry.example/team/manual-app@{built.digest}" in pull.body
    assert f"opened: {github.where.page}/pull/1 (branch promote/stage-15)" in capsys.readouterr().out
    assert said("promote stage --pull-request --format json", monkeypatch) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["number"], told["new"]) == ("delivery/proposal/v1", 1, False)


@pytest.mark.parametrize(
    "arguments",
    [
        "promote stage --pull-request --dry-run",
        "promote stage --pull-request --tag v1",
        "promote dev --pull-request",
        "approve prod --from-review --dry-run",
        "promote stage --pull-request",  # the site names no forge
        "approve prod --from-review",
    ],
)
def test_what_goes_not_together(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str
) -> None:
    """Wrong usage is exit 2 with a hint, and nothing was asked."""
    monkeypatch.setenv("DELIVERY_SITE", "team")
    assert said(arguments, monkeypatch) == 2
    assert "hint: " in capsys.readouterr().err


def test_a_token_for_another_forge(github: PlayedForge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where DELIVERY_FORGE says what the token is for, no other forge gets it."""
    monkeypatch.setenv(forge.NAMED, "https://github.com/acme/shop")
    with pytest.raises(Refused, match="reviews count on") as error, forge.connect(github.where):
        pass
    assert error.value.hint
    assert not github.asked


def test_it_is_brought_up_to_date(cluster: FakeCluster, built: image.Built, github: PlayedForge) -> None:
    """main moved on, or somebody wrote into the branch: the same pull request asks again for exactly the promotion."""
    in_dev(cluster, built.digest)
    first = propose(cluster, github)
    github.push("manual-app-helm/values-prod.yaml", "replicas: 9\n")
    clone = cluster.world.clone("other")
    cluster.world.commit(clone, "README.md", "moved on\n", "moved on")
    cluster.world.git(clone, "push", "--quiet", "origin", "main")
    second = propose(cluster, github)
    assert (second.new, second.number) == (False, first.number)
    server = git.Repository(cluster.world.server)
    assert server.contains(first.commit, second.commit), "never by force"
    assert server.contains(cluster.world.head(), second.commit)
    changed = server.run("diff", "--name-only", cluster.world.head(), second.commit)
    assert changed == "manual-app-helm/values-stage.yaml"
    assert github.pulls[0].body == f"checked {second.commit}: True"


def test_the_commit_of_a_proposal_enters_nothing(
    cluster: FakeCluster, built: image.Built, github: PlayedForge
) -> None:
    """What is proposed no gate signed: merged by hand it is no promotion, and promote still asks the gate."""
    in_dev(cluster, built.digest)
    propose(cluster, github)
    merged = github.merge()
    told = change.history(git.Repository(cluster.world.server), merged)
    assert {one.environment for one in told} == {"dev"}
    assert promote(cluster, "stage").new
    with pytest.raises(Refused, match=r"asks for .* already: there is nothing to propose"):
        propose(cluster, github)


def test_what_the_gate_refuses_is_not_asked(
    cluster: FakeCluster, built: image.Built, github: PlayedForge
) -> None:
    """An untested digest: no branch, no pull request."""
    deploy(cluster)
    refs = cluster.world.git(cluster.world.server, "for-each-ref")
    with pytest.raises(Refused, match="dev has no evidence"):
        propose(cluster, github)
    assert not github.pulls
    assert cluster.world.git(cluster.world.server, "for-each-ref") == refs


def test_an_approval_by_key_is_missed(cluster: FakeCluster, built: image.Built, github: PlayedForge) -> None:
    """Where the approver's own key is asked for, a review does not take its place."""
    deploy(cluster)
    promote(cluster, "stage")
    cluster.world.prove(cluster.world.context.environment("stage"), built.digest)
    with pytest.raises(Refused, match="prod needs one approval"):
        propose(cluster, github, "prod")
    assert not github.pulls


def ask(played: PlayedForge, world: World) -> object:
    with forge.connect(played.where, seconds=0.5) as there:
        return there.opened("promote/stage-15", "main")


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (401, '{"message": "Bad credentials"}', PlatformError, "401 Bad credentials"),
        (403, '{"message": "Resource not accessible"}', PlatformError, "403 Resource not accessible"),
        (404, '{"message": "Not Found"}', PlatformError, "404"),
        (422, '{"message": "Validation Failed", "errors": ["no base"]}', PlatformError, "422 .*no base"),
        (301, "", PlatformError, "301"),
        (429, "", NotReached, "429"),
        (500, "<html>", NotReached, "answers 500"),
        (200, "<html>welcome</html>", PlatformError, "no JSON"),
        (200, '{"unexpected": 1}', PlatformError, "an answer that no"),
        (200, '[{"unexpected": 1}]', PlatformError, "an answer that no"),
    ],
)
def test_a_forge_that_says_no(
    played: PlayedForge, world: World, status: int, body: str, kind: type[DeliveryError], says: str
) -> None:
    """Each refusal is one line with a hint and its exit code, and never says the token."""
    played.says = (status, body)
    with pytest.raises(kind, match=says) as error:
        ask(played, world)
    assert error.value.hint
    assert played_forge.TOKEN not in error.value.message + error.value.hint


def test_a_silent_forge(played: PlayedForge, world: World) -> None:
    """One that accepts and says nothing is given up after its limit: UNKNOWN, exit 3."""
    played.silent.set()
    with pytest.raises(NotReached, match=r"does not answer: GET .*: ReadTimeout"):
        ask(played, world)


def test_nobody_listens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forge that is not there is UNKNOWN, too."""
    monkeypatch.setenv(forge.TOKEN, played_forge.TOKEN)
    where = Forge.model_validate({"kind": "gitea", "url": "http://127.0.0.1:1", "repository": "team/app"})
    with forge.connect(where) as there, pytest.raises(NotReached, match="ConnectError"):
        there.opened("a", "main")


def test_a_wrong_token(played: PlayedForge, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that the forge does not know is told with the variable's name."""
    monkeypatch.setenv(forge.TOKEN, "another")
    with pytest.raises(PlatformError, match="401") as error:
        ask(played, world)
    assert forge.TOKEN in error.value.hint


@pytest.mark.parametrize("token", ["", " \n", "two words", "a\nb", "\u00fc"])
def test_a_token_that_is_none(github: PlayedForge, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """What cannot be sent as a token is told as that, without a word of it, and nobody is asked."""
    monkeypatch.setenv(forge.TOKEN, token)
    with pytest.raises(PlatformError, match=forge.TOKEN) as error, forge.connect(github.where):
        pass
    assert not token.strip() or token not in error.value.message
    assert not github.asked


def test_no_token(
    cluster: FakeCluster, built: image.Built, github: PlayedForge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a token nothing is pushed, and nobody is asked."""
    in_dev(cluster, built.digest)
    monkeypatch.delenv(forge.TOKEN)
    with pytest.raises(PlatformError, match=f"{forge.TOKEN} is not set"):
        propose(cluster, github)
    assert not github.asked
    assert "promote/" not in cluster.world.git(cluster.world.server, "for-each-ref")


def test_a_forge_that_may_not_be_written(
    cluster: FakeCluster, built: image.Built, github: PlayedForge
) -> None:
    """The token may only read: told, and once it may write the same command goes on from there."""
    in_dev(cluster, built.digest)
    github.says, github.says_to = (403, '{"message": "read only"}'), "POST"
    with pytest.raises(PlatformError, match="403 read only"):
        propose(cluster, github)
    github.says = None
    assert propose(cluster, github).new


def test_more_than_can_be_read(github: PlayedForge, world: World) -> None:
    """A list without an end is not read for ever, and never for a part."""
    pull = played_forge.Pull(1, "", "", "x", "main", "0" * 40, "ci", state="closed")
    github.pulls = [
        played_forge.Pull(**{**vars(pull), "number": at, "merged": "a" * 40}) for at in range(501)
    ]
    with (
        forge.connect(github.where) as there,
        pytest.raises(PlatformError, match="lists more than 500"),
    ):
        there.merged_as("a" * 40, "main")


def test_of_a_fork_it_is_another_branch(played: PlayedForge, world: World) -> None:
    """A fork's pull request from a branch of the same name is not taken for ours."""
    world.git(world.server, "branch", "promote/stage-15", "main")
    fork = played_forge.Pull(
        1, "", "", "promote/stage-15", "main", "0" * 40, "mallory", repository="team/fork", state="open"
    )
    played.pulls = [fork]
    assert ask(played, world) is None


def reviewed(played: PlayedForge) -> list[tuple[str, bool, str]]:
    """What the forge says about its first pull request: who, whether they approve, and which commit."""
    with forge.connect(played.where) as there:
        pull = there.merged_as(played.pulls[0].merged, "main")
        assert pull is not None
        return [(one.login, one.approves, one.commit) for one in there.reviews(pull)]


def opened(played: PlayedForge) -> str:
    """A pull request from a branch with one commit."""
    world = played.world
    world.git(world.checkout, "checkout", "--quiet", "-b", "asks")
    commit = world.commit(world.checkout, "README.md", "asked\n", "asked")
    world.git(world.checkout, "push", "--quiet", "origin", "asks")
    with forge.connect(played.where) as there:
        there.open("asks", "main", "title", "body")
    return commit


def test_what_people_said(played: PlayedForge) -> None:
    """Of each person the newest word counts; who only comments says nothing; an older commit is told as that."""
    older = opened(played)
    played.approve("early")
    played.approve("changed")
    head = played.push("README.md", "more\n")
    played.approve("grace")
    played.approve("grace", word="comment")
    played.approve("changed", word="refuse")
    played.approve("late", word="refuse")
    played.approve("late")
    played.merge()
    said = {login: (approves, commit) for login, approves, commit in reviewed(played)}
    assert said["early"] == (True, older)
    assert said["grace"] == said["late"] == (True, head)
    assert not said.get("changed", (False, ""))[0]
    assert set(said) - {"changed"} == {"early", "grace", "late"}


def test_what_was_taken_back(played: PlayedForge) -> None:
    """A dismissed approval is none."""
    opened(played)
    played.approve("grace")
    played.pulls[0].reviews[0].dismissed = True
    played.merge()
    assert not [one for one in reviewed(played) if one[1]]


def test_what_was_never_merged(played: PlayedForge) -> None:
    """An open or a closed one is not what a commit came by."""
    commit = opened(played)
    for state in ("open", "closed"):
        played.pulls[0].head, played.pulls[0].state = commit, state
        with forge.connect(played.where) as there:
            assert there.merged_as(commit, "main") is None


@pytest.mark.parametrize(
    ("url", "kind", "page"),
    [
        ("https://github.com/acme/shop.git", "github", "https://github.com/acme/shop"),
        ("git@github.com:acme/shop.git", "github", "https://github.com/acme/shop"),
        ("ssh://git@gitlab.com/acme/team/shop", "gitlab", "https://gitlab.com/acme/team/shop"),
    ],
)
def test_a_public_forge_is_known(world: World, url: str, kind: str, page: str) -> None:
    """Where the Git server is github.com or gitlab.com nothing more has to be said."""
    site = world.on(git=world.context.site.git.model_copy(update={"url": url})).context.site
    assert (forge.of(site).kind, forge.of(site).page) == (kind, page)


def test_no_forge(world: World) -> None:
    """Any other Git server needs `forge` in pipeline.yaml: wrong usage, with the line to write."""
    with pytest.raises(BadInput, match="site team names no forge") as error:
        forge.of(world.context.site)
    assert "forge: { kind:" in error.value.hint
    with pytest.raises(BadInput, match="site team has no forge") as error:
        forge.of(world.on(made_here=True).context.site)
    assert "--site" in error.value.hint
