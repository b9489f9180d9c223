"""Git is the only way in: from inside the cluster nothing can be written."""

import pytest

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


@pytest.mark.usefixtures("dev")
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
def test_a_pod_reads_but_cannot_write(platform: Checkout, method: str, url: str, allowed: bool) -> None:
    """A pod in dev that was taken over can neither push an image nor rewrite main."""
    # From the node, where no NetworkPolicy stands before the servers: their own refusal is tested.
    answer = platform.in_node("python", _ASK, method, url)
    assert answer == ("200" if allowed else answer)
    assert allowed or answer in ("401", "403", "405")


def test_main_cannot_be_rewritten_even_with_the_password(platform: Checkout, prod: Build) -> None:
    """History is linear for good: a forced push is refused by the server itself."""
    before = platform.main()
    url, credentials = platform.cluster.git_url, platform.cluster.git_credentials
    helper = ("-c", f"credential.helper=store --file={credentials}")
    platform.git("fetch", "--quiet", url, "main")
    first = platform.git("rev-parse", "FETCH_HEAD~1")
    with pytest.raises(Exception, match=r"denied|non-fast-forward|rejected"):
        platform.git(*helper, "push", "--force", url, f"{first}:refs/heads/main")
    assert platform.main() == before
