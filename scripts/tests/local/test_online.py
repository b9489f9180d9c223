"""Where the images come from: public registries as Docker reaches them, or package registries, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tenacity import wait_none

from delivery.errors import PlatformError
from delivery.parts import docker
from delivery.parts.pulling import CertificateUnknown, PinGone, RateLimited, RegistrySilent
from local import host, images, reach, store
from local.closed.images import Closed
from local.online import Online
from local.recipes import image_exists
from scripts.tests.daemon import daemon

if TYPE_CHECKING:
    from scripts.tests.daemon import Daemon

__all__ = ["daemon"]  # a fixture

DIGEST = f"sha256:{'a' * 64}"
# As Docker told them; the third is a proxy's word, not the registry's.
NO_NAME = 'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on 10.0.0.1:53: no such host'
NOBODY = 'Get "https://registry-1.docker.io/v2/": dial tcp 127.0.0.1:443: connect: connection refused'
FORBIDDEN = 'Get "https://registry-1.docker.io/v2/": Forbidden'
RESIGNED = 'Get "https://registry-1.docker.io/v2/": x509: certificate signed by unknown authority'
LIMITED = "toomanyrequests: You have reached your unauthenticated pull rate limit."


@pytest.fixture
def choose(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Choose on a machine where nothing is made yet, its registry answers so, and building is possible or not."""
    base = images.catalog().versions["online"]["base"]

    def run(status: int, said: str, lack: str = "", chosen: str = "auto") -> Online | Closed:
        answer = {"message": said} if status != 200 else {"Descriptor": {"digest": DIGEST}}
        daemon.answers[f"/distribution/{base}/json"] = (status, answer)
        monkeypatch.setattr(host, "cannot_install", lambda: lack)
        monkeypatch.setenv(images.CHOICE, chosen)
        return images.source.__wrapped__()  # type: ignore[no-any-return, attr-defined]

    return run


def test_a_registry_that_answers_is_used(choose: Any) -> None:
    """On a laptop with the internet images are pulled."""
    assert isinstance(choose(200, ""), Online)


@pytest.mark.parametrize(
    "said", [LIMITED, "unauthorized: authentication required", f"manifest unknown: {DIGEST}"]
)
def test_a_registry_that_refuses_has_answered(choose: Any, said: str) -> None:
    """Docker Hub's 429 does not lead to half an hour of building: the pull says what it is and when it ends."""
    assert isinstance(choose(500, said), Online)


@pytest.mark.parametrize("said", [NO_NAME, NOBODY, FORBIDDEN, RESIGNED])
def test_a_silent_registry_is_named_before_images_are_built(
    choose: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root on Debian or Ubuntu builds the images, and reads in one line why they are not pulled."""
    assert isinstance(choose(500, said), Closed)
    (line,) = capsys.readouterr().err.splitlines()
    assert "docker.io" in line
    assert "built from package registries instead" in line


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (NO_NAME, RegistrySilent, "no such host"),
        (NOBODY, RegistrySilent, "connection refused"),
        (RESIGNED, CertificateUnknown, "does not trust"),
    ],
)
def test_on_a_mac_the_reason_is_the_error(
    choose: Any, said: str, kind: type[PlatformError], words: str
) -> None:
    """Where nothing can be built, `debootstrap is needed` is not the answer: why the registry is silent is."""
    with pytest.raises(kind, match=words) as refused:
        choose(500, said, lack="this is macOS")
    assert "this is macOS" in refused.value.hint
    assert refused.value.exit_code == 4


def test_building_is_not_begun_where_it_cannot_end(choose: Any) -> None:
    """DELIVERY_IMAGES=closed on a Mac ends at once, with both ways out."""
    with pytest.raises(PlatformError, match="this is macOS") as refused:
        choose(200, "", lack="this is macOS", chosen="closed")
    assert "DELIVERY_IMAGES=online" in refused.value.hint


def test_a_slow_registry_is_called_slow(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that takes longer than the limit is said to have said nothing within it."""
    monkeypatch.setattr(reach, "ANSWER_LIMIT", 1)
    daemon.slow["/distribution/x/json"] = 3
    why = reach.silence("x")
    assert isinstance(why, RegistrySilent)
    assert "nothing within 1 s" in why.message


def test_an_image_by_tag_and_digest_is_found(daemon: Daemon) -> None:
    """What was pulled by digest is not pulled again by the next `up`: Docker knows it without its tag."""
    daemon.has(f"debian@{DIGEST}")
    assert image_exists(f"debian:bookworm-slim@{DIGEST}")
    assert not image_exists(f"debian:bookworm-slim@sha256:{'b' * 64}")


@pytest.mark.parametrize("architecture", ["arm64", ""])
def test_an_image_for_another_platform_is_not_taken(daemon: Daemon, architecture: str) -> None:
    """An image pulled with --platform, or one whose platform's content is not here, is not what a node needs."""
    daemon.has(f"debian@{DIGEST}", architecture)
    assert not image_exists(f"debian:bookworm-slim@{DIGEST}")
    client = docker.client()
    try:
        with pytest.raises(PlatformError, match="for linux/amd64") as refused:
            store.tag(client, f"debian:bookworm-slim@{DIGEST}", "registry.local:5000/platform/x:preloaded")
    finally:
        client.close()
    assert f"docker rmi debian@{DIGEST}" in refused.value.hint


def test_a_pull_is_tried_again_when_the_registry_falls_silent(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passing fault of the network costs a pause; three of them end the run with the reason."""
    monkeypatch.setattr(reach, "_PAUSES", wait_none())
    daemon.answers["/images/create"] = (200, {"error": "read tcp: i/o timeout"})
    with pytest.raises(RegistrySilent):
        reach.pull([f"debian:12@{DIGEST}"], lambda line: None)
    assert daemon.asked.count("/images/create") == 3


@pytest.mark.parametrize(
    ("said", "kind"),
    [(LIMITED, RateLimited), ("manifest unknown", PinGone), (RESIGNED, CertificateUnknown)],
)
def test_a_refused_pull_is_not_repeated(daemon: Daemon, said: str, kind: type[PlatformError]) -> None:
    """A rate limit, a pin that is gone or a proxy's certificate ends the run at once, each with its remedy."""
    daemon.answers["/images/create"] = (200, {"error": said})
    with pytest.raises(kind) as refused:
        reach.pull([f"debian:12@{DIGEST}"], lambda line: None)
    assert refused.value.hint
    assert daemon.asked.count("/images/create") == 1


def test_a_pull_says_how_far_it_is() -> None:
    """Minutes of pulling are not silent: which image, and how many of its layers are there."""
    said: list[str] = []
    listen = reach._layers("2 of 8: postgres:15", said.append)
    for line in ("latest Pulling from library/postgres", "a1 Pulling fs layer", "b2 Already exists"):
        listen(line)
    listen("a1 Pull complete")
    assert said == [
        "2 of 8: postgres:15 (0 of 1 layers)",
        "2 of 8: postgres:15 (1 of 2 layers)",
        "2 of 8: postgres:15 (2 of 2 layers)",
    ]
