"""A team has a cluster and no wish to try things on kind: it deletes the local platform, and nothing else breaks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.tests.forks import forget_local
from scripts.tests.world import git


@pytest.mark.slow
def test_the_platform_can_be_deleted(fork: Path, tmp_path: Path) -> None:
    """After the README's command, `make lint` is content and every fast test that is left can be loaded."""
    [command] = [
        line
        for line in (fork / "README.md").read_text().splitlines()
        if line.startswith("git rm -r scripts/local")
    ]
    subprocess.run(command, shell=True, cwd=fork, check=True, capture_output=True)  # noqa: S602 - as one types it
    git(fork, "commit", "--quiet", "--message", "We have a cluster")
    forget_local(tmp_path)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{fork / 'scripts'}"}
    for line in (
        *("ruff check .", "ruff format --check .", "mypy"),
        "pytest -q -p no:cacheprovider --collect-only scripts/tests",
    ):
        done = subprocess.run(
            [sys.executable, "-m", *line.split()],
            cwd=fork,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
