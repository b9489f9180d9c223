"""The Jenkinsfile is the pipeline of pipeline.yaml: the same environments, in its order, by the verbs alone.

That it also runs is shown by e2e/ci/test_jenkins.py.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from delivery import pipeline as pipelines
from delivery.desired import derived
from delivery.parts import forge
from delivery.pipeline import Pipeline
from delivery.verbs import adopt, environment
from delivery.verbs.adopt import Wanted
from scripts.tests.world import ROOT

FILE = "Jenkinsfile"
SH = re.compile(r"\bsh(?:\(script:| script:|) '([^'\n]*)'")


def commands(text: str) -> list[str]:
    """Every command that it gives to a shell, in order."""
    found = SH.findall(text)
    assert len(found) == len(re.findall(r"\bsh\b", text)), "a shell step that this does not know to read"
    return found


def asked(pipeline: Pipeline) -> list[str]:
    """What pipeline.yaml asks CI to do, as commands."""
    steps = ["ci", "build"]
    for one, after in zip(pipeline.environments, (*pipeline.environments[1:], None), strict=True):
        if one.approval and one.approval.by_review:
            steps += [f"promote {one.name} --dry-run", f"approve {one.name} --from-review"]
        elif one.approval and one.approval.required > 1:
            steps += [f"promote {one.name} --dry-run", f"approve {one.name} --dry-run"]
        elif one.approval:
            steps += [
                f"promote {one.name} --dry-run",
                f'approve {one.name} --dry-run --shown "$KEPT/{one.name}.json"',
                f'approve {one.name} --yes --shown "$KEPT/{one.name}.json"',
            ]
        steps.append(f"promote {one.name}" if one.source else "deploy")
        if after:
            steps.append(f"{'approve' if after.approval else 'promote'} {after.name} --dry-run")
        steps.append(f'test {one.name} --junit "$KEPT/{one.name}.xml"')
    steps += ["verify", 'report --output "$KEPT/report.html"']
    return ["make .venv/ready", "make test lint", *(f".venv/bin/delivery {step}" for step in steps)]


def insist(root: Path) -> None:
    """Fail when the Jenkinsfile of a checkout is not its pipeline."""
    pipeline, text = pipelines.load(root), (root / FILE).read_text("utf-8")
    assert commands(text) == asked(pipeline)
    assert set(re.findall(r"branch '([^']*)'", text)) == {pipeline.git.branch}
    assert re.findall(r"lock\(resource: '([^']*)'\)", text) == [pipeline.chart.release]
    ids = re.findall(r"credentialsId: '([^']*)'", text)
    assert ids == [f"{pipeline.chart.release}-approver", f"{pipeline.chart.release}-approver-password"]


def within(text: str, opening: str) -> str:
    """What stands in the braces of a block."""
    start = text.index("{", text.index(opening))
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[start : place + 1]
    raise AssertionError(f"{opening} is not closed")


def test_it_is_the_pipeline() -> None:
    """Jenkins asks, builds, tests, promotes and asks for approvals in the order of pipeline.yaml, and by verbs only."""
    insist(ROOT)


def test_only_the_branch_is_delivered() -> None:
    """Whatever changes an environment stands in the stage that only the main branch has."""
    text = (ROOT / FILE).read_text("utf-8")
    deliver = within(text, "stage('Deliver')")
    assert deliver[1:].lstrip().startswith("when { branch 'main' }")
    outside = commands(text.replace(deliver, ""))
    assert outside == ["make .venv/ready", "make test lint", ".venv/bin/delivery ci"]


def test_the_approver_s_credential_is_for_one_command() -> None:
    """The approver's key is there for the signature alone, after the question, and no text of a shell is made of it."""
    text = (ROOT / FILE).read_text("utf-8")
    [signs] = commands(within(text, "withCredentials("))
    assert signs.startswith(".venv/bin/delivery approve prod --yes ")
    stage = within(text, "stage('Approve prod')")
    assert stage.index("input message") < stage.index("withCredentials(")
    assert text.count("withCredentials(") == 1
    assert not re.search(r'\bsh\b[^\n]*"""|\bsh\(?(script:)? "', text), (
        "Groovy would put values into the command"
    )


def test_a_fork_s_is_the_fork_s(fork: Path) -> None:
    """After `delivery adopt` the Jenkinsfile has the new name, and is still the pipeline."""
    wanted = Wanted(
        "parcel-desk", "registry.example/tidewater", "https://git.example/Tidewater/parcel-desk.git"
    )
    adopt.run(pipelines.load(fork), wanted, False)
    insist(fork)
    assert "parcel-desk-approver" in (fork / FILE).read_text("utf-8")


def test_an_environment_more(fork: Path) -> None:
    """`delivery environment add` has Jenkins deploy, test and promote there, too."""
    environment.add(pipelines.load(fork), "qa", "dev", (), False)
    insist(fork)
    text = (fork / FILE).read_text("utf-8")
    assert (
        text.index("stage('Test dev')")
        < text.index("stage('Promote to qa')")
        < text.index("stage('Test qa')")
    )


def test_whose_approvals_are_not_given_in_jenkins() -> None:
    """Where the review is the approval Jenkins signs it, and asks nobody; where two approve by hand it waits."""
    pipeline = approved(pipelines.load(ROOT), required=2)
    text = derived.files(pipeline)[FILE]
    assert commands(text) == asked(pipeline)
    assert "withCredentials(" not in text
    assert "Have 2 people approved prod" in within(text, "stage('Approve prod')")
    pipeline = approved(pipelines.load(ROOT), by="review")
    text = derived.files(pipeline)[FILE]
    assert commands(text) == asked(pipeline)
    assert "input message" not in text
    assert re.findall(r"credentialsId: '([^']*)'", text) == [f"{pipeline.chart.release}-forge"]
    assert re.findall(r"variable: '([^']*)'", text) == [forge.TOKEN]


@pytest.mark.parametrize(
    "change",
    [
        lambda fork: rewritten(fork, "delivery promote stage", "delivery promote stage || true"),
        lambda fork: rewritten(fork, "sh '.venv/bin/delivery verify'", "sh 'kubectl get pods'"),
        lambda fork: rewritten(fork, "branch 'main'", "branch 'trunk'"),
    ],
    ids=["a refusal that counts for nothing", "no verb", "another branch"],
)
def test_what_differs_is_found(fork: Path, change: Callable[[Path], object]) -> None:
    """A step that is no verb, or whose refusal counts for nothing, does not pass unseen."""
    insist(fork)
    change(fork)
    with pytest.raises(AssertionError):
        insist(fork)


def approved(pipeline: Pipeline, **other: object) -> Pipeline:
    """The same pipeline, whose last environment is approved in another way."""
    *first, last = pipeline.environments
    assert last.approval
    last = last.model_copy(update={"approval": last.approval.model_copy(update=other)})
    return pipeline.model_copy(update={"environments": (*first, last)})


def rewritten(fork: Path, old: str, new: str) -> None:
    file = fork / FILE
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
