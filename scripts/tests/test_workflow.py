"""What CI runs is what a person runs, and nothing that others can change under it."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from delivery import cli
from delivery import pipeline as pipelines
from delivery.desired import derived
from delivery.desired import jobs as jobs_of
from delivery.pipeline import Pipeline
from delivery.site import CommitKey, GitServer, ImageRepository, Signer, Site

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text("utf-8"))["jobs"]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_actions_are_pinned(file: Path) -> None:
    """An action is the commit that was read, with its version beside it: its owner may move a tag."""
    used = re.findall(r"^\s*(?:- )?uses: *(.*)$", file.read_text("utf-8"), re.M)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_calls_the_verbs(file: Path) -> None:
    """Every command of CI is one that a person can type: make, a verb, or one of the four scripts of .ci."""
    commands = [step["run"] for job in jobs(file).values() for step in job["steps"] if "run" in step]
    assert commands
    verbs = {one.name or one.callback.__name__ for one in cli.app.registered_commands if one.callback}
    for command in commands:
        assert re.fullmatch(
            r"\.ci/(run|login|prove|check)|make [\w ${}./-]+|\.venv/bin/delivery [\w -]+", command
        )
        if command.startswith(".venv/bin/delivery "):
            assert command.split()[1] in verbs, command


# What a workflow writes, and no other one does.
WRITES = {
    "checks": set(),
    "e2e": set(),
    "deliver": {"contents", "packages", "id-token"},
    "verify": {"issues", "id-token"},
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_may_do_what_it_needs_and_it_ends(file: Path) -> None:
    """A workflow reads the repository; a job may do more by name; no token stays in a checkout; each has a limit."""
    workflow = yaml.safe_load(file.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    for name, job in workflow["jobs"].items():
        writes = {what for what, how in job.get("permissions", {}).items() if how == "write"}
        assert writes <= WRITES[file.stem], name
        assert job["timeout-minutes"] <= 60, name
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"] == {"fetch-depth": 0, "persist-credentials": False}, name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_secret_reaches_the_step_that_needs_it(file: Path) -> None:
    """No action of somebody else's sees a secret, nor does a command take one as an argument."""
    text = file.read_text("utf-8")
    workflow = yaml.safe_load(text)
    assert not re.search(r"run:.*\$\{\{\s*(secrets|github\.token)", text)
    for level in (workflow, *workflow["jobs"].values()):
        assert "secrets." not in str(level.get("env", "")), file.name
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert "uses" not in step or "secrets." not in str(step), step


def test_the_four_kinds_of_machine() -> None:
    """The fast tests run on Linux and macOS, amd64 and arm64, with the project's own programs."""
    test = jobs(ROOT / ".github" / "workflows" / "checks.yaml")["test"]
    machines = {one["machine"] for one in test["strategy"]["matrix"]["include"]}
    assert machines == {"ubuntu-24.04", "ubuntu-24.04-arm", "macos-15", "macos-15-intel"}
    assert test["env"]["DELIVERY_TOOLS"] == "pinned"


def delivers(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """The jobs of the workflow that `delivery generate` writes for a pipeline."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(derived.files(pipeline)[derived.DELIVER])["jobs"]
    return found


def test_a_push_goes_through_the_environments_in_their_order() -> None:
    """`deliver` has a job for each environment, after the one before, in the GitHub environment of its name."""
    pipeline = pipelines.load(ROOT)
    made = delivers(pipeline)
    assert list(made) == [one.name for one in pipeline.environments]
    for one in pipeline.environments:
        assert made[one.name].get("needs") == one.source
        assert made[one.name]["environment"] == one.name
        verbs = [step["run"] for step in made[one.name]["steps"] if "delivery" in step.get("run", "")]
        assert [verb.removeprefix(".venv/bin/delivery ") for verb in verbs] == list(jobs_of.steps(one))


def test_what_an_environment_asks_is_what_its_job_does() -> None:
    """The first is built for; each other one is promoted to; where one approval is asked, it is given right before."""
    dev, stage, prod = pipelines.load(ROOT).environments
    assert jobs_of.steps(dev) == ("ci", "build", "deploy", "test dev")
    assert jobs_of.steps(stage) == ("promote stage", "test stage")
    assert jobs_of.steps(prod) == ("approve prod --yes", "promote prod", "test prod")
    assert prod.approval
    two = prod.model_copy(update={"approval": prod.approval.model_copy(update={"required": 2})})
    assert jobs_of.steps(two) == ("promote prod", "test prod")


def test_a_key_is_a_secret_of_the_step_that_signs() -> None:
    """The keys that the team's site has in environment variables reach the verb that signs with them, and no other."""
    pipeline = pipelines.load(ROOT)
    key = CommitKey(public=Path("keys/gate-prod.asc"), key="env://GATE_PROD_KEY")
    signers = {
        "gate-prod": Signer(public=Path("a"), key="awskms:///alias/gate-prod", commits=key),
        "prod": Signer(public=Path("b"), key="env://PROD_KEY", password="PROD_PASSWORD"),
        "approver": Signer(public=Path("c"), key="env://APPROVER_KEY"),
    }
    site = Site(
        name="acme",
        git=GitServer(url="https://git.example/acme/shop"),
        image=ImageRepository(name="registry.example/acme/shop"),
        signers=signers,
    )
    pipeline = pipeline.model_copy(update={"sites": (*pipeline.sites, site)})
    prod = delivers(pipeline)["prod"]["steps"]
    told = {step["run"].split()[1]: step["env"] for step in prod if "bin/delivery" in step.get("run", "")}
    assert set(told["approve"]) == {"DELIVERY_GIT_TOKEN", "DELIVERY_APPROVER", "APPROVER_KEY"}
    assert set(told["promote"]) == {"DELIVERY_GIT_TOKEN", "GATE_PROD_KEY"}
    assert set(told["test"]) == {"DELIVERY_GIT_TOKEN", "PROD_KEY", "PROD_PASSWORD"}
    assert told["promote"]["GATE_PROD_KEY"] == "${{ secrets.GATE_PROD_KEY }}"


@pytest.mark.parametrize("path", [derived.DELIVER, derived.JENKINS])
def test_a_team_with_another_ci_system_deletes_it(tmp_path: Path, path: str) -> None:
    """`delivery generate` brings it up to date where it is; one that was deleted or rewritten stays so."""
    for name in ("pipeline.yaml", "argocd/projects/kinds.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    pipeline = pipelines.load(tmp_path)
    assert path not in derived.files(pipeline)
    file, sign = tmp_path / path, "//" if path == derived.JENKINS else "#"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{sign} Our own.\n")
    assert path not in derived.files(pipeline)
    file.write_text(f"{sign} Written by `delivery generate` from pipeline.yaml, long ago.\n")
    assert derived.files(pipeline)[path] == (ROOT / path).read_text("utf-8")


def script(tmp_path: Path, name: str, **commands: str) -> dict[str, str]:
    """A folder with one of our scripts, and stand-ins of the commands that it calls."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / name).write_bytes((ROOT / ".ci" / name).read_bytes())
    (tmp_path / ".ci" / name).chmod(0o755)
    for command, text in commands.items():
        file = tmp_path / (".venv/bin/delivery" if command == "delivery" else command)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
    return {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HERE": str(tmp_path)}


def test_a_kubeconfig_and_a_login_come_from_secrets(tmp_path: Path) -> None:
    """Both are made from variables: the kubeconfig is nobody else's to read, the token is no argument of docker's."""
    environment = script(tmp_path, "login", docker='echo "$@" >"$HERE/said"; cat >"$HERE/typed"')
    environment |= {"GITHUB_ENV": str(tmp_path / "env"), "RUNNER_TEMP": str(tmp_path)}
    told = {"KUBECONFIG_TEXT": "kind: Config", "REGISTRY": "ghcr.io", "REGISTRY_USER": "ada"}
    subprocess.run(
        [tmp_path / ".ci" / "login"], env=environment | told | {"REGISTRY_TOKEN": "s3cret"}, check=True
    )
    kubeconfig = tmp_path / "kubeconfig"
    assert kubeconfig.read_text() == "kind: Config\n"
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "env").read_text() == f"KUBECONFIG={kubeconfig}\n"
    assert "s3cret" not in (tmp_path / "said").read_text()
    assert (tmp_path / "typed").read_text() == "s3cret"


def test_what_is_not_given_is_not_made(tmp_path: Path) -> None:
    """A runner inside the cluster, whose registry's own action logged in, gives neither."""
    environment = script(tmp_path, "login", docker="exit 9")
    environment |= {"GITHUB_ENV": str(tmp_path / "env"), "RUNNER_TEMP": str(tmp_path)}
    subprocess.run([tmp_path / ".ci" / "login"], env=environment, check=True)
    assert not (tmp_path / "kubeconfig").exists()


@pytest.mark.parametrize(
    ("code", "asked", "open", "does"),
    [
        (0, "yes", "", []),
        (1, "yes", "", ["label create", "issue create"]),
        (1, "yes", "7", ["issue comment 7"]),
        (1, "", "", []),
        (3, "yes", "", []),
    ],
)
def test_a_mismatch_opens_one_issue(
    tmp_path: Path, code: int, asked: str, open: str, does: list[str]
) -> None:
    """The hourly proof opens an issue, and while that is open comments on it; the run ends as the proof did."""
    environment = script(
        tmp_path,
        "prove",
        delivery=f"echo '### MISMATCH on team'; exit {code}",
        gh=f'echo "$@" >>"$HERE/said"; [ "$2" = list ] && echo "{open}"; exit 0',
    )
    summary = tmp_path / "summary"
    environment |= {"GITHUB_STEP_SUMMARY": str(summary), "ISSUE": asked}
    ended = subprocess.run([tmp_path / ".ci" / "prove"], env=environment, cwd=tmp_path, check=False)
    assert ended.returncode == code
    assert summary.read_text() == "### MISMATCH on team\n"
    said = (tmp_path / "said").read_text().splitlines() if (tmp_path / "said").exists() else []
    assert [
        line for line in said if "list" not in line and not any(line.startswith(one) for one in does)
    ] == []
    assert all(any(line.startswith(one) for line in said) for one in does)


@pytest.mark.parametrize("code", [0, 2])
def test_the_end_of_the_log_is_the_summary(tmp_path: Path, code: int) -> None:
    """.ci/run ends as `make e2e` ended, and the job's page shows the last lines of it."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    (tmp_path / ".ci" / "run").chmod(0o755)
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "make $*: 7 passed"\necho and a warning >&2\nexit {code}\n')
    make.chmod(0o755)
    summary = tmp_path / "summary"
    ended = subprocess.run(
        [tmp_path / ".ci" / "run"],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": str(summary)},
        capture_output=True,
    )
    assert ended.returncode == code
    assert "make e2e: 7 passed" in summary.read_text("utf-8")
    assert "and a warning" in (tmp_path / ".ci" / "logs" / "e2e.txt").read_text("utf-8")
