"""Git is the only way in: from inside the cluster nothing can be written."""

from collections.abc import Iterator

import pytest
from delivery.parts import values

from e2e.conftest import Build
from e2e.delivery import Checkout

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
    name = "manual-app-helm/values.yaml"
    chart = values.read(platform.on_server(name), name)
    image = "{repository}@{digest}".format(**chart["rates"]["image"])
    platform.kubectl("run", "intruder", f"--image={image}", "--restart=Never", "--", "sleep", "600")
    platform.kubectl("wait", "--for=condition=Ready", "pod/intruder", "--timeout=60s")
    yield "intruder"
    platform.kubectl("delete", "pod", "intruder", "--now")


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


def test_main_cannot_be_rewritten_even_with_the_password(platform: Checkout, prod: Build) -> None:
    """History is linear for good: a forced push is refused by the server itself."""
    before = platform.main()
    platform.git("fetch", "--quiet", platform.cluster.git_url, "main")
    first = platform.git("rev-parse", "FETCH_HEAD~1")
    with pytest.raises(Exception, match=r"denied|non-fast-forward|rejected"):
        platform.push(f"{first}:refs/heads/main", "--force")
    assert platform.main() == before
