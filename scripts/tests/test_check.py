"""`delivery check`: a proposal on a branch, edited by hand, and what it would be told; nothing is ever written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from delivery import cli
from delivery import context as contexts
from delivery import pipeline as pipelines
from delivery.build import image
from delivery.errors import BadInput, NotReached, Refused
from delivery.show import markdown, report
from delivery.verbs import approve as approving
from delivery.verbs import check as checking
from delivery.verbs import propose as proposing
from delivery.verbs.check import Checked
from scripts.tests.fake_cluster import REPOSITORY
from scripts.tests.steps import deploy, promote, proofs, put
from scripts.tests.world import URL

if TYPE_CHECKING:
    from conftest import Shelf

    from scripts.tests.fake_cluster import FakeCluster

PROD = "manual-app-helm/values-prod.yaml"


@pytest.fixture
def ready(cluster: FakeCluster, built: image.Built) -> Iterator[FakeCluster]:
    """Build 15 is in stage, tested there; prod runs nothing yet. Afterwards Git and the cluster are as before."""
    deploy(cluster)
    promote(cluster, "stage")
    cluster.world.prove(cluster.world.context.environment("stage"), built.digest)
    cluster.world.git(cluster.world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    refs = cluster.world.git(cluster.world.server, "for-each-ref")
    before = (refs, json.dumps(cluster.pods), len(cluster.operations))
    yield cluster
    after = cluster.world.git(cluster.world.server, "for-each-ref")
    assert (after, json.dumps(cluster.pods), len(cluster.operations)) == before


def asking(cluster: FakeCluster, digest: str, tag: str = "15", repository: str = REPOSITORY) -> str:
    """prod's values as a person types them."""
    text = (cluster.world.checkout / PROD).read_text()
    text = text.replace("repository: set-by-promotion", f"repository: {repository}")
    text = text.replace("tag: set-by-promotion", f'tag: "{tag}"')
    return text.replace("digest: set-by-promotion", f"digest: {digest}")


def propose(cluster: FakeCluster, text: str, path: str = PROD) -> Checked:
    """One commit on a branch of the checkout, and what is said of it."""
    world = cluster.world
    world.git(world.checkout, "checkout", "--quiet", "-B", "proposal")
    world.commit(world.checkout, path, text, "a proposal")
    return checking.check(world.context, "proposal")


def approve(cluster: FakeCluster) -> None:
    context = cluster.world.context
    approving.run(context, context.environment("prod"), None)


def reasons(found: Checked) -> str:
    with pytest.raises(Refused) as error:
        checking.insist(found)
    assert error.value.hint
    return error.value.message


def test_what_stage_runs_may_enter(ready: FakeCluster, built: image.Built) -> None:
    """I edit digest and tag by hand, as it was tested and approved: it may enter, and I see digests and difference."""
    approve(ready)
    found = propose(ready, asking(ready, built.digest))
    checking.insist(found)
    [prod] = found.environments
    assert (prod.environment, prod.asked, prod.before, prod.after) == ("prod", True, "none", built.digest)
    assert f"image: {REPOSITORY}@{built.digest}" in prod.diff
    document = report.checked_document(ready.world.context.site, found)
    assert document["verdict"] == "ALLOWED"
    assert document["environments"][0]["approved_by"] == ["approver@localhost"]
    said = markdown.checked(document)
    assert f"| prod | none | {built.digest[:19]} | 15 | may enter |" in said
    assert f"after {built.digest}" in said.replace("\\", "")


def test_the_approval_is_missing(ready: FakeCluster, built: image.Built) -> None:
    """Nobody approved it: the check says so, as the gate does."""
    assert "prod needs one approval" in reasons(propose(ready, asking(ready, built.digest)))


def test_more_than_was_approved(ready: FakeCluster, built: image.Built) -> None:
    """One value more than was approved, which nobody tested in stage: refused, and the value is in the difference."""
    approve(ready)
    text = asking(ready, built.digest).replace("replicas: 2", "replicas: 3")
    found = propose(ready, text)
    assert f"is for another change of {PROD}" in reasons(found)
    assert "+  replicas: 3" in found.environments[0].diff
    assert "+  replicas: 3" in found.environments[0].untested


def test_in_release_branch_an_edit_asks_for_nothing(ready: FakeCluster, built: image.Built) -> None:
    """Where a tag asks, an edited file only shows what the next promotion brings; no pull request is opened."""
    ready.world = ready.world.ruled(strategy="release-branch")
    found = propose(ready, asking(ready, built.digest))
    [prod] = found.environments
    assert (prod.asked, prod.after) == (False, built.digest)
    checking.insist(found)
    context = ready.world.context
    with pytest.raises(BadInput, match="in release-branch people ask with a branch and a tag"):
        proposing.propose(context, context.environment("prod"), lambda checked: "")


def test_a_digest_that_was_not_tested(ready: FakeCluster, shelf: Shelf) -> None:
    """Another digest than stage runs is refused, built or not."""
    newer = put(ready, shelf, "16")
    assert "stage is at" in reasons(propose(ready, asking(ready, newer.digest, "16")))
    nowhere = f"sha256:{'a' * 64}"
    assert "is not in the registry" in reasons(propose(ready, asking_again(ready, newer.digest, nowhere)))


def asking_again(cluster: FakeCluster, old: str, new: str) -> str:
    return (cluster.world.checkout / PROD).read_text().replace(old, new)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"tag": "17"}, "image.tag '17'"),
        ({"repository": "registry.example/mine"}, "image.repository 'registry.example/mine'"),
    ],
)
def test_the_right_digest_under_a_wrong_name(
    ready: FakeCluster, built: image.Built, wrong: dict[str, str], says: str
) -> None:
    """The digest that was tested, with another build number or another registry beside it, is refused."""
    approve(ready)
    assert says in reasons(propose(ready, asking(ready, built.digest, **wrong)))


@pytest.mark.parametrize(
    ("digest", "says"), [("sha256:short", "is malformed"), ("set-by-promotion", "names no digest yet")]
)
def test_no_digest_at_all(ready: FakeCluster, digest: str, says: str) -> None:
    """A malformed digest, or half an edit, is told as what it is."""
    assert says in reasons(propose(ready, asking(ready, digest)))


def test_a_chart_alone_asks_nothing(ready: FakeCluster) -> None:
    """A new chart enters nothing guarded by its merge: shown where something runs, exit 0, and dev takes it."""
    path = "manual-app-helm/templates/app.yaml"
    text = (
        (ready.world.checkout / path).read_text().replace("kind: Deployment", "kind: Deployment\n# more", 1)
    )
    found = propose(
        ready, text.replace("{name: manual-app}", "{name: manual-app, annotations: {a: b}}", 1), path
    )
    checking.insist(found)
    assert [(one.environment, one.asked) for one in found.environments] == [("stage", False)]
    assert "+  annotations:" in found.environments[0].diff
    assert found.follows == "dev"
    assert "is not asked" in markdown.checked(report.checked_document(ready.world.context.site, found))


def test_a_readme_asks_nothing(ready: FakeCluster) -> None:
    """What no environment has changes nothing, and passes."""
    found = propose(ready, "hello\n", "README.md")
    checking.insist(found)
    assert (found.environments, found.follows, found.rules) == ((), "", ())


def test_the_rules_of_a_proposal_do_not_count(ready: FakeCluster, built: image.Built) -> None:
    """A proposal that takes the approval away and walks through: told as weaker, and judged by the rules before."""
    world = ready.world
    rules = (world.checkout / "pipeline.yaml").read_text()
    weaker = rules[: rules.index("    approval: #")] + rules[rules.index("    freeze: []") :]
    world.git(world.checkout, "checkout", "--quiet", "-B", "proposal")
    world.commit(world.checkout, "pipeline.yaml", weaker, "no approval")
    propose(ready, asking(ready, built.digest))
    # As CI calls it in a checkout of the proposal, whose pipeline.yaml is the weaker one.
    its_own = replace(world.context, pipeline=pipelines.load(world.checkout))
    assert its_own.pipeline.environment("prod").approval is None
    found = checking.check(its_own, "proposal")
    assert "prod needs one approval" in reasons(found)
    assert found.rules == ("pipeline.yaml",)
    assert found.weaker == ("prod would be entered with fewer approvals",)
    assert "Weaker: prod would be entered" in markdown.checked(
        report.checked_document(world.context.site, found)
    )


def test_rules_that_nobody_can_read(ready: FakeCluster) -> None:
    """A pipeline.yaml that is broken is refused before it is merged."""
    rules = (ready.world.checkout / "pipeline.yaml").read_text()
    assert "pipeline.yaml" in reasons(propose(ready, rules + "nonsense: 1\n", "pipeline.yaml"))


def test_policies_are_told(ready: FakeCluster) -> None:
    """A change of policy/ or argocd/ is named; it enters nothing by itself."""
    found = propose(ready, "# looser\n", "policy/evidence.yaml")
    checking.insist(found)
    assert found.rules == ("policy/evidence.yaml",)


def test_what_main_would_be_is_judged(ready: FakeCluster, built: image.Built) -> None:
    """main moved on since the branch was cut: the merge of both is judged, without a word to the server."""
    approve(ready)
    world = ready.world
    propose(ready, asking(ready, built.digest))
    world.git(world.checkout, "checkout", "--quiet", "-B", "elsewhere", "origin/main")
    base = world.commit(world.checkout, "README.md", "moved on\n", "moved on")
    with pytest.MonkeyPatch.context() as patch:
        # As if it were on the server: the judge takes the branch from a clone.
        patch.setattr(checking.git, "clone", _clone_at(base, checking.git.clone, world.checkout))
        found = checking.check(world.context, "proposal")
    checking.insist(found)
    assert (found.base, [one.environment for one in found.environments]) == (base, ["prod"])


def _clone_at(commit: str, clone: Any, checkout: Any) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def cloned(*arguments: Any, **options: Any) -> Iterator[Any]:
        with clone(*arguments, **options) as repository:
            repository.raw("fetch", "--quiet", str(checkout), commit)
            if options.get("bare"):
                repository.run("update-ref", "refs/heads/main", commit)
            yield repository

    return cloned


def test_a_conflict(ready: FakeCluster, built: image.Built) -> None:
    """What cannot be merged is refused, and says with what."""
    world = ready.world
    world.git(world.checkout, "checkout", "--quiet", "-b", "old", "HEAD~1")
    stage = "manual-app-helm/values-stage.yaml"
    world.commit(world.checkout, stage, (world.checkout / stage).read_text() + "more: 1\n", "stage by hand")
    text = (world.checkout / stage).read_text().replace("set-by-promotion", "mine")
    world.commit(world.checkout, stage, text, "the same lines")
    found = checking.check(world.context, "old")
    assert "it conflicts with main" in reasons(found)


def test_what_cannot_be_read_is_unknown(ready: FakeCluster, built: image.Built) -> None:
    """A cluster that shows nothing makes it UNKNOWN, never a pass: exit 3."""
    approve(ready)
    ready.denied.add("pods")
    found = propose(ready, asking(ready, built.digest))
    with pytest.raises(NotReached, match="is not known"):
        checking.insist(found)
    ready.denied.clear()
    assert proofs(ready)


def test_no_such_proposal(ready: FakeCluster) -> None:
    """A branch that is not there is wrong usage: exit 2."""
    with pytest.raises(BadInput, match="there is no commit 'nowhere'"):
        checking.check(ready.world.context, "nowhere")


def test_as_ci_calls_it(
    ready: FakeCluster,
    built: image.Built,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The verb prints the Markdown and exits 1 with one error and one hint when it would be refused."""
    propose(ready, asking(ready, built.digest))
    monkeypatch.setattr(contexts, "load", lambda *_: ready.world.context)
    monkeypatch.setattr(sys, "argv", ["delivery", "check", "proposal", "--format", "markdown"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert said.out.startswith("### REFUSED: ")
    assert said.err.splitlines()[-2:] == [
        "error: merged like this it would be refused: prod: prod needs one approval",
        "hint: what is missing: delivery status",
    ]


def document(**changes: Any) -> dict[str, Any]:
    """What is said of a proposal that changes prod."""
    prod = {
        **{"environment": "prod", "asked": True, "build_before": "15", "build": "16", "by_review": False},
        **{"before": f"sha256:{'a' * 64}", "after": f"sha256:{'b' * 64}", "diff": "+ a", "untested": ""},
        **{"allowed": True, "reasons": [], "evidence": ["c" * 64], "approved_by": []},
    }
    top = {
        **{"schema": "delivery/check/v1", "site": "team", "verdict": "ALLOWED", "branch": "main"},
        **{"base": "d" * 40, "commit": "e" * 40, "follows": "", "rules": [], "weaker": [], "refusals": []},
    }
    return {**top, "environments": [prod | changes]}


@pytest.mark.parametrize(
    "said",
    [
        "+ a: '\n```\n</details><script>alert(1)</script>\n@team'",
        "+ ````````\n+ `````\n# no title",
        "+ a\u2028```\r```\x00\u202e",
    ],
)
def test_nothing_leaves_its_fence(said: str) -> None:
    """A value with backticks, HTML or characters that turn lines around stays text within its fence."""
    lines = markdown.checked(document(diff=said)).split("\n")
    [begin] = [at for at, line in enumerate(lines) if line.endswith("diff") and line.startswith("```")]
    fence = lines[begin].removesuffix("diff")
    end = lines.index(fence, begin)
    inside = "\n".join(lines[begin + 1 : end])
    assert fence not in inside
    assert not set(inside) & set("\r\x00\u2028\u202e")
    assert "@team" in inside or "@team" not in said
    assert [line for line in lines[end + 1 :] if line.strip()] == ["</details>"]
    assert inside.count("\n") == said.count("\n")


def test_what_is_too_long_is_cut_and_says_so() -> None:
    """However much changes, a comment holds it: what is left out is counted."""
    lines = [f"+ line {at} {'x' * 60}" for at in range(5000)]
    reasons = [f"reason {at} {'`' * 900}" for at in range(100)]
    said = markdown.checked(document(diff="\n".join(lines), untested="\n".join(lines), reasons=reasons))
    assert len(said) <= 65_536
    cut = [line for line in said.splitlines() if "are cut" in line]
    assert len(cut) == 3
    shown = sum(line.startswith("+ line") for line in said.splitlines())
    assert sum(int(line.split()[0]) for line in cut[1:]) == 2 * len(lines) - shown
    assert "line 0 " in said


def test_the_server_is_the_sites(ready: FakeCluster) -> None:
    """The branch that it is compared with is the Git server's, not the checkout's own main."""
    world = ready.world
    world.commit(world.checkout, "README.md", "local only\n", "on the checkout's main")
    found = checking.check(world.context)
    assert found.base == world.head()
    assert world.context.site.git.url == URL
