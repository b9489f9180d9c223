"""The app is the team's own: what the pipeline knows of it is what pipeline.yaml and the Dockerfile say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from delivery import pipeline as pipelines
from delivery.app import Check, Fields, Request, Version
from delivery.build import dockerfile, image, provenance
from delivery.errors import BadInput, Unknown
from delivery.parts import docker, programs
from delivery.parts.git import Repository
from delivery.proof import observe
from delivery.proof.decide import Answer
from delivery.verbs import ci, containers
from scripts.tests.daemon import daemon

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.tests.daemon import Daemon
    from scripts.tests.world import World

__all__ = ["daemon"]  # fixture

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "pipeline.yaml").read_text()
MINIMAL = "app: { port: 80, ready: /up, version: { path: /about } }\n"


def written(folder: Path, app: str) -> Path:
    """pipeline.yaml with this in place of the sample's `app` and `ci`."""
    start, end = TEXT.index("\napp:") + 1, TEXT.index("\ngit:") + 1
    (folder / "pipeline.yaml").write_text(TEXT[:start] + app + TEXT[end:])
    return folder


def test_an_app_needs_three_lines(tmp_path: Path) -> None:
    """An app without a database, secrets and checks writes where it answers, and no more; it runs restricted."""
    loaded = pipelines.load(written(tmp_path, MINIMAL))
    assert (loaded.app.port, loaded.app.version.path) == (80, "/about")
    assert (loaded.app.secrets, loaded.ci.checks, loaded.ci.services) == ({}, (), {})
    assert loaded.ci.app.read_only
    assert loaded.ci.app.tmpfs == ("/tmp",)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("  port: 8080", "  port: http", "app.port: Input should be a valid integer"),
        ("  ready: /readyz", "  ready: readyz", "app.ready: String should match"),
        ("  ready: /readyz", "  alive: /healthz", "app.ready: Field required"),
        ("postgresql: [password]", "postgresql: []", "app.secrets.postgresql: Tuple should have at least 1"),
        ("postgresql: [password]", "Postgresql: [password]", "app.secrets.Postgresql"),
        (": postgresql.image.digest", ": postgresql..digest", "app.platform_images.postgresql"),
        ("    - name: Compiles", "    - title: Compiles", "ci.checks.0.name: Field required"),
        ("[python, -W,", "[2, -W,", "ci.checks.0.command.0: Input should be a valid string"),
        ("working_dir: manual-app", "working_dir: ../elsewhere", "ci.checks.1.working_dir"),
        ("APP_ENVIRONMENT: dev", "PORT: 8080", "ci.app.environment.PORT: Input should be a valid string"),
        ("method: POST", "method: SEND", "ci.app.requests.0.method"),
        ("status: 201", "status: '201'", "ci.app.requests.0.status"),
        (
            "bearer: orders-reader/token",
            "bearer: orders-reader",
            "ci.app.requests.2.bearer: String should match",
        ),
        (
            "      command: [python, -m, manual_app.migrate]",
            "      run: [x]",
            "ci.app.init.command: Field required",
        ),
        ("image: platform/postgresql", "picture: postgres", "ci.services.postgresql.image: Field required"),
        ("/ci/rates.py: ", "rates.py: ", "ci.services.rates.files.rates.py.*String should match"),
        ("/ci/rates.py: ", "/rates.py: ", "ci.services.rates.files./rates.py.*String should match"),
        ("/ci/rates.py: ", "/ci/rates.py: /", "ci.services.rates.files./ci/rates.py"),
        (", /tmp]", ", tmp]", "ci.services.postgresql.tmpfs.2"),
    ],
)
def test_a_wrong_description(tmp_path: Path, before: str, after: str, says: str) -> None:
    """What is written wrongly is refused by its name and its line, before anything is run."""
    assert TEXT.count(before) >= 1
    text = TEXT.replace(before, after, 1)
    (tmp_path / "pipeline.yaml").write_text(text)
    with pytest.raises(BadInput, match=says) as refused:
        pipelines.load(tmp_path)
    number = int(re.findall(r"pipeline\.yaml:(\d+):", refused.value.message)[0])
    start = text[: text.index(after)].count("\n") + 1
    # A field that is missing is told at the mapping that lacks it.
    assert abs(number - start) <= 1 or ("required" in says and 0 <= start - number <= 6), (
        refused.value.message
    )


def test_a_token_that_nobody_makes(tmp_path: Path) -> None:
    """A request that names a secret which app.secrets does not have is refused before anything is run."""
    text = TEXT.replace("bearer: orders-reader/token", "bearer: orders-reader/key")
    (tmp_path / "pipeline.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"ci\.app\.requests: app\.secrets has no orders-reader/key"):
        pipelines.load(tmp_path)


def test_a_request_sends_the_token_and_shows_it_to_nobody(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """`bearer` is sent as Authorization: Bearer with what was made for this run; what goes wrong does not repeat it."""
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            self.send_response(200 if asked[-1] else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    made = containers.Containers(
        replace(world.context, pipeline=pipelines.load(ROOT)), "image", client=None, name="ci"
    )
    token = made.secret("orders-reader/token")
    assert len(token) >= 32
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", trust_env=False) as http:
            ci._send(http, Request(path="/orders", bearer="orders-reader/token"), token)
            ci._send(http, Request(path="/orders", status=401))
            with pytest.raises(BadInput, match="answers 200: , not 404") as refused:
                ci._send(http, Request(path="/orders", bearer="orders-reader/token", status=404), token)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked == [f"Bearer {token}", None, f"Bearer {token}"]
    assert token not in f"{refused.value.message}{refused.value.hint}{''.join(capfd.readouterr())}"


@pytest.mark.parametrize(
    ("fields", "body", "answer"),
    [
        ({}, {"build": "15", "revision": "c", "environment": "dev"}, Answer("15", "c", "dev")),
        ({}, {"build": 15, "revision": "c", "environment": "dev", "more": []}, Answer("15", "c", "dev")),
        (
            {"build": "build.number", "revision": "git.commit.id"},
            {"build": {"number": 15}, "git": {"commit": {"id": "c"}}, "environment": "dev"},
            Answer("15", "c", "dev"),
        ),
        ({}, {"build": "15", "revision": "c"}, "/about is not JSON with build, revision, environment"),
        ({}, {"build": {}, "revision": "c", "environment": "dev"}, "is not JSON with"),
        ({}, {"build": None, "revision": "c", "environment": "dev"}, "is not JSON with"),
        ({"build": "build.number"}, {"build": "15", "revision": "c", "environment": "dev"}, "build.number"),
        ({}, ["15"], "is not JSON with"),
        ({}, "15", "is not JSON with"),
    ],
)
def test_what_a_replica_says(fields: dict[str, str], body: Any, answer: Answer | str) -> None:
    """The three facts are found under the names that the app has for them; else it is unknown, and said what was."""
    found = observe.said(Version(path="/about", fields=Fields(**fields)), json.dumps(body).encode())
    if isinstance(answer, Answer):
        assert found == answer
    else:
        assert isinstance(found, Unknown)
        assert answer in found.reason


def test_what_is_no_json() -> None:
    """An error page is no answer."""
    assert isinstance(observe.said(Version(path="/about"), b"<html>502\xff"), Unknown)


SPRING = """\
# syntax=docker/dockerfile:1
ARG JDK=eclipse-temurin:21
ARG BUILD_IMAGE
FROM --platform=$BUILDPLATFORM ${JDK}-jdk AS build
ARG REVISION
COPY . /src
RUN <<EOF
FROM nowhere
ARG NOTHING
FROM nowhere
ARG NOTHING
EOF
FROM build AS tested
RUN ./gradlew test \\
# a comment between the lines
  --offline
from ${BUILD_IMAGE:-debian:12} as Tools
FROM ${JDK}-jre@sha256:1234
COPY --from=tested --chown=1:1 /src/app.jar /app.jar
COPY --from=tools /bin/tini /tini
COPY --from=busybox:1 /bin/wget /wget
COPY --from=0 /src/x /x
LABEL org.opencontainers.image.title="shop" \\
      org.opencontainers.image.version="2.0"
"""


def test_a_dockerfile_of_any_app() -> None:
    """Its arguments are what it takes; its bases are the images of others, by their names in this build."""
    found = dockerfile.read(SPRING, {"BUILD_IMAGE": "platform/build:1", "VERSION": "1"})
    assert found.arguments == {"JDK", "BUILD_IMAGE", "REVISION"}
    assert found.bases == (
        "busybox:1",
        "eclipse-temurin:21-jdk",
        "eclipse-temurin:21-jre@sha256:1234",
        "platform/build:1",
    )
    assert 'version="2.0"' in found.labels
    assert "debian:12" in dockerfile.read(SPRING, {}).bases
    scratch = dockerfile.read('FROM scratch\nCOPY app /app\nENTRYPOINT ["/app"]\n', {"BUILD_IMAGE": "x"})
    assert (scratch.arguments, scratch.bases, scratch.labels) == (frozenset(), (), "")


LABEL = 'LABEL org.opencontainers.image.version="1.0"\n'


def test_what_an_image_is_built_from(world: World) -> None:
    """A Dockerfile that takes no argument is not given any; the labels say what it is all the same."""
    world = world.on(arguments={"BUILD_IMAGE": "b", "RUNTIME_IMAGE": "r"})
    repository = Repository(world.checkout)
    plain = world.commit(world.checkout, "manual-app/Dockerfile", f"FROM scratch\n{LABEL}", "plain")
    recipe = image.prepare(world.context, repository, plain, 7)
    assert (recipe.arguments, recipe.bases) == ({}, ())
    assert recipe.labels[image.REVISION] == plain
    assert recipe.labels[image.NUMBER] == "7"
    assert recipe.labels[image.SOURCE] == world.context.site.git.url
    asks = f"ARG BUILD_IMAGE\nFROM $BUILD_IMAGE\nARG BUILD\nARG REVISION=unknown\n{LABEL}"
    commit = world.commit(world.checkout, "manual-app/Dockerfile", asks, "asks")
    recipe = image.prepare(world.context, repository, commit, 8)
    assert recipe.arguments == {"BUILD": "8", "REVISION": commit, "BUILD_IMAGE": "b"}
    assert recipe.bases == ("b",)
    asks = f"FROM ubuntu:24.04\nARG UPDATES=unknown\nRUN apt-get update && apt-get upgrade --yes\n{LABEL}"
    commit = world.commit(world.checkout, "manual-app/Dockerfile", asks, "as of this hour")
    asked = [f"{datetime.now(UTC):%Y-%m-%dT%H}"]
    told = image.prepare(world.context, repository, commit, 9).arguments["UPDATES"]
    assert told in {*asked, f"{datetime.now(UTC):%Y-%m-%dT%H}"}, "an hour may end in between"


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("FROM ubuntu:24.04\n", "does not say which version", "LABEL org.opencontainers.image.version="),
        (f"FROM ubuntu:24.04\n# {LABEL}", "does not say which version", "LABEL"),
        (None, "manual-app/Dockerfile is not in Git", "commit it first"),
    ],
)
def test_a_dockerfile_without_a_version(world: World, text: str | None, says: str, hint: str) -> None:
    """The version of the base image is never taken for the app's: a Dockerfile says its own, or is not built."""
    commit = (
        world.commit(world.checkout, "manual-app/Dockerfile", text, "no version")
        if text
        else world.git(world.checkout, "rev-parse", "HEAD")
    )
    with pytest.raises(BadInput, match=says) as refused:
        image.prepare(world.context, Repository(world.checkout), commit, 1)
    assert hint in refused.value.hint


def test_a_base_image_that_the_daemon_does_not_keep(daemon: Daemon) -> None:
    """BuildKit pulls for itself: a base that is not pinned is then known by its name alone, and the build goes on."""
    assert docker.base("golang:1.26") == docker.Base("", "unknown", False)
    assert docker.base(f"golang:1.26@sha256:{'a' * 64}").pinned
    named = provenance._base("golang:1.26", asdict(docker.base("golang:1.26")))
    assert named["uri"] == "docker:golang:1.26"
    assert "digest" not in named


def test_a_check_that_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python` is the one that runs delivery, its environment activated or not; the folder is the check's."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "app").mkdir()
    code = "import sys; open('ran', 'w').write(sys.prefix)"
    ci.check(tmp_path, Check(name="Runs", command=("python", "-c", code), working_dir="app"))
    assert (tmp_path / "app" / "ran").read_text() == sys.prefix


@pytest.mark.parametrize(
    ("command", "says", "hint"),
    [
        (("python", "-c", "import sys; sys.exit('why not')"), "Runs: why not", "python -c 'import sys"),
        (("python", "-c", "raise SystemExit(3)"), "Runs: exit 3", "python -c"),
        (("no-such-compiler", "--check"), "Runs: there is no no-such-compiler", "no-such-compiler --check"),
        (("sh", "-c", "echo a; echo b >&2; exit 1"), "Runs: a b", "sh -c"),
    ],
)
def test_a_check_that_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: tuple[str, ...], says: str, hint: str
) -> None:
    """A command that fails is told with its words, all of them above the one line, and how to repeat it."""
    with pytest.raises(BadInput, match=f"^{re.escape(says)}") as refused:
        ci.check(tmp_path, Check(name="Runs", command=command))
    assert hint in refused.value.hint
    if "echo" in command[-1]:
        assert capfd.readouterr().err == "a\nb\n"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A folder that was renamed is named, and is not taken for a missing program."""
    with pytest.raises(BadInput, match=r"Runs: there is no .*gone"):
        ci.check(tmp_path, Check(name="Runs", command=("python", "-V"), working_dir="gone"))


def test_an_image_that_a_site_has_not(world: World) -> None:
    """platform/… is a local site's: one that it has not, or a team's site, is bad input; any other name is docker's."""
    site = world.on(images={"python": "made/python:1"}).context.site
    assert containers._image(site, "platform/python") == "made/python:1"
    assert containers._image(site, "redis:8") == "redis:8"
    with pytest.raises(BadInput, match="site team has no image platform/mysql") as refused:
        containers._image(site, "platform/mysql")
    assert "platform/python" in refused.value.hint
    with pytest.raises(BadInput, match="site team has no image platform/python") as refused:
        containers._image(world.context.site, "platform/python")
    assert "one that docker can pull" in refused.value.hint
    assert containers._image(world.context.site, "redis:8") == "redis:8"


def test_ci_asks_a_chart_that_was_never_deployed(
    world: World, program: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """My pull request comes before any deployment: the values name no image yet, and the chart renders."""
    monkeypatch.setattr(programs, "path", program)
    ci.renders(pipelines.load(ROOT))


def test_nothing_here_knows_the_sample() -> None:
    """A team that brings its own app changes its folders and pipeline.yaml: no program of ours knows the sample's."""
    sample = r"orders|\brates\b|manual_app|pyproject\.toml|\bAPP_"
    # The journeys of the CI systems break the sample on purpose, so that a suite of it fails.
    others = (":!*/go.*", ":!e2e/suites", ":!e2e/online", ":!e2e/ci")
    for folder, words in (
        ("scripts/delivery", f"{sample}|postgres"),
        ("scripts/local", sample),  # the platform has a PostgreSQL for whoever asks for one
        ("e2e", f"{sample}|postgres"),
    ):
        found = subprocess.run(
            ["git", "-C", str(ROOT), "grep", "-n", "-i", "-P", words, "--", folder, *others],
            capture_output=True,
            text=True,
        ).stdout
        assert not found, found
