"""Git is the only way in: from inside the cluster nothing can be written."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from e2e import spellings
from e2e.conftest import Build
from e2e.delivery import Checkout, unheld_pod
from local import credentials

_ASK = """
import sys, urllib.error, urllib.request
method, url = sys.argv[1:]
try:
    print(urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.fixture(scope="module")
def pod(platform: Checkout) -> Iterator[str]:
    """A pod with Python that no NetworkPolicy holds back: only the servers themselves can refuse it."""
    with unheld_pod(platform, "intruder") as name:
        yield name


@pytest.mark.parametrize(
    ("method", "url", "allowed"),
    [
        ("GET", "http://git.local/manual-app.git/info/refs?service=git-upload-pack", True),
        ("GET", "http://git.local/manual-app.git/info/refs?service=git-receive-pack", False),
        ("POST", "http://git.local/manual-app.git/git-receive-pack", False),
        ("GET", "http://git.local:3000/manual-app.git/info/refs?service=git-receive-pack", False),
        ("GET", "http://registry.local:5000/v2/manual-app/tags/list", True),
        ("POST", "http://registry.local:5000/v2/manual-app/blobs/uploads/", False),
        ("DELETE", "http://registry.local:5000/v2/manual-app/manifests/15", False),
        ("POST", "http://registry.local:5001/v2/manual-app/blobs/uploads/", False),
    ],
)
def test_a_pod_reads_but_cannot_write(
    platform: Checkout, image: Build, pod: str, method: str, url: str, allowed: bool
) -> None:
    """A pod that was taken over can neither push an image nor rewrite main."""
    answer = platform.kubectl("exec", pod, "--", "python3", "-c", _ASK, method, url).stdout.strip()
    assert answer in (("200",) if allowed else ("401", "403", "404", "405"))


def test_no_spelling_pushes_from_the_host(platform: Checkout) -> None:
    """Nobody pushes without the password, however they spell the path, the query, the user and the protocol."""
    before = _refs(platform)
    body = _push(platform, "intruder-host")
    asked = spellings.question("127.0.0.1", platform.cluster.git, body, spellings.requests())
    assert _taken(_answers([sys.executable, "-c", spellings.SCRIPT], asked)) == []
    assert _refs(platform) == before


@pytest.mark.parametrize("port", [80, 3000])
def test_no_spelling_pushes_from_a_pod(platform: Checkout, pod: str, port: int) -> None:
    """Nor does a pod, at either of the doors that it can reach."""
    before = _refs(platform)
    body = _push(platform, f"intruder-{port}")
    asked = spellings.question("git.local", port, body, spellings.requests())
    command = [*platform.kubectl_command(), "exec", "-i", pod, "--", "python3", "-c", spellings.SCRIPT]
    assert _taken(_answers(command, asked)) == []
    assert _refs(platform) == before


def test_the_same_bytes_push_with_the_password(platform: Checkout) -> None:
    """It is the password that the intruders lack, nothing else: with it the very same request is taken."""
    login = credentials.create(platform.cluster).git[credentials.DEVELOPER]
    body = _push(platform, "with-password")
    headers = [
        "Content-Type: application/x-git-receive-pack-request",
        *spellings.basic(f"{login.username}:{login.password}"),
    ]
    asked = [("POST", "/manual-app.git/git-receive-pack", headers)]
    question = spellings.question("127.0.0.1", platform.cluster.git, body, asked)
    try:
        (answer,) = _answers([sys.executable, "-c", spellings.SCRIPT], question)
        assert answer["taken"], answer
        assert "refs/heads/with-password" in _refs(platform)
    finally:
        # No push deletes a branch; the owner of the server's container does.
        repository = "/srv/git/manual-app.git"
        delete = ["git", "-c", f"safe.directory={repository}", "-C", repository]
        delete += ["update-ref", "-d", "refs/heads/with-password"]
        gateway = f"{platform.cluster.name}-gateway"
        subprocess.run(["docker", "exec", "--user=www-data", gateway, *delete], check=True, timeout=60)


def _push(platform: Checkout, branch: str) -> bytes:
    """A push of a new branch on top of the server's main, as a client sends it."""
    platform.pull()  # whatever journey was before: main is known here
    return spellings.body(platform.path, platform.main(), branch)


def _answers(command: list[str], question: str) -> list[dict[str, Any]]:
    done = subprocess.run(command, input=question, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    assert answers
    return answers


def _taken(answers: list[dict[str, Any]]) -> list[Any]:
    """The requests that were taken for a push; all must have been answered by the server at least once."""
    assert {answer["status"] for answer in answers} - {""}, "nobody answered: nothing was tried"
    return [answer["request"] for answer in answers if answer["taken"]]


def _refs(platform: Checkout) -> str:
    return platform.git("ls-remote", platform.cluster.git_url)


@pytest.mark.parametrize("login", ["developer", "delivery"])
def test_main_cannot_be_rewritten_even_with_the_password(platform: Checkout, prod: Build, login: str) -> None:
    """History is linear for good: a forced push is refused by the server itself."""
    before = platform.main()
    platform.git("fetch", "--quiet", platform.cluster.git_url, "main")
    first = platform.git("rev-parse", "FETCH_HEAD~1")
    with pytest.raises(Exception, match=r"denied|non-fast-forward|rejected"):
        platform.push(f"{first}:refs/heads/main", "--force", login=login)
    assert platform.main() == before
