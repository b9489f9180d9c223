"""GitHub's workflows, run by act: a push goes through the environments to prod, or stops where a test fails."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from delivery import roles
from e2e.ci import act
from e2e.conftest import Build
from e2e.delivery import Checkout


def pushed(platform: Checkout, message: str) -> None:
    """What a developer does: a commit on main, and a push."""
    platform.commit(message)
    platform.pull()
    platform.push(f"HEAD:{platform.branch}")


@pytest.fixture
def back_again(platform: Checkout, prod: Build) -> Iterator[None]:
    """Afterwards every environment runs what it ran before, and main has the app that it had."""
    platform.pull()
    app = platform.pipeline.image.context
    before = platform.git("rev-parse", "HEAD")
    yield
    platform.git("checkout", "--", ".")
    platform.pull()
    platform.git("checkout", before, "--", app)
    if platform.git("status", "--porcelain"):
        pushed(platform, f"{platform.app}: as it was")
    for environment in reversed(platform.environments()):
        if platform.digests(environment.name) != {prod.digest}:
            platform.delivery("rollback", environment.name, "--digest", prod.digest)


def test_a_push_is_delivered(platform: Checkout, prod: Build, back_again: None) -> None:
    """A push to main whose test fails in stage stops there: nobody is asked, and prod runs what it ran.

    The push that mends it is built once and carried by the workflow alone: dev, stage, the approval, prod; the same
    digest everywhere, proven, with the proof on the job's page.
    """
    pricing = platform.path / platform.pipeline.image.context / "manual_app" / "pricing.py"
    good = pricing.read_text(encoding="utf-8")
    bad = good.replace("Tier(10, 5)", "Tier(10, 6)")  # a discount that the integration suite knows to be 5 %
    assert bad != good
    pricing.write_text(bad, encoding="utf-8")
    pushed(platform, "a discount that nobody ordered")
    run = act.workflow(platform, "deliver", "push")
    assert run.code != 0
    assert run.jobs == {"dev": "succeeded", "stage": "failed"}, run.said[-3000:]
    assert "integration: FAILED" in run.said
    assert not run.ran(".venv/bin/delivery approve")
    assert platform.digests("prod") == {prod.digest}

    pricing.write_text(good + "\n# mended\n", encoding="utf-8")
    pushed(platform, "the discount that was ordered")
    run = act.workflow(platform, "deliver", "push")
    assert (run.code, run.jobs) == (0, dict.fromkeys(("dev", "stage", "prod"), "succeeded")), run.said[-3000:]
    [new] = platform.digests("prod")
    assert new != prod.digest
    assert platform.digests("dev") == platform.digests("stage") == {new}
    assert f"### PROVEN on {platform.site}" in run.said
    assert platform.delivery("verify", "--format", "json").json["verdict"] == "PROVEN"

    again = act.workflow(platform, "deliver", "push")
    assert (again.code, platform.digests("prod")) == (0, {new}), again.said[-3000:]


def test_a_mismatch_opens_an_issue(platform: Checkout, prod: Build, tmp_path: Path) -> None:
    """The hourly proof finds what somebody changed in prod, fails, and says it in an issue with the proof."""
    said = tmp_path / "said"
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(
        f'#!/bin/sh\necho "$@" >>{shlex.quote(str(said))}\nfor last; do :; done\n'
        f'[ "$2" = create ] && [ "$1" = issue ] && cat "$last" >>{shlex.quote(str(said))}\nexit 0\n'
    )
    gh.chmod(0o755)
    path = f"{gh.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    well = act.workflow(platform, "verify", "workflow_dispatch", PATH=path)
    assert (well.code, said.exists()) == (0, False), well.said[-3000:]
    application = ("application", platform.pipeline.environment("prod").application)
    parameters = [{"name": "exchangeRates.timeoutSeconds", "value": "9", "forceString": True}]
    as_platform = (*roles.AS_PLATFORM, "-n", "argocd", "patch", *application, "--type=merge", "--patch")
    platform.kubectl(*as_platform, json.dumps({"spec": {"source": {"helm": {"parameters": parameters}}}}))
    try:
        run = act.workflow(platform, "verify", "workflow_dispatch", PATH=path)
    finally:
        platform.kubectl(*as_platform, json.dumps({"spec": {"source": {"helm": {"parameters": None}}}}))
    assert run.jobs == {"verify": "failed"}, run.said[-3000:]
    told = said.read_text(encoding="utf-8")
    assert "issue create --title MISMATCH" in told
    assert "source.helm.parameters is set" in told.replace("\\", "")


def test_a_proposal_is_checked(platform: Checkout) -> None:
    """What is asked of a pull request holds for this very commit: tests, lint, the chart, the workflows themselves."""
    run = act.workflow(platform, "checks", "pull_request", "--matrix", "machine:ubuntu-24.04")
    assert (run.code, run.jobs) == (0, {"test": "succeeded"}), run.said[-3000:]
