"""Images come whole into a node image, from either of Docker's image stores."""

import os
from pathlib import Path

import pytest

from delivery.errors import PlatformError
from local import preload, store

INDEX = f"sha256:{'1' * 64}"
NAME = "registry.local:5000/platform/python:preloaded"
HEADER = "REF TYPE DIGEST STATUS SIZE UNPACKED\n"
# As ctr 1.6.20 and 2.3.1 said it of an index with the content of one platform.
WHOLE = f"{NAME} application/vnd.oci.image.index.v1+json {INDEX} complete (2/2) 10.2 KiB/10.2 KiB false\n"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker command that writes down its calls, saves `archive`, and ends as `save` and `import` say."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >>{tmp_path}/calls\n'
        f'case "$1" in save) echo archive; . {tmp_path}/save ;; *) cat >{tmp_path}/took; . {tmp_path}/import ;; esac\n'
    )
    program.chmod(0o755)
    for part in ("save", "import"):
        (tmp_path / part).write_text("")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path


def test_one_platform_is_imported(docker: Path) -> None:
    """With Docker's containerd image store the node takes the host's platform, not layers that nobody has."""
    preload.fill("box", ["a:1", "b:2"], "arm64")
    (imported,) = [call for call in (docker / "calls").read_text().splitlines() if "exec" in call]
    assert "--platform=linux/arm64" in imported.split()
    assert "--all-platforms" not in imported
    assert (docker / "took").read_text() == "archive\n"


def test_why_docker_save_failed_is_said(docker: Path) -> None:
    """A `docker save` that ends in the middle is told with Docker's words, not as a broken archive."""
    (docker / "save").write_text("echo 'Error response from daemon: content digest not found' >&2; exit 1")
    (docker / "import").write_text("echo 'ctr: unexpected EOF' >&2; exit 1")
    with pytest.raises(PlatformError, match=r"docker save failed: .*content digest not found"):
        preload.fill("box", ["a:1"], "amd64")


def test_why_the_node_took_nothing_is_said(docker: Path) -> None:
    """What containerd says about an archive is told, and not the broken pipe that it left behind."""
    (docker / "save").write_text("echo 'write /dev/stdout: broken pipe' >&2; exit 1")
    (docker / "import").write_text("echo 'ctr: no space left on device' >&2; exit 1")
    with pytest.raises(PlatformError, match="took no images: ctr: no space left on device"):
        preload.fill("box", ["a:1"], "amd64")


def test_a_whole_image_keeps_the_digest_of_its_index() -> None:
    """Pods ask for a pulled image by the digest that is pinned: its index's, though one platform was imported."""
    assert preload.held_digests(HEADER + WHOLE, [NAME]) == {NAME: INDEX}


def test_docker_hubs_names_are_spelled_out_by_the_node() -> None:
    """`kindest/x:1` is `docker.io/kindest/x:1` in the node: the same image."""
    checked = WHOLE.replace(NAME, "docker.io/kindest/x:1") + WHOLE.replace(NAME, "docker.io/library/y:1")
    assert preload.held_digests(checked, ["kindest/x:1", "y:1"]) == {"kindest/x:1": INDEX, "y:1": INDEX}


@pytest.mark.parametrize(
    "said",
    [
        "",
        WHOLE.replace("complete (2/2)", "incomplete (1/2)"),
        WHOLE.replace("complete (2/2)", "unavailable (0/?)"),
    ],
)
def test_an_image_with_a_part_missing_is_refused(said: str) -> None:
    """A node image that lacks a layer is not made: the pod that needs it would try to pull for ever."""
    with pytest.raises(PlatformError, match="not whole"):
        preload.held_digests(HEADER + said, [NAME])


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("debian:bookworm-slim", "debian:bookworm-slim"),
        (f"kindest/node:v1.36.1@{INDEX}", f"kindest/node@{INDEX}"),
        (f"ghcr.io/x/y@{INDEX}", f"ghcr.io/x/y@{INDEX}"),
        (f"localhost:5000/x@{INDEX}", f"localhost:5000/x@{INDEX}"),
        (f"localhost:5000/x:1@{INDEX}", f"localhost:5000/x@{INDEX}"),
    ],
)
def test_an_image_by_digest_is_asked_for_without_its_tag(name: str, asked: str) -> None:
    """After a pull by tag and digest Docker knows repository and digest: by that name it is found."""
    assert store.reference(name) == asked
