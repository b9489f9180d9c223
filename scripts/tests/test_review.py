"""The review of a merged pull request as the approval: whose word counts, and that the gate takes nothing else.

Each forge is played; what people do there happens in a real Git repository.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from delivery import cli
from delivery import context as contexts
from delivery import pipeline as pipelines
from delivery.desired import derived
from delivery.errors import BadInput, DeliveryError, NotReached, PlatformError, Refused
from delivery.gate import authors
from delivery.gate import decide as gate
from delivery.gate.weaker import weaker
from delivery.parts import forge
from delivery.parts.forge import PullRequest, Review
from delivery.parts.git import Repository
from delivery.pipeline import REVIEW, Pipeline
from delivery.signed import approval
from delivery.site import Signer
from delivery.verbs import approve as approving
from delivery.verbs import check as checking
from delivery.verbs import propose as proposing
from delivery.verbs import review as reviewing
from delivery.verbs.review import Reviewed
from scripts.tests import played_forge, signing
from scripts.tests.played_forge import PlayedForge
from scripts.tests.steps import bare_promote, deploy, promote, proofs, put
from scripts.tests.test_gate import NOW, approved, question
from scripts.tests.world import ROOT

if TYPE_CHECKING:
    from conftest import Shelf

    from scripts.tests.fake_cluster import FakeCluster
    from scripts.tests.world import World

PROD = "manual-app-helm/values-prod.yaml"
KINDS = ("github", "gitlab", "gitea")
APPROVERS = """\
approvers:
  - { name: grace, identity: grace@example.test, login: Grace }
  - { name: linus, identity: linus@example.test, login: linus }
  - { name: ada, identity: ada@example.test, login: ada }
  - { name: approver, identity: approver@localhost }
"""


def ruled(text: str, required: int = 1) -> str:
    """A pipeline.yaml in which prod is approved by review."""
    text = text.replace("      required: 1\n", f"      required: {required}\n      by: review\n", 1)
    text, count = re.subn(r"approvers:.*\n  - \{ name: approver,.*\n", APPROVERS, text)
    assert count == 1
    return text


@pytest.fixture
def team(cluster: FakeCluster) -> FakeCluster:
    """A team whose approval is a review, from the beginning on, and CI's key for reviews."""
    world, site = cluster.world, cluster.world.context.site
    folder = site.state / "keys"
    signing.generate(folder / REVIEW, f"the password of {REVIEW}")
    (folder / f"{REVIEW}.password").write_text(f"the password of {REVIEW}")
    for file in folder.glob(f"{REVIEW}.*"):
        file.chmod(0o600)
    rules = ruled((world.checkout / "pipeline.yaml").read_text())
    world.commit(world.checkout, "pipeline.yaml", rules, "by review")
    world.git(world.checkout, "push", "--quiet", "origin", "main")
    key = Signer(
        public=folder / f"{REVIEW}.pub",
        key=folder / f"{REVIEW}.key",
        password_file=folder / f"{REVIEW}.password",
    )
    waits = world.context.pipeline.waits
    pipeline = pipelines.load(world.checkout).model_copy(update={"waits": waits})
    cluster.world = replace(world, context=replace(world.context, pipeline=pipeline)).on(
        signers=dict(site.signers) | {REVIEW: key}
    )
    return cluster


@pytest.fixture(params=["github"])
def played(
    request: pytest.FixtureRequest, team: FakeCluster, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PlayedForge]:
    """A forge, on which a pull request asks prod for what stage tested."""
    with played_forge.serving(request.param, team.world) as made:
        monkeypatch.setenv(forge.TOKEN, played_forge.TOKEN)
        monkeypatch.setenv(forge.NAMED, made.where.page)
        team.world = team.world.on(forge=made.where)
        built = put(team, shelf, "15")
        deploy(team)
        promote(team, "stage")
        team.world.prove(team.world.context.environment("stage"), built.digest)
        propose(team)
        yield made


def propose(team: FakeCluster) -> None:
    context = team.world.context
    proposing.propose(context, context.environment("prod"), lambda found: found.commit)


def review(team: FakeCluster) -> Reviewed:
    context = team.world.context
    return reviewing.run(context, context.environment("prod"))


def refused(team: FakeCluster, says: str, kind: type[DeliveryError] = Refused) -> None:
    """Nothing is signed, and prod stays closed."""
    with pytest.raises(kind, match=says) as error:
        review(team)
    assert error.value.hint
    with pytest.raises(Refused, match="prod needs one approval"):
        bare_promote(team, "prod")


@pytest.mark.parametrize("played", KINDS, indirect=True)
def test_a_review_is_the_approval(team: FakeCluster, played: PlayedForge) -> None:
    """Grace approves, it is merged, CI signs that: the gate lets it in, and names her."""
    refused(team, "came by no merged pull request|names no digest yet", DeliveryError)
    played.approve("grace")
    merged = played.merge()
    with pytest.raises(Refused, match="prod needs one approval"):
        bare_promote(team, "prod")
    done = review(team)
    assert (done.approvers, done.new) == (("grace@example.test",), True)
    assert done.page.startswith(played.where.page)
    assert not review(team).new, "the same word is not signed twice"
    entered = bare_promote(team, "prod")
    assert "Approved-By: grace@example.test" in team.world.git(team.world.server, "log", "-1", "main")
    assert team.world.git(team.world.server, "log", "-1", "--format=%P", entered.commit) == merged
    assert proofs(team)["prod"].verdict == "PROVEN"


def test_a_review_of_an_older_commit(team: FakeCluster, played: PlayedForge) -> None:
    """What came after the review nobody reviewed: approved before the last push does not count."""
    played.approve("grace")
    team.world.prove(team.world.context.environment("stage"), _digest(team))
    played.push("README.md", "one more\n")
    played.merge()
    refused(team, "grace approved [0-9a-f]{12}, not [0-9a-f]{12}")


def test_a_squash_is_the_same(team: FakeCluster, played: PlayedForge) -> None:
    """Merged as one commit, with the branch deleted: the forge still has what was reviewed."""
    played.approve("grace")
    played.merge("--squash")
    assert review(team).approvers == ("grace@example.test",)
    assert bare_promote(team, "prod").new


def _digest(team: FakeCluster) -> str:
    context = team.world.context
    text = team.world.file(context.environment("stage").values)
    from delivery.desired import manifests

    return manifests.named(text, "values")[1]


def test_an_author_of_what_was_squashed(team: FakeCluster, played: PlayedForge) -> None:
    """Who wrote a commit of the branch is an author, also where the merge does not show it any more."""
    clone = team.world.clone("linus")
    team.world.git(clone, "checkout", "--quiet", played.pulls[-1].branch)
    (clone / "README.md").write_text("by linus\n")
    team.world.git(clone, "add", "--all")
    author = "Linus <linus@example.test>"
    team.world.git(clone, "commit", "--quiet", "--message", "by linus", f"--author={author}")
    team.world.git(clone, "push", "--quiet", "origin", played.pulls[-1].branch)
    played.approve("linus")
    played.merge("--squash")
    refused(team, "the review of linus is by an author of it")


def test_a_reviewer_merges_it(
    team: FakeCluster,
    played: PlayedForge,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Grace approves and presses the button: the merge is hers, and nothing in it is. Her word counts."""
    played.approve("grace")
    played.merge(by="grace")
    monkeypatch.setattr(contexts, "of", lambda *_: team.world.context)
    for format, says in (("text", "is approved by grace@example.test"), ("json", '"new": false')):
        monkeypatch.setattr(
            sys, "argv", ["delivery", "approve", "prod", "--from-review", f"--format={format}"]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        assert says in capsys.readouterr().out
    assert bare_promote(team, "prod").new


def test_a_merge_with_something_in_it_is_somebodys(world: World) -> None:
    """A merge that git makes by itself has no author; one that brings or takes away anything has."""
    git = world.git
    git(world.checkout, "checkout", "--quiet", "-b", "side")
    world.commit(world.checkout, "side.md", "side\n", "side")
    git(world.checkout, "checkout", "--quiet", "main")
    world.commit(world.checkout, "main.md", "main\n", "main")
    git(world.checkout, "merge", "--quiet", "--no-ff", "--message", "plain", "side")
    plain = git(world.checkout, "rev-parse", "HEAD")
    git(world.checkout, "reset", "--quiet", "--hard", "HEAD~1")
    git(world.checkout, "merge", "--quiet", "--no-ff", "--strategy=ours", "--message", "took away", "side")
    took = git(world.checkout, "rev-parse", "HEAD")
    git(world.checkout, "reset", "--quiet", "--hard", plain)
    (world.checkout / "more.md").write_text("more\n")
    git(world.checkout, "add", "--all")
    git(world.checkout, "commit", "--quiet", "--amend", "--message", "brought")
    brought = git(world.checkout, "rev-parse", "HEAD")
    repository = Repository(world.checkout)
    stored = repository.commits([plain, took, brought])
    told = authors.written(repository, stored.values())
    assert told == [stored[took], stored[brought]]


def test_merged_with_another_tree(team: FakeCluster, played: PlayedForge) -> None:
    """A merge that brings more than was reviewed is no approval of that."""
    played.approve("grace")
    text = team.world.file(PROD, played.pulls[-1].branch)
    played.merge(then={PROD: text.replace("replicas: 2", "replicas: 5")})
    refused(team, "is not what was reviewed: chart, values or rules differ")


def test_something_else_came_after_the_merge(team: FakeCluster, played: PlayedForge) -> None:
    """The chart changed on main after the review: what would enter now nobody reviewed."""
    played.approve("grace")
    played.merge()
    clone = team.world.clone("later")
    path = "manual-app-helm/values.yaml"
    team.world.commit(clone, path, (clone / path).read_text() + "more: 1\n", "later")
    team.world.git(clone, "push", "--quiet", "origin", "main")
    with pytest.raises(Refused, match=r"nothing to approve for prod: the chart changed"):
        review(team)


def test_closed_and_pushed_by_hand(team: FakeCluster, played: PlayedForge) -> None:
    """It was approved and closed, and somebody pushed the same to main: no merge, no approval."""
    played.approve("grace")
    pull = played.pulls[-1]
    clone = team.world.clone("hand")
    team.world.git(clone, "merge", "--quiet", "--no-ff", "--message", "by hand", f"origin/{pull.branch}")
    team.world.git(clone, "push", "--quiet", "origin", "main")
    pull.state = "closed"
    refused(team, "came by no merged pull request of")


def test_a_forge_that_does_not_answer(team: FakeCluster, played: PlayedForge) -> None:
    """What cannot be read approves nothing: exit 3."""
    played.approve("grace")
    played.merge()
    played.says = (502, "")
    refused(team, "answers 502", NotReached)


def test_another_forge_than_the_tokens(
    team: FakeCluster, played: PlayedForge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that points pipeline.yaml to a forge of one's own gets neither the token nor an approval."""
    played.approve("grace")
    played.merge()
    asked = len(played.asked)
    monkeypatch.setenv(forge.NAMED, "https://forge.example/team/manual-app")
    refused(team, "reviews count on https://forge.example/team/manual-app, and pipeline.yaml names")
    monkeypatch.delenv(forge.NAMED)
    refused(team, f"{forge.NAMED} is not set", PlatformError)
    assert len(played.asked) == asked


def test_a_key_of_ones_own_is_no_review(team: FakeCluster, played: PlayedForge) -> None:
    """Where reviews are asked for an approver's own signature is refused, and one that was made does not count."""
    played.merge()
    context = team.world.context
    with pytest.raises(BadInput, match="prod is approved by review"):
        approving.run(context, context.environment("prod"), "approver")
    refused(team, "needs 1 reviews that count, and .* has 0")


def test_the_check_does_not_miss_it(team: FakeCluster, played: PlayedForge) -> None:
    """Before the merge the review is still to come: the check lets it pass, and says so."""
    pull = played.pulls[-1]
    team.world.git(team.world.checkout, "fetch", "--quiet", "origin", pull.branch)
    found = checking.check(team.world.context, "FETCH_HEAD")
    checking.insist(found)
    [prod] = found.environments
    assert prod.by_review


HEAD, OLDER = "a" * 40, "b" * 40
PAGE = "https://forge.example/team/manual-app"
PULL = PullRequest(7, f"{PAGE}/pull/7", "prod", "ci-bot", "promote/prod-15", "main", HEAD, "merged", "c" * 40)


def counts(*said: Review, **changes: Any) -> tuple[list[str], list[str]]:
    """Whose word counts, and why each other one does not."""
    told = rules()
    asked = question(pipeline=told, target=told.environment("prod"))
    pull = replace(PULL, **changes)
    made_by = asked.authors.everybody | {"linus@example.test"}
    good, against = reviewing.counted(asked, asked.target, PAGE, pull, said, made_by)
    assert all((one.signer, one.hash) == (REVIEW, "") for one in good)
    return [one.said.approver for one in good], against


def word(login: str = "grace", **changes: Any) -> Review:
    """An approval of what was merged, an hour ago."""
    return replace(Review(login, True, HEAD, NOW - timedelta(hours=1), "APPROVED"), **changes)


def test_whose_word_counts() -> None:
    """An approver by the login that pipeline.yaml has, in any case of its letters: the identity is what is signed."""
    assert counts(word("GRACE")) == (["grace@example.test"], [])


@pytest.mark.parametrize(
    ("said", "changes", "why"),
    [
        (word("mallory"), {}, "mallory is no approver of pipeline.yaml"),
        (word("approver"), {}, "approver is no approver of pipeline.yaml"),  # the name of a key is no login
        (word("ada"), {}, "the review of ada is by an author of it"),
        (word("linus"), {}, "the review of linus is by an author of it"),
        (word(), {"author": "Grace"}, "grace opened it"),
        (word(commit=OLDER), {}, f"grace approved {OLDER[:12]}, not {HEAD[:12]}"),
        (word(commit=""), {}, f"grace approved no commit that is known, not {HEAD[:12]}"),
        (word(approves=False, says="DISMISSED"), {}, "the newest word of grace is DISMISSED"),
        (
            word(at=NOW - timedelta(hours=30)),
            {},
            "the review of grace expired: it is 30 h old and counts for 24 h",
        ),
        (word(at=NOW + timedelta(hours=1)), {}, "the review of grace is from the future"),
    ],
)
def test_whose_word_does_not_count(said: Review, changes: dict[str, str], why: str) -> None:
    """Unknown, an author, who opened it, about another commit, taken back, too old: each is named, none counts."""
    assert counts(said, **changes) == ([], [why])


def given(*ones: approval.Approval, required: int = 1) -> gate.Decision:
    """What the gate says to these approvals, where reviews are asked for."""
    told = rules("required: 1", f"required: {required}")
    asked = question(pipeline=told, target=told.environment("prod"), approvals=approval.Given(ones))
    return gate.decide(asked)


def reviewed(**changes: Any) -> approval.Approval:
    """A review that CI signed, of exactly what is asked."""
    told = approval.Review(page=PAGE, number=7, login="grace", commit=HEAD)
    facts = {"signer": REVIEW, "approver": "grace@example.test", "review": told}
    return approved(**facts | changes)


def test_the_gate_counts_a_review() -> None:
    """It names the reviewer, not CI."""
    decision = given(reviewed())
    assert (decision.allowed, decision.approved_by) == (True, ("grace@example.test",))


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (approved(), "is no review"),
        (reviewed(signer="grace"), "is no review"),
        (reviewed(review=None), "is no review"),
        (
            reviewed(review=approval.Review(page=PAGE, number=7, login="mallory", commit=HEAD)),
            "is a review by mallory, who is no such approver",
        ),
        (reviewed(approver="linus@example.test"), "is a review by grace, who is no such approver"),
    ],
)
def test_what_the_gate_takes_for_no_review(one: approval.Approval, why: str) -> None:
    """An approver's own key, a review that CI did not sign, or one of somebody else's login is no approval here."""
    [needs] = [reason for reason in given(one).refusals if "needs one approval" in reason or why in reason][
        :1
    ]
    assert needs
    assert any(why in reason for reason in given(one).refusals)


def test_a_review_is_no_key() -> None:
    """Where the approver's own key is asked for, what CI signs of a review does not count."""
    decision = gate.decide(question(approvals=approval.Given((reviewed(),))))
    assert any("is signed with the key of nobody" in reason for reason in decision.refusals)


def test_two_reviews_of_one_person_are_one() -> None:
    """Where two have to approve, one person who approves twice is one."""
    other = reviewed(
        approver="linus@example.test",
        review=approval.Review(page=PAGE, number=7, login="linus", commit=HEAD),
    )
    assert "prod needs one approval more" in given(reviewed(), reviewed(), required=2).refusals
    assert given(reviewed(), other, required=2).allowed


def rules(change: str = "", to: str = "") -> Pipeline:
    text = ruled((ROOT / "pipeline.yaml").read_text())
    assert change in text
    return pipelines.parse(text.replace(change, to), ROOT)


@pytest.mark.parametrize(
    ("change", "to", "says"),
    [
        ("      by: review\n", "", "prod would be approved by key, no longer by review"),
        ("login: linus", "login: mallory", "prod could be approved by linus@example.test as mallory, too"),
        ("localhost }", "localhost, login: x }", "prod could be approved by approver@localhost as x, too"),
        (
            "required: 1\n      by",
            "required: 1\n      # by",
            "prod would be approved by key, no longer by review",
        ),
    ],
)
def test_rules_of_reviews_that_ask_for_less(change: str, to: str, says: str) -> None:
    """Neither how somebody approves nor whose login it is changes without those who had to approve before."""
    assert weaker(rules(), rules(change, to)) == [says]


def test_from_keys_to_reviews_is_told_too() -> None:
    """An account on a forge is another lock than a key: who had to sign must sign that."""
    before = pipelines.load(ROOT)
    found = weaker(before, rules())
    assert "prod would be approved by review, no longer by key" in found


def test_the_cluster_asks_for_the_reviews_key() -> None:
    """Admission wants the approval from CI's key for reviews, once, whoever reviewed."""
    found = rules()
    assert found.signed_by[-1] == REVIEW
    assert derived.authorities(found)["approval.prod.review"] == REVIEW
    text = derived.files(found)[derived.EVIDENCE]
    assert '"prod": ["approval.prod.review"]' in text
    assert "approval.prod.grace" not in text


def test_the_workflow_signs_reviews() -> None:
    """`deliver` reads reviews with GitHub's own token, for its own repository; no approver's key is there."""
    text = derived.files(rules())[derived.DELIVER]
    jobs = yaml.safe_load(text)["jobs"]
    [step] = [one for one in jobs["prod"]["steps"] if "approve" in one.get("run", "")]
    assert step["run"] == ".venv/bin/delivery approve prod --from-review"
    assert step["env"][forge.TOKEN] == "${{ github.token }}"
    assert step["env"][forge.NAMED] == "${{ github.server_url }}/${{ github.repository }}"
    assert set(step["env"]) == {"DELIVERY_GIT_TOKEN", forge.TOKEN, forge.NAMED}
    assert jobs["prod"]["permissions"]["pull-requests"] == "read"
    assert "pull-requests" not in jobs["stage"]["permissions"]


def test_enough_people_have_a_login() -> None:
    """Where more reviews are asked for than approvers have logins nothing could ever enter: wrong input."""
    with pytest.raises(BadInput, match="prod requires 4 approvals, and there are 3 approvers with a login"):
        rules("required: 1", "required: 4")
    with pytest.raises(BadInput, match="two approvers share one login"):
        rules("login: linus", "login: GRACE")
