"""What CI runs is what a person runs, and nothing that others can change under it."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    """Every command of CI is one that a person can type: make, or .ci/run."""
    commands = [step["run"] for job in jobs(file).values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        assert re.fullmatch(r"\.ci/run|make [\w ${}.-]+", command), command


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_may_read_and_it_ends(file: Path) -> None:
    """A job may read the repository and no more, keeps no token in the checkout, and has a limit of time."""
    workflow = yaml.safe_load(file.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "permissions" not in job, name
        assert job["timeout-minutes"] <= 60, name
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"] == {"fetch-depth": 0, "persist-credentials": False}, name


def test_the_four_kinds_of_machine() -> None:
    """The fast tests run on Linux and macOS, amd64 and arm64, with the project's own programs."""
    test = jobs(ROOT / ".github" / "workflows" / "ci.yaml")["test"]
    machines = {one["machine"] for one in test["strategy"]["matrix"]["include"]}
    assert machines == {"ubuntu-24.04", "ubuntu-24.04-arm", "macos-15", "macos-15-intel"}
    assert test["env"]["DELIVERY_TOOLS"] == "pinned"


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
