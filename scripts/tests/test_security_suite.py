"""The security suite's questions that need a Docker daemon or another python3, asked of stand-ins."""

import base64
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
import venv
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from delivery.parts import direct
from delivery.site import ImageRepository
from e2e.suites.outcome import Unknown
from e2e.suites.security import box, debian, inside

ROOT = Path(__file__).resolve().parents[2]
DIGEST = f"sha256:{'a' * 64}"
IMAGE = f"localhost:5001/manual-app@{DIGEST}"

# As apt 2.6 and 2.4 said it, in Debian's and in Ubuntu's images.
LISTED = """\
perl-base/oldstable-security 5.36.0-7+deb12u4 amd64 [upgradable from: 5.36.0-7+deb12u3]
libpcre2-8-0/oldstable-updates 10.42-1+deb12u2 amd64 [upgradable from: 10.42-1]
bash/jammy-updates,jammy-security 5.1-6ubuntu1.1 amd64 [upgradable from: 5.1-6ubuntu1]
tzdata/oldstable-security 2026f-0+deb12u1 all [upgradable from: 2026b-0+deb12u1]
"""
WAITING = [
    "perl-base 5.36.0-7+deb12u3 -> 5.36.0-7+deb12u4",
    "bash 5.1-6ubuntu1 -> 5.1-6ubuntu1.1",
    "tzdata 2026b-0+deb12u1 -> 2026f-0+deb12u1",
]
NO_SOURCE = (
    "WARNING: apt does not have a stable CLI interface. Use with caution in scripts.\n\n"
    "E: The value 'bookworm-security' is invalid for APT::Default-Release as such a release is not "
    "available in the sources\n"
)


class Daemon:
    """A Docker daemon that has one image and runs one command, with the outcome that a test wants."""

    def __init__(self) -> None:
        self.images = {IMAGE}
        self.containers: dict[str, dict[str, Any]] = {}
        self.made: dict[str, Any] = {}  # the last one, as it was asked for
        self.files: dict[str, bytes] = {}
        self.pulled: dict[str, Any] = {}
        self.pull_says: list[dict[str, str]] = [{"status": "Pull complete"}]
        self.start_says = ""
        self.code, self.output, self.errors, self.seconds = 0, LISTED, "", 0.0

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, login: str) -> Any:
        """A JSON document, or bytes; LookupError for 404, RuntimeError for 500."""
        match [method, *path.strip("/").split("/")]:
            case ["GET", "version"]:
                return {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}
            case ["GET", "_ping"]:
                return b"OK"
            case ["GET", "images", *name, "json"]:
                if unquote("/".join(name)) not in self.images:
                    raise LookupError("No such image")
                return {"Id": "sha256:1", "RepoTags": []}
            case ["POST", "images", "create"]:
                self.pulled = query | json.loads(base64.urlsafe_b64decode(login))
                if "error" not in self.pull_says[-1]:
                    self.images.add(f"{query['fromImage']}@{query['tag']}")
                return b"".join(json.dumps(line).encode() + b"\n" for line in self.pull_says)
            case ["GET", "containers", "json"]:
                [wanted] = json.loads(query["filters"])["label"]
                return [
                    {"Id": identity}
                    for identity, made in self.containers.items()
                    if wanted in {f"{key}={value}" for key, value in made["Labels"].items()}
                ]
            case ["POST", "containers", "create"]:
                self.made = json.loads(body)
                self.containers["new"] = self.made
                return {"Id": "new"}
            case ["GET", "containers", identity, "json"]:
                state = {"Status": "running" if self.seconds else "exited"}
                return {"Id": identity, "State": state, "Config": {"Tty": False}}
            case ["PUT", "containers", _, "archive"]:
                with tarfile.open(fileobj=io.BytesIO(body)) as archive:
                    for entry in archive:
                        data = archive.extractfile(entry)
                        self.files[entry.name] = data.read() if data else b""
                return b""
            case ["POST", "containers", _, "start"]:
                if self.start_says:
                    raise RuntimeError(self.start_says)
                return b""
            case ["POST", "containers", _, "wait"]:
                time.sleep(self.seconds)
                return {"StatusCode": self.code}
            case ["GET", "containers", _, "logs"]:
                stream, text = (1, self.output) if query["stdout"] == "1" else (2, self.errors)
                return bytes([stream, 0, 0, 0]) + len(text.encode()).to_bytes(4, "big") + text.encode()
            case ["DELETE", "containers", identity]:
                del self.containers[identity]
                return b""
        raise LookupError(f"{method} {path} is not played")


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The only Docker daemon there is; and this host has no program at all, so not apt either."""
    played = Daemon()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            url = urlsplit(self.path)
            path = url.path.partition("/v1.41")[2] or url.path
            query = {key: values[-1] for key, values in parse_qs(url.query).items()}
            try:
                code, said = (
                    200,
                    played.answer(self.command, path, query, body, self.headers["X-Registry-Auth"]),
                )
            except (LookupError, RuntimeError) as error:
                code, said = (404 if isinstance(error, LookupError) else 500), {"message": error.args[0]}
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")  # as Docker does, and its client relies on
            self.end_headers()
            if data:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("PATH", "")
    yield played
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Any:
    """stage of a local cluster, which is asked to run that image."""
    login = base64.b64encode(b"delivery:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"localhost:5001": {"auth": login}}}))
    image = ImageRepository(
        name="registry.local/manual-app", reached="localhost:5001/manual-app", docker_config=tmp_path
    )
    return SimpleNamespace(
        context=SimpleNamespace(site=SimpleNamespace(name="local", image=image)),
        environment=SimpleNamespace(name="stage"),
        wanted=SimpleNamespace(digest=DIGEST),
    )


def pending(target: Any) -> list[str]:
    return debian.pending(target, "bookworm", {"perl-base": "5.36.0-7+deb12u3"})


def test_the_image_is_asked_for_its_updates_on_any_host(
    daemon: Daemon, target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Mac, on Ubuntu, behind a proxy that re-signs TLS: the image's own apt says what waits for it."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("our proxy's certificate")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert pending(target) == WAITING
    assert (daemon.made["Image"], daemon.made["User"]) == (IMAGE, "0:0")
    assert [*daemon.made["Entrypoint"], daemon.made["Cmd"][-1]] == ["/bin/sh", "bookworm-security"]
    assert {"http_proxy=http://proxy.test:3128", "HTTP_PROXY=http://proxy.test:3128"} < set(
        daemon.made["Env"]
    )
    assert daemon.files["gate-ca.crt"] == b"our proxy's certificate"
    assert daemon.containers == {}
    assert daemon.pulled == {}


def test_an_image_that_was_built_elsewhere_is_pulled(daemon: Daemon, target: Any) -> None:
    """By its digest, with the login of the registry; the registry's words where that fails."""
    daemon.images = set()
    assert pending(target) == WAITING
    assert daemon.pulled["tag"] == DIGEST
    assert daemon.pulled["password"] == "secret"
    daemon.images = set()
    daemon.pull_says = [{"status": "Pulling"}, {"error": "manifest unknown"}]
    with pytest.raises(Unknown, match="manifest unknown"):
        pending(target)


@pytest.mark.parametrize(
    ("played", "says"),
    [
        ({"code": 100, "errors": NO_SOURCE}, "could not list bookworm-security: The value .* is invalid"),
        ({"code": 127, "errors": "E: there is no apt in it\n"}, "there is no apt in it"),
        ({"code": 137}, "it said nothing"),
        ({"output": "perl-base hat eine neue Version\n"}, "perl-base hat"),
        ({"start_says": 'exec: "/bin/sh": no such file'}, "no such file"),
        ({"seconds": 60.0}, "took more than 1 s"),
    ],
)
def test_what_apt_cannot_say_is_unknown(
    daemon: Daemon, target: Any, monkeypatch: pytest.MonkeyPatch, played: dict[str, Any], says: str
) -> None:
    """No mirror, no apt, no shell, no end: unknown, with the reason, in bounded time; no container stays."""
    monkeypatch.setattr(debian, "SECONDS", 1)
    for name, value in played.items():
        setattr(daemon, name, value)
    with pytest.raises(Unknown, match=says):
        pending(target)
    assert daemon.containers == {}


def test_an_image_without_debian_is_unknown(target: Any) -> None:
    """Nothing to compare is not the same as nothing waits. No container is made for it."""
    with pytest.raises(Unknown, match="no Debian packages"):
        debian.pending(target, "bookworm", {})
    with pytest.raises(Unknown, match="which release"):
        debian.pending(target, "", {"perl-base": "1"})


def test_no_docker_is_unknown(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suites that run where no Docker daemon answers say so."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(Unknown, match="no Docker daemon answers"):
        pending(target)


def test_what_a_killed_run_left_is_removed(daemon: Daemon, target: Any) -> None:
    """The next run for the same environment finds it by its label; another environment's container stays."""
    daemon.containers = {
        "left": {"Labels": {box.LABEL: "local/stage"}},
        "other": {"Labels": {box.LABEL: "local/dev"}},
        "stranger": {"Labels": {}},
    }
    assert pending(target) == WAITING
    assert set(daemon.containers) == {"other", "stranger"}


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:3128", "localhost:3128", "http://[::1]:1", ""])
def test_a_proxy_that_only_the_host_reaches_stays_out(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A container would look for it in itself, and reach nothing."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    assert direct.proxies() == {}
    monkeypatch.setenv("https_proxy", "http://user:word@proxy.test:1")
    assert set(direct.proxies()) >= {"https_proxy", "HTTPS_PROXY"}
    assert "http_proxy" not in direct.proxies()


def test_an_installer_in_the_image_is_seen(tmp_path: Path) -> None:
    """pip in either python3 of the image, the service's or the one below it, is found."""
    made = {name: tmp_path / name / "bin" / "python3" for name in ("with", "without")}
    for python in made.values():
        venv.create(python.parent.parent, with_pip=False, symlinks=True)
    [packages] = (tmp_path / "with" / "lib").glob("python3*/site-packages")
    (packages / "pip").mkdir()
    (packages / "pip" / "__init__.py").touch()
    (packages / "pip-1.dist-info").mkdir()
    (packages / "pip-1.dist-info" / "METADATA").write_text("Name: pip\nVersion: 1\n")
    seen = inside.packages(*map(str, made.values()))
    assert [("pip" in one["installers"], "pip" in one["python"]) for one in seen.values()] == [
        (True, True),
        (False, False),
    ]
    below = inside.packages(os.path.realpath(sys.executable))
    assert [set(one) for one in below.values()] == [{"python", "installers"}]


STANDS_STILL = """
import os, threading
import pytest
from e2e.suites import conftest

conftest.leave_the_environment_alone()
over, wrong = threading.Event(), []

def walk():
    while not over.is_set():
        try:
            dict(os.environ.items())  # as requests does for each question
        except KeyError as error:
            wrong.append(error)

thread = threading.Thread(target=walk)
thread.start()

@pytest.mark.parametrize("number", range(300))
def test_nothing(number):
    assert "PYTEST_CURRENT_TEST" not in os.environ

def test_nobody_stumbled():
    over.set()
    thread.join()
    assert wrong == []
"""


def test_the_environment_stands_still(tmp_path: Path) -> None:
    """A question that is asked beside the tests never fails because pytest changes the environment meanwhile."""
    (tmp_path / "test_it.py").write_text(STANDS_STILL)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        str(tmp_path),
    ]
    environment = {name: said for name, said in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
