"""Docker at the edges: the digest of a push, errors inside streams, why no daemon answers, and both builders.

The daemon is played over HTTP. What it says was met on Docker 20.10 (classic store) and 26.1 (containerd's store), or
written after Docker's own sources and issues; BuildKit's logs are those of buildx 0.13, and the form of a newer one.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from delivery.errors import BadInput, DeliveryError, PlatformError
from delivery.parts import buildkit, daemon, docker, pulling
from delivery.site import ImageRepository
from scripts.tests.fake_cluster import Answering, serving

pytestmark = [
    pytest.mark.filterwarnings("ignore:docker-credential:UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # docker-py leaves sockets that did not connect
]
ONE, TWO = (f"sha256:{letter * 64}" for letter in "ab")
PINNED = f"python:3.11-slim-bookworm@{ONE}"
REPOSITORY = ImageRepository(
    name="registry.local:5000/manual-app", reached="localhost:5001/manual-app", plain_http=True
)
CONTAINERD = [["driver-type", "io.containerd.snapshotter.v1"]]


class Daemon:
    """What the played daemon says; tests change it."""

    def __init__(self) -> None:
        self.version: dict[str, Any] = {
            "ApiVersion": "1.41",
            "Arch": "amd64",
            "Components": [{"Name": "Engine"}],
        }
        self.stream: list[dict[str, Any]] = []
        self.status = 200
        self.hangs = 0.0
        self.cut = False
        self.store: list[list[str]] = []
        self.image: dict[str, Any] = {"Id": ONE, "RepoDigests": [], "Architecture": "amd64"}
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []


class Handler(Answering):
    """The few calls of the Docker API that we make."""

    protocol_version = "HTTP/1.1"
    daemon: Daemon

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.endswith("/version"):
            return self._send(self.daemon.version)
        if path.endswith("/info"):
            return self._send({"DriverStatus": self.daemon.store})
        return self._send(self.daemon.image)

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        if not length and self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
        self.rfile.read(length)
        self.daemon.asked.append((unquote(url.path), parse_qs(url.query), dict(self.headers)))
        if self.daemon.status != 200:
            return self._send(self.daemon.stream[0], self.daemon.status)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for message in self.daemon.stream:
            data = json.dumps(message).encode() + b"\r\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()
        time.sleep(self.daemon.hangs)
        if self.daemon.cut:
            self.wfile.write(b"40\r\n{")
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")
        return None

    def _send(self, document: dict[str, Any], status: int = 200) -> None:
        self.write(status, json.dumps(document).encode())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the docker command's own settings, empty; no variable of the user's counts."""
    for name in [name for name in os.environ if name.startswith(("DOCKER_", "BUILDX_", "DELIVERY_BUILDER"))]:
        monkeypatch.delenv(name)
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.setenv("DELIVERY_BUILDER", "classic")
    buildkit._buildx.cache_clear()
    yield folder
    gc.collect()


@pytest.fixture
def played(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon that DOCKER_HOST leads to."""
    found = Daemon()
    with serving(type("Played", (Handler,), {"daemon": found})) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
        yield found


def log_in(home: Path, host: str = "localhost:5001") -> None:
    """docker login, as it writes the file."""
    word = base64.b64encode(b"delivery:s3cret").decode()
    (home / "config.json").write_text(json.dumps({"auths": {host: {"auth": word}}}))


def line(digest: str, tag: str = "15") -> dict[str, str]:
    return {"status": f"{tag}: digest: {digest} size: 1366"}


def aux(digest: str, tag: str = "15") -> dict[str, Any]:
    return {"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": 1366}}


PUSHING = [
    {"status": "The push refers to repository [localhost:5001/manual-app]"},
    {"status": "Preparing", "progressDetail": {}, "id": "5f70bf18a086"},
    {"status": "Layer already exists", "progressDetail": {}, "id": "5f70bf18a086"},
]
INSTEAD = {
    "progressDetail": {},
    "aux": {
        "manifestPushedInsteadOfIndex": True,
        "originalIndex": {"digest": TWO, "size": 856},
        "selectedManifest": {"digest": ONE, "size": 1366},
    },
}


@pytest.mark.parametrize(
    "said", [[line(ONE), aux(ONE)], [line(ONE)], [aux(ONE)], [INSTEAD, line(ONE)]], ids=str
)
def test_the_digest_of_a_push(played: Daemon, home: Path, said: list[dict[str, Any]]) -> None:
    """Whichever store Docker keeps its images in, the digest is the one that this push reports."""
    log_in(home)
    played.stream = [*PUSHING, *said]
    assert docker.push(REPOSITORY, "15") == ONE
    path, query, headers = played.asked[-1]
    assert path.endswith("/images/localhost:5001/manual-app/push")
    assert query == {"tag": ["15"]}
    login = json.loads(base64.urlsafe_b64decode(headers["X-Registry-Auth"]))
    assert login == {"username": "delivery", "password": "s3cret"}


def test_a_push_says_how_far_it_is(played: Daemon, home: Path) -> None:
    """The layers that the registry has, and the bytes that were sent, are told while they go."""
    log_in(home)
    sent = {"status": "Pushing", "id": "a3ed95caeb02"}
    played.stream = [
        *PUSHING,
        {"status": "Preparing", "progressDetail": {}, "id": "a3ed95caeb02"},
        sent | {"progressDetail": {"current": 1_200_000, "total": 34_000_000}},
        sent | {"progressDetail": {"current": 34_000_000, "total": 34_000_000}},
        {"status": "Pushed", "progressDetail": {}, "id": "a3ed95caeb02"},
        line(ONE),
    ]
    told: list[str] = []
    assert docker.push(REPOSITORY, "15", told.append) == ONE
    assert told == [
        "0 of 1 layers",
        "1 of 1 layers",
        "1 of 2 layers",
        "1 of 2 layers, 1 MB sent",
        "1 of 2 layers, 34 MB sent",
        "2 of 2 layers, 34 MB sent",
    ]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([line(ONE), aux(TWO)], "several digests"),
        ([line(ONE), line(TWO)], "several digests"),
        ([aux(ONE), aux(TWO)], "several digests"),
        ([], "reported no digest"),
        ([line(ONE, "16")], "reported no digest"),
        ([line("sha256:abc")], "'sha256:abc', which is no digest"),
        ([aux("latest")], "'latest', which is no digest"),
        ([line(ONE), {"errorDetail": {"message": "denied"}, "error": "denied"}], "denied"),
        ([line(ONE), {"errorDetail": {"message": "denied"}}], "denied"),
    ],
    ids=str,
)
def test_a_push_without_one_digest_is_refused(
    played: Daemon, home: Path, said: list[dict[str, Any]], why: str
) -> None:
    """A push that reports two digests, none, or an error after the digest gives none at all."""
    log_in(home)
    played.stream = [*PUSHING, *said]
    with pytest.raises(docker.PushFailed, match=re.escape(why)) as refused:
        docker.push(REPOSITORY, "15")
    assert refused.value.hint
    assert "s3cret" not in str(refused.value)


def test_a_push_without_a_login(played: Daemon, home: Path) -> None:
    """A registry that refuses a push is named with the login that was sent, and with the file it is from."""
    said = "denied: requested access to the resource is denied"
    played.stream = [*PUSHING, {"error": said}]
    elsewhere = ImageRepository(name="ghcr.io/acme/shop")
    with pytest.raises(
        docker.PushFailed, match=re.escape(f"nobody: no login in {home}/config.json")
    ) as refused:
        docker.push(elsewhere, "15")
    assert refused.value.hint == "docker login ghcr.io"
    log_in(home, "ghcr.io")
    with pytest.raises(docker.PushFailed, match=re.escape(f"asked as delivery, by {home}/config.json")):
        docker.push(elsewhere, "15")


def test_a_push_to_a_registry_that_docker_does_not_trust(played: Daemon) -> None:
    """Docker goes by certificates of its own: the error says where it wants the registry's authority."""
    said = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    played.stream = [{"error": said}]
    with pytest.raises(
        docker.CertificateUnknown, match=r"certificate of registry\.acme\.test:5443"
    ) as refused:
        docker.push(ImageRepository(name="registry.acme.test:5443/shop"), "15")
    assert "/etc/docker/certs.d/registry.acme.test:5443/ca.crt" in refused.value.hint


def test_a_push_that_breaks_off(played: Daemon) -> None:
    """A connection that ends in the middle of a push is one line and a hint, not a traceback."""
    played.stream, played.cut = PUSHING, True
    with pytest.raises(docker.PushFailed) as refused:
        docker.push(REPOSITORY, "15")
    assert "\n" not in refused.value.message


def test_a_pull(played: Daemon) -> None:
    """A pull by tag and digest asks for the digest, and its progress is told."""
    played.stream = [
        {"status": "Pulling from library/python", "id": ONE},
        {"status": "Download complete", "progressDetail": {}, "id": "5f70bf18a086"},
    ]
    told: list[str] = []
    docker.pull(PINNED, told.append)
    assert told == [f"{ONE} Pulling from library/python", "5f70bf18a086 Download complete"]
    assert played.asked[-1][1] == {"tag": [ONE], "fromImage": ["python:3.11-slim-bookworm"]}
    docker.pull(PINNED, platform="linux/arm64")
    assert played.asked[-1][1]["platform"] == ["linux/arm64"]


LIMIT = (
    "toomanyrequests: You have reached your unauthenticated pull rate limit. "
    "https://www.docker.com/increase-rate-limit"
)
SAID: list[tuple[str, str, type[DeliveryError], str, str]] = [
    (
        PINNED,
        LIMIT,
        pulling.RateLimited,
        "docker.io lets us pull no more",
        r"docker login.*six hours .*\d\d:\d\d",
    ),
    (
        PINNED,
        f"failed to resolve reference: unexpected status from HEAD request: 429 Too Many Requests\n{LIMIT}",
        pulling.RateLimited,
        "pull no more",
        r"\d\d:\d\d at the latest",
    ),
    (
        "quay.io/x/y:1",
        "429 Too Many Requests, Retry-After: 60",
        pulling.RateLimited,
        "quay.io",
        r"until \d\d:\d\d$",
    ),
    (
        PINNED,
        f"manifest for python@{ONE} not found: manifest unknown: manifest unknown",
        pulling.PinGone,
        "is not in docker.io any more",
        "make pin",
    ),
    (
        PINNED,
        f"failed to resolve reference: docker.io/library/python@{ONE}: not found",
        pulling.PinGone,
        "any more",
        "make pin",
    ),
    (
        "python:3.99",
        "manifest for python:3.99 not found: manifest unknown",
        pulling.PullFailed,
        "has no python",
        "name",
    ),
    (
        PINNED,
        f"failed to unpack image on snapshotter overlayfs: unexpected media type application/json for {TWO}: not found",
        pulling.PullFailed,
        "cannot pull python.*unexpected media type",
        "run it again",
    ),
    (
        PINNED,
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
        pulling.WrongPlatform,
        "not made for this platform",
        "make pin",
    ),
    (
        PINNED,
        f"no match for platform in manifest {ONE}: not found",
        pulling.WrongPlatform,
        "platform",
        "make pin",
    ),
    (
        PINNED,
        'Get "https://registry-1.docker.io/v2/": tls: failed to verify certificate: x509: certificate signed by '
        "unknown authority",
        pulling.CertificateUnknown,
        "does not trust the certificate of docker.io",
        "proxy may re-sign TLS.*CA certificate",
    ),
    (
        "ghcr.io/x/y:1",
        "pull access denied for x/y, repository does not exist or may require 'docker login'",
        pulling.PullFailed,
        "does not let us pull",
        "docker login ghcr.io",
    ),
    (
        PINNED,
        'Get "https://registry-1.docker.io/v2/": net/http: request canceled while waiting for connection '
        "(Client.Timeout exceeded while awaiting headers)",
        pulling.RegistrySilent,
        "docker.io does not answer",
        "network and proxy",
    ),
    (
        PINNED,
        'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host',
        pulling.RegistrySilent,
        "no such host",
        "proxy",
    ),
    (
        PINNED,
        "write /var/lib/docker/tmp: no space left on device",
        pulling.PullFailed,
        "no space left",
        "run it again",
    ),
]


@pytest.mark.parametrize("where", ["in the stream", "as the answer"])
@pytest.mark.parametrize(("name", "said", "kind", "message", "hint"), SAID, ids=[one[1][:40] for one in SAID])
def test_why_a_pull_failed(
    played: Daemon, where: str, name: str, said: str, kind: type[DeliveryError], message: str, hint: str
) -> None:
    """The rate limit says when it ends, a pin that is gone to pin anew, a proxy's certificate what to do with it."""
    if where == "in the stream":
        played.stream = [{"status": "Pulling"}, {"errorDetail": {"message": said}, "error": said}]
    else:
        played.stream, played.status = [{"message": said}], 500
    with pytest.raises(pulling.PullFailed, match=message) as refused:
        docker.pull(name)
    assert type(refused.value) is kind
    assert re.search(hint, refused.value.hint), refused.value.hint
    assert "\n" not in refused.value.message + refused.value.hint


def test_a_pull_that_says_nothing_more(played: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that hangs ends with a reason, it does not hang for ever."""
    monkeypatch.setattr(pulling, "SILENCE", 0.2)
    played.stream, played.hangs = [{"status": "Downloading"}], 1.0
    with pytest.raises(pulling.RegistrySilent, match="nothing has come"):
        docker.pull(PINNED)


def test_a_pull_that_breaks_off(played: Daemon) -> None:
    """A connection that ends in the middle of a pull is an error of the pull."""
    played.stream, played.cut = [{"status": "Downloading"}], True
    with pytest.raises(pulling.PullFailed):
        docker.pull(PINNED)


def test_an_image_of_another_platform(played: Daemon) -> None:
    """An image that was pulled and is not for this machine is named now, and not by a pod that crashes later."""
    played.image["Architecture"] = "arm64"
    with pytest.raises(pulling.WrongPlatform, match="is for linux/arm64, Docker here runs linux/amd64"):
        docker.pull(PINNED)


def test_podman_is_not_supported(played: Daemon) -> None:
    """podman behind Docker's socket is named as what it is, plainly."""
    played.version["Components"] = [{"Name": "Podman Engine", "Version": "5.4.0"}]
    with pytest.raises(daemon.DockerUnsupported, match=r"podman answers at .*, and podman is not supported"):
        docker.client()


def test_no_daemon(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where nothing answers, the error says where it was looked for, and what starts that Docker."""
    for name, hint in (
        ("docker.sock", "docker context ls"),
        (".docker/run/docker.sock", "start Docker Desktop"),
        (".colima/default/docker.sock", "colima start"),
    ):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/{name}")
        with pytest.raises(docker.DockerMissing, match=f"{name}.*No such file") as refused:
            docker.client()
        assert hint in refused.value.hint
        assert refused.value.exit_code == 4


ASK = """
from delivery.parts import docker
try: docker.client()
except docker.DockerForbidden as error: print(error, error.hint)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_no_permission_on_the_socket(home: Path) -> None:
    """A socket that this user may not use is not `no daemon`: the group is named, and nobody is told to be root."""
    import socket
    import tempfile

    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as served:
        Path(folder).chmod(0o755)
        file = Path(folder, "docker.sock")
        served.bind(str(file))
        served.listen()
        file.chmod(0o660)
        environment = {
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "DOCKER_HOST": f"unix://{file}",
        }
        # The interpreter may lie where only root looks: it starts as root, then becomes nobody.
        code = f"import os\nimport delivery.parts.docker\nos.setgid(65534); os.setuid(65534)\n{ASK}"
        said = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
        ).stdout
    assert f"may not use {file}" in said
    assert "sudo usermod -aG root $USER" in said


def test_the_context_of_the_docker_command(
    played: Daemon, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker Desktop and colima are found as the docker command (and so kind) finds them: by its context."""
    from docker.context.config import get_context_id

    folder = home / "contexts" / "meta" / get_context_id("colima")
    folder.mkdir(parents=True)
    meta = {"Name": "colima", "Metadata": {}, "Endpoints": {"docker": {"Host": os.environ["DOCKER_HOST"]}}}
    (folder / "meta.json").write_text(json.dumps(meta))
    monkeypatch.delenv("DOCKER_HOST")
    (home / "config.json").write_text('{"currentContext": "colima"}')
    assert docker.client().version()["Arch"] == "amd64"
    assert str(daemon.endpoint()).endswith("(docker context colima)")
    (home / "config.json").write_text('{"currentContext": "gone"}')
    with pytest.raises(docker.DockerMissing, match="docker context gone cannot be used: there is no such"):
        docker.client()
    monkeypatch.setenv("DOCKER_CONTEXT", "colima")
    assert daemon.endpoint().context == "colima"
    meta["Endpoints"] = {"docker": {"Host": "ssh://far"}}
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(daemon.DockerUnsupported, match="another machine, ssh://far"):
        docker.client()
    (folder / "meta.json").write_text("{")
    with pytest.raises(docker.DockerMissing, match="colima cannot be used"):
        docker.client()
    (home / "config.json").unlink()
    with pytest.raises(docker.DockerMissing, match="colima cannot be used"):
        docker.client()


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"credsStore": "nowhere"}, PINNED), ({"credHelpers": {"ghcr.io": "nowhere"}}, "ghcr.io/x/y:1")],
)
def test_a_credential_helper_that_does_not_work(
    played: Daemon, home: Path, settings: dict[str, Any], name: str
) -> None:
    """A credsStore that an old Docker Desktop left behind is named with its file, when building and pulling."""
    (home / "config.json").write_text(json.dumps(settings))
    asked: list[Callable[[], None]] = [lambda: docker.build(b"", "x", {}), lambda: docker.pull(name)]
    for ask in asked:
        with pytest.raises(daemon.LoginsUnreadable, match="docker-credential-nowhere") as refused:
            ask()
        assert str(home / "config.json") in refused.value.message
        assert "not installed" in refused.value.message
        assert "docker login" in refused.value.hint


def test_a_broken_docker_configuration(played: Daemon, home: Path) -> None:
    """A login in Docker's configuration that cannot be read is named by its file; it is not `no daemon`."""
    for text in ('{"auths": {"x": {"auth": "%"}}}', '{"auths": {"x": 1}}'):
        (home / "config.json").write_text(text)
        with pytest.raises(daemon.LoginsUnreadable, match=re.escape(str(home))):
            docker.client()


def test_a_build_of_the_classic_builder(played: Daemon) -> None:
    """Without buildx the classic builder builds; its log is told, and an error with its step."""
    step = {"stream": "Step 3/4 : RUN pip install x"}
    played.stream = [step, {"stream": "\n"}, {"aux": {"ID": ONE}}]
    told: list[str] = []
    docker.build(b"", "x:1", {"BUILD": "15"}, told.append, target="system", labels={"delivery.build": "15"})
    assert told == ["Step 3/4 : RUN pip install x"]
    query = played.asked[-1][1]
    assert (query["t"], query["target"]) == (["x:1"], ["system"])
    assert json.loads(query["buildargs"][0])["BUILD"] == "15"
    assert json.loads(query["labels"][0]) == {"delivery.build": "15"}
    played.stream = [step, {"errorDetail": {"code": 1, "message": "returned a non-zero code: 1"}}]
    with pytest.raises(docker.BuildFailed, match="x:1: RUN pip install x: returned a non-zero code: 1"):
        docker.build(b"", "x:1", {})
    played.stream = [{"stream": "Step 1/2 : FROM base:1"}, {"error": "pull access denied for base"}]
    with pytest.raises(docker.BuildFailed, match="FROM base:1") as refused:
        docker.build(b"", "x:1", {})
    assert "delivery up" in refused.value.hint
    played.stream = [step]
    with pytest.raises(docker.BuildFailed, match="without an image"):
        docker.build(b"", "x:1", {})


BUILDX = """\
#!/bin/sh
if [ "$2" = version ]; then echo "github.com/docker/buildx {version} 0a1b2c3"; exit 0; fi
env >"$0.env"; printf '%s\\n' "$@" >"$0.arguments"; cat >"$0.context"
cat "$0.log" >&2
exit $(cat "$0.code")
"""


@pytest.fixture
def buildx(played: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker command with buildx, which notes how it is called."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(BUILDX.replace("{version}", "v0.30.1"))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    program.with_suffix(".log").write_text("#1 [internal] load build definition\n\n#1 DONE 0.1s\n")
    program.with_suffix(".code").write_text("0")
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("DELIVERY_BUILDER")
    return program


def test_a_build_of_buildkit(buildx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With buildx BuildKit builds in the daemon itself, for its own platform, and attaches nothing to the image."""
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/s390x")
    monkeypatch.setenv("BUILDX_BUILDER", "the-users-own")
    told: list[str] = []
    context = b"tar" * 100_000
    given = {"BUILD": "15", "SOURCE": "a b"}
    docker.build(context, "x:1", given, told.append, target="system", labels={"delivery.build": "16"})
    assert told == ["#1 [internal] load build definition", "#1 DONE 0.1s"]
    assert buildx.with_suffix(".context").read_bytes() == context
    arguments = buildx.with_suffix(".arguments").read_text().splitlines()
    assert arguments[:2] == ["buildx", "build"]
    assert arguments[arguments.index("--builder") + 1] == "default"
    for word in (
        "--load",
        "--provenance=false",
        "--sbom=false",
        "--progress=plain",
        "BUILD=15",
        "SOURCE=a b",
        "delivery.build=16",
    ):
        assert word in arguments
    assert arguments[arguments.index("--target") + 1] == "system"
    assert arguments[-1] == "-"
    assert "DOCKER_DEFAULT_PLATFORM" not in buildx.with_suffix(".env").read_text()


# buildx 0.13 with Docker 20.10, and buildx 0.30.
FAILED = """\
#5 [one 2/2] RUN echo why; exit 3
#5 0.223 why
#5 ERROR: executor failed running [/bin/sh -c echo why; exit 3]: exit code: 3
------
 > [one 2/2] RUN echo why; exit 3:
0.223 why
------
"""
OLD = f"{FAILED}ERROR: failed to solve: executor failed running [/bin/sh -c echo why; exit 3]: exit code: 3\n"
NEW = f"""{FAILED}Dockerfile:3
--------------------
   1 |     FROM base
   2 |     # words
   3 | >>> RUN echo why; exit 3
--------------------
ERROR: failed to build: failed to solve: process "/bin/sh -c echo why; exit 3" did not complete: exit code: 3

View build details: docker-desktop://dashboard/build/default/default/abc
"""


def test_why_a_build_of_buildkit_failed(buildx: Path) -> None:
    """The error names the step, the last that it said and the exit code, whichever buildx it is."""
    buildx.with_suffix(".code").write_text("1")
    for text, why in ((OLD, "executor failed running"), (NEW, 'process "/bin/sh')):
        buildx.with_suffix(".log").write_text(text)
        with pytest.raises(docker.BuildFailed, match=f"x:1: RUN echo why; exit 3: why: {why}.*code: 3$"):
            docker.build(b"", "x:1", {})
    buildx.with_suffix(".log").write_text(
        'ERROR: failed to solve: error getting credentials - err: exec: "docker-credential-desktop": '
        "executable file not found in $PATH, out: ``\n"
    )
    with pytest.raises(daemon.LoginsUnreadable, match="docker-credential-desktop"):
        docker.build(b"", "x:1", {})
    buildx.with_suffix(".log").write_text("")
    with pytest.raises(docker.BuildFailed, match="it said nothing"):
        docker.build(b"", "x:1", {})


def test_which_builder(buildx: Path, played: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """BuildKit where buildx is there and new enough, the classic builder where not, or as DELIVERY_BUILDER says."""
    assert buildkit.chosen()
    monkeypatch.setenv("DELIVERY_BUILDER", "classic")
    assert not buildkit.chosen()
    monkeypatch.setenv("DELIVERY_BUILDER", "kaniko")
    with pytest.raises(BadInput, match="DELIVERY_BUILDER=kaniko is unknown"):
        buildkit.chosen()
    buildx.write_text(BUILDX.replace("{version}", "v0.9.1"))
    buildkit._buildx.cache_clear()
    monkeypatch.setenv("DELIVERY_BUILDER", "buildkit")
    with pytest.raises(PlatformError, match=r"no buildx from 0\.10 on"):
        buildkit.chosen()
    monkeypatch.delenv("DELIVERY_BUILDER")
    assert not buildkit.chosen()


@pytest.mark.parametrize(
    ("name", "store", "digests", "known"),
    [
        (PINNED, [], [f"python@{ONE}"], docker.Base(ONE, "manifest", True)),
        (PINNED, CONTAINERD, [f"python@{ONE}"], docker.Base(ONE, "manifest", True)),
        ("python:3.11", [], [f"python@{ONE}"], docker.Base(ONE, "manifest", False)),
        ("docker.io/library/python:3.11", [], [f"python@{ONE}"], docker.Base(ONE, "manifest", False)),
        ("platform/python:1", [], [], docker.Base(TWO, "config", False)),
        ("platform/python:1", [], [f"python@{ONE}"], docker.Base(TWO, "config", False)),
        ("platform/python:1", CONTAINERD, [f"platform/python@{TWO}"], docker.Base(TWO, "manifest", False)),
    ],
)
def test_what_a_base_image_is_known_by(
    played: Daemon, name: str, store: list[list[str]], digests: list[str], known: docker.Base
) -> None:
    """A base from a registry is named by the registry's digest, a local one by its Id, and what that is of."""
    played.store, played.image = store, {"Id": TWO, "RepoDigests": digests}
    assert docker.base(name) == known
