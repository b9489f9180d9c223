"""A branch `bench` of the site's Git server with rendered manifests, for controllers that find out by themselves.

People's login pushes it, as it pushes every branch. The server takes no branch away, so its keeper does at the end.
"""

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delivery.errors import PlatformError
from delivery.parts import docker, git
from e2e.delivery import Checkout

NAME = "bench"


class Branch:
    """The branch, and a folder that has what is on it."""

    def __init__(self, checkout: Checkout, folder: Path) -> None:
        self._checkout, self._git, self.folder = checkout, git.Repository(folder), folder

    def push(self, files: dict[str, str]) -> str:
        """Write files, commit and push them; the commit."""
        for name, text in files.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        who = ("-c", "user.name=Bench", "-c", "user.email=bench@example.org")
        self._git.run("add", "--all")
        self._git.run(*who, "commit", "--quiet", "--message", "bench: what is asked for now")
        login = shlex.quote(str(self._checkout.cluster.developers_git_credentials))
        helper = ("-c", f"credential.helper=store --file={login}")
        self._git.run(
            *helper, "push", "--quiet", self._checkout.context.site.git.url, f"HEAD:refs/heads/{NAME}"
        )
        return self._git.commit("HEAD")


@contextmanager
def branch(checkout: Checkout, folder: Path) -> Iterator[Branch]:
    """The branch for as long as the block; one that a killed run left is replaced."""
    _forget(checkout)
    subprocess.run(["git", "init", "--quiet", "-b", NAME, folder], check=True, timeout=60)
    try:
        yield Branch(checkout, folder)
    finally:
        _forget(checkout)


def _forget(checkout: Checkout) -> None:
    cluster = checkout.cluster
    client = docker.client()
    try:
        server = client.containers.get(f"{cluster.name}-gateway")
        command = ["git", "-C", f"/srv/git/{cluster.repository}", "update-ref", "-d", f"refs/heads/{NAME}"]
        code, said = server.exec_run(command, user="www-data")
    finally:
        client.close()
    if code:
        raise PlatformError(f"the branch {NAME} stays: {said.decode().strip()[:200]}", "delivery doctor")
