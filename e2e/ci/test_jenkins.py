"""The Jenkinsfile, run step by step: a push goes through the environments to prod, or stops where it has to."""

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from delivery.build.image import next_number
from delivery.parts import git
from delivery.parts.registry import connect
from e2e.ci.jenkins.controller import Controller, Ended, unfit
from e2e.conftest import ROOT, Build
from e2e.delivery import Checkout

pytestmark = pytest.mark.skipif(bool(unfit()), reason=unfit() or "it is fit")

QUESTION = "Input requested: "
APPROVER = "approver"


@dataclass
class Story:
    """The builds of the job, and what prod ran after each."""

    before: str
    builds: dict[str, Ended] = field(default_factory=dict)
    prod: dict[str, set[str]] = field(default_factory=dict)
    consoles: dict[str, str] = field(default_factory=dict)
    leaked: list[str] = field(default_factory=list)
    verdict: str = ""
    entered: dict[str, int] = field(
        default_factory=dict
    )  # environment -> commits that brought the new digest
    new: str = ""


def jenkins(platform: Checkout, folder: Path) -> Controller:
    """A Jenkins whose agent has the site as the team's, all but the approver's key: that one is a credential."""
    workspace = folder / "workspace"
    subprocess.run(["git", "clone", "--quiet", platform.context.site.git.url, workspace], check=True)
    yaml = YAML(typ="safe", pure=True)
    keys = platform.context.site.state
    site = yaml.load((keys / "site.yaml").read_text(encoding="utf-8"))
    signer = site["signers"][APPROVER]
    credentials = {
        "manual-app-approver": {"kind": "file", "secret": Path(signer["key"]).read_text()},
        "manual-app-approver-password": {
            "kind": "string",
            "secret": Path(signer["password_file"]).read_text(),
        },
    }
    del signer["password_file"]
    signer |= {"key": "env://APPROVER_KEY", "password": "APPROVER_PASSWORD"}
    state = workspace / ".delivery" / platform.site
    state.mkdir(mode=0o700, parents=True)
    with (state / "site.yaml").open("w", encoding="utf-8") as out:
        yaml.dump(site, out)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("DELIVERY_", "PYTEST_"))
    }
    environment |= {"DELIVERY_SITE": platform.site}
    with connect(platform.context.site.image) as registry:
        free = next_number(registry.tags(), 100)  # the platform may have seen the builds of another Jenkins
    return Controller(folder / "home", workspace, environment, credentials, number=free)


def pushed(platform: Checkout, controller: Controller, message: str) -> None:
    """What a developer does: a commit on main, and a push; Jenkins checks that commit out."""
    platform.commit(message)
    platform.pull()
    commit = platform.git("rev-parse", "HEAD")
    platform.push(f"HEAD:{platform.branch}")
    repository = git.Repository(controller.workspace)
    repository.run("fetch", "--quiet", "origin")
    repository.run("checkout", "--quiet", "--detach", commit)


def told(platform: Checkout, controller: Controller) -> Story:
    """The whole story, as a team would have it on two bad days."""
    [before] = platform.digests("prod")
    story = Story(before)

    def ended(name: str, build: Ended) -> None:
        story.builds[name] = build
        story.prod[name] = platform.digests("prod")
        story.leaked += build.leaked

    app = platform.path / platform.pipeline.image.context / "manual_app"
    pricing = app / "pricing.py"
    good = pricing.read_text(encoding="utf-8")
    bad = good.replace("Tier(10, 5)", "Tier(10, 6)")  # a discount that the integration suite knows to be 5 %
    assert bad != good
    pricing.write_text(bad, encoding="utf-8")
    pushed(platform, controller, "a discount that nobody ordered")
    ended("failed", controller.begin().ended())

    pricing.write_text(good + "\n# mended\n", encoding="utf-8")
    pushed(platform, controller, "the discount that was ordered")
    with controller.holding(platform.app):
        build = controller.begin()
        build.says(f"[resource {platform.app}] is taken, waiting")
        story.consoles["waiting for another job"] = build.console
    build.says("✓ Argo CD has seen")
    build.abort()
    ended("aborted", build.ended())

    build = controller.begin()
    build.says(QUESTION)
    build.answer("mallory", "approve")
    build.says("mallory may not answer")
    build.answer("ada", "abort")
    ended("refused", build.ended())

    build = controller.begin()
    build.says(QUESTION)
    other = controller.begin()
    other.says("is taken, waiting")
    story.consoles["waiting for its turn"] = other.console
    build.answer("ada", "approve")
    build.says("✓ The gate of prod lets")
    build.kill()
    story.consoles["killed"] = build.console
    story.leaked += build.leaked
    ended("went on", other.ended())

    [story.new] = platform.digests("prod")
    story.verdict = platform.delivery("verify", "--format", "json").json["verdict"]
    with git.clone(platform.context.site.git, platform.branch) as repository:
        for one in platform.environments():
            log = repository.run("log", "--format=%B%x00", "--", one.values).split("\0")
            story.entered[one.name] = sum(f"Digest-After: {story.new}" in text for text in log)
    return story


@pytest.fixture(scope="module")
def story(platform: Checkout, prod: Build, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """What happened; afterwards every environment runs what it ran before, and main has the app that it had."""
    platform.pull()
    before, app = platform.git("rev-parse", "HEAD"), platform.pipeline.image.context
    controller = jenkins(platform, tmp_path_factory.mktemp("jenkins"))
    try:
        made = told(platform, controller)
    finally:
        controller.stop()
        platform.git("checkout", "--", ".")
        platform.pull()
        platform.git("checkout", before, "--", app)
        if platform.git("status", "--porcelain"):
            pushed(platform, controller, f"{platform.app}: as it was")
        for environment in reversed(platform.environments()):
            if platform.digests(environment.name) != {prod.digest}:
                platform.delivery("rollback", environment.name, "--digest", prod.digest)
    return made


def test_a_failed_test_in_stage_ends_the_build(story: Story) -> None:
    """What fails in stage is a FAILURE: nobody is asked about it, and prod runs what it ran."""
    build = story.builds["failed"]
    assert build.result == "FAILURE", build.console[-3000:]
    assert build.stages["Test stage"] == "FAILURE"
    assert build.stages["Approve prod"] == build.stages["Promote to prod"] == "SKIPPED"
    assert QUESTION not in build.console
    assert build.record["tests"]["stage"]["failures"] > 0
    assert build.record["tests"]["dev"]["failures"] == 0
    assert story.prod["failed"] == {story.before}


def test_a_build_waits_for_other_jobs_and_for_its_turn(story: Story) -> None:
    """No two runs cross: a build waits while another job has the environments, or another build of the job runs."""
    waiting = story.consoles["waiting for another job"]
    assert "delivery ci" in waiting
    assert "delivery build" not in waiting
    assert "+ " not in story.consoles["waiting for its turn"]


def test_a_build_that_is_broken_off_touches_nothing_more(story: Story) -> None:
    """I press the red cross while dev is deployed: the build is ABORTED, its report is kept all the same."""
    build = story.builds["aborted"]
    assert build.result == "ABORTED", build.console[-3000:]
    assert build.stages["Test dev"] == "SKIPPED"
    assert any(name.endswith("report.html") for name in build.record["archived"])
    assert story.prod["aborted"] == {story.before}


def test_only_an_approver_is_heard_and_may_say_no(story: Story) -> None:
    """A stranger's yes counts for nothing; the approver's no ends the build ABORTED, and nothing entered prod."""
    build = story.builds["refused"]
    assert build.result == "ABORTED", build.console[-3000:]
    assert [(one["by"], one["says"]) for one in build.record["asked"]] == [("ada", "abort")]
    assert "delivery approve prod --yes" not in build.console
    assert build.stages["Promote to prod"] == "SKIPPED"
    assert story.prod["refused"] == {story.before}


def test_a_push_ends_proven_in_prod(story: Story) -> None:
    """The agent dies while it promotes to prod: the next build of the commit asks nobody again, and ends PROVEN."""
    assert "approves build" in story.consoles["killed"]
    build = story.builds["went on"]
    assert build.result == "SUCCESS", build.console[-3000:]
    assert build.stages["Test stage"] == build.stages["Approve prod"] == "SKIPPED"
    assert build.record["asked"] == []
    assert story.prod["went on"] == {story.new} != {story.before}
    assert story.verdict == "PROVEN"
    tests = story.builds["refused"].record["tests"] | build.record["tests"]
    assert set(tests) == {"dev", "stage", "prod"}
    assert all(one["failures"] == 0 < one["tests"] for one in tests.values())
    assert "PROVEN" in Path(next(iter(build.record["archived"]))).read_text(encoding="utf-8")


def test_each_change_was_made_once(story: Story) -> None:
    """Four builds of one commit, three of them broken off: one commit brought it to each environment."""
    assert story.entered == {"dev": 1, "stage": 1, "prod": 1}


def test_the_approver_s_key_is_nowhere_but_in_its_stage(story: Story) -> None:
    """Neither a console nor the arguments of a process had the key or its password."""
    assert "approves build" in story.consoles["killed"], "it was used"
    assert story.leaked == []


# -- what plays Jenkins, without a cluster -----------------------------------------------------------------------------


@pytest.fixture
def played(tmp_path: Path) -> Controller:
    """The Jenkinsfile beside verbs that do nothing."""
    workspace = tmp_path / "workspace"
    verbs = workspace / ".venv" / "bin" / "delivery"
    verbs.parent.mkdir(parents=True)
    verbs.write_text('#!/bin/sh\n[ "$1 $3" != "promote --dry-run" ]\n')
    verbs.chmod(0o755)
    (workspace / "Makefile").write_text(".venv/ready test lint:\n\t@echo made $@\n")
    (workspace / "Jenkinsfile").write_bytes((ROOT / "Jenkinsfile").read_bytes())
    credentials = {
        "manual-app-approver": {
            "kind": "file",
            "secret": "-----BEGIN KEY-----\nabcdefghijklmnopqrstuvwxyz\n",
        },
        "manual-app-approver-password": {"kind": "string", "secret": "a password that is long"},
    }
    return Controller(tmp_path / "home", workspace, {"PATH": os.environ["PATH"]}, credentials)


def changed(controller: Controller, old: str, new: str) -> Ended:
    """The build of another Jenkinsfile, which the approver says yes to."""
    file = controller.workspace / "Jenkinsfile"
    text = file.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    build = controller.begin()
    build.answer("ada", "approve")
    return build.ended()


def test_a_branch_is_checked_and_not_delivered(played: Controller) -> None:
    """Of another branch the code and the CI questions are asked; nothing is built, deployed or approved."""
    build = played.begin("PR-7").ended()
    assert build.result == "SUCCESS", build.console
    assert build.stages["Check the proposal"] == build.stages["CI questions"] == "SUCCESS"
    assert build.stages["Deliver"] == "SKIPPED"
    assert "made lint" in build.console
    assert "delivery build" not in build.console


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("stage('Build')", "steps('Build')", "cannot stand in stages"),
        ("timestamps()", "timestamp()", "timestamp cannot stand in options"),
        ("sh '.venv/bin/delivery build'", "shell '.venv/bin/delivery build'", "shell"),
        ("label 'delivery'", "label 'another'", "no agent has the label"),
        ("'manual-app-approver-password'", "'another'", "Could not find credentials"),
        ("delivery build'", "delivery build; exit 3'", "exit code 3"),
    ],
)
def test_what_jenkins_would_not_take_fails(played: Controller, old: str, new: str, said: str) -> None:
    """A word in the wrong place, a step or a credential that is not there, a shell that fails: FAILURE."""
    build = changed(played, old, new)
    assert build.result == "FAILURE", build.console
    assert said in build.console
    assert "delivery verify" not in build.console


@pytest.mark.parametrize(
    "leak",
    ['echo "$APPROVER_PASSWORD"', 'cat "$APPROVER_KEY_FILE"', 'sh -c "sleep 1; true" "$APPROVER_PASSWORD"'],
)
def test_a_secret_that_gets_out_is_seen(played: Controller, leak: str) -> None:
    """The tests above cannot pass when the Jenkinsfile shows a secret in the console or hands it to a program."""
    build = changed(
        played,
        "sh '.venv/bin/delivery approve prod --yes",
        f"sh '{leak}; .venv/bin/delivery approve prod --yes",
    )
    assert build.leaked, build.console
    assert "a password that is long" not in build.console


def test_the_red_cross_ends_what_runs(played: Controller) -> None:
    """What a step started ends with it, no later stage begins, and what is always done is done."""
    verbs = played.workspace / ".venv" / "bin" / "delivery"
    verbs.write_text(
        '#!/bin/sh\n[ "$1" != deploy ] || { echo begun; sleep 600; }\n[ "$1" != report ] || echo kept\n'
    )
    build = played.begin()
    build.says("begun")
    started = time.monotonic()
    build.abort()
    ended = build.ended()
    assert (ended.result, ended.stages["Test dev"]) == ("ABORTED", "SKIPPED"), ended.console
    assert "kept" in ended.console
    assert time.monotonic() - started < 60


def test_one_build_at_a_time(played: Controller) -> None:
    """A second build waits for the first, a build waits for who holds its resource; who is killed holds nothing."""
    with played.holding("manual-app"):
        first = played.begin()
        first.says("[resource manual-app] is taken, waiting")
        second = played.begin()
        second.says("is taken, waiting")
        assert "delivery build" not in first.console
    first.says(QUESTION)
    assert "Prepare" not in second.console
    first.kill()
    second.says(QUESTION)
    second.answer("ada", "approve")
    assert second.ended().result == "SUCCESS"
