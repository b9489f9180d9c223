"""act runs GitHub's workflows on this machine, as a self-hosted runner would: the same files, the same steps.

Played by stand-ins (actions/): the actions of other people, which cannot be fetched here. Not played at all are
GitHub's own locks: the reviewers of an environment, a job's permissions, concurrency groups.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.delivery import Checkout
from local import paths
from local.images import catalog

MODULE, VERSION = (
    "github.com/nektos/act",
    "v0.2.89",
)  # go.sum of that version is held by Go's checksum database
_STAND_INS = Path(__file__).parent / "actions"
_SECONDS = 1800.0
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Run:
    """A workflow that ended: how each of its jobs did, and everything that was said."""

    code: int
    said: str

    @property
    def jobs(self) -> dict[str, str]:
        """Job -> succeeded or failed; those that did not run are not in here."""
        return dict(re.findall(r"^\[[\w-]+/([\w-]+) *\].*Job (succeeded|failed)$", self.said, re.M))

    def ran(self, command: str) -> bool:
        """Whether a step with this command was begun."""
        return f"Run Main {command}" in self.said


def program() -> Path:
    """act, compiled from its Go module when it is not there yet."""
    folder = paths.cache("programs", f"act-{VERSION}")
    if not (folder / "act").exists():
        own = {
            "GOBIN": str(folder),
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOFLAGS": "",
        }
        command: list[str | Path] = [catalog().module.go(), "install", f"{MODULE}@{VERSION}"]
        subprocess.run(
            command, env=os.environ | own, cwd="/", check=True, capture_output=True, timeout=_SECONDS
        )
    return folder / "act"


def workflow(checkout: Checkout, name: str, event: str, *options: str, **environment: str) -> Run:
    """Run a workflow of the checkout for an event at its HEAD, with the cluster of the journeys as the team's site."""
    file = checkout.path / ".github" / "workflows" / f"{name}.yaml"
    used = sorted(set(re.findall(r"uses: ([\w-]+/([\w-]+)@\w+)", file.read_text(encoding="utf-8"))))
    told = {
        "CHECKOUT_FROM": checkout.context.site.git.url,
        "DELIVERY_STATE": os.environ["DELIVERY_STATE"],
        "TERM": "dumb",
        **environment,
    }
    command: list[str | Path] = [
        *(program(), event, "--workflows", file, "--directory", checkout.path),
        *("--platform", "ubuntu-24.04=-self-hosted", "--pull=false", "--no-skip-checkout"),
        *("--concurrent-jobs", "1", "--defaultbranch", checkout.branch),
        *("--var", f"DELIVERY_SITE={checkout.site}"),
        *(f"--local-repository={action}={_STAND_INS / short}" for action, short in used),
        *(f"--env={variable}={value}" for variable, value in told.items()),
        *options,
    ]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_SECONDS
    )
    return Run(done.returncode, _COLOUR.sub("", done.stdout.decode("utf-8", "replace")))
